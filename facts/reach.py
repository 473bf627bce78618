"""
Test packets from the pod network without a pod: a place on a node's bridge, and what is reached
from it.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pyinfra.api import FactBase
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable

# The link of a place on its host, and the alias that marks it as ours.
LINK = "kube-reach"
ALIAS = "pyinfra-kube"
# Where a place answers: the port of "echo".
PORT = 7
# Seconds after which a place ends, even if the run has died.
LIFE = 120


@dataclass(frozen=True)
class Place(Printable):
    """
    A network namespace on a node's bridge, like that of a pod.

    + address: its own; empty if there is no pod network
    + pid: of the process that holds it
    + echoes: whether it sends back what it gets; otherwise it can only refuse a connection
    + problem: why there is none
    + since: when it was seen, on the control machine's monotonic clock, in seconds
    """

    address: str = ""
    pid: int = 0
    echoes: bool = False
    problem: str = ""
    since: float = field(default_factory=time.monotonic, compare=False)


# Runs in the new namespace. It ends once all visitors have come and its owner is done (USR1), or
# when its time is up. Its link goes with it.
_INSIDE = f"""\
set -e
outer=$1 bridge=$2 address=$3 length=$4 gateway=$5 visitors=$6 mtu=$7
ip link set lo up
ip link add name eth0 mtu $mtu address 02:00:00:00:00:4c type veth peer \\
name {LINK} mtu $mtu address fe:ff:ff:ff:ff:fe netns $outer
if [ -n "$bridge" ]; then
nsenter --target $outer --net ip link set dev {LINK} alias {ALIAS} master $bridge up
else
length=32 gateway=169.254.1.1
nsenter --target $outer --net sh -c "set -e
ip link set dev {LINK} alias {ALIAS} up
ip address add $gateway/32 dev {LINK} scope link
ip route add $address/32 dev {LINK}"
fi
ip address add $address/$length dev eth0
ip link set eth0 up
[ -n "$bridge" ] || ip route add $gateway/32 dev eth0
ip route add default via $gateway
echoes=no column=15
if command -v systemd-socket-activate >/dev/null 2>&1; then
systemd-socket-activate --listen=$address:{PORT} --accept --inetd cat >/dev/null 2>&1 &
listener=$! column=7 tries=0
until grep -q ' 0A ' /proc/net/tcp || [ $tries -ge 100 ]; do tries=$((tries + 1)); sleep 0.02; done
! grep -q ' 0A ' /proc/net/tcp || echoes=yes
fi
[ $echoes = yes ] || column=15
left=
trap 'left=yes' USR1
echo "place $address $$ $echoes"
exec >/dev/null 2>&1
ticks=0
while [ $ticks -lt {LIFE * 5} ]; do
visited=$(awk -v column=$column '/^Tcp: [0-9]/ {{ print $column }}' /proc/net/snmp)
[ -z "$left" ] || [ "$visited" -lt "$visitors" ] || break
ticks=$((ticks + 1))
sleep 0.2
done
sleep 0.1
[ -z "${{listener-}}" ] || kill $listener
"""

# It takes the last free address of the bridge's network: whatever assigns addresses to pods would
# take that one last.
_PLACE = f"""\
there() {{ [ -e /sys/class/net/$1 ]; }}
number() {{ IFS=./; set -- $1; unset IFS; echo $(( ($1 << 24) + ($2 << 16) + ($3 << 8) + $4 )); }}
dotted() {{ echo $(($1 >> 24 & 255)).$(($1 >> 16 & 255)).$(($1 >> 8 & 255)).$(($1 & 255)); }}
own_mac() {{ printf '0a:58:%02x:%02x:%02x:%02x' $(dotted $1 | tr . ' '); }}
taken() {{
for file in /var/lib/cni/networks/*/$1; do [ ! -e "$file" ] || return 0; done
ip neigh show $1 ${{bridge:+dev $bridge}} 2>/dev/null | grep lladdr | grep -qv 02:00:00:00:00:4c
}}
place() {{
for tool in ip unshare nsenter setsid awk; do
command -v $tool >/dev/null 2>&1 || {{ echo "problem $tool is missing"; return; }}
done
if there {LINK}; then
[ "$(cat /sys/class/net/{LINK}/ifalias)" = {ALIAS} ] || {{
echo "problem the link {LINK} is somebody else's"; return; }}
ip link delete {LINK}
fi
wanted=$bridge
there "$bridge" || bridge=
[ -z "$bridge" ] || near=$(ip -4 -o address show dev $bridge | awk '{{ print $4; exit }}')
[ -n "$near" ] || {{ echo "problem there is no bridge $wanted with an address"; return; }}
length=${{near#*/}} own=$(number $near) size=$(( 1 << (32 - ${{near#*/}}) ))
last=$(( (own & -size) + size - 2 ))
while [ $last -gt $(( own & -size )) ]; do
address=$(dotted $last)
[ $last -eq $own ] || taken $address || break
last=$(( last - 1 ))
done
[ $last -gt $(( own & -size )) ] || {{ echo "problem no address is free in $near"; return; }}
if [ -n "$bridge" ]; then
# A bridge without a MAC address of its own takes that of its first member, and loses it with that.
mac=$(cat /sys/class/net/$bridge/address)
if [ "$mac" = 00:00:00:00:00:00 ]; then mac=$(own_mac $own)
elif [ "$(cat /sys/class/net/$bridge/addr_assign_type)" = 3 ]; then mac=
fi
[ -z "$mac" ] || ip link set dev $bridge address $mac
mtu=$(cat /sys/class/net/$bridge/mtu)
fi
said=$(setsid unshare --net sh -c "$inside" {LINK} $$ "$bridge" $address $length ${{near%/*}} \\
$visitors ${{mtu:-1400}} 2>&1 </dev/null 3>&- &)
case "$said" in place*) echo "$said" ;; *) echo "problem $said" | tail -n 1 ;; esac
}}
place
true"""


class PlaceOfPods(FactBase[Place]):
    """
    Makes a place on the host's pod network for a short time, and returns it. It is read only during
    a run.

    + bridge: of the pods; if it does not exist yet, such as kubenet's before the first pod, the
      place is routed
    + pod_cidr: of the node, for a bridge that does not exist; empty if only the bridge tells it
    + visitors: how many others will reach it

    .. code:: python

        Place(address="10.10.1.254", pid=4711, echoes=True)
    """

    default = Place

    @override
    def command(self, bridge: str, pod_cidr: str = "", visitors: int = 0) -> str:
        given = {"bridge": bridge, "near": pod_cidr, "visitors": str(visitors), "inside": _INSIDE}
        return "\n".join([*(f"{k}={shlex.quote(v)}" for k, v in given.items()), _PLACE])

    @override
    def process(self, output: Iterable[str]) -> Place:
        for line in output:
            word, _, rest = line.partition(" ")
            if word == "place":
                address, pid, echoes = rest.split()
                return Place(address, int(pid), echoes == "yes")
            if word == "problem":
                return Place(problem=rest or "the place did not come to be")
        return Place()


@dataclass(frozen=True)
class Target:
    """
    One port that must be reached.

    + name: for people, such as ``the pods of kube-node-2``
    + address, port: where it is
    + inside: whether it must be reached from the host's place on the pod network
    + answer: ``open`` if a connection is enough, ``echo`` if what is sent must come back,
      ``refused`` if the port is known to be closed
    """

    name: str
    address: str
    port: int
    inside: bool = False
    answer: str = "open"


@dataclass(frozen=True)
class Visit(Printable):
    """
    What a host has reached.

    + missed: why a target was not reached, by its name
    + left: whether the host's own place still exists
    """

    missed: dict[str, str] = field(default_factory=dict)
    left: bool = False


_TRIES = f"""\
reach() {{
address=$3 port=$4 answer=$5
$2 timeout 4 bash -c '
exec 3<>/dev/tcp/$0/$1 || exit 1
if [ $2 = echo ]; then
echo {LINK} >&3
read -r -t 3 said <&3
[ "$said" = {LINK} ] || {{ echo "no answer to what was sent"; exit 1; }}
fi
echo arrived' $3 $4 $5
}}
try() {{
tries=0
while :; do
said=$(reach "$@" 2>&1)
case "$5 $said" in
*arrived | refused*"Connection refused"*) echo "yes $1"; return ;;
esac
tries=$((tries + 1))
[ $tries -lt 4 ] || break
sleep 1
done
said=$(echo "$said" | sed -n 's/^bash: //; s/.*: connect: //; s/.*: connect(): //; 1p')
echo "no $1 ${{said:-no answer}}"
}}
export LC_ALL=C"""


class Reached(FactBase[Visit]):
    """
    Returns why targets are not reached. Each is tried four times; a host without bash cannot try.

    + targets: list of ``Target``
    + pid: of the host's own place, which ends once all visitors have come

    .. code:: python

        Visit(missed={"the pods of kube-node-2": "no answer"}, left=False)
    """

    default = Visit
    shared = True

    @override
    def command(self, targets: Sequence[Target], pid: int = 0) -> str:
        self.names = [target.name for target in targets]
        inside = f"nsenter --target {pid} --net"
        tries = [
            f"try {index} '{inside if t.inside else ''}' {t.address} {t.port} {t.answer} &"
            for index, t in enumerate(targets)
        ]
        end = f"""\
wait
[ {pid} = 0 ] || {{
kill -USR1 {pid}
tries=0
while [ -e /sys/class/net/{LINK} ] && [ $tries -lt 60 ]; do tries=$((tries + 1)); sleep 0.05; done
[ ! -e /sys/class/net/{LINK} ] || echo left
}} 2>/dev/null"""
        return f"""\
{_TRIES}
if command -v bash >/dev/null 2>&1; then
{chr(10).join([*tries, "true"])}
else echo unknown
fi
{end}
true"""

    @override
    def process(self, output: Iterable[str]) -> Visit:
        lines = list(output)
        words = [line.split(" ", 2) for line in lines]
        reached = {self.names[int(word[1])] for word in words if word[0] == "yes"}
        why = {self.names[int(word[1])]: word[2] for word in words if word[0] == "no"}
        missed = {name: why.get(name, "no answer") for name in self.names if name not in reached}
        if "unknown" in lines:
            missed = dict.fromkeys(self.names, "unknown: bash is missing, nothing was sent")
        return Visit(missed, "left" in lines)
