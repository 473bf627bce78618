"""
Check that the cluster works: components answer, nodes register and are Ready.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from typing import Any

from netaddr import IPNetwork
from pyinfra.context import ctx_state

from pyinfra_kube.cluster.components import PODS, components_on, flanneld
from pyinfra_kube.cluster.components.own_ports import kubelet_port
from pyinfra_kube.cluster.components.rendering import probe
from pyinfra_kube.cluster.spec import HostSpec
from pyinfra_kube.cluster.tables import lines_of
from pyinfra_kube.deploys.phases.control_plane import KUBECTL, pods_on
from pyinfra_kube.deploys.phases.credentials import ADMIN
from pyinfra_kube.deploys.phases.firewalls import look_at_firewalls
from pyinfra_kube.deploys.phases.kubelet import kubelet_unit
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.deploys.run.host_facts import BRIDGE
from pyinfra_kube.engine.internals import has_operations
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.engine.recent_log import WORDS
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.nodes import Nodes, kubectl_words
from pyinfra_kube.facts.services import Units
from pyinfra_kube.operations import nodes, reach, verify

_ASK = kubectl_words(KUBECTL, ADMIN)


@phase("Nodes")
def register_nodes() -> None:
    """Wait for the components, then for nodes to register, and set their pod CIDRs and labels."""

    cluster = current_cluster()
    # An operation of all hosts: none looks for nodes before every host is set up.
    wait_for_components(cluster)
    set_nodes(cluster)


def wait_for_components(cluster: Cluster) -> None:
    """
    Wait for every component of the current host, and note when its kubelet started.

    + cluster: the cluster
    """

    wait_for(cluster, checks(cluster))


def wait_for(cluster: Cluster, checks: Sequence[verify.Check]) -> None:
    """
    Wait for what must hold on the current host, and note when its kubelet started.

    + cluster: the cluster
    + checks: what must hold
    """

    wait_until(
        cluster, "Wait for every component to answer", [*checks], then=partial(_note, cluster)
    )


@phase("Verification")
def verify_cluster() -> None:
    """Wait for nodes to be Ready, and check that packets of their pods arrive."""

    verify_nodes(current_cluster(), BRIDGE)


@phase("Verification")
def show_cluster() -> None:
    """Print what runs where."""

    show(current_cluster(), runs)


def show(cluster: Cluster, runs: Callable[[HostSpec], list[str]]) -> None:
    """
    Print what runs where, once.

    + cluster: the cluster
    + runs: names what runs on a host
    """

    if cluster.runs_once:
        verify.say(name="What runs where", text=lambda: table(cluster, runs))


def _note(cluster: Cluster) -> None:
    """Note when the current host's kubelet started, by the clock that it reports with."""

    unit = kubelet_unit(cluster)
    states = read(Units, units=[unit.name], config=list(unit.config))
    if started := states.units[unit.name].started:
        cluster.notes("kubelet started")[cluster.host_spec.name] = started


def _since(cluster: Cluster, host: str) -> str:
    """When a host's kubelet started, as kubelets write times; empty if this run does not know."""

    started = cluster.notes("kubelet started").get(host)
    return datetime.fromtimestamp(started, timezone.utc).isoformat()[:19] if started else ""


def set_nodes(cluster: Cluster, kubectl: str = KUBECTL) -> None:
    """
    Wait for nodes to register, and set their pod CIDRs and labels.

    + cluster: the cluster
    + kubectl: path of kubectl on control-plane hosts
    """

    if not cluster.is_first_control_plane:
        return
    manual = not cluster.spec.nodes_register
    ask = kubectl_words(kubectl, ADMIN)
    known = partial(read, Nodes, kubectl=kubectl, kubeconfig=ADMIN, server="")
    if not manual:
        wait_until(
            cluster,
            "Wait for nodes to register",
            [_of_node(node, "registered", "", f"{ask} get nodes") for node in _nodes(cluster)],
            given={"nodes": _shown(ask)},
            seen=lambda: [_holds(node, "registered") for node in known().nodes],
        )
    nodes.node_objects(
        name="Set the nodes' pod CIDRs and labels",
        nodes=_node_objects(cluster, manual),
        kubectl=kubectl,
        kubeconfig=ADMIN,
        wait=cluster.spec.verify_timeout,
    )


def verify_nodes(cluster: Cluster, bridge: str, kubectl: str = KUBECTL) -> None:
    """
    Wait until nodes are Ready, and check that packets of their pods arrive. What the inventory
    leaves to its owner is not waited for, and said.

    + cluster: the cluster
    + bridge: the pod bridge
    + kubectl: path of kubectl on control-plane hosts
    """

    if missing := _missing(cluster):
        verify.say(
            name="What the cluster lacks",
            text=lambda: "\n".join(missing if cluster.runs_once else ()),
        )
    if cluster.is_first_control_plane and cluster.spec.network != "none":
        _wait_until_ready(cluster, "Wait for nodes to be Ready", _nodes(cluster), kubectl)
    if ways := way_checks(cluster):
        wait_until(cluster, "Wait for the ways of packets", ways)
    verify_packets(cluster, bridge)


def wait_for_node(cluster: Cluster, node: HostSpec) -> None:
    """
    Wait on a control-plane host until one node is Ready, by a report since its kubelet started.

    + cluster: the cluster
    + node: its host
    """

    if cluster.spec.network != "none":
        _wait_until_ready(cluster, f"Wait until {node.name} is Ready", [node], KUBECTL)


def _wait_until_ready(cluster: Cluster, name: str, hosts: Sequence[HostSpec], kubectl: str) -> None:
    ask = kubectl_words(kubectl, ADMIN)
    known = partial(read, Nodes, kubectl=kubectl, kubeconfig=ADMIN, server="")
    wait_until(
        cluster,
        name,
        [_ready(ask, node) for node in hosts],
        given={"nodes": _shown(ask), "late": lambda: _late(cluster, ask)},
        seen=lambda: [
            _holds(node.hostname_override, "Ready")
            for node in hosts
            if (one := known().nodes.get(node.hostname_override))
            and (one.ready and one.seen >= _since(cluster, node.name))
        ],
    )


def _missing(cluster: Cluster) -> list[str]:
    """What the cluster's owner has to bring."""

    spec = cluster.spec
    lines = {
        f"network = {spec.network!r}: install a CNI plugin; until then nodes are not Ready, and "
        "only pods on their hosts' own network run": spec.network == "none",
        f"proxy_mode = {spec.proxy_mode!r}: install what leads packets to services; until then "
        "pods, CoreDNS among them, do not reach the API": spec.proxy_mode == "none",
    }
    return [line for line, lacks in lines.items() if lacks]


def _shown(ask: str) -> str:
    """One request for all nodes, which prints the name and status of each."""

    return f"{ask} get nodes --no-headers | awk '{{ print $1, $2 }}'"


def way_checks(cluster: Cluster) -> list[verify.Check]:
    """
    Return what must hold on the current host before packets are sent: that kube-proxy and flannel,
    which hear of the rest of the cluster by themselves, have done so.

    + cluster: the cluster
    """

    found = []
    if "kube-proxy" in cluster.units:
        address = cluster.plan.service_ip
        found.append(
            verify.Check(
                f"the API's service answers at {address}:443",
                f"timeout 5 bash -c '</dev/tcp/{address}/443'",
                "journalctl --no-pager --quiet --output=cat --lines=2000 --unit=kube-proxy.service "
                f"| {WORDS}",
                "systemctl status kube-proxy.service; kubectl get endpointslices",
                host=cluster.spec.control_plane[0].name,
            )
        )
    if cluster.spec.flannel_on_api and cluster.is_a("node"):
        found += flannel_checks(cluster)
    return found


def flannel_checks(cluster: Cluster) -> list[verify.Check]:
    """
    Return what must hold on a node whose flanneld learns nodes from the apiserver: that it carries
    the packets to the pods of each other node.

    + cluster: the cluster
    """

    backend, vni = cluster.spec.flannel_backend, cluster.spec.flannel_vni
    device = flanneld.device_of(backend, vni)
    log = "journalctl --no-pager --quiet --output=cat --lines=2000 --unit=flanneld.service"
    log += f" | {WORDS}"
    hint = "systemctl status flanneld.service; ip route; kubectl describe node"
    health = f"http://127.0.0.1:{flanneld.HEALTH_PORT}/healthz"
    ask = f"curl --silent --fail --noproxy '*' --max-time 5 {health}"
    found = [verify.Check(f"flanneld answers at {health}", ask, log, hint)]
    others = [node for node in _nodes(cluster) if node.name != cluster.host_spec.name]
    for node in others:
        pods, address = cluster.plan.nodes[node.name].pod_cidr, cluster.plan.addresses[node.name]
        way = f"dev {device}" if device else f"via {address}"
        command = f"ip -4 route show {pods} | grep -qE {shlex.quote(f' {way}( |$)')}"
        name = f"flannel has a route to the pods of {node.name} at {pods}"
        # One whose object was made anew lacks flannel's notes until its flanneld starts again.
        there = f"on {node.name}: systemctl restart flanneld.service"
        found.append(verify.Check(name, command, log, there, host=node.name))
    return found


def wait_until(cluster: Cluster, name: str, checks: list[verify.Check], **more: Any) -> None:
    """
    Wait until checks hold, as long as the inventory allows.

    + cluster: the cluster
    + name: of the operation
    + checks: what must hold
    + more: other arguments of ``verify.verified``
    """

    verify.verified(name=name, checks=checks, timeout=cluster.spec.verify_timeout, **more)


def verify_packets(cluster: Cluster, bridge: str) -> None:
    """
    Send packets from the pod network of each node to that of every other one, or of a sample where
    there are many; to the API's service; and between hosts to the ports of the components.

    + cluster: the cluster
    + bridge: the pod bridge
    """

    me = cluster.host_spec.name
    places, visits = cluster.notes("places"), cluster.notes("visits")
    on_pods = [] if cluster.spec.network == "none" else _nodes(cluster)
    ways = reach.pairs([node.name for node in on_pods])
    if me in ways:
        reach.take_place(
            name="Join the pod network for a test",
            places=places,
            bridge=bridge,
            pod_cidr="" if cluster.spec.flannel_leases else cluster.node.pod_cidr,
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
        name="Check that all packets arrived",
        places=places,
        visits=visits,
        causes=lambda visit: _causes(cluster, visit),
    )


def _targets(cluster: Cluster) -> list[reach.Target]:
    """The ports that the current host and its pods must reach."""

    spec = cluster.spec
    found = []
    if "kube-proxy" in cluster.units:
        api = "the API's service from its pods"
        found.append(reach.Target(api, cluster.plan.service_ip, 443, inside=True))
    if not cluster.is_a("control_plane"):
        if endpoint := spec.endpoint:
            found.append(reach.Target(f"the API at {endpoint}", endpoint.host, endpoint.port))
    elif "address" not in spec.kubelet_flags:
        port = kubelet_port(cluster.spec)
        found += [_target(cluster, "kubelet", node, port) for node in _nodes(cluster)]
    if cluster.is_a("etcd"):
        active = cluster.active
        members = [member for member in spec.etcd_members if member.name in active]
        found += [_target(cluster, "etcd", member, spec.etcd_peer_port) for member in members]
    return [target for target in found if target.address != cluster.own_address]


def _target(cluster: Cluster, part: str, host: HostSpec, port: int) -> reach.Target:
    address = cluster.plan.addresses[host.name] or ""
    return reach.Target(f"{part} of {host.name} at {address}:{port}", address, port)


def _causes(cluster: Cluster, visit: reach.Visit) -> list[str]:
    """Failures and firewall rules, here and on hosts not reached, that may be the cause."""

    named = [host for host in cluster.spec.hosts if any(host.name in name for name in visit.missed)]
    api_hosts = cluster.spec.control_plane if any("API" in name for name in visit.missed) else ()
    hosts = dict.fromkeys(host.name for host in (cluster.host_spec, *named, *api_hosts))
    said = cluster.notes("firewalls")
    failed = {host.name for host in ctx_state.get().failed_hosts}
    found = [f"{name} failed in this run, see above" for name in hosts if name in failed]
    found += [f"{name}: {line}" for name in hosts for line in said.get(name, ())]
    return found or ["no firewall's rule or policy is seen that stops them"]


def runs(host: HostSpec) -> list[str]:
    """What runs on a host of the scratch path."""

    cluster = current_cluster()
    pods = [component for component in components_on(host.roles) if component in PODS]
    return [cluster.runtime.name, *cluster.units_of(host), *pods]


def _node_objects(cluster: Cluster, manual: bool) -> list[nodes.NodeObject]:
    """
    What kubelet does not set when its node registers: the pod CIDR, Kubernetes' own labels, and
    labels that were added later.
    """

    return [
        nodes.NodeObject(
            host.hostname_override,
            # flannel's leases say who has which subnet.
            host=host.name,
            pod_cidr="" if cluster.spec.flannel_leases else cluster.plan.nodes[host.name].pod_cidr,
            labels=host.node_labels if manual else host.reserved_labels,
            registered_with={} if manual else host.node_labels,
            create=manual,
            # The others have their turns; the API may not have told which were drained.
            uncordon=host.name not in cluster.upgrade.nodes,
        )
        for host in _nodes(cluster)
    ]


def checks(cluster: Cluster) -> list[verify.Check]:
    """
    Return what must hold on the current host.

    + cluster: the cluster
    """

    found = []
    for unit in cluster.units:
        check = answers(cluster, unit, "unit")
        if unit == "kube-proxy" and len(cluster.spec.control_plane) == 1:
            # It is well only once it has heard from the apiserver.
            check = replace(check, host=cluster.spec.control_plane[0].name)
        found += [check, obeys(cluster, unit)]
    found += [answers(cluster, pod, "pod") for pod in pods_on(cluster)]
    if asked := cluster.runtime.uses_systemd:
        name = f"kubelet and {cluster.runtime.name} leave control groups to systemd"
        # kubelet makes it.
        command = f"systemctl is-active --quiet kubepods.slice && {asked}"
        hint = "one of the two uses cgroupfs: compare cgroupDriver and SystemdCgroup"
        found.append(verify.Check(name, command, "systemd-cgls --no-pager | head -n 40", hint))
    if cluster.is_a("control_plane"):
        found.append(api_answers())
    return found


def api_answers() -> verify.Check:
    """Return the check that the current control-plane host's apiserver serves its administrator."""

    ask, hint = f"{_ASK} api-versions", f"{KUBECTL} --kubeconfig={ADMIN} get nodes"
    return verify.Check("the API answers its administrator", ask, ask, hint)


def answers(cluster: Cluster, component: str, kind: str, **facts: object) -> verify.Check:
    """
    Return the check that a component of the current host answers its probe.

    + cluster: the cluster
    + component: its name, such as ``kube-apiserver``
    + kind: how it runs, ``unit`` or ``pod``
    + facts: settings that are others than those that the run begins with
    """

    asked = probe(component, cluster.release, cluster.settings(**facts))
    url = f"{asked.scheme.lower()}://{asked.host}:{asked.port}{asked.path}"
    command = f"curl --silent --fail --insecure --noproxy '*' --max-time 5 {url}"
    if asked.scheme == "TCP":
        command = f"timeout 5 bash -c '</dev/tcp/{asked.host}/{asked.port}'"
    unit, runtime = f"{component}.service", cluster.runtime
    if kind == "unit":
        log = f"journalctl --no-pager --quiet --output=cat --lines=2000 --unit={unit}"
        hint = f"systemctl status {unit}"
    else:
        found = runtime.find_container.format(container=component)
        log = f"{runtime.logs.format(lines=2000, id=f'$({found} | head -n 1)')} 2>&1"
        hint = f"{runtime.list_containers} | grep {component}; journalctl --unit=kubelet.service"
    return verify.Check(f"{component} answers at {url}", command, f"{log} | {WORDS}", hint)


def obeys(cluster: Cluster, component: str) -> verify.Check:
    """
    Return the check that a unit's component runs with the flags of the plan and no others, whatever
    drop-ins and environment files exist.

    + cluster: the cluster
    + component: its name, such as ``kubelet``
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


def _ready(ask: str, host: HostSpec) -> verify.Check:
    """A node's status outlives its kubelet by 40 seconds, so it must have reported since then."""

    node = shlex.quote(host.hostname_override)
    log = f"{ask} describe node {node} | grep -A 8 -E 'Conditions|RenewTime'"
    check = _of_node(host, "Ready", "Ready", log)
    return replace(check, command=f'{check.command} && ! echo "$late" | grep -qxF {node}')


def _late(cluster: Cluster, ask: str) -> str:
    """Shell that prints the nodes whose kubelets have not reported since they started."""

    nodes = {node.hostname_override: _since(cluster, node.name) for node in _nodes(cluster)}
    starts = [f"start {node} {since}" for node, since in nodes.items()]
    said = shlex.join(["printf", "%s\\n", *starts])
    # Releases without leases have none of them here.
    leases = f"{ask} get leases {_LEASES} 2>/dev/null || :"
    return f"{{ {said}; {leases}; }} | awk {shlex.quote(_EARLIER)}"


_LEASES = (
    "--namespace=kube-node-lease --no-headers "
    "--output=custom-columns=node:.metadata.name,renewed:.spec.renewTime"
)
_EARLIER = """\
$1 == "start" { since[$2] = $3; next }
($1 in since) && $2 < since[$1] { print $1 }"""


def _of_node(host: HostSpec, word: str, status: str, log: str) -> verify.Check:
    node = host.hostname_override
    hint = f"on {node}: journalctl --unit=kubelet.service"
    return verify.Check(_holds(node, word), _line_of(node, status), log, hint, host=host.name)


def _holds(node: str, word: str) -> str:
    return f"node {node} is {word}"


def _line_of(node: str, status: str) -> str:
    """Shell that finds the node's line, with that status first, in what kubectl printed."""

    line = f"^{node} {status}".replace(".", "\\.")
    return f"printf '%s\\n' \"$nodes\" | grep {shlex.quote(line)}"


def _nodes(cluster: Cluster) -> list[HostSpec]:
    """The nodes that this run sets up."""

    active = cluster.active
    return [host for host in cluster.spec.nodes if host.name in active]


def table(cluster: Cluster, runs: Callable[[HostSpec], list[str]]) -> str:
    """
    A table of what runs where.

    + cluster: the cluster
    + runs: names what runs on a host
    """

    state = ctx_state.get()
    activated = {host.name for host in state.activated_hosts}
    failed = {
        host.name: "failed, see above" if has_operations(host) else "left out, see above"
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
    url, first = cluster.spec.apiserver_url, cluster.spec.control_plane[0].name
    return "\n".join([*lines_of(rows), "", f"API: {url}; on {first}, kubectl works as root."])


def _pod_cidr(cluster: Cluster, host: str) -> str:
    leased = cluster.notes("networks").get(host)
    if leased and leased.subnet:
        return str(IPNetwork(leased.subnet.subnet).cidr)
    return cluster.plan.nodes[host].pod_cidr if host in cluster.plan.nodes else "-"


if "__name__" not in globals():
    run_phases([register_nodes, verify_cluster, show_cluster])
