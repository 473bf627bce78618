#!/bin/sh
# The gateway of the hosts and what lies behind it; the road ends here.
# Needs: CGROUPS SWITCH GATEWAY ADDRESS PYTHON
set -eu
for cgroup in $CGROUPS; do
    echo 0 >"$cgroup/supervisor/cgroup.procs"
done
nsenter --net="$SWITCH" ip link add outside type veth peer name eth0 netns $$
nsenter --net="$SWITCH" ip link set outside master switch up
ip link set lo up
ip address add "$ADDRESS/32" dev lo
ip address add "$GATEWAY/24" dev eth0
ip link set eth0 up
exec "$PYTHON" "$(dirname "$0")/../outside.py" "$ADDRESS" "$GATEWAY"
