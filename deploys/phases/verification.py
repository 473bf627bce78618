"""
See that the cluster works (A6): components answer, nodes register and are Ready.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable
from functools import partial

from netaddr import IPNetwork
from pyinfra.context import ctx_state

from pyinfra_kube.cluster.components import CONTROL_PLANE_COMPONENTS
from pyinfra_kube.cluster.components.rendering import probe
from pyinfra_kube.cluster.spec import HostSpec
from pyinfra_kube.cluster.tables import lines_of
from pyinfra_kube.deploys.phases.control_plane import KUBECTL
from pyinfra_kube.deploys.phases.credentials import ADMIN
from pyinfra_kube.deploys.phases.firewalls import kubelet_port, look_at_firewalls
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.deploys.run.host_facts import BRIDGE
from pyinfra_kube.engine.phase import phase
from pyinfra_kube.engine.recent_log import WORDS
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.nodes import Nodes, kubectl_words
from pyinfra_kube.operations import nodes, reach, verify

_ASK = kubectl_words(KUBECTL, ADMIN)


@phase("Verification")
def verify_cluster() -> None:
    """Wait for the control plane, then for the nodes, then say what runs where."""

    cluster = current_cluster()
    # An operation of all hosts: nobody looks for nodes before each host is set up.
    verify.verified(
        name="See that every part answers",
        checks=checks(cluster),
        timeout=cluster.spec.verify_timeout,
    )
    verify_nodes(cluster, runs, BRIDGE)


def verify_nodes(
    cluster: Cluster, runs: Callable[[HostSpec], list[str]], bridge: str, kubectl: str = KUBECTL
) -> None:
    """
    Wait for nodes to register, give them what the plan says, wait until they are Ready, and see
    that packets of their pods arrive.

    + it: the cluster
    + runs: what runs on a host, for the table at the end
    + bridge: of the pods
    + kubectl: the program on control-plane hosts
    """

    manual = not cluster.spec.nodes_register
    if cluster.is_first_control_plane:
        ask = kubectl_words(kubectl, ADMIN)
        # One answer for all nodes: a line with name and status for each.
        shown = {"nodes": f"{ask} get nodes --no-headers | awk '{{ print $1, $2 }}'"}
        known = partial(read, Nodes, kubectl=kubectl, kubeconfig=ADMIN, server="")
        if not manual:
            verify.verified(
                name="See that nodes register",
                checks=[_registered(ask, node) for node in _nodes(cluster)],
                timeout=cluster.spec.verify_timeout,
                given=shown,
                seen=lambda: [_is_registered(node) for node in known().nodes],
            )
        nodes.node_objects(
            name="Set the nodes' pod CIDRs and labels",
            nodes=_node_objects(cluster, manual),
            kubectl=kubectl,
            kubeconfig=ADMIN,
        )
        verify.verified(
            name="See that nodes are Ready",
            checks=[_ready(ask, node) for node in _nodes(cluster)],
            timeout=cluster.spec.verify_timeout,
            given=shown,
            seen=lambda: [_is_ready(node.name) for node in known().nodes.values() if node.ready],
        )
    verify_packets(cluster, bridge)
    if cluster.runs_once:
        verify.say(name="What runs where", text=lambda: table(cluster, runs))


def verify_packets(cluster: Cluster, bridge: str) -> None:
    """
    Send packets from the pods' network of each node to that of each other, or of a sample where
    there are many, to the API's service, and between hosts to the ports that parts of the cluster
    reach each other at.

    + it: the cluster
    + bridge: of the pods
    """

    me = cluster.host_spec.name
    places, visits = cluster.notes("places"), cluster.notes("visits")
    ways = reach.pairs([node.name for node in _nodes(cluster)])
    if me in ways:
        reach.take_place(
            name="Take a place on the network of pods",
            places=places,
            bridge=bridge,
            pod_cidr=cluster.plan.nodes[me].pod_cidr if cluster.spec.network == "routes" else "",
            visitors=sum(me in others for others in ways.values()),
        )
    reach.send(
        name="Send packets from pods to pods",
        places=places,
        visits=visits,
        to=ways.get(me, []),
        targets=_targets(cluster),
        look=lambda: look_at_firewalls(cluster, bridge),
    )
    reach.arrived(
        name="See that all packets arrived",
        places=places,
        visits=visits,
        causes=lambda visit: _causes(cluster, visit),
    )


def _targets(cluster: Cluster) -> list[reach.Target]:
    """The ports that the current host and its pods must reach."""

    spec, me = cluster.spec, cluster.host_spec.name
    found = []
    if cluster.is_a("node"):
        api = "the API's service from its pods"
        found.append(reach.Target(api, cluster.plan.service_ip, 443, inside=True))
    if not cluster.is_a("control_plane"):
        if endpoint := spec.endpoint:
            found.append(reach.Target(f"the API at {endpoint}", endpoint.host, endpoint.port))
    elif "address" not in spec.kubelet_flags:
        found += [
            _target(cluster, "kubelet", node, kubelet_port(cluster)) for node in _nodes(cluster)
        ]
    if cluster.is_a("etcd"):
        active = {host.name for host in ctx_state.get().active_hosts}
        members = [one for one in spec.etcd_members if one.name in active]
        found += [_target(cluster, "etcd", member, spec.etcd_peer_port) for member in members]
    return [target for target in found if target.address != cluster.plan.addresses[me]]


def _target(cluster: Cluster, part: str, host: HostSpec, port: int) -> reach.Target:
    address = cluster.plan.addresses[host.name] or ""
    return reach.Target(f"{part} of {host.name} at {address}:{port}", address, port)


def _causes(cluster: Cluster, visit: reach.Visit) -> list[str]:
    """What firewalls or failures of the current host, and of those not reached, may have to do."""

    named = [host for host in cluster.spec.hosts if any(host.name in name for name in visit.missed)]
    masters = cluster.spec.control_plane if any("API" in name for name in visit.missed) else ()
    hosts = dict.fromkeys(host.name for host in (cluster.host_spec, *named, *masters))
    said = cluster.notes("firewalls")
    failed = {host.name for host in ctx_state.get().failed_hosts}
    found = [f"{name} failed in this run, see above" for name in hosts if name in failed]
    found += [f"{name}: {line}" for name in hosts for line in said.get(name, ())]
    return found or ["no firewall's rule or policy is seen that stops them"]


def runs(host: HostSpec) -> list[str]:
    """What runs on a host of this path."""

    return [
        current_cluster().runtime.name,
        "kubelet",
        *(["kube-proxy"] if "node" in host.roles else []),
        *(["etcd"] if "etcd" in host.roles else []),
        *(CONTROL_PLANE_COMPONENTS if "control_plane" in host.roles else []),
    ]


def _node_objects(cluster: Cluster, manual: bool) -> list[nodes.NodeObject]:
    """
    What kubelet does not say of its node when it registers: the pod CIDR, Kubernetes' own labels,
    and those that came later.
    """

    return [
        nodes.NodeObject(
            host.hostname_override,
            # flannel's leases say who has which subnet.
            host=host.name,
            pod_cidr=cluster.plan.nodes[host.name].pod_cidr
            if cluster.spec.network == "routes"
            else "",
            labels=host.node_labels if manual else host.reserved_labels,
            registered_with={} if manual else host.node_labels,
            create=manual,
        )
        for host in _nodes(cluster)
    ]


def checks(cluster: Cluster) -> list[verify.Check]:
    """
    Give what must answer on the current host.

    + it: the cluster
    """

    pods = [
        *(["etcd"] if cluster.is_a("etcd") else []),
        *(CONTROL_PLANE_COMPONENTS if cluster.is_a("control_plane") else []),
    ]
    units = ["kubelet", *(["kube-proxy"] if cluster.is_a("node") else [])]
    found = [
        check for unit in units for check in (answers(cluster, unit, "unit"), obeys(cluster, unit))
    ]
    found += [answers(cluster, pod, "pod") for pod in pods]
    if cluster.is_a("control_plane"):
        found.append(
            verify.Check(
                "the API answers its administrator",
                command=f"{_ASK} api-versions",
                log=f"{_ASK} api-versions",
                hint=f"{KUBECTL} --kubeconfig={ADMIN} get nodes",
            )
        )
    return found


def answers(cluster: Cluster, component: str, kind: str) -> verify.Check:
    """
    Give the check that a component of the current host answers.

    + it: the cluster
    + component: as ``kube-apiserver``
    + kind: how it runs there, as ``unit`` or ``pod``
    """

    asked = probe(component, cluster.release, cluster.settings())
    url = f"{asked.scheme.lower()}://{asked.host}:{asked.port}{asked.path}"
    command = f"curl --silent --fail --insecure --noproxy '*' --max-time 5 {url}"
    if asked.scheme == "TCP":
        command = f"timeout 5 bash -c '</dev/tcp/{asked.host}/{asked.port}'"
    unit = f"{component}.service"
    runtime = cluster.runtime
    found = runtime.find_container.format(container=component)
    shown = runtime.logs.format(lines=2000, id=f"$({found} | head -n 1)")
    logs = {
        "unit": f"journalctl --no-pager --quiet --output=cat --lines=2000 --unit={unit} | {WORDS}",
        "pod": f"{shown} 2>&1 | {WORDS}",
    }
    hints = {
        "unit": f"systemctl status {unit}",
        "pod": f"{runtime.list_containers} | grep {component}; journalctl --unit=kubelet.service",
    }
    return verify.Check(f"{component} answers at {url}", command, logs[kind], hints[kind])


def obeys(cluster: Cluster, component: str) -> verify.Check:
    """
    Give the check that a component of the current host, which runs as a unit, runs with the flags
    of its plan and no others, whatever drop-ins and environment files there are.

    + it: the cluster
    + component: as ``kubelet``
    """

    flags = cluster.command_line(component)
    digest = hashlib.sha256("".join(f"{flag}\n" for flag in sorted(flags)).encode()).hexdigest()
    unit = f"{component}.service"
    words = (
        f"pid=$(systemctl show --property=MainPID {unit} | sed 's/^MainPID=//'); "
        "tr '\\0' '\\n' < /proc/$pid/cmdline | grep '^-' | LC_ALL=C sort"
    )
    return verify.Check(
        f"{component} runs with the flags of its plan",
        command=f'[ "$({words} | sha256sum)" = "{digest}  -" ]',
        log=f"{words}; systemctl cat {unit} | grep -E '^# /|^(ExecStart|Environment)'",
        hint=f"systemctl cat {unit}: a drop-in or an environment file there says otherwise",
    )


def _registered(ask: str, host: HostSpec) -> verify.Check:
    node = host.hostname_override
    return verify.Check(
        _is_registered(node),
        command=_line_of(node, ""),
        log=f"{ask} get nodes",
        hint=f"on {node}: journalctl --unit=kubelet.service",
        host=host.name,
    )


def _is_registered(node: str) -> str:
    return f"node {node} is registered"


def _ready(ask: str, host: HostSpec) -> verify.Check:
    node = host.hostname_override
    return verify.Check(
        _is_ready(node),
        command=_line_of(node, "Ready"),
        log=f"{ask} describe node {shlex.quote(node)} | grep -A 8 Conditions",
        hint=f"on {node}: journalctl --unit=kubelet.service",
        host=host.name,
    )


def _is_ready(node: str) -> str:
    return f"node {node} is Ready"


def _line_of(node: str, status: str) -> str:
    """Look for a node's line, with that status at the beginning, in what kubectl showed."""
    line = f"^{node} {status}".replace(".", "\\.")
    return f"printf '%s\\n' \"$nodes\" | grep {shlex.quote(line)}"


def _nodes(cluster: Cluster) -> list[HostSpec]:
    """The nodes that this run sets up."""

    active = {host.name for host in ctx_state.get().active_hosts}
    return [host for host in cluster.spec.nodes if host.name in active]


def table(cluster: Cluster, runs: Callable[[HostSpec], list[str]]) -> str:
    """
    What runs where, for people.

    + it: the cluster
    + runs: what runs on a host
    """

    state = ctx_state.get()
    activated = {host.name for host in state.activated_hosts}
    failed = {
        host.name: "failed, see above" if state.ops[host] else "left out, see above"
        for host in state.failed_hosts
    }
    rows = [("HOST", "ADDRESS", "RUNS", "POD CIDR")]
    rows += [
        (
            host.name,
            cluster.plan.addresses[host.name] or "",
            failed.get(host.name) or ", ".join(runs(host)),
            _pod_cidr(cluster, host.name),
        )
        for host in cluster.spec.hosts
        if host.name in activated
    ]
    url, master = cluster.spec.apiserver_url, cluster.spec.control_plane[0].name
    return "\n".join([*lines_of(rows), "", f"API: {url}; on {master}, kubectl works as root."])


def _pod_cidr(cluster: Cluster, host: str) -> str:
    leased = cluster.notes("networks").get(host)
    if leased and leased.subnet:
        return str(IPNetwork(leased.subnet.subnet).cidr)
    return cluster.plan.nodes[host].pod_cidr if host in cluster.plan.nodes else "-"


if "__name__" not in globals():
    verify_cluster()
