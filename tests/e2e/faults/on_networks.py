"""Faults of the network of pods, and of the ways between hosts."""

from __future__ import annotations

import json

from tests.e2e.faults.fault import CONTROL_PLANE, NODE, OTHER, Fault
from tests.lab import Lab, network
from tests.lab.machine import require_tools

_UPLINK = "link=$(ip -4 route show default | awk '{ print $5 }')\n"
_ROUTE = "ip -4 route show | grep -m1 -E '^10\\.10\\.[0-9]+\\.0/24 via '"
_TABLE = "nft add table inet fault\nnft add chain inet fault f"
_MASQUERADE = "iptables-save -t nat | sed -n 's/^-A \\(POSTROUTING .*kube-masquerade.*\\)/\\1/p'"
_PORTS = "for port in /sys/class/net/cbr0/brif/veth*; do echo {} >$port/hairpin_mode; done"
_BRIDGE = "old=$(ip -4 -o address show dev cbr0 | awk '{ print $4 }')\necho $old >/run/old\n"


def _firewall(rule: str) -> tuple[str, str]:
    return f"iptables -I {rule}", f"iptables -D {rule}"


def _pod(lab: Lab, then: str) -> None:
    """A pod on the node, and what is done to its bridge then."""
    image = lab.exec(NODE, "ctr -n k8s.io images ls -q | grep -m1 /pause:").stdout.strip()
    spec = json.dumps({"spec": {"nodeName": NODE}})
    run = f"kubectl run lonely --image={image} --overrides='{spec}'"
    made = lab.exec(CONTROL_PLANE, f"{run} && kubectl wait --for=condition=Ready pod/lonely")
    assert made.returncode == 0, made.stderr
    assert lab.exec(NODE, then).returncode == 0


def _without_pod(lab: Lab, first: str) -> None:
    assert lab.exec(NODE, first).returncode == 0
    lab.exec(CONTROL_PLANE, "kubectl delete pod lonely --now")


def _lose(lab: Lab, do: str) -> None:
    """A switch that does not carry all that goes to a host."""
    require_tools({"iptables": "iptables"})
    some = "-m statistic --mode random --probability 0.3"
    network.on_switch(f"iptables {do} FORWARD -d {lab.hosts[NODE].ip} {some} -j DROP")


FAULTS: dict[str, Fault] = {
    "small packets between hosts": Fault(
        "net.mtu",
        NODE,
        f"{_UPLINK}ip link set $link mtu 1300",
        f"{_UPLINK}ip link set $link mtu 1500",
    ),
    "the address of another host": Fault(
        "host.address",
        OTHER,
        lambda lab, _: lab.exec(OTHER, f"ip address add {lab.hosts[NODE].ip}/32 dev lo"),
        lambda lab, _: lab.exec(OTHER, f"ip address delete {lab.hosts[NODE].ip}/32 dev lo"),
    ),
    "a bridge in another node's network": Fault(
        "net.twice",
        OTHER,
        f"{_ROUTE} >/run/route\nbase=$(cut -d . -f 1-3 /run/route)\n"
        "ip link add clash type bridge\nip address add $base.99/25 dev clash\n"
        "ip link set clash up",
        "ip link delete clash",
    ),
    "a bridge that does not forward": Fault(
        "host.kernel",
        NODE,
        "sysctl -qw net.ipv4.conf.cbr0.forwarding=0",
        "sysctl -qw net.ipv4.conf.cbr0.forwarding=1",
    ),
    "pods that are routed elsewhere": Fault(
        "net.way",
        NODE,
        "ip route add unreachable default table 99\nip rule add iif cbr0 lookup 99",
        "ip rule delete iif cbr0 lookup 99\nip route flush table 99",
    ),
    "packets that are lost": Fault(
        "host.loss",
        NODE,
        lambda lab, _: _lose(lab, "-A"),
        lambda lab, _: _lose(lab, "-D"),
        patience=40,
    ),
    "a wrong neighbour": Fault(
        "host.neighbours",
        NODE,
        lambda lab, _: lab.exec(
            NODE,
            f"{_UPLINK}ip neighbour replace {lab.hosts[OTHER].ip} lladdr 02:00:00:00:00:99 "
            "nud permanent dev $link",
        ),
        lambda lab, _: lab.exec(
            NODE, f"{_UPLINK}ip neighbour delete {lab.hosts[OTHER].ip} dev $link"
        ),
        patience=60,
    ),
    "addresses of services on a link": Fault(
        "net.services",
        NODE,
        "ip link add kube-ipvs0 type dummy || ip link add kube-ipvs0 type bridge\n"
        "ip address add 10.254.0.1/32 dev kube-ipvs0\n"
        "ip address add 10.254.0.10/32 dev kube-ipvs0",
        "ip link delete kube-ipvs0",
    ),
    "pods that do not reach themselves": Fault(
        "net.hairpin",
        NODE,
        lambda lab, _: _pod(lab, _PORTS.format(0)),
        lambda lab, _: _without_pod(lab, _PORTS.format(1)),
    ),
    "no default route": Fault(
        "net.default",
        NODE,
        "ip -4 route show default >/run/default\nip route delete default",
        "ip route add $(cat /run/default)",
    ),
    "kubelet's port is closed": Fault(
        "net.firewall",
        NODE,
        *_firewall("INPUT -p tcp --dport 10250 ! -i lo -j DROP"),
        patience=40,
    ),
    "the API's port is closed": Fault(
        "net.firewall",
        CONTROL_PLANE,
        *_firewall("INPUT -p tcp --dport 6443 ! -i lo -j DROP"),
        patience=60,
    ),
    "queries of pods are dropped": Fault(
        "net.firewall",
        NODE,
        f"{_TABLE} '{{ type filter hook forward priority 0; }}'\n"
        "nft add rule inet fault f udp dport 53 drop",
        "nft delete table inet fault",
    ),
    "legacy tables that drop": Fault(
        "net.firewall",
        NODE,
        "iptables-legacy -P FORWARD DROP",
        "iptables-legacy -P FORWARD ACCEPT",
    ),
    "a bridge with another MTU": Fault(
        "net.mtu", NODE, "ip link set cbr0 mtu 1300", "ip link set cbr0 mtu 1460", quick=True
    ),
    "a bridge with another address": Fault(
        "net.bridge",
        NODE,
        f"{_BRIDGE}ip address add 10.10.99.1/24 dev cbr0\nip address delete $old dev cbr0",
        "ip address add $(cat /run/old) dev cbr0\nip address delete 10.10.99.1/24 dev cbr0",
    ),
    "a bridge that is down": Fault(
        "net.bridge", NODE, "ip link set cbr0 down", "ip link set cbr0 up"
    ),
    "two bridges with one network": Fault(
        "net.twice",
        NODE,
        f"{_BRIDGE}ip link add br9 type bridge\nip address add ${{old%.*}}.9/24 dev br9",
        "ip link delete br9",
    ),
    "a route that is missing": Fault(
        "net.route",
        NODE,
        f"{_ROUTE} >/run/route\nip route delete $(cut -d ' ' -f 1 /run/route)",
        "ip route add $(cat /run/route)",
        quick=True,
    ),
    "a route to somewhere else": Fault(
        "net.route",
        NODE,
        f"{_ROUTE} >/run/route\nset -- $(cat /run/route)\n"
        "ip route change $1 via $(ip route show default | awk '{ print $3 }')",
        "set -- $(cat /run/route)\nip route replace $(cat /run/route)",
    ),
    "no forwarding": Fault(
        "host.kernel", NODE, "sysctl -qw net.ipv4.ip_forward=0", "sysctl -qw net.ipv4.ip_forward=1"
    ),
    "bridged packets that iptables does not see": Fault(
        "host.kernel",
        NODE,
        "sysctl -qw net.bridge.bridge-nf-call-iptables=0",
        "sysctl -qw net.bridge.bridge-nf-call-iptables=1",
    ),
    "masquerade twice": Fault(
        "net.masquerade",
        NODE,
        *(
            f"iptables -t nat {do} POSTROUTING -s 10.10.0.0/16 ! -d 10.0.0.0/8 -j MASQUERADE"
            for do in ("-A", "-D")
        ),
    ),
    "masquerade never": Fault(
        "net.masquerade",
        NODE,
        f"{_MASQUERADE} >/run/rule\neval iptables -t nat -D $(cat /run/rule)",
        "eval iptables -t nat -A $(cat /run/rule)",
    ),
    "masquerade between pods": Fault(
        "net.masquerade",
        NODE,
        *(f"iptables -t nat {do} POSTROUTING -s 10.10.0.0/16 -j MASQUERADE" for do in ("-A", "-D")),
    ),
    "a rule of iptables that drops pods' packets": Fault(
        "net.firewall", NODE, *_firewall("FORWARD -s 10.10.0.0/16 -j DROP"), quick=True
    ),
    "a rule that rejects what comes to pods": Fault(
        "net.firewall", NODE, *_firewall("FORWARD -d 10.10.0.0/16 -j REJECT")
    ),
    "a table of nft that drops all": Fault(
        "net.firewall",
        NODE,
        f"{_TABLE} '{{ type filter hook forward priority -5; policy drop; }}'",
        "nft delete table inet fault",
    ),
    "kube-proxy's rules are gone": Fault(
        "net.proxy",
        NODE,
        "nft delete table ip kube-proxy 2>/dev/null || iptables -t nat -F KUBE-SERVICES",
        "systemctl restart kube-proxy",
    ),
    "a service that leads nowhere": Fault(
        "net.route",
        NODE,
        "ip route add blackhole 10.254.0.1/32",
        "ip route delete blackhole 10.254.0.1/32",
    ),
    "no way to the API": Fault(
        "api.reaches", NODE, *_firewall("OUTPUT -p tcp --dport 6443 -j DROP"), patience=40
    ),
    "no way between two hosts": Fault(
        "host.reaches",
        NODE,
        lambda lab, _: lab.exec(NODE, f"ip route add blackhole {lab.hosts[OTHER].ip}/32"),
        lambda lab, _: lab.exec(NODE, f"ip route delete blackhole {lab.hosts[OTHER].ip}/32"),
    ),
}
