"""What each fault of a cluster is called, and that its consequences are called nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfra_kube.checks import on_etcd, on_host, on_versions
from pyinfra_kube.checks.check import Check, Finding, Said
from pyinfra_kube.checks.judge import explains, judge
from pyinfra_kube.checks.on_cluster import leases_of, objects_of
from pyinfra_kube.checks.page import page
from pyinfra_kube.checks.readings import CLUSTER, Host, Readings
from pyinfra_kube.checks.report import document, text
from pyinfra_kube.checks.table import CHECKS
from pyinfra_kube.cluster.fitness.states import Disk, HostState, Stranger
from pyinfra_kube.cluster.spec.settings import NODE_DNS
from pyinfra_kube.facts.answers import Answer
from pyinfra_kube.facts.cni import CniState
from pyinfra_kube.facts.firewall import Chain, Firewall, Match, Step
from pyinfra_kube.facts.flannel import Lease
from pyinfra_kube.facts.images import ImageStates
from pyinfra_kube.facts.processes import ProcessState
from pyinfra_kube.facts.routes import Route
from pyinfra_kube.facts.services import UnitStates
from pyinfra_kube.facts.static_pods import StaticPodStates
from tests.unit import well as w

REFUSED = 'Internal error occurred: failed calling webhook "guard.example.com"'
BAD = Answer(1, "bash: connect: No route to host")


class Fault(NamedTuple):
    """
    + check: what it is called
    + host: where
    + readings: of the cluster that has it
    + state: how bad it is
    """

    check: str
    host: str
    readings: Callable[[], Readings]
    state: str = "failed"


def on(name: str, **changed: Any) -> Callable[[], Readings]:
    return lambda: w.well({name: w.host(name, **changed)})


def said(name: str, question: str, answer: str, code: int | None = 0) -> Callable[[], Readings]:
    return on(name, said={question: Answer(code, answer)})


def objects(**changed: Any) -> Callable[[], Readings]:
    return lambda: w.well(objects=w.objects(**changed))


def units(**changed: Any) -> UnitStates:
    known = w.host("n").units
    assert known
    found = {n: replace(u, **changed.get(n.partition(".")[0], {})) for n, u in known.units.items()}
    return replace(known, units=found)


def stopped_flanneld() -> Readings:
    """systemd stops what requires it, too."""
    known = w.host("n")
    assert known.units
    down = w.unit(active="inactive", sub="dead", started=None)
    stopped = ("flanneld.service", "containerd.service", "kubelet.service")
    states = replace(known.units, units={**known.units.units, **dict.fromkeys(stopped, down)})
    wanted = replace(known.wanted, leased=True, units=(*known.wanted.units, "flanneld"))
    one = w.host("n", units=states, pods=StaticPodStates("down"))
    nodes = [w.node("m"), w.node("n", conditions=w.conditions(Ready="Unknown")), w.node("o")]
    return w.well({"n": replace(one, wanted=wanted)}, objects=w.objects(nodes=nodes))


def stopped_kubelet() -> Readings:
    down = {"active": "inactive", "sub": "dead", "started": None}
    one = w.host("n", units=units(kubelet=down), said={"health of kubelet": Answer(7, "refused")})
    nodes = [w.node("m"), w.node("n", conditions=w.conditions(Ready="Unknown")), w.node("o")]
    return w.well({"n": one}, objects=w.objects(nodes=nodes))


def another_image() -> Readings:
    one = w.host("n", images=ImageStates("containerd", {"pause": "sha256:2"}))
    changed = {name: w.host(name) for name in w.HOSTS} | {"n": one}
    unknown = {n: replace(h.wanted, image_ids={}) for n, h in changed.items()}
    return w.well({n: replace(h, wanted=unknown[n]) for n, h in changed.items()})


def new_kubelet() -> Readings:
    one = w.host("o", units=units(kubelet={"started": 1990.0}))
    return w.well({"o": one}, objects=w.objects(nodes=[w.node("m"), w.node("n")]))


def deleted_node() -> Readings:
    one = w.host("n", said={"health of kube-proxy": Answer(22, "503")})
    return w.well({"n": one}, objects=w.objects(nodes=[w.node("m"), w.node("o")]))


def older_pod() -> Readings:
    one = w.host("m")
    assert one.units
    file, late = "/srv/kubernetes/ca.crt", {"/srv/kubernetes/ca.crt": 1500.0}
    reads = {"kube-apiserver": [file], "kube-scheduler": ["/srv/kubernetes/other"]}
    changed = {"wanted": replace(one.wanted, reads=reads), "units": replace(one.units, mtimes=late)}
    return w.well({"m": replace(one, **changed)})


def off() -> Readings:
    told = {"to host n": BAD, "to pods n 10.10.1.7": BAD}
    changed = {name: w.host(name, said=told) for name in ("m", "o")}
    nodes = [w.node("m"), w.node("n", conditions=w.conditions(Ready="Unknown")), w.node("o")]
    return w.well({**changed, "n": w.lost("n")}, objects=w.objects(nodes=nodes))


def dead_etcd() -> Readings:
    known = w.host("m").pods
    assert known
    held = [replace(c, running=c.container != "etcd", exit_code=1) for c in known.containers]
    failing = {q: Answer(7, "refused") for q in ("etcd health", "etcd status", "ready")}
    told = {**failing, "health of etcd": BAD, "health of kube-apiserver": BAD}
    one = w.host("m", pods=replace(known, containers=held), said=told)
    others = {name: w.host(name, said={"to api m": BAD}) for name in "no"}
    return w.well({"m": one, **others}, objects=w.objects(nodes=None, pods=None))


def started_without_rights() -> Readings:
    one = w.host("n", said={"health of kube-proxy": Answer(7, "refused")})
    return w.well({"n": one}, objects=w.objects(bindings=[]))


def full_etcd() -> Readings:
    one = w.host("m", said={"etcd alarms": Answer(0, '{"alarms": [{"alarm": "NOSPACE"}]}')})
    return w.well({"m": one}, objects=w.objects(leases=[w.lease(name) for name in w.HOSTS]))


def port_held() -> Readings:
    held = [Stranger("tcp 10250", "kubelet", "agent", 7, "0::/system.slice/agent.service")]
    waits = {"active": "activating", "sub": "auto-restart", "started": None}
    told = {"health of kubelet": Answer(7, "refused")}
    return w.well({"n": w.host("n", strangers=held, units=units(kubelet=waits), said=told)})


def image_nowhere() -> Readings:
    known = w.host("m").pods
    assert known
    changed = {**known.manifests, f"{w.RUN}/kube-apiserver.yaml": "other"}
    held = [replace(one, running=one.container == "etcd") for one in known.containers]
    pods = replace(known, manifests=changed, containers=held)
    return w.well({"m": w.host("m", pods=pods, versions={"kube-apiserver": "1.37.9"})})


def wrong_limits() -> Readings:
    states = w.conditions(Ready="True", DiskPressure="True")
    nodes = [w.node("m"), w.node("n", conditions=states), w.node("o")]
    one = w.host("n", files={w.CONFIG: w.file("other")})
    return w.well({"n": one}, objects=w.objects(nodes=nodes))


def three_members(**told: Mapping[str, Answer]) -> Callable[[], Readings]:
    """A control plane of three; what is told by host is said in place of what a well one says."""

    def made() -> Readings:
        first, hosts = w.host("m"), {}
        own = {q: a for q, a in first.answers.items() if q.startswith(("etcd", "health", "ready"))}
        own["etcd members"] = Answer(0, json.dumps({"members": _MEMBERS}))
        for name in w.HOSTS:
            said = {**own, **told.get(name, {})}
            one = w.host(name, said=said, pods=first.pods)
            same = {key: getattr(first.wanted, key) for key in ("roles", "pods", "manifests")}
            hosts[name] = replace(one, wanted=replace(one.wanted, **same))
        return w.well(hosts)

    return made


_MEMBERS = [{"name": n, "peerURLs": [f"https://{at}:2380"]} for n, at in w.HOSTS.items()]
_STRANGER = {"name": "x", "peerURLs": ["https://192.0.2.99:2380"]}
_FOUR = Answer(0, json.dumps({"members": [*_MEMBERS, _STRANGER]}))


def policy(space: str = "kube-system", **spec: Any) -> list[dict[str, Any]]:
    spec = {"podSelector": {}, **spec}
    return [{"metadata": {"namespace": space, "name": "deny"}, "spec": spec}]


def opened(*ports: Any, **rule: Any) -> list[dict[str, Any]]:
    return policy(podSelector=COREDNS, ingress=[{"ports": [*ports], **rule}])


def _spaces(*names: str) -> list[dict[str, Any]]:
    return [{"metadata": {"name": one, "labels": {"name": one}}} for one in names]


LIVE = {"kube-apiserver": "1.37.0", "kube-scheduler": "1.37.0"}


def mirror(component: str, version: str) -> dict[str, Any]:
    one = w.pod(f"{component}-node-m")
    image = f"registry.k8s.io/{component}:v{version}@sha256:9"
    one["spec"]["containers"] = [{"name": component, "image": image}]
    return one


DAEMONS = {
    "kind": "DaemonSet",
    "metadata": {"name": "kube-router", "namespace": "kube-system"},
    "spec": {"image": "x"},
}
COREDNS = {"matchLabels": {"k8s-app": "kube-dns"}}
UDP = {"port": 53, "protocol": "UDP"}
DENY = policy(policyTypes=["Ingress"])


def evicted() -> dict[str, Any]:
    owner = {"kind": "ReplicaSet", "name": "x", "controller": True}
    one = w.pod("x-1", ready="False", labels=COREDNS["matchLabels"], ownerReferences=[owner])
    return {**one, "status": {"phase": "Failed", "reason": "Evicted"}}


def _links(address: str = w.cidr("n", "1"), mtu: int = 1460) -> dict[str, Any]:
    bridge = w.link("cbr0", address, kind="bridge", mtu=mtu)
    return {"eth0": w.link("eth0", f"{w.HOSTS['n']}/24"), "cbr0": bridge}


DROP = Step("drop", matches=(Match("source", ("10.10.1.0/24",)),), text="drop pods")

AVC = (
    'type=AVC msg=audit(1764236400.123:456): avc:  denied  { read } for  pid=71 comm="etcd" '
    'name="ca.crt" dev="vda3" ino=9 scontext=system_u:system_r:container_t:s0:c1,c2 '
    "tcontext=unconfined_u:object_r:var_t:s0 tclass=file permissive=0"
)
FAULTS = {
    "a stopped kubelet": Fault("unit.runs", "n", stopped_kubelet),
    "a host that is off": Fault("host.answers", "n", off),
    "a dead etcd": Fault("pod.runs", "m", dead_etcd),
    "a full disk": Fault(
        "host.disk", "n", on("n", state=HostState(disks={"/": Disk("/", 100, 1, 9, 9)}))
    ),
    "a full disk in two places": Fault(
        "host.disk",
        "n",
        on("n", state=HostState(disks={at: Disk(at, 100, 1, 9, 9) for at in ("/usr", "/")})),
    ),
    "no inodes": Fault(
        "host.disk", "n", on("n", state=HostState(disks={"/": Disk("/", 100, 50, 100, 1)}))
    ),
    "a clock that is behind": Fault("host.clock", "n", on("n", state=HostState(behind=(59, 61)))),
    "a clock that is behind when units have started": Fault(
        "host.clock",
        "n",
        on("n", state=HostState(behind=(299, 301)), units=units(kubelet={"started": 1.0})),
    ),
    "swap beside which a plan lets kubelet start": Fault(
        "host.swap",
        "n",
        on("n", state=HostState(swaps=("/dev/sda2",)), files={w.CONFIG: w.file("other")}),
    ),
    "a clock that is ahead": Fault("host.clock", "n", on("n", state=HostState(behind=(-61, -59)))),
    "swap": Fault("host.swap", "n", on("n", state=HostState(swaps=("/dev/sda2",)))),
    "a refusal of SELinux": Fault("host.selinux", "n", said("n", "refusals", AVC)),
    "a refusal that SELinux would make": Fault(
        "host.selinux",
        "n",
        said("n", "refusals", AVC.replace("permissive=0", "permissive=1")),
        "warning",
    ),
    "no memory": Fault("host.memory", "n", said("n", "memory", "MemAvailable 9999 kB")),
    "a full table of connections": Fault(
        "host.connections", "n", said("n", "connections", "99 100")
    ),
    "a kubelet with another name": Fault(
        "node.kubelet", "m", said("m", "to kubelet n", "curl: (60) SSL: no match", 60)
    ),
    "no forwarding": Fault(
        "host.kernel", "n", said("n", "kernel settings", "net.ipv4.ip_forward 0")
    ),
    "bridged packets unseen": Fault(
        "host.kernel", "n", said("n", "kernel settings", "net.bridge.bridge-nf-call-iptables ")
    ),
    "a cut cable": Fault("host.reaches", "n", said("n", "to host o", "No route to host", 1)),
    "a wrong name": Fault("host.names", "n", said("n", "names", "m 192.0.2.9\no 192.0.2.3")),
    "a loopback nameserver": Fault(
        "host.nameservers", "n", said("n", "nameservers", "/etc/resolv.conf\n127.0.0.53")
    ),
    "a nameserver that is dead": Fault(
        "host.nameservers", "n", said("n", "silent nameservers", "192.0.2.53"), "warning"
    ),
    "no nameserver": Fault("host.nameservers", "n", said("n", "nameservers", "/etc/resolv.conf")),
    "an ended certificate": Fault(
        "cert.ends", "n", said("n", "certificates", w.certificates(x=w.leaf(-1)))
    ),
    "a certificate that ends": Fault(
        "cert.ends", "n", said("n", "certificates", w.certificates(x=w.leaf(9))), "warning"
    ),
    "a certificate that has not begun": Fault(
        "cert.ends", "n", said("n", "certificates", w.certificates(x=w.leaf(begins=20)))
    ),
    "another CA": Fault(
        "cert.ca", "n", said("n", "certificates", w.certificates(**{w.CA: w.ca("other").cert}))
    ),
    "signed by another CA": Fault(
        "cert.ca", "n", said("n", "certificates", w.certificates(x=w.leaf(of="other")))
    ),
    "signed by itself": Fault(
        "cert.ca",
        "m",
        said("m", "certificates", w.certificates(**{w.KUBELET_CRT: w.ca("self").cert})),
    ),
    "another key for tokens": Fault(
        "cert.tokens",
        "m",
        said(
            "m",
            "token keys",
            "-----BEGIN PUBLIC KEY-----\nAB\n-----END\naccepted\n"
            "-----BEGIN PUBLIC KEY-----\nCD\n-----END",
        ),
    ),
    "a masked unit": Fault(
        "runtime.enabled",
        "n",
        on("n", units=units(kubelet={"load": "masked", "active": "inactive"})),
    ),
    "a disabled unit": Fault(
        "runtime.enabled", "n", on("n", units=units(kubelet={"enabled": "disabled"})), "warning"
    ),
    "a stopped runtime": Fault(
        "runtime.runs",
        "n",
        on("n", units=units(containerd={"active": "failed"}), pods=StaticPodStates("down")),
    ),
    "a stopped flanneld, which docker needs": Fault("runtime.subnet", "n", stopped_flanneld),
    "a runtime that hangs": Fault("runtime.answers", "n", on("n", pods=StaticPodStates("down"))),
    "no plugin": Fault("cni.plugins", "n", on("n", cni=CniState(("10-pods.conflist",), ()))),
    "another network": Fault(
        "cni.network", "n", on("n", cni=CniState(("05-x.conf", "10-pods.conflist"), ("bridge",)))
    ),
    "no pause image": Fault("image.there", "n", on("n", images=ImageStates("containerd", {}))),
    "another image of the name": Fault(
        "image.pinned",
        "n",
        on("n", images=ImageStates("containerd", {"pause": "sha256:2"})),
    ),
    "another image than elsewhere": Fault("image.same", "n", another_image, "warning"),
    "a pod that runs from another image": Fault(
        "image.pinned", "m", objects(pods=[w.coredns(), w.runs("coredns:1", "sha256:9")])
    ),
    "a pod with another digest": Fault(
        "image.pinned", "n", objects(pods=[w.coredns(), w.runs("etcd:1", "etcd@sha256:9", "n")])
    ),
    "a foreign drop-in": Fault(
        "unit.files",
        "n",
        on(
            "n",
            units=units(kubelet={"files": ("/u.service", "/d.conf")}),
            flags={"kubelet": ProcessState(7, {"v": "9"})},
        ),
    ),
    "other flags": Fault("pod.flags", "n", on("n", flags={"kubelet": ProcessState(7, {"v": "9"})})),
    "a stale unit": Fault(
        "unit.fresh", "n", on("n", units=units(kubelet={"started": 1.0})), "warning"
    ),
    "a pod that is older than a file": Fault("pod.fresh", "m", older_pod, "warning"),
    "a changed manifest": Fault(
        "pod.manifest",
        "m",
        lambda: w.well(
            {
                "m": _manifests(
                    {f"{w.RUN}/etcd.yaml": "x", f"{w.RUN}/kube-apiserver.yaml": "kube-apiserver"}
                )
            }
        ),
    ),
    "a moved manifest": Fault(
        "pod.manifest", "m", lambda: w.well({"m": _manifests({f"{w.RUN}/etcd.yaml": "etcd"})})
    ),
    "an alarm of etcd": Fault(
        "etcd.alarm", "m", said("m", "etcd alarms", '{"alarms": [{"alarm": "NOSPACE"}]}')
    ),
    "an etcd that is not well": Fault(
        "etcd.health", "m", said("m", "etcd health", '{"health":"false"}')
    ),
    "an etcd that hangs": Fault("etcd.answers", "m", said("m", "etcd health", "timed out", 28)),
    "a dead member of three": Fault(
        "etcd.answers",
        "o",
        three_members(
            m={"etcd health": Answer(0, '{"health":"false","reason":"RAFT NO LEADER"}')},
            o={"etcd health": Answer(28), "etcd status": Answer(28), "etcd members": Answer(28)},
            n={"health of kube-apiserver": Answer(22, "500"), "ready": Answer(1, "[-]etcd failed")},
        ),
    ),
    "a member of nobody among three": Fault(
        "etcd.members",
        "m",
        three_members(
            m={"etcd members": _FOUR},
            o={"etcd members": _FOUR},
            n={"etcd members": _FOUR, "health of kube-apiserver": Answer(22, "500")},
        ),
    ),
    "a member too many": Fault(
        "etcd.members",
        "m",
        said(
            "m",
            "etcd members",
            json.dumps(
                {
                    "members": [
                        {"name": "m", "peerURLs": ["https://192.0.2.1:2380"]},
                        {"name": "x", "peerURLs": ["https://192.0.2.9:2380"]},
                    ]
                }
            ),
        ),
    ),
    "a large etcd": Fault(
        "etcd.size",
        "m",
        said("m", "etcd status", '{"dbSize": "2000000000", "leader": "1"}'),
        "warning",
    ),
    "no leader": Fault("etcd.revision", "m", said("m", "etcd status", '{"dbSize": "1"}')),
    "a component that is not well": Fault(
        "health", "n", said("n", "health of kube-proxy", "503", 22)
    ),
    "an apiserver that is not ready": Fault(
        "api.ready", "m", said("m", "ready", "[-]etcd failed", 1)
    ),
    "no way to the API": Fault("api.reaches", "n", said("n", "to api m", "timed out", 28)),
    "a node that did not register": Fault("node.registered", CLUSTER, new_kubelet),
    "a node too many": Fault(
        "node.registered",
        CLUSTER,
        lambda: w.well(node_names=("node-m", "node-n")),
        "warning",
    ),
    "leases that etcd has no space for": Fault("etcd.alarm", "m", full_etcd),
    "a late lease": Fault("node.ready", CLUSTER, objects(leases=[w.lease("n")])),
    "an image that is nowhere": Fault("pod.manifest", "m", image_nowhere),
    "wrong limits of kubelet": Fault("unit.configuration", "n", wrong_limits),
    "disk pressure": Fault(
        "node.pressure",
        CLUSTER,
        objects(
            nodes=[
                w.node("m", conditions=w.conditions(Ready="True", DiskPressure="True")),
                *(w.node(one) for one in "no"),
            ]
        ),
    ),
    "another pod CIDR": Fault(
        "node.cidr",
        CLUSTER,
        objects(nodes=[w.node("m", podCIDR="10.10.9.0/24"), *(w.node(o) for o in "no")]),
    ),
    "another address": Fault(
        "node.address",
        CLUSTER,
        objects(nodes=[w.node("m", address="192.0.2.9"), *(w.node(o) for o in "no")]),
    ),
    "a cordoned node": Fault(
        "node.open",
        CLUSTER,
        objects(nodes=[w.node("m", unschedulable=True), *(w.node(o) for o in "no")]),
        "warning",
    ),
    "an older kubelet": Fault(
        "node.version",
        CLUSTER,
        objects(nodes=[w.node("m", kubelet="v1.35.0"), *(w.node(o) for o in "no")]),
        "warning",
    ),
    "a kubelet that is too new": Fault(
        "node.version",
        CLUSTER,
        objects(nodes=[w.node("m", kubelet="v1.38.0"), *(w.node(o) for o in "no")]),
    ),
    "another apiserver than planned": Fault(
        "version", "m", said("m", "version", '{"gitVersion": "v1.37.9"}'), "warning"
    ),
    "a scheduler that is newer than its apiserver": Fault(
        "version", "m", on("m", versions={**LIVE, "kube-scheduler": "1.38.0"})
    ),
    "a controller manager that is too old": Fault(
        "version", "m", objects(pods=[w.coredns(), mirror("kube-controller-manager", "1.35.3")])
    ),
    "a kube-proxy that is too old": Fault(
        "version", "n", on("n", versions={"kube-proxy": "1.33.0"})
    ),
    "no bridge": Fault("net.bridge", "n", on("n", links={"lo": w.link("lo", "127.0.0.1/8")})),
    "a bridge with another address": Fault(
        "net.bridge", "n", on("n", links=_links("10.10.9.1/24"))
    ),
    "a bridge with another MTU": Fault("net.mtu", "n", on("n", links=_links(mtu=1400))),
    "two links with one network": Fault(
        "net.twice",
        "n",
        on("n", links={**_links(), "br9": w.link("br9", w.cidr("n", "9"), kind="bridge")}),
    ),
    "an address of a service": Fault(
        "net.services",
        "n",
        on("n", links={**_links(), "kube-ipvs0": w.link("kube-ipvs0", f"{w.SERVICE}/32")}),
    ),
    "a wrong neighbour": Fault(
        "host.neighbours", "n", said("n", "neighbours", f"{w.HOSTS['o']} 52:54:00:00:00:09")
    ),
    "one MAC address twice": Fault(
        "host.neighbours",
        "m",
        on("n", links={**_links(), "eth0": replace(_links()["eth0"], mac="52:54:00:00:00:01")}),
    ),
    "a deleted node": Fault("node.deleted", CLUSTER, deleted_node),
    "no hairpin": Fault("net.hairpin", "n", said("n", "ports of bridges", "veth1 cbr0 0")),
    "lost packets": Fault("host.loss", "n", lambda: _losing({"m": "n", "o": "n"})),
    "lost packets of one": Fault("host.loss", "n", lambda: _losing({"n": "mo"})),
    "packets lost between two": Fault("host.loss", "n", lambda: _losing({"o": "n"})),
    "packets lost between all": Fault("host.loss", "m", lambda: _losing({"m": "no", "n": "o"})),
    "a runtime that keeps control groups": Fault(
        "runtime.cgroups", "n", said("n", "control groups", "cgroupfs")
    ),
    "an apiserver that may not use kubelets": Fault(
        "api.access",
        CLUSTER,
        lambda: w.well(
            {"m": w.host("m", said={"to kubelet n": Answer(1, "Forbidden")})},
            objects=w.objects(access=[(w.binding("kube-apiserver"), None)]),
        ),
    ),
    "kube-proxy without rights": Fault("api.rights", CLUSTER, objects(bindings=[])),
    "kube-proxy that starts without rights": Fault("api.rights", CLUSTER, started_without_rights),
    "a binding without its user": Fault(
        "api.rights", CLUSTER, objects(bindings=[w.binding("somebody")])
    ),
    "a namespace that stays": Fault(
        "api.deleted", CLUSTER, objects(namespaces=[w.deleted("x")]), "warning"
    ),
    "a pod that stays": Fault(
        "api.deleted", CLUSTER, objects(pods=[w.coredns(), w.deleted("x")]), "warning"
    ),
    "an overlay that is narrower than its bridge": Fault(
        "net.overlay", "n", lambda: w.well({"n": _on_flannel("veth1 cbr0 1")})
    ),
    "an overlay that is narrower than docker's bridge": Fault(
        "net.overlay", "n", lambda: w.well({"n": _on_flannel("veth1 cbr0 1", mtu=0)})
    ),
    "no route": Fault("net.route", "n", lambda: _without(w.cidr("o"))),
    "no default route": Fault("net.default", "n", lambda: _without("0.0.0.0/0")),
    "masquerade twice": Fault(
        "net.masquerade",
        "n",
        on(
            "n",
            rules=w.rules(w.MASQUERADE, f"-A POSTROUTING -s {w.cidr('n')} ! -o cbr0 -j MASQUERADE"),
        ),
    ),
    "masquerade never": Fault("net.masquerade", "n", on("n", rules=w.rules())),
    "masquerade inside": Fault(
        "net.masquerade",
        "n",
        on("n", rules=w.rules("-A POSTROUTING -s 10.10.0.0/16 -j MASQUERADE")),
    ),
    "a rule of iptables": Fault(
        "net.firewall",
        "n",
        on("n", rules=w.rules(w.MASQUERADE, filters=("-A FORWARD -s 10.10.1.0/24 -j DROP",))),
    ),
    "a rule of nft": Fault(
        "net.firewall",
        "n",
        on("n", firewall=Firewall((Chain("nft", "inet x", "f", "forward", steps=(DROP,)),))),
    ),
    "no rules of kube-proxy": Fault("net.proxy", "n", said("n", "service rules", "", 1)),
    "a pod out of reach": Fault("net.pods", "n", said("n", "to pods o 10.10.2.7", "timed out", 1)),
    "no answer of the service": Fault(
        "net.service", "n", said("n", f"to service {w.SERVICE}", "", 124)
    ),
    "a policy against DNS": Fault(
        "dns.policy", CLUSTER, objects(policies=policy(podSelector={}, policyTypes=["Ingress"]))
    ),
    "a policy for some clients of DNS": Fault(
        "dns.policy",
        CLUSTER,
        objects(policies=opened(UDP, **{"from": [{"podSelector": {"matchLabels": {"a": "b"}}}]})),
    ),
    "a policy that keeps a namespace from DNS": Fault(
        "dns.policy",
        CLUSTER,
        objects(
            namespaces=_spaces("shop", "kube-system"),
            policies=opened(
                UDP, **{"from": [{"namespaceSelector": {"matchLabels": {"name": "kube-system"}}}]}
            ),
        ),
        "warning",
    ),
    "a policy of another port": Fault(
        "dns.policy", CLUSTER, objects(policies=opened({"port": 54, "endPort": 1024}))
    ),
    "pods that may not ask DNS": Fault(
        "dns.policy", CLUSTER, objects(policies=policy("shop", policyTypes=["Egress"])), "warning"
    ),
    "pods that may ask others on port 53": Fault(
        "dns.policy",
        CLUSTER,
        objects(
            policies=policy(
                "shop",
                policyTypes=["Egress"],
                egress=[{"to": [{"podSelector": COREDNS}], "ports": [UDP]}],
            )
        ),
        "warning",
    ),
    "an evicted CoreDNS that nobody replaces": Fault(
        "dns.runs", CLUSTER, objects(pods=[evicted()])
    ),
    "no CoreDNS": Fault("dns.runs", CLUSTER, objects(pods=[])),
    "CoreDNS that is not ready": Fault("dns.runs", CLUSTER, objects(pods=[w.coredns("False")])),
    "a CoreDNS that is silent": Fault("dns.pods", "n", said("n", "to dns-pod m 10.10.0.7", "", 1)),
    "a receiver of logs that is away": Fault(
        "logs", "n", said("n", "to logs https://logs.example", "refused", 7), "warning"
    ),
    "a node's cache that is silent": Fault(
        "dns.node", "n", said("n", f"to dns-node {NODE_DNS}", "", 1)
    ),
    "DNS that is silent": Fault("dns.service", "n", said("n", f"to dns-service {w.DNS}", "", 1)),
    "a registry that is away": Fault(
        "registry", "n", said("n", "to registry https://r", "refused", 7), "warning"
    ),
    "a pod that is not ready": Fault(
        "pods.ready", CLUSTER, objects(pods=[w.coredns(), w.pod("x", ready="False")])
    ),
    "a second link in the pods' networks": Fault(
        "net.twice",
        "n",
        on("n", links={**_links(), "br9": w.link("br9", "10.10.0.9/25", kind="bridge")}),
    ),
    "the address of another host": Fault(
        "host.address",
        "n",
        on("n", links={**_links(), "lo": w.link("lo", f"{w.HOSTS['o']}/32")}),
    ),
    "small packets between hosts": Fault(
        "net.mtu",
        "n",
        on("n", links={**_links(), "eth0": w.link("eth0", f"{w.HOSTS['n']}/24", mtu=1300)}),
    ),
    "a route to nowhere": Fault(
        "net.route",
        "n",
        lambda: w.well(
            {
                "n": w.host(
                    "n", routes=[*(w.host("n").routes or ()), Route(w.SERVICES, type="blackhole")]
                )
            }
        ),
    ),
    "a rule that routes pods' packets": Fault(
        "net.way", "n", said("n", f"way to {w.cidr('o')}", "RTNETLINK answers: unreachable", 2)
    ),
    "no forwarding by the bridge": Fault(
        "host.kernel",
        "n",
        said("n", "kernel settings", "net.ipv4.ip_forward 1\nnet.ipv4.conf.cbr0.forwarding 0"),
    ),
    "a read-only file system": Fault(
        "host.disk",
        "n",
        on("n", state=HostState(disks={"/var/lib/kubelet": Disk("/", options=("ro",))})),
    ),
    "the cluster's DNS as a nameserver": Fault(
        "host.nameservers", "n", said("n", "nameservers", f"/etc/resolv.conf\n{w.DNS}")
    ),
    "a secret that others can read": Fault(
        "cert.open", "n", said("n", "open secrets", "/srv/kubernetes/x.key")
    ),
    "a token that is not known": Fault(
        "cert.kubeconfig", "n", said("n", "kubeconfigs", f"token {w.KUBELET} other")
    ),
    "a kubeconfig that leads elsewhere": Fault(
        "cert.kubeconfig", "n", said("n", "kubeconfigs", f"server {w.KUBELET} https://192.0.2.9")
    ),
    "a proxy": Fault(
        "unit.proxy",
        "n",
        said("n", "proxies", "kubelet HTTPS_PROXY set\nkubelet no_proxy .example.com,10.0.0.0/8"),
    ),
    "another configuration": Fault(
        "unit.configuration", "n", on("n", files={w.CONFIG: w.file("other")})
    ),
    "no configuration": Fault("unit.configuration", "n", on("n", files={})),
    "a second manifest": Fault(
        "pod.manifest",
        "m",
        lambda: w.well(
            {"m": _manifests({**w.wanted("m").manifests, f"{w.RUN}/etcd.yaml.bak": "x"})}
        ),
    ),
    "a host of kubeadm": Fault(
        "host.built", "n", on("n", state=HostState(there=("/etc/kubernetes/admin.conf",)))
    ),
    "a drop-in that ends kubelet": Fault(
        "unit.files",
        "n",
        on(
            "n",
            units=units(kubelet={"active": "activating", "files": ("/u.service", "/10-kubeadm")}),
            flags={"kubelet": ProcessState(0, None, {"v": "2", "bootstrap-kubeconfig": "/x"})},
        ),
    ),
    "a blank host": Fault(
        "host.built",
        "n",
        on(
            "n", units=units(kubelet={"load": "not-found"}, **{"kube-proxy": {"load": "not-found"}})
        ),
    ),
    "no addresses for pods": Fault(
        "cni.addresses",
        "n",
        said("n", "pods' addresses", "\n".join(f"10.10.1.{n}" for n in range(2, 255))),
    ),
    "taints everywhere": Fault(
        "node.open",
        CLUSTER,
        objects(
            nodes=[w.node(one, taints=[{"key": "x", "effect": "NoExecute"}]) for one in w.HOSTS]
        ),
    ),
    "a program on a port of kubelet": Fault("host.ports", "n", port_held),
    "a webhook that nobody serves": Fault("api.webhooks", CLUSTER, objects(slices=[])),
    "a webhook whose pod is not ready": Fault(
        "api.webhooks", CLUSTER, objects(slices=[w.endpoints(ready=False)])
    ),
    "pods that a webhook refuses": Fault(
        "api.webhooks",
        CLUSTER,
        objects(
            slices=[],
            deployments=[w.deployment(message=REFUSED, ReplicaFailure="True")],
            pods=[],
        ),
    ),
    "pods that are refused": Fault(
        "pods.made",
        CLUSTER,
        objects(deployments=[w.deployment(ReplicaFailure="True")], pods=[]),
    ),
    "others' pods that are refused": Fault(
        "pods.made",
        CLUSTER,
        objects(deployments=[w.deployment("shop", ReplicaFailure="True")]),
        "warning",
    ),
    "a selector that selects nothing": Fault(
        "dns.objects",
        CLUSTER,
        objects(own=[(w.SERVICE_OF_DNS, {**w.SERVICE_OF_DNS, "spec": {"selector": {}}})]),
    ),
    "an object that is gone": Fault(
        "dns.objects", CLUSTER, objects(own=[(w.SERVICE_OF_DNS, None)])
    ),
    "a DaemonSet that is gone": Fault(
        "api.objects",
        CLUSTER,
        objects(addons=[(DAEMONS, None)], services=[w.service("False", "x")]),
    ),
    "a DaemonSet with another image": Fault(
        "api.objects", CLUSTER, objects(addons=[(DAEMONS, {**DAEMONS, "spec": {"image": "y"}})])
    ),
    "a manifest's object that is gone": Fault(
        "api.objects", CLUSTER, objects(users=[(DAEMONS, None)])
    ),
    "a manifest's object that was changed": Fault(
        "api.objects",
        CLUSTER,
        objects(users=[(DAEMONS, {**DAEMONS, "spec": {"image": "y"}})]),
        "warning",
    ),
    "an API that nobody serves": Fault(
        "api.services", CLUSTER, objects(services=[w.service("False")])
    ),
    "an old API": Fault(
        "api.deprecated", CLUSTER, objects(deprecated=["a/v1:b,until=1.99"]), "warning"
    ),
}


def _on_flannel(ports: str = "", mtu: int = 1460) -> Host:
    """A node whose bridge has another MTU than the overlay."""
    one = w.host("n", said={"ports of bridges": Answer(0, ports)})
    wanted = replace(one.wanted, device="flannel.1", overhead=50, bridge_mtu=mtu)
    links = {**(one.links or {}), "flannel.1": w.link("flannel.1", "10.10.1.0/32", mtu=1450)}
    return w.replaced(one, wanted=wanted, links=links)


def _standalone() -> Host:
    """A control plane that is no node."""
    one = w.host("m")
    roles = frozenset({"control_plane", "etcd"})
    ways = {name for name in one.answers if name.startswith("way to ")}
    told = {name: answer for name, answer in one.answers.items() if name not in ways}
    return w.replaced(one, answers=told, wanted=replace(one.wanted, roles=roles))


def _without(destination: str) -> Readings:
    routes = [one for one in w.host("n").routes or () if one.destination != destination]
    return w.well({"n": w.host("n", routes=routes)})


def _losing(ways: dict[str, str]) -> Readings:
    """Hosts that lose some of what they send to others."""
    lost = Answer(0, "20 packets transmitted, 14 received, 30% packet loss")
    return w.well(
        {one: w.host(one, said={f"to loss {to}": lost for to in far}) for one, far in ways.items()}
    )


@pytest.mark.parametrize(
    ("readings", "what"),
    [
        (objects(namespaces=[w.deleted("x", at="2026-11-27T00:59:40Z")]), "has just been deleted"),
        *(
            (objects(policies=many, namespaces=_spaces("shop", "x")), what)
            for many, what in (
                ([*DENY, *opened(UDP)], "policies add up"),
                (opened({"port": 1, "endPort": 1024}), "a range has it"),
                (opened(UDP, **{"from": [{"namespaceSelector": {}}]}), "from everywhere"),
                (opened(UDP, **{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}), "all pods"),
                (opened(), "on every port"),
                (
                    policy(
                        podSelector={
                            "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]
                        }
                    ),
                    "it chooses other pods",
                ),
                (
                    [
                        *policy("shop", policyTypes=["Ingress", "Egress"]),
                        *policy(
                            "shop",
                            policyTypes=["Egress"],
                            egress=[
                                {"to": [{"namespaceSelector": {}, "podSelector": COREDNS}]},
                            ],
                        ),
                    ],
                    "another one lets DNS pass",
                ),
            )
        ),
        (objects(pods=[w.coredns(), evicted()]), "its controller has made another"),
        (objects(webhooks=[w.webhook("Ignore")], slices=[]), "nobody waits for its word"),
        (objects(slices=None), "the release has none, or there are too many"),
        (said("n", "to loss m", "20 transmitted, 0 received, 100% packet loss"), "may answer none"),
        (said("n", "to loss m", "20 transmitted, 19 received, 5% packet loss"), "one is none"),
        (said("n", "ports of bridges", "eth1 cbr0 0"), "no pod's port"),
        (
            on("n", routes=[*(w.host("n").routes or ())[1:], Route(w.SERVICES, "192.0.2.254")]),
            "services have a route of their own",
        ),
        *(
            (objects(pods=[w.coredns(), w.runs(*one)]), f"{one} is given")
            for one in (
                ("coredns:1", "sha256:2"),
                ("coredns:1", "docker-pullable://coredns@sha256:9"),
                ("etcd:1", "etcd@sha256:3"),
                ("etcd:1", "sha256:9"),
                ("other:1", "sha256:9"),
            )
        ),
        (
            objects(deprecated=["extensions/v1beta1:ingresses,until=1.22"]),
            "the controller manager does that",
        ),
        (lambda: w.well({"n": _on_flannel(mtu=0)}), "a bridge without ports"),
        (lambda: w.well({"m": _standalone()}), "no pod sends packets there"),
        (lambda: w.well(bound={}, objects=w.objects(bindings=None)), "no RBAC"),
        (
            lambda: w.well(
                {"n": w.host("n", links={**_links(), "x": w.link("x", f"{w.SERVICE}/32")})},
                proxy_mode="ipvs",
            ),
            "ipvs has them there",
        ),
    ],
)
def test_what_is_no_fault(readings: Callable[[], Readings], what: str) -> None:
    verdict = judge(readings())
    assert (verdict.causes, verdict.unknown) == ((), ()), what


def _manifests(found: dict[str, str]) -> Host:
    known = w.host("m").pods
    assert known
    return w.host("m", pods=replace(known, manifests=found))


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_is_called_what_it_is_and_nothing_else(fault: Fault) -> None:
    causes = judge(fault.readings()).causes
    found = [(one.finding.check.id, one.finding.host, one.finding.said.state) for one in causes]
    assert found == [(fault.check, fault.host, fault.state)]


def _flannel(name: str, backend: str = "vxlan", docker: bool = False, **changed: Any) -> Host:
    """A node whose packets flannel carries; docker's on a subnet that flannel chose."""
    ports = {"ports of bridges": Answer(0, "veth1 cbr0 1\nveth2 docker0 1")}
    one, device = (
        w.host(name, said=ports),
        {"vxlan": "flannel.1", "udp": "flannel0"}.get(backend, ""),
    )
    bridge = "docker0" if docker else "cbr0"
    known = {"device": device, "overhead": 50 if device else 0, "bridge": bridge, "routes": ()}
    wanted = replace(one.wanted, **known, leased=docker, by_docker=docker, bridge_mtu=0)
    links = dict(one.links or {})
    links[bridge] = replace(links.pop("cbr0"), name=bridge, mtu=1450)
    if device:
        links[device] = w.link(device, w.cidr(name).replace("/24", "/32"), mtu=1450)
    ways = {other: w.cidr(other) for other in w.HOSTS if other != name}
    far = [
        Route(there, None if backend == "udp" else there[:-3], device)
        if device
        else Route(there, w.HOSTS[other], "eth0")
        for other, there in ways.items()
    ]
    # Its device has an address in the network of all.
    far = [Route(w.CLUSTER, None, device)] if backend == "udp" else far
    docks = f"-A POSTROUTING -s {w.cidr(name)} ! -o docker0 -j MASQUERADE"
    told = {"links": links, "routes": [Route("0.0.0.0/0", "192.0.2.254", "eth0"), *far]}
    told |= {"rules": w.rules(docks)} if docker else {}
    return w.replaced(one, wanted=wanted, **{**told, **changed})


def _on_flannels(
    backend: str = "vxlan", docker: bool = False, more: Mapping[str, Any] | None = None, **n: Any
) -> Callable[[], Readings]:
    """A cluster on flannel, and what node n tells otherwise."""
    return lambda: w.well(
        {name: _flannel(name, backend, docker, **(n if name == "n" else {})) for name in w.HOSTS},
        network="flannel",
        **(more or {}),
    )


def _another_env() -> Readings:
    """The address of docker's bridge is held against subnet.env, and so are the rules."""
    differ = ("subnet.env and network", "lease and subnet.env", "docker0 and subnet.env")
    one = _flannel("n", docker=True, disagreements=[(what, "a, b") for what in differ])
    away = {"bridge_address": "10.99.1.1/24", "pod_cidr": "10.99.1.0/24"}
    others = {name: _flannel(name, docker=True) for name in w.HOSTS}
    return w.well(
        others | {"n": replace(one, wanted=replace(one.wanted, **away))}, network="flannel"
    )


def _taken_address() -> Readings:
    links = {**(_flannel("n").links or {}), "lo": w.link("lo", f"{w.HOSTS['o']}/32")}
    differ = ("lease and host", "lease and subnet.env", "MAC of flannel.1 and lease")
    return _on_flannels(links=links, disagreements=[(what, "a, b") for what in differ])()


DEFAULT = Route("0.0.0.0/0", "192.0.2.254", "eth0")
KINDS = [(backend, docker) for backend in ("vxlan", "udp", "host-gw") for docker in (False, True)]
OTHER_CIDR = [w.node("m", podCIDR="10.10.9.0/24"), *(w.node(one) for one in "no")]
ON_FLANNEL = {
    **{
        f"no route of {backend}": Fault("net.flannel", "n", _on_flannels(backend, routes=[DEFAULT]))
        for backend in ("vxlan", "udp", "host-gw")
    },
    "a route around flannel": Fault(
        "net.flannel",
        "n",
        _on_flannels(
            routes=[DEFAULT, *(Route(w.cidr(one), w.HOSTS[one], "eth0") for one in "mo")],
        ),
    ),
    "a lease of another subnet": Fault(
        "net.lease", "n", _on_flannels(disagreements=[("lease and subnet.env", "a, b")])
    ),
    "another subnet in subnet.env": Fault("net.lease", "n", lambda: _another_env()),
    "flannel's device with another MAC": Fault(
        "net.device", "n", _on_flannels(disagreements=[("MAC of flannel.1 and lease", "a, b")])
    ),
    "an overlay with another MTU than subnet.env": Fault(
        "net.overlay", "n", _on_flannels(disagreements=[("MTU of flannel.1", "1300, 1450")])
    ),
    "a lease of a host whose address another one has": Fault(
        "host.address", "n", lambda: _taken_address()
    ),
}
OF_FLANNEL = {
    "docker's bridge elsewhere": Fault(
        "net.bridge",
        "n",
        _on_flannels(
            docker=True,
            links={
                **(_flannel("n", docker=True).links or {}),
                "docker0": w.link("docker0", "10.99.99.1/24", kind="bridge", mtu=1450),
            },
        ),
    ),
    "docker without masquerade": Fault(
        "net.masquerade", "n", _on_flannels(docker=True, rules=w.rules())
    ),
    "another pod CIDR of a node": Fault(
        "node.cidr", CLUSTER, _on_flannels(more={"objects": w.objects(nodes=OTHER_CIDR)})
    ),
}


@pytest.mark.parametrize(("backend", "docker"), KINDS)
def test_all_is_well_on_flannel(backend: str, docker: bool) -> None:
    verdict = judge(_on_flannels(backend, docker)())
    assert (verdict.causes, verdict.unknown) == ((), ())


@pytest.mark.parametrize("name", [*ON_FLANNEL, *OF_FLANNEL])
def test_a_fault_of_flannel_is_called_what_it_is(name: str) -> None:
    fault = {**ON_FLANNEL, **OF_FLANNEL}[name]
    causes = judge(fault.readings()).causes
    assert {(one.finding.check.id, one.finding.host) for one in causes} == {
        (fault.check, fault.host)
    }


def test_each_host_without_routes_of_flannel_is_named() -> None:
    hosts = {name: _flannel(name, docker=True, routes=[DEFAULT]) for name in w.HOSTS}
    causes = judge(w.well(hosts, network="flannel")).causes
    assert {(one.finding.check.id, one.finding.host) for one in causes} == {
        ("net.flannel", name) for name in w.HOSTS
    }


def test_what_flannel_takes_from_the_api() -> None:
    noted = w.node("m")
    start = "flannel.alpha.coreos.com"
    noted["metadata"]["annotations"] = {
        f"{start}/public-ip": "192.0.2.9",
        f"{start}/backend-data": '{"VNI":1,"VtepMAC":"AA:00:00:00:00:01"}',
    }
    for_host_gw = w.node("n")
    for_host_gw["metadata"]["annotations"] = {f"{start}/backend-data": "null"}
    assert leases_of([noted, for_host_gw, w.node("o", podCIDR="")]) == [
        Lease(w.cidr("m"), "192.0.2.9", vtep_mac="aa:00:00:00:00:01"),
        Lease(w.cidr("n"), w.HOSTS["n"]),
    ]


def test_all_is_well() -> None:
    verdict = judge(w.well())
    assert not verdict.causes
    assert not verdict.unknown
    assert "all is well" in text(verdict)


def test_without_kubectl_nothing_of_the_api_is_known_and_that_fails() -> None:
    lacking = {name: Answer(127, "kubectl: not found") for name in ("ready", "etcd health")}
    untold = dict.fromkeys(("nodes", "pods", "policies", "bindings", "deprecated"), None)
    readings = w.well({"m": w.host("m", said=lacking)}, objects=w.objects(**untold))
    verdict = judge(readings)
    assert [one.finding.check.id for one in verdict.failed] == ["api.kubectl"]


def test_a_page_shows_what_failed_and_then_the_topology() -> None:
    verdict = judge(FAULTS["a full disk"].readings())
    shown = page("of a <test>", verdict, {"n/routes.txt": 9}, "<svg></svg>")
    places = ["of a &lt;test&gt;", "n: host.disk /", "<svg></svg>", "<td>m</td>", "n/routes.txt"]
    assert sorted(places, key=shown.index) == places
    assert "Topology" not in page("", verdict, {})


def test_every_check_has_a_fault() -> None:
    shown = {fault.check for fault in FAULTS.values()} | {"api.kubectl"}
    shown |= {fault.check for fault in ON_FLANNEL.values()}
    assert {check.id for check in CHECKS} == shown


def test_a_cause_comes_before_what_it_explains() -> None:
    ids = [check.id for check in CHECKS]
    assert len({*ids}) == len(ids)
    for number, check in enumerate(CHECKS):
        for pattern in check.explains:
            stem = pattern.rstrip("*")
            assert any(one.startswith(stem) for one in ids[number:]), (check.id, pattern)


def test_pods_are_refused_by_somebody_or_by_a_dead_webhook() -> None:
    assert [one.id for one in CHECKS if "pods.made" in one.explains] == ["api.webhooks"]


_CHOSEN = (
    *("dns.objects", "dns.policy", "api.deprecated", "api.rights", "logs"),
    *("node.open", "node.version", "node.address", "node.cidr", "cert.open", "host.clock"),
)


def test_what_somebody_chose_is_explained_by_nothing() -> None:
    explained = {name for check in CHECKS for name in _CHOSEN if _named(check, name)}
    assert explained == {"logs", "cert.open"}
    # A host that was not set up has no files of ours, and what is lost on its way may be logs.
    for name, by in (("logs", {"host.loss", "net.default"}), ("cert.open", {"host.built"})):
        assert {check.id for check in CHECKS if _named(check, name)} == by


def _named(check: Check, name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in check.explains)


@pytest.mark.parametrize(
    ("message", "causes"),
    [
        ("0/3 nodes are available: 3 Insufficient cpu.", 3),
        ("1 node(s) had untolerated taint(s)", 2),
    ],
)
def test_a_host_that_is_off_explains_what_waits_for_it(message: str, causes: int) -> None:
    """A pod that waits, an API that is served there, and one that nobody serves."""
    waiting = w.pod("waits", ready="False")
    waiting["spec"] = {}
    said = {"type": "PodScheduled", "status": "False", "message": message}
    waiting["status"]["conditions"].append(said)
    served = w.service("False", "MissingEndpoints")
    served["spec"] = {"service": {"namespace": "kube-system", "name": "metrics-server"}}
    told = off().objects
    told = replace(
        told,
        pods=[w.coredns(), waiting, w.pod("metrics-server-1", on="n")],
        services=[served, {**w.service("False"), "metadata": {"name": "v1.nobody"}}],
    )
    found = judge(replace(off(), objects=told)).causes
    ids = [(one.finding.check.id, one.finding.said.subject) for one in found]
    pending = [("pods.ready", "kube-system/waits")] if causes == 3 else []
    assert ids == [("host.answers", ""), *pending, ("api.services", "v1.nobody")]


# -- Any readings --------------------------------------------------------------------------------

_OPTIONAL = (
    "state",
    "links",
    "routes",
    "rules",
    "firewall",
    "units",
    "pods",
    "images",
    "cni",
    "flags",
    "files",
)


@given(st.data())
def test_what_is_not_told_is_no_failure(data: st.DataObject) -> None:
    hosts = {}
    for name in w.HOSTS:
        kept = data.draw(st.sets(st.sampled_from(sorted(w.answers_of(name)))))
        lacking = data.draw(st.sets(st.sampled_from(_OPTIONAL)))
        one = w.replaced(w.host(name), **dict.fromkeys(lacking, None))
        one = w.replaced(one, answers={k: v for k, v in one.answers.items() if k in kept})
        away = data.draw(st.booleans())
        hosts[name] = w.lost(name, takes_part=False) if away else one
    known = w.objects()
    lists = ("nodes", "leases", "pods", "policies", "deprecated", "services", "namespaces")
    lacking = data.draw(
        st.sets(st.sampled_from([*lists, "bindings", "deployments", "webhooks", "slices"]))
    )
    told = replace(known, **dict.fromkeys(lacking, None))
    verdict = judge(w.well(hosts, objects=told))
    assert [one.finding for one in verdict.causes] == []
    json.loads(document(verdict))


@given(st.lists(st.sampled_from(sorted(FAULTS)), min_size=1, max_size=4))
def test_a_consequence_is_no_cause(names: list[str]) -> None:
    """Faults together: each finding is listed once, and no cause is explained by another one."""

    verdict = judge(_together([FAULTS[name].readings() for name in names]))
    causes = [one.finding for one in verdict.causes]
    listed = [*causes, *(below for one in verdict.causes for below in one.consequences)]
    assert len({(f.check.id, f.host, f.said) for f in listed}) == len(listed)
    for one in causes:
        assert not any(
            _place(other) < _place(one) and other.said.state == "failed" and explains(other, one)
            for other in listed
        )
    states = [one.said.state for one in causes]
    assert states == sorted(states, key=lambda state: state != "failed")


# What somebody set, or left, has no other cause.
_SET = (
    *("an ended certificate", "a bridge with another MTU", "no route"),
    *("masquerade twice", "a rule of nft", "another network", "no forwarding", "a stopped kubelet"),
    *("an address of a service", "kube-proxy without rights", "a host that is off"),
    *("a selector that selects nothing", "an API that nobody serves", "an old API"),
    *("others' pods that are refused", "a webhook that nobody serves"),
    *("a cordoned node", "a policy against DNS", "an alarm of etcd", "a changed manifest"),
)


# What is on the host that is off is not seen.
_UNSEEN = frozenset(name for name in _SET if FAULTS[name].host == "n") - {"a host that is off"}


@given(
    st.lists(st.sampled_from(_SET), min_size=2, max_size=3, unique=True).filter(
        lambda names: "a host that is off" not in names or _UNSEEN.isdisjoint(names)
    )
)
def test_what_somebody_set_stays_a_cause_beside_others(names: list[str]) -> None:
    faults = [FAULTS[name] for name in names]
    causes = judge(_together([fault.readings() for fault in faults])).causes
    found = {(one.finding.check.id, one.finding.host) for one in causes}
    assert {(fault.check, fault.host) for fault in faults} <= found


def _place(one: Finding) -> tuple[int, int]:
    return CHECKS.index(one.check), [*w.HOSTS, CLUSTER].index(one.host)


def _together(several: list[Readings]) -> Readings:
    """The readings of one cluster that has the faults of several, as far as they do not meet."""

    whole = w.well()
    hosts = {name: _mixed(whole.hosts[name], [r.hosts[name] for r in several]) for name in w.HOSTS}
    told = _mixed(whole.objects, [r.objects for r in several])
    return replace(several[0], hosts=hosts, objects=told)


def _mixed(whole: Any, several: list[Any]) -> Any:
    found = whole
    for one in several:
        known = {
            f.name: _both(*(getattr(x, f.name) for x in (whole, found, one))) for f in fields(whole)
        }
        found = replace(found, **known)
    return found


def _both(whole: Any, found: Any, one: Any) -> Any:
    """What one says otherwise than the whole does, beside what was found otherwise before."""

    if found is None or one is None:
        return None if whole is not None else found or one
    if isinstance(whole, dict) and isinstance(one, dict):
        return {**found, **{k: v for k, v in one.items() if v != whole.get(k)}}
    if isinstance(whole, list) and isinstance(one, list) and len(whole) == len(found) == len(one):
        return [_both(*each) for each in zip(whole, found, one, strict=True)]
    return one if one != whole else found


def _check(name: str) -> Check:
    return next(check for check in CHECKS if check.id == name)


def test_a_warning_explains_nothing() -> None:
    first, *_, last = CHECKS
    below = Finding(last, "n", Said("x"))
    assert explains(Finding(first, "n", Said("x")), Finding(_check("pods.ready"), "n", Said("x")))
    assert not explains(Finding(last, "n", Said("x")), below)


def test_what_is_behind_services_is_known_only_as_a_whole() -> None:
    for more, known in (("", []), ("next", None)):
        said = json.dumps({"metadata": {"continue": more}, "items": []})
        assert objects_of({"slices": Answer(0, said)}).slices == known


def test_an_object_is_gone_only_where_the_api_says_so() -> None:
    own = [{"kind": name} for name in "abc"]
    lines = ['{"x": 1}', 'Error from server (NotFound): "b" not found', "Unable to connect"]
    told = objects_of({"own objects": Answer(0, "\n".join(lines))}, {"own": own, "users": own})
    assert told.own == [(own[0], {"x": 1}), (own[1], None)]
    assert told.users == []


NO_PROXY = {
    "": False,
    "*": True,
    "192.0.2.1": True,
    "192.0.2.1:6443": True,
    "192.0.2.0/24": True,
    "192.0.0.0/24, 192.0.2.1": True,
    "10.0.0.0/8,.example.com": False,
}


@pytest.mark.parametrize(("excepted", "goes"), NO_PROXY.items())
def test_a_proxy_is_no_fault_where_the_api_is_excepted(excepted: str, goes: bool) -> None:
    words = f"kubelet HTTPS_PROXY set\nkubelet NO_PROXY {excepted}"
    assert goes is not bool(judge(said("n", "proxies", words)()).causes)


def test_a_field_that_nobody_wants_is_no_difference() -> None:
    wanted = {"kind": "Service", "metadata": {"name": "x"}, "spec": {"ports": [{"port": 53}]}}
    live = {**wanted, "spec": {"type": "ClusterIP", "ports": [{"port": 53, "protocol": "UDP"}]}}
    assert not judge(objects(own=[(wanted, live)])()).causes
    live["spec"]["ports"] = [{"port": 54}]
    (cause,) = judge(objects(own=[(wanted, live)])()).causes
    assert cause.finding.said.seen == "spec.ports[0].port is 54"


SAME = [("1000m", "1"), (1, "1"), ("1024Mi", "1Gi"), ({}, None), (False, None), ("0.5", "500m")]
OTHER = [("1", "2"), ("1Gi", "1G"), ("a", None), ([1], [1, 2]), ("x", "y")]


@pytest.mark.parametrize(
    ("wanted", "found", "same"),
    [*((*one, True) for one in SAME), *((*one, False) for one in OTHER)],
)
def test_the_api_writes_some_values_its_own_way(wanted: Any, found: Any, same: bool) -> None:
    pair = ({**DAEMONS, "spec": {"x": wanted}}, {**DAEMONS, "spec": {"x": found}})
    assert same is not bool(judge(objects(addons=[pair])()).causes)


def test_values_of_the_users_objects_are_not_shown() -> None:
    secret = {"kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "wanted"}}
    changed = {**DAEMONS, "spec": {"image": "private"}}
    verdict = judge(objects(users=[(secret, {}), (DAEMONS, changed)])())
    (cause,) = verdict.causes
    assert cause.finding.said.seen == "spec.image was changed"
    assert "private" not in document(verdict)


_MINORS = st.integers(30, 40)


@given(st.lists(_MINORS, min_size=1, max_size=3), _MINORS, st.integers(2, 3))
def test_versions_go_together_as_kubernetes_says(apis: list[int], minor: int, skew: int) -> None:
    live = {name: f"1.{api}.0" for name, api in zip(w.HOSTS, apis, strict=False)}
    hosts = {
        n: w.host(n, versions={"kube-apiserver": live[n]} if n in live else {}) for n in w.HOSTS
    }
    told = w.objects(nodes=[w.node("m", kubelet=f"v1.{minor}.5")])
    readings = w.well(hosts, objects=told, skew=skew)
    (node,) = on_versions.kubelets(hosts["m"], readings)
    allowed = minor <= min(apis) and max(apis) - minor <= skew
    assert (node.state == "failed") is not allowed
    failed = [
        n
        for n in live
        for one in on_versions.components(hosts[n], readings)
        if one.state == "failed"
    ]
    assert failed == [name for name, api in zip(live, apis, strict=True) if max(apis) - api > 1]


def _member(**status: Any) -> Answer:
    header = {"revision": "7", "cluster_id": status.pop("cluster_id", "5")}
    known = {"dbSize": "1", "leader": "1", "raftIndex": "9000", "raftAppliedIndex": "9000"}
    return Answer(0, json.dumps({"header": header, **known, **status}))


@pytest.mark.parametrize(
    ("status", "seen", "state"),
    [
        ({}, "", ""),
        ({"cluster_id": "6", "leader": "2"}, "in another cluster than m", "failed"),
        ({"leader": "2"}, "it follows another leader than m", "warning"),
        ({"raftAppliedIndex": "7000"}, "2000 entries of raft behind m", "warning"),
        (
            {"raftIndex": "7000", "raftAppliedIndex": "7000"},
            "2000 entries of raft behind m",
            "warning",
        ),
    ],
)
def test_members_of_etcd_agree(status: dict[str, Any], seen: str, state: str) -> None:
    first = w.host("m", said={"etcd status": _member()})
    other = w.host("n", said={"etcd status": _member(**status)})
    found = list(on_etcd.revision(other, w.well({"m": first, "n": other})))
    assert [(one.seen, one.state) for one in found] == ([(seen, state)] if seen else [])


def test_days_left_are_told_of_each_host() -> None:
    readings = w.well()
    said = text(judge(readings)).splitlines()
    [row] = [line for line in said if line.startswith("m ")]
    assert re.search(r" \d+ days or more$", row)
    told = json.loads(document(judge(readings)))["hosts"]["m"]["certificates"]
    assert f"{min(told.values())} days" in row
    assert all(path.startswith("/") for path in told)


def test_which_checks_hold_is_told_to_programs() -> None:
    found = json.loads(document(judge(FAULTS["a full disk"].readings())))["hosts"]["n"]
    assert "host.disk" not in found["well"]
    assert len(found["well"]) == found["ok"]
    assert "host.memory" in found["well"]


def test_refusals_of_others_are_not_ours() -> None:
    other = AVC.replace('"etcd"', '"vsftpd"').replace("container_t", "ftpd_t")
    readings = said("n", "refusals", f"{other}\n{AVC}\n{AVC}")()
    found = list(on_host.refusals(readings.hosts["n"], readings))
    assert [one.seen for one in found] == ["etcd (container_t) may not read file ca.crt (var_t)"]
