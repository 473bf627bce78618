#!/bin/sh
# One boot of one host, inside network and mount namespaces made for it alone.
set -eu

for cgroup in $CGROUPS; do
    echo 0 >"$cgroup/host/cgroup.procs"
    # A server starts with no groups of its last life; kubelet would look into each for seconds.
    find "$cgroup/host" -mindepth 1 -depth -type d -exec rmdir {} + 2>/dev/null || :
done

on_switch() { nsenter --net="$SWITCH" "$@"; }
on_switch ip link delete "$PORT" 2>/dev/null || :
on_switch ip link add "$PORT" type veth peer name eth0 address "$MAC" netns $$
on_switch ip link set "$PORT" master switch up

mount -t tmpfs lab /media
disk=/media/disk root=/media/disk/root
mkdir $disk
# The kernel lets go of a disk a moment after the last life ended; mounted twice it would break.
while losetup --associated "$DISK" | grep -q .; do
    sleep 0.05
done
# No write barrier: a host that loses power keeps its page cache, for the machine lives on.
mount -o loop,noatime,nobarrier "$DISK" $disk

# /usr alone is an overlay, so /var is a real filesystem and docker can put overlay2 on it.
mount -t overlay -o "lowerdir=$USR,upperdir=$disk/usr,workdir=$disk/work" lab "$root/usr"
mount -o bind,ro "$APT" "$root/srv/apt"

# What tells this host from another, once: from then on its files are its own.
if [ ! -e $disk/named ]; then
    cp -r "$IDENTITY/." "$root"
    touch $disk/named
fi

# A private /run: nothing that nspawn notes there is left on the machine.
mount -t tmpfs -o mode=755 lab /run
# kubelet and sysctl write in /proc/sys; /tmp is on the disk, as on a server.
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=1 SYSTEMD_NSPAWN_TMPFS_TMP=0
exec systemd-nspawn --quiet --boot --register=no --keep-unit \
    --directory="$root" --machine="$NAME" \
    --capability=all --system-call-filter='add_key keyctl bpf perf_event_open' \
    --bind=/dev/kmsg --bind=/dev/fuse --bind=/dev/net/tun \
    --resolv-conf=off --timezone=off --link-journal=no --console=read-only
