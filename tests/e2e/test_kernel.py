"""
Operations on a real kernel: a network namespace of their own, and a copy of /etc.

Each is run until it has nothing left to do, and once more on the namespace as a reboot leaves it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pyinfra.api import FactBase

from pyinfra_kube.engine.script import Script
from pyinfra_kube.facts.bridge import Links
from pyinfra_kube.facts.hosts import Hosts, Reachable
from pyinfra_kube.facts.iptables import BUILTIN_CHAINS, Rule, Rules
from pyinfra_kube.facts.routes import Routes
from pyinfra_kube.operations import bridge, docker_rules, hosts, iptables, routes, sysctl
from tests.lab.machine import require_tools
from tests.unit.harness import answers, fake_host
from tests.unit.test_iptables_rules import rule_texts

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces"),
]


class Kernel:
    """A network namespace in which facts and operations run as on a host."""

    def __init__(self, folder: Path, backend: str) -> None:
        self.name = f"pk-test-{os.getpid()}"
        self.etc = folder / "etc"
        self.tools = folder / "tools"
        shutil.copytree("/etc", self.etc, symlinks=True, ignore_dangling_symlinks=True)
        self.tools.mkdir()
        require_tools({"iptables-nft": "iptables"})
        for tool in ("", "-save", "-restore"):
            path = shutil.which(f"iptables-{backend}{tool}")
            assert path, f"iptables has no {backend}{tool} here"
            (self.tools / f"iptables{tool}").symlink_to(path)
        self._add()

    def _add(self) -> None:
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run("ip link set dev lo up")

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "delete", self.name], check=True)

    def run(self, command: str, stdin: str = "") -> str:
        """Run shell text on the "host"; fail with what it said."""

        shell = f'mount --bind {self.etc} /etc && PATH="{self.tools}:$PATH" && exec sh -c "$1"'
        entering = ["ip", "netns", "exec", self.name, "unshare", "--mount", "sh", "-c", shell]
        done = subprocess.run(
            [*entering, "sh", command], input=stdin, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (command, stdin, done.stdout, done.stderr)
        return done.stdout

    def fact(self, fact: type[FactBase[Any]], **arguments: Any) -> Any:
        instance = fact()
        command: Any = instance.command
        lines = self.run(command(**arguments)).splitlines()
        return instance.process(lines) if lines else instance.default()

    def once(self, operation: Any, **arguments: Any) -> list[str]:
        """Run an operation; return what ``--diff`` shows."""

        with fake_host({}) as (host, noops, shown):
            answers(host, self.fact)
            for command in operation._inner(**arguments):
                assert isinstance(command, Script)
                self.run(
                    command.get_raw_value(),
                    str(command.connector_arguments["_stdin"]),
                )
                assert shown
            assert bool(shown) != bool(noops)
        return shown

    def settle(self, operation: Any, **arguments: Any) -> list[str]:
        """Run an operation, and see that the second time nothing is left to do."""

        shown = self.once(operation, **arguments)
        assert self.once(operation, **arguments) == []
        return shown

    def reboot(self, setup: str = "") -> None:
        """Lose all that the kernel has, and do what systemd then does."""

        self.remove()
        self._add()
        if setup:
            self.run(setup)
        units = sorted((self.etc / "systemd/system/multi-user.target.wants").glob("kube-*"))
        for unit in units:
            for line in (self.etc / "systemd/system" / unit.name).read_text().splitlines():
                if line.startswith("ExecStart="):
                    words = shlex.split(line.removeprefix("ExecStart="))
                    command = words[2].replace("$$", "$").replace("%%", "%")
                    assert words[:2] == ["/bin/sh", "-c"]
                    self.run(command)


@pytest.fixture
def kernel(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kernel]:
    kernel = Kernel(tmp_path, getattr(request, "param", "nft"))
    yield kernel
    kernel.remove()


both_backends = pytest.mark.parametrize("kernel", ["nft", "legacy"], indirect=True)


LINK = """\
ip link add eth0 type veth peer name far
ip address add 192.0.2.11/24 dev eth0
ip link set eth0 up
ip link set far up
"""
POSTROUTING = "-A POSTROUTING ! -d 10.10.0.0/16 -m addrtype ! --dst-type LOCAL -j MASQUERADE"
MASQUERADE = f"{POSTROUTING} -m comment --comment kube-masquerade"


def rules_of(kernel: Kernel, table: str) -> list[Rule]:
    return [rule for rule in kernel.fact(Rules).rules if rule.table == table]


def test_bridge(kernel: Kernel) -> None:
    wanted = {"bridge": "cbr0", "address": "10.10.1.1/24", "mtu": 1460}
    assert kernel.settle(bridge.bridge, **wanted)
    found = kernel.fact(Links)["cbr0"]
    assert found.kind == "bridge"
    assert (found.mtu, found.addresses, found.up) == (1460, ("10.10.1.1/24",), True)

    kernel.run("ip link add veth1 type veth peer name veth2 && ip link set veth1 mtu 1400 up")
    kernel.run("ip link set veth1 master cbr0")
    assert kernel.once(bridge.bridge, **wanted) == []
    assert kernel.fact(Links)["veth1"].master == "cbr0"

    for drift in (
        "ip link set cbr0 mtu 1500",
        "ip link set cbr0 down",
        "ip addr flush dev cbr0",
        "ip addr flush dev cbr0 && ip addr add 10.10.1.2/24 dev cbr0",
        "ip addr flush dev cbr0 && ip addr add 10.10.1.2/24 dev cbr0"
        " && ip addr add 10.10.1.1/24 dev cbr0",
        "ip addr add 10.20.1.1/24 dev cbr0",
        "ip addr flush dev cbr0 && ip addr add 10.10.1.1/16 dev cbr0",
    ):
        kernel.run(drift)
        assert len(kernel.settle(bridge.bridge, **wanted)) == 1, drift
        assert kernel.fact(Links)["cbr0"].addresses == ("10.10.1.1/24",)

    kernel.reboot()
    assert kernel.once(bridge.bridge, **wanted) == []
    kernel.settle(bridge.bridge, bridge="cbr0", present=False)
    assert "cbr0" not in kernel.fact(Links)
    kernel.reboot()
    assert "cbr0" not in kernel.fact(Links)


def test_pods_of_a_lost_bridge_are_its_ports_again(kernel: Kernel) -> None:
    wanted = {"bridge": "cbr0", "address": "10.10.1.1/24"}
    kernel.settle(bridge.bridge, **wanted)
    pods = {f"{kernel.name}-{host}": f"10.{net}.1.{host}" for net, host in ((10, 2), (99, 3))}
    try:
        for number, (pod, address) in enumerate(pods.items()):
            subprocess.run(["ip", "netns", "add", pod], check=True)
            kernel.run(f"ip link add veth{number} up type veth peer name eth0 netns {pod}")
            inside = f"ip link set eth0 up && ip address add {address}/24 dev eth0"
            subprocess.run(["ip", "netns", "exec", pod, "sh", "-c", inside], check=True)
        shown = kernel.settle(bridge.bridge, **wanted)
        assert shown == ["bridge cbr0: port veth0 of the pod 10.10.1.2/24: absent → present"]
        kernel.run("ip link delete cbr0")
        assert shown[0] in kernel.settle(bridge.bridge, **wanted)
        kernel.run("bash -c ': </dev/tcp/10.10.1.2/9' 2>&1 | grep refused")
        assert kernel.run("cat /sys/class/net/veth0/brport/hairpin_mode") == "1\n"
        assert kernel.fact(Links)["veth1"].master is None
    finally:
        for pod in pods:
            subprocess.run(["ip", "netns", "delete", pod], check=False)


def test_bridge_is_no_bridge(kernel: Kernel) -> None:
    kernel.run(LINK)
    with pytest.raises(Exception, match="eth0 is a link of kind 'veth', not a bridge"):
        kernel.once(bridge.bridge, bridge="eth0", address="10.10.1.1/24")


@both_backends
def test_masquerade(kernel: Kernel) -> None:
    wanted = {"cluster_cidr": "10.10.0.0/16"}
    kernel.run("iptables -w -t nat -A POSTROUTING -o eth0 -j MASQUERADE")
    others = rules_of(kernel, "nat")
    ours = [Rule.parse(MASQUERADE, "nat")]
    assert kernel.settle(iptables.masquerade, **wanted)
    assert rules_of(kernel, "nat") == others + ours

    kernel.run(f"iptables -w -t nat {MASQUERADE}".replace("!", "'!'"))
    kernel.run(f"iptables -w -t nat {MASQUERADE}".replace("10.10.", "10.20."))
    assert len(kernel.settle(iptables.masquerade, **wanted)) == 2
    assert rules_of(kernel, "nat") == others + ours

    kernel.run("iptables -w -t nat -F")
    kernel.run(f"iptables -w -t nat {POSTROUTING}")
    assert kernel.once(iptables.masquerade, **wanted) == []

    kernel.reboot()
    assert kernel.once(iptables.masquerade, **wanted) == []
    assert rules_of(kernel, "nat") == ours
    kernel.settle(iptables.masquerade, cluster_cidr="10.30.0.0/16")
    kernel.reboot()
    assert [rule.value("-s") for rule in rules_of(kernel, "nat")] == [""]
    assert kernel.once(iptables.masquerade, cluster_cidr="10.30.0.0/16") == []
    kernel.settle(iptables.masquerade, cluster_cidr="10.30.0.0/16", present=False)
    assert rules_of(kernel, "nat") == []


@both_backends
def test_rules_with_a_chain_and_an_odd_comment(kernel: Kernel) -> None:
    comment = r'''"50% of \"$HOME\" \\ it\'s `x`"'''
    wanted = {
        "rules": [
            "-I FORWARD -j KUBE-TEST",
            f"-A KUBE-TEST -p tcp --dport http -m comment --comment {comment} -j RETURN",
            "-I FORWARD -s 10.0.0.1 -j ACCEPT",
        ],
        "owner": "kube-test",
    }
    assert kernel.settle(iptables.rules, **wanted)
    chain = [rule.target for rule in rules_of(kernel, "filter") if rule.chain == "FORWARD"]
    assert chain == ["KUBE-TEST", "ACCEPT"]
    before = rules_of(kernel, "filter")
    assert '50% of "$HOME" \\ it\'s `x`' in before[-1].comments
    kernel.reboot()
    assert kernel.once(iptables.rules, **wanted) == []
    assert rules_of(kernel, "filter") == before
    kernel.settle(iptables.rules, rules=[], owner="kube-test", present=False)
    assert rules_of(kernel, "filter") == []


@both_backends
def test_forward(kernel: Kernel) -> None:
    kernel.run("iptables -w -A FORWARD -j REJECT && iptables -w -P FORWARD DROP")
    assert kernel.settle(iptables.forward, cluster_cidr="10.10.0.0/16")
    targets = [rule.target for rule in rules_of(kernel, "filter")]
    assert targets == ["ACCEPT", "ACCEPT", "REJECT"]


def test_the_same_rule_below_what_rejects_is_not_the_same(kernel: Kernel) -> None:
    accept = "iptables -w -A FORWARD -s 10.10.0.0/16 -j ACCEPT"
    kernel.run(f"{accept} && iptables -w -A FORWARD -d 10.10.0.0/16 -j ACCEPT")
    kernel.settle(iptables.forward, cluster_cidr="10.10.0.0/16", persist=False)
    assert len(rules_of(kernel, "filter")) == 2
    kernel.run("iptables -w -I FORWARD -j REJECT")
    assert kernel.settle(iptables.forward, cluster_cidr="10.10.0.0/16", persist=False)
    targets = [rule.target for rule in rules_of(kernel, "filter")]
    assert targets == ["ACCEPT", "ACCEPT", "REJECT", "ACCEPT", "ACCEPT"]


DOCKER = """\
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s 172.18.0.0/16 ! -o br-0123456789ab -j MASQUERADE
-A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:DOCKER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
COMMIT
"""
OTHERS = """\
*nat
:KUBE-MARK-MASQ - [0:0]
-A POSTROUTING -s 10.0.0.0/8 ! -o eth0 -j MASQUERADE
-A POSTROUTING -s 172.17.0.0/16 -o eth0 -j SNAT --to-source 192.0.2.11
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
COMMIT
*filter
-A FORWARD -i docker0 -o eth1 -j DROP
COMMIT
"""


@both_backends
def test_docker_rules(kernel: Kernel) -> None:
    assert kernel.once(docker_rules.docker_rules_absent) == []
    kernel.run("iptables-restore --noflush", OTHERS)
    others = kernel.fact(Rules)
    kernel.run("iptables-restore --noflush", DOCKER)
    assert kernel.settle(docker_rules.docker_rules_absent)
    left = kernel.fact(Rules)
    assert (left.rules, left.chains) == (others.rules, others.chains)


@both_backends
def test_docker_user_rules_stay(kernel: Kernel) -> None:
    kernel.run("iptables-restore", DOCKER)
    kernel.run("iptables -w -I DOCKER-USER -s 203.0.113.1 -j DROP")
    assert kernel.settle(docker_rules.docker_rules_absent)
    assert [str(rule) for rule in rules_of(kernel, "filter")] == [
        "-A FORWARD -j DOCKER-USER",
        "-A DOCKER-USER -s 203.0.113.1/32 -j DROP",
        "-A DOCKER-USER -j RETURN",
    ]


def test_routes(kernel: Kernel) -> None:
    kernel.run(LINK)
    kernel.run("ip route add 10.99.0.0/24 via 192.0.2.99 proto static")
    wanted = [
        routes.Route("10.10.2.0/24", via="192.0.2.12"),
        routes.Route("10.10.3.0/24", via="192.0.2.13"),
    ]
    assert len(kernel.settle(routes.routes, routes=wanted)) > 2

    def ours() -> list[tuple[str, str | None]]:
        return [(r.destination, r.via) for r in kernel.fact(Routes) if r.protocol == "76"]

    both = [("10.10.2.0/24", "192.0.2.12"), ("10.10.3.0/24", "192.0.2.13")]
    assert ours() == both
    for drift in (
        "ip route del 10.10.2.0/24",
        "ip route replace 10.10.2.0/24 via 192.0.2.77",
        "ip route replace 10.10.2.0/24 via 192.0.2.77 proto 76",
        "ip route append 10.10.2.0/24 via 192.0.2.77 proto 76",
        "ip route add 10.10.7.0/24 via 192.0.2.17 proto 76",
        "ip route add 10.10.7.7 via 192.0.2.17 metric 5 proto 76",
        "ip route replace 10.10.3.0/24 via 192.0.2.13 proto static",
    ):
        kernel.run(drift)
        assert len(kernel.settle(routes.routes, routes=wanted)) == 1, drift
        assert ours() == both

    kernel.reboot(LINK)
    assert kernel.once(routes.routes, routes=wanted) == []
    kernel.settle(routes.routes, routes=wanted[:1])
    assert ours() == both[:1]
    kernel.run("ip route add 10.99.0.0/24 via 192.0.2.99 proto static")
    kernel.settle(routes.routes, present=False)
    assert ours() == []
    assert "10.99.0.0/24" in [route.destination for route in kernel.fact(Routes)]


def test_a_network_of_the_host_is_no_route(kernel: Kernel) -> None:
    kernel.run(LINK)
    with pytest.raises(AssertionError, match="File exists"):
        kernel.once(routes.routes, routes=[routes.Route("192.0.2.0/24", via="192.0.2.12")])


def test_sysctls(kernel: Kernel) -> None:
    bridged = "net.bridge.bridge-nf-call-iptables"
    wanted = {
        "settings": {"net.ipv4.ip_forward": 1, bridged: 1},
        "modules": ["br_netfilter"],
    }
    kernel.run("echo 0 > /proc/sys/net/ipv4/ip_forward")
    assert kernel.settle(sysctl.sysctls, **wanted)
    kernel.run("echo 0 > /proc/sys/net/ipv4/ip_forward")
    shown = ["sysctl net.ipv4.ip_forward: 0 → 1"]
    assert kernel.settle(sysctl.sysctls, **wanted) == shown
    text = (kernel.etc / "sysctl.d/99-kubernetes.conf").read_text()
    assert text == f"net.ipv4.ip_forward = 1\n{bridged} = 1\n"
    assert kernel.settle(sysctl.sysctls, settings={}, present=False)
    with pytest.raises(AssertionError, match="net/ipv4/no_such"):
        kernel.once(sysctl.sysctls, settings={"net.ipv4.no_such": 1})


def test_hosts(kernel: Kernel) -> None:
    kernel.run(LINK)
    before = kernel.fact(Hosts).text
    wanted = {"entries": {"kube-master": "192.0.2.11", "kube-node-1": "192.0.2.12"}}
    assert kernel.settle(hosts.hosts, **wanted)
    assert kernel.run("getent ahostsv4 kube-node-1 | head -1").startswith("192.0.2.12 ")
    assert kernel.once(hosts.hosts, **wanted, unless_resolved=True) == []
    kernel.settle(hosts.hosts, **wanted, present=False)
    assert kernel.fact(Hosts).text == before


def test_reachable(kernel: Kernel) -> None:
    kernel.run(LINK)
    addresses = ["192.0.2.11", "192.0.2.12"]
    seen = {"192.0.2.11": True, "192.0.2.12": False}
    assert kernel.fact(Reachable, addresses=addresses) == seen
    # A closed port is a sign of life where no ping is answered; a silent one is none of death.
    for silent in ("-p icmp", "-p tcp --dport 5"):
        kernel.run(f"iptables -w -A INPUT {silent} -j DROP")
    ports = {"192.0.2.11": [5, 6], "192.0.2.12": [5]}
    assert kernel.fact(Reachable, addresses=addresses, ports=ports) == seen
    assert kernel.fact(Reachable, addresses=addresses[:1], ports={}) == {"192.0.2.11": True}
    assert kernel.fact(Reachable, addresses=addresses[:1], ports={"192.0.2.11": [5]}) == {
        "192.0.2.11": False
    }


@both_backends
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=rule_texts())
def test_any_rule(kernel: Kernel, text: str) -> None:
    rule = Rule.parse(text)
    kernel.run("iptables -w -F INPUT")
    said = kernel.run(f"{rule.command('-A')} 2>&1 || :")
    # Of some numbers the kernel thinks them too large together.
    assume("out of range" not in said)
    assert not said
    found = rules_of(kernel, "filter")
    assert found == [rule]
    kernel.run(found[0].command("-C"))
    kernel.run("iptables-restore", f"*filter\n{found[0]}\nCOMMIT\n")
    assert rules_of(kernel, "filter") == [rule]
    kernel.run(rule.command("-D"))


DOCKER_28 = """\
*raw
-A PREROUTING -d 172.17.0.2/32 ! -i docker0 -j DROP
-A PREROUTING -d 127.0.0.1/32 ! -i lo -p tcp -m tcp --dport 8080 -j DROP
COMMIT
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -d 127.0.0.1/32 ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
*filter
:DOCKER - [0:0]
:DOCKER-BRIDGE - [0:0]
:DOCKER-CT - [0:0]
:DOCKER-FORWARD - [0:0]
:DOCKER-INTERNAL - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER ! -i docker0 -o docker0 -j DROP
-A DOCKER-BRIDGE -o docker0 -j DOCKER
-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-INTERNAL
-A DOCKER-FORWARD -j DOCKER-ISOLATION-STAGE-1
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i docker0 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
COMMIT
"""  # noqa: E501

# What looks like docker's or ours and is somebody's own: table, chain, the rest.
LIKE_OURS = [
    ("filter", "DOCKER-USER", "-j DOCKER-USER-LOG"),
    ("filter", "DOCKER-USER-LOG", "-m limit --limit 3/min -j LOG --log-prefix 'docker '"),
    ("filter", "FORWARD", "-j DOCKER-USER-LOG"),
    ("filter", "INPUT", "-i eth0 -j DOCKER-USER"),
    ("filter", "FORWARD", "-i lo -j ACCEPT"),
    ("filter", "FORWARD", "-i br-mgmt -o br-mgmt -j ACCEPT"),
    ("filter", "FORWARD", "-m comment --comment kube-forward-vpn -s 10.10.0.0/16 -j DROP"),
    ("filter", "DOCKER", "-s 203.0.113.9 -j DROP"),
    ("filter", "DOCKER-ISOLATION-STAGE-2", "-s 203.0.113.9 -j RETURN"),
    ("nat", "POSTROUTING", "-s 10.9.0.5/32 -d 10.9.0.5/32 -p tcp --dport 80 -j MASQUERADE"),
    ("nat", "POSTROUTING", "-s 10.8.0.0/16 ! -o docker0 -j SNAT --to-source 192.0.2.11"),
    ("nat", "DOCKER", "-p tcp --dport 2222 -j DNAT --to-destination 10.9.0.5-10.9.0.7"),
    ("raw", "PREROUTING", "-d 127.0.0.1/32 ! -i lo -p tcp --dport 5432 -j DROP"),
    ("raw", "PREROUTING", "-d 10.9.0.5/32 ! -i docker0 -j DROP"),
    ("mangle", "FORWARD", "-p tcp --syn -j TCPMSS --clamp-mss-to-pmtu"),
]
foreign_rules = st.lists(
    st.tuples(st.sampled_from(LIKE_OURS), st.integers(1, 3)), max_size=8, unique_by=lambda r: r[0]
)


@both_backends
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(docker=st.sampled_from([DOCKER, DOCKER_28]), foreign=foreign_rules)
def test_rules_of_others_around_ours_and_dockers(
    kernel: Kernel, docker: str, foreign: list[tuple[tuple[str, str, str], int]]
) -> None:
    flush = "for table in raw mangle nat filter; do iptables -w -t $table -F; done"
    kernel.run(f"{flush}; for table in nat filter; do iptables -w -t $table -X; done")
    kernel.run("iptables-restore --noflush", docker)
    alone = kernel.fact(Rules)
    chains = {*BUILTIN_CHAINS, "DOCKER-USER-LOG", *alone.chains["filter"]}
    foreign = [one for one in foreign if one[0][1] in chains]
    before = [Rule.parse(f"-A {chain} {text}", table) for (table, chain, text), _ in foreign]
    adding = ["iptables -w -N DOCKER-USER-LOG"] if foreign else []
    for (table, chain, text), place in foreign:
        words = text.replace("!", "'!'")
        first = f"iptables -w -t {table} -I {chain} {place} {words} 2>/dev/null"
        adding.append(f"{first} || iptables -w -t {table} -A {chain} {words}")
    kernel.run("\n".join(adding))
    there = kernel.fact(Rules)
    # One that docker writes itself is docker's, whoever wrote it.
    others = [rule for rule in there.rules if rule in before and rule not in alone.rules]

    shown = kernel.settle(docker_rules.docker_rules_absent)
    left = kernel.fact(Rules)
    assert [rule for rule in left.rules if rule in others] == others
    gone = Counter(there.rules) - Counter(left.rules)
    assert {f"iptables {rule.table}: {rule} → absent" for rule in gone} <= set(shown)
    assert ("DOCKER-USER-LOG" in left.chains["filter"]) == bool(foreign)
    # What is left of docker's leads to rules of others, or is where it would end.
    kept = [rule for rule in left.rules if rule not in others]
    holding = {(rule.table, rule.chain) for rule in left.rules}
    assert all(rule.target == "RETURN" or (rule.table, rule.target) in holding for rule in kept), (
        kept
    )
    for rule in others:
        reached = [r for r in left.rules if (r.table, r.target) == (rule.table, rule.chain)]
        was_reached = [r for r in there.rules if (r.table, r.target) == (rule.table, rule.chain)]
        assert bool(reached) == bool(was_reached)

    kernel.settle(iptables.forward, cluster_cidr="10.10.0.0/16")
    assert [r for r in kernel.fact(Rules).rules if r in others] == others
    kernel.settle(iptables.rules, rules=[], owner="kube-forward", present=False)
    assert kernel.fact(Rules).rules == left.rules
