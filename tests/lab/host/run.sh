#!/bin/sh
# One host's life, from power-on to power-off, over any number of reboots.
# Needs: CGROUPS DISK USR APT SWITCH PORT MAC NAME
set -u
for cgroup in $CGROUPS; do
    echo 0 >"$cgroup/supervisor/cgroup.procs"
done
while :; do
    # New namespaces each time: no bridge, route, rule or mount outlives a boot.
    unshare --mount --net --propagation private "$(dirname "$0")/boot.sh"
    status=$?
    # nspawn's own word for "the host asked for a reboot".
    [ "$status" -eq 133 ] || exit "$status"
done
