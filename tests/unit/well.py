"""Readings of a cluster in which all is well: a control plane and two nodes, on today's release."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Any

from pyinfra_kube.checks.readings import Host, Objects, Readings, Wanted
from pyinfra_kube.cluster import pki
from pyinfra_kube.cluster.fitness.states import Disk, HostState
from pyinfra_kube.cluster.runtimes.runtime import PodContainer
from pyinfra_kube.cluster.spec.settings import NODE_DNS
from pyinfra_kube.facts.answers import Answer
from pyinfra_kube.facts.bridge import Link
from pyinfra_kube.facts.cni import CniState
from pyinfra_kube.facts.files import FileState
from pyinfra_kube.facts.firewall import Firewall, Packet
from pyinfra_kube.facts.images import ImageStates
from pyinfra_kube.facts.iptables import Rule, Ruleset
from pyinfra_kube.facts.processes import ProcessState
from pyinfra_kube.facts.routes import Route
from pyinfra_kube.facts.services import UnitState, UnitStates
from pyinfra_kube.facts.static_pods import StaticPodStates

NOW = datetime(2026, 11, 27, tzinfo=timezone.utc)
HOSTS = {"m": "192.0.2.1", "n": "192.0.2.2", "o": "192.0.2.3"}
CLUSTER, SERVICE, DNS = "10.10.0.0/16", "10.254.0.1", "10.254.0.10"
PODS = ("etcd", "kube-apiserver")
RUN = "/etc/kubernetes/manifests"
CA = "/srv/kubernetes/ca.crt"
KUBELET = "/var/lib/kubelet/kubeconfig"
CONFIG = "/var/lib/kubelet/config.yaml"
KUBELET_CRT = "/var/lib/kubelet/pki/kubelet.crt"
API = "https://192.0.2.1:6443"
SERVICES = "10.254.0.0/24"


@cache
def ca(name: str) -> pki.KeyPair:
    return pki.make_ca(name, now=NOW - timedelta(60))


@cache
def leaf(days: int = 365, of: str = "kubernetes-ca", begins: int = -30) -> str:
    made = NOW + timedelta(begins)
    return pki.issue(ca(of), "client", "system:node", days=days + 30, now=made).cert


def certificates(**files: str) -> str:
    """What a host tells of its certificates; words of names are parts of a path."""
    known = {CA: ca("kubernetes-ca").cert, KUBELET_CRT: leaf(), **files}
    return "\n".join(f"file {path}\n{text}" for path, text in known.items())


def cidr(name: str, end: str = "0") -> str:
    return f"10.10.{list(HOSTS).index(name)}.{end}/24"


def link(name: str, *addresses: str, kind: str = "", mtu: int = 1500, up: bool = True) -> Link:
    mac = f"52:54:00:00:00:0{addresses[0].split('/')[0][-1]}" if addresses else ""
    return Link(name, kind, mtu, mac, addresses, up, None)


def unit(**changed: Any) -> UnitState:
    values = {"load": "loaded", "active": "active", "sub": "running", "enabled": "enabled"}
    return UnitState(**{**values, "started": 1000.0, "files": ("/u.service",), **changed})


def wanted(name: str) -> Wanted:
    first = name == "m"
    pods = PODS if first else ()
    others = [one for one in HOSTS if one != name]
    return Wanted(
        name,
        f"node-{name}",
        HOSTS[name],
        frozenset({"node", *(("control_plane", "etcd") if first else ())}),
        units=("kubelet", "kube-proxy"),
        pods=pods,
        manifests={f"{RUN}/{pod}.yaml": pod for pod in pods},
        flags={"kubelet": {"v": "2"}},
        configurations={CONFIG: "sha256"},
        servers={KUBELET: API},
        issued={KUBELET_CRT},
        images=("pause",),
        image_ids={"pause": {"1"}, "coredns:1": {"2"}},
        image_digests={"etcd:1": {"3"}},
        pod_cidr=cidr(name),
        bridge="cbr0",
        bridge_address=cidr(name, "1"),
        bridge_mtu=1460,
        routes=tuple((cidr(one), HOSTS[one]) for one in others),
        packets=(Packet("forward", "cbr0", "eth0", cidr(name), CLUSTER),),
        masquerades=True,
        systemd_groups=True,
        plugins=("bridge",),
        network_file="10-pods.conflist",
        names={one: HOSTS[one] for one in others},
    )


MASQUERADE = f"-A POSTROUTING ! -d {CLUSTER} -m addrtype ! --dst-type LOCAL -j MASQUERADE"


def rules(*nat: str, filters: tuple[str, ...] = ()) -> Ruleset:
    chains: dict[str, dict[str, str | None]] = {
        "nat": {"POSTROUTING": "ACCEPT"},
        "filter": {"FORWARD": "ACCEPT", "INPUT": "ACCEPT"},
    }
    parsed = [*(Rule.parse(one, "nat") for one in nat), *(Rule.parse(one) for one in filters)]
    return Ruleset(chains, tuple(parsed))


def answers_of(name: str) -> dict[str, Answer]:
    others = [one for one in HOSTS if one != name]
    words = {
        "kernel settings": "net.ipv4.ip_forward 1\nnet.bridge.bridge-nf-call-iptables 1\n"
        "net.ipv4.conf.cbr0.forwarding 1\nnet.ipv4.conf.tun9.forwarding 0",
        "kubeconfigs": f"server {KUBELET} {API}\ntoken {KUBELET} digest",
        "proxies": "",
        "refusals": "",
        "open secrets": "",
        "pods' addresses": "10.10.0.2 last_reserved_ip.0 lock",
        "connections": "9\n100",
        "neighbours": "",
        "memory": "MemAvailable 2000000 kB",
        "names": "\n".join(f"{one} {HOSTS[one]}" for one in others),
        "nameservers": "/etc/resolv.conf\n192.0.2.53",
        "silent nameservers": "",
        "certificates": certificates(),
        "ports of bridges": "veth1 cbr0 1\neth1 cbr0 0\nveth2 docker0 0",
        "control groups": "systemd",
        "service rules": "-A KUBE-SERVICES -j X",
        "health of kubelet": "ok",
        "health of kube-proxy": "ok",
        "to api m": "",
        f"to service {SERVICE}": "",
        f"to dns-service {DNS}": "",
        f"to dns-node {NODE_DNS}": "",
        "to dns-pod m 10.10.0.7": "",
        **{f"to host {one}": "" for one in others},
        **{
            f"to loss {one}": "20 packets transmitted, 20 received, 0% packet loss"
            for one in others
        },
        **{f"way to {cidr(one)}": f"10.10.9.9 via {HOSTS[one]} dev eth0" for one in others},
        **{f"to pods {one} {cidr(one, '7')[:-3]}": "" for one in others},
    }
    if name == "m":
        status = {"header": {"revision": "7"}, "dbSize": "1", "leader": "1"}
        members = {"members": [{"name": "m", "peerURLs": [f"https://{HOSTS['m']}:2380"]}]}
        key = "-----BEGIN PUBLIC KEY-----\nAB\n-----END PUBLIC KEY-----"
        words |= {
            "etcd health": '{"health":"true"}',
            "etcd status": json.dumps(status),
            "etcd alarms": "{}",
            "etcd members": json.dumps(members),
            "ready": "[+]etcd ok\nhealthz check passed",
            "token keys": f"{key}\naccepted\n{key}",
            "tokens": "digest",
            "to kubelet n": "ok",
            "health of etcd": "ok",
            "health of kube-apiserver": "ok",
        }
    return {question: Answer(0, text) for question, text in words.items()}


def file(sha256: str) -> FileState:
    return FileState("file", "600", "root", "root", 9, 900.0, sha256=sha256)


def host(name: str, **changed: Any) -> Host:
    said = {**answers_of(name), **changed.pop("said", {})}
    containers = [
        PodContainer(f"id-{pod}", f"{pod}-node-{name}", "kube-system", pod, pod, True, 1000, 0)
        for pod in wanted(name).pods
    ]
    values: dict[str, Any] = {
        "state": HostState(behind=(-1, 1), disks={"/": Disk("/", 100, 50, 100, 50)}),
        "links": {
            one.name: one
            for one in (
                link("eth0", f"{HOSTS[name]}/24"),
                link("cbr0", cidr(name, "1"), kind="bridge", mtu=1460),
            )
        },
        "routes": [
            Route("0.0.0.0/0", "192.0.2.254", "eth0"),
            *(Route(cidr(one), HOSTS[one], "eth0") for one in HOSTS if one != name),
        ],
        "rules": rules(MASQUERADE),
        "firewall": Firewall(),
        "units": UnitStates(
            "systemd",
            2000.0,
            {f"{n}.service": unit() for n in ("containerd", "kubelet", "kube-proxy")},
            {"/u.service": 900.0},
        ),
        "pods": StaticPodStates(
            "containerd",
            2000.0,
            {f"{RUN}/{pod}.yaml": pod for pod in wanted(name).pods},
            containers,
        ),
        "images": ImageStates("containerd", {"pause": "sha256:1"}),
        "cni": CniState(("10-pods.conflist",), ("bridge", "host-local")),
        "flags": {"kubelet": ProcessState(7, {"v": "2"})},
        "files": {CONFIG: file("sha256")},
    }
    return Host(wanted(name), answers=said, **{**values, **changed})


def conditions(**states: str) -> list[dict[str, str]]:
    return [{"type": kind, "status": status} for kind, status in states.items()]


def node(name: str, **spec: Any) -> dict[str, Any]:
    info = spec.pop("kubelet", "v1.37.0")
    states = spec.pop("conditions", conditions(Ready="True", DiskPressure="False"))
    addresses = [{"type": "InternalIP", "address": spec.pop("address", HOSTS[name])}]
    return {
        "metadata": {"name": f"node-{name}"},
        "spec": {"podCIDR": cidr(name), **spec},
        "status": {
            "conditions": states,
            "addresses": addresses,
            "nodeInfo": {"kubeletVersion": info},
        },
    }


def pod(name: str, on: str = "m", ready: str = "True", **meta: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "kube-system", **meta},
        "spec": {"nodeName": f"node-{on}"},
        "status": {"phase": "Running", "podIP": "10.10.0.7", "conditions": conditions(Ready=ready)},
    }


def runs(image: str, image_id: str, on: str = "m") -> dict[str, Any]:
    """A pod with a container that runs from an image."""
    one = pod("x", on)
    one["spec"]["containers"] = [{"name": "x", "image": image}]
    status = {"name": "x", "imageID": image_id, "state": {"running": {}}}
    one["status"]["containerStatuses"] = [status]
    return one


def coredns(ready: str = "True") -> dict[str, Any]:
    return pod("coredns-1", ready=ready, labels={"k8s-app": "kube-dns"})


def lease(name: str, hour: int = 0) -> dict[str, Any]:
    renewed = f"2026-11-27T{hour:02}:00:00.000000Z"
    return {"metadata": {"name": f"node-{name}"}, "spec": {"renewTime": renewed}}


def deleted(name: str, at: str = "2026-11-27T00:30:00Z", **status: Any) -> dict[str, Any]:
    """What was deleted, half an hour before the time of the host that tells it."""
    meta = {"name": name, "namespace": "kube-system", "deletionTimestamp": at}
    return {"metadata": meta, "spec": {"nodeName": "node-n"}, "status": status}


PROXIER = "system:node-proxier"


def binding(user: str = "system:kube-proxy") -> dict[str, Any]:
    subjects = [{"kind": "User", "name": user}]
    return {"kind": "ClusterRoleBinding", "metadata": {"name": PROXIER}, "subjects": subjects}


SERVICE_OF_DNS = {
    "kind": "Service",
    "metadata": {"name": "kube-dns"},
    "spec": {"selector": {"k8s-app": "kube-dns"}, "ports": [{"port": 53}]},
}


def deployment(
    space: str = "kube-system", message: str = "exceeded quota", **states: str
) -> dict[str, Any]:
    told = [{**one, "message": message} for one in conditions(**states)]
    return {
        "metadata": {"namespace": space, "name": "coredns"},
        "status": {"conditions": told},
    }


def service(available: str = "True", reason: str = "ServiceNotFound") -> dict[str, Any]:
    return {
        "metadata": {"name": "v1.example.com"},
        "status": {
            "conditions": [
                {"type": "Available", "status": available, "reason": reason, "message": reason}
            ]
        },
    }


def webhook(policy: str = "Fail") -> dict[str, Any]:
    service = {"namespace": "guards", "name": "guard"}
    hook = {"failurePolicy": policy, "clientConfig": {"service": service}}
    return {"metadata": {"name": "guard"}, "webhooks": [{"clientConfig": {"url": "x"}}, hook]}


def endpoints(ready: bool = True) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": "guard"}
    return {
        "metadata": {"namespace": "guards", "name": "guard-1", "labels": labels},
        "endpoints": [{"nodeName": "node-n", "conditions": {"ready": ready}}],
    }


def objects(**changed: Any) -> Objects:
    values: dict[str, Any] = {
        "nodes": [node(name) for name in HOSTS],
        "leases": [lease(name, 1) for name in HOSTS],
        "pods": [coredns()],
        "policies": [],
        "deployments": [deployment()],
        "services": [service()],
        "namespaces": [{"metadata": {"name": "default"}}],
        "bindings": [binding()],
        "webhooks": [webhook()],
        "slices": [endpoints()],
        "own": [(SERVICE_OF_DNS, {**SERVICE_OF_DNS, "status": {}})],
        "now": NOW.timestamp() + 3605,
        "deprecated": [],
    }
    return Objects(**{**values, **changed})


def well(changed: Mapping[str, Host] | None = None, **more: Any) -> Readings:
    """
    The readings.

    + changed: hosts that told something else
    + more: other fields
    """
    hosts = {name: host(name) for name in HOSTS} | dict(changed or {})
    names = tuple(f"node-{name}" for name in HOSTS)
    values: dict[str, Any] = {"objects": objects(), "now": NOW, "dns": DNS, "version": "1.37.0"}
    values |= {"proxy_mode": "nftables", "bound": {PROXIER: "system:kube-proxy"}}
    values |= {"cluster_cidr": CLUSTER, "service_cidr": SERVICES, "node_names": names}
    return Readings(hosts, **{**values, **more})


def lost(name: str, why: str = "it cannot be connected to", takes_part: bool = True) -> Host:
    return Host(wanted(name), takes_part, why if takes_part else "")


def replaced(one: Host, **changed: Any) -> Host:
    return replace(one, **changed)
