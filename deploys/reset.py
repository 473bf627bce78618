"""
Take away what was built: from all hosts, or from those that ``--limit`` names. What was there
before comes back; packages and images stay.

    pyinfra INVENTORY deploys/reset.py --dry --diff
    pyinfra INVENTORY deploys/reset.py --data reset_data='["etcd","volumes"]'
"""

from __future__ import annotations

from collections.abc import Iterable

from netaddr import IPNetwork

from pyinfra_kube.cluster.components import PODS
from pyinfra_kube.cluster.components.common import CONFIG_DIR
from pyinfra_kube.cluster.components.flanneld import KUBECONFIG, NET_CONFIG
from pyinfra_kube.cluster.errors import InputError, Problem
from pyinfra_kube.cluster.runtimes import DOCKER
from pyinfra_kube.deploys.phases import (
    container_runtime,
    kube_proxy,
    liveness,
    node_logs,
    pod_network,
)
from pyinfra_kube.deploys.phases.credentials import credential_files
from pyinfra_kube.deploys.phases.firewalls import open_firewalld
from pyinfra_kube.deploys.phases.host_preparation import (
    FSTAB,
    NETWORKD,
    NETWORKD_CONFIG,
    fstab,
    with_swap,
)
from pyinfra_kube.deploys.phases.selinux import rules as selinux_rules
from pyinfra_kube.deploys.remove_node import UNITS, node_files
from pyinfra_kube.deploys.run.context import Cluster, current_cluster
from pyinfra_kube.deploys.run.elsewhere import delete, left_objects
from pyinfra_kube.deploys.run.host_facts import KUBECTL
from pyinfra_kube.engine import sending
from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.engine.record import MARK, PLACE
from pyinfra_kube.engine.snapshot import read
from pyinfra_kube.facts.docker import DAEMON_JSON, OPTION_FILES
from pyinfra_kube.facts.files import FileContents
from pyinfra_kube.facts.images import STAGE
from pyinfra_kube.facts.leftovers import Leftovers
from pyinfra_kube.facts.record import Record, Recorded
from pyinfra_kube.facts.services import Units
from pyinfra_kube.operations import (
    cni,
    control_machine,
    docker,
    docker_on_flannel,
    files,
    flannel,
    hosts,
    iptables,
    leftovers,
    packages,
    pods,
    policy_rules,
    record,
    selinux,
    services,
    verify,
)
from pyinfra_kube.operations.boot_units import FOLDER

# What kubelet, kube-proxy, the apiserver and the collector of logs write to.
FOLDERS = ("/var/lib/kube-proxy", "/var/log/kube-apiserver", node_logs.FOLDER)
# What kubelet and CNI make themselves, and what runs that were killed had sent.
WHOLE = (
    *("/var/log/pods", "/var/log/containers", "/var/lib/dockershim"),
    *(f"/var/lib/cni/networks/{cni.NETWORK}", f"{sending.FOLDER}-0", STAGE),
)
HOLLOW = ("/var/lib/cni",)
# Of cgroups, where they are systemd's.
SLICE = "kubepods.slice"
# Of these files others may have lines or keys, too.
SHARED = (hosts.PATH, FSTAB, DAEMON_JSON, *OPTION_FILES)
# What units read that were there before.
CONFIG = {DOCKER.unit: docker.CONFIG, NETWORKD: [NETWORKD_CONFIG]}


@phase("Reset")
def ask() -> None:
    """Refuse what cannot be reset, and ask once."""

    cluster = current_cluster(leaving=True)
    spec = cluster.spec
    given = spec.reset in ("yes", spec.cluster_name)
    if spec.reset and not given:
        allowed = f"yes, or the name of the cluster: {spec.cluster_name}"
        raise InputError([Problem("reset", spec.reset, None, allowed)])
    _check_members(cluster)
    control_machine.confirmed(
        name="Ask before anything is removed",
        question=f"Type {spec.cluster_name} to reset the hosts of that cluster",
        word=spec.cluster_name,
        fix=f"--data reset={spec.cluster_name}",
        answers=cluster.notes("confirmed"),
        given=given,
    )


@phase("Reset nodes")
def reset_nodes() -> None:
    """Reset the hosts outside of the control plane and of etcd."""

    cluster = current_cluster(leaving=True)
    if not _is_last(cluster):
        take_away(cluster)
    # An operation of all hosts: a node that is reset cannot register again.
    verify.barrier(name="Wait until the nodes are reset", at=None)


@phase("Reset the control plane")
def reset_control_plane() -> None:
    """Reset the hosts of the control plane and of etcd."""

    cluster = current_cluster(leaving=True)
    if _is_last(cluster):
        take_away(cluster)


@phase("Forget nodes")
def delete_objects() -> None:
    """Delete the nodes' objects where the control plane goes on: it takes no part in this run."""

    cluster = current_cluster(leaving=True)
    verify.barrier(name="Wait until the hosts are reset", at=None)
    control_machine.save(
        name="Delete the nodes' objects",
        pending=lambda: [f"node {name}: present → absent" for name in left_objects(cluster)],
        write=lambda: delete(cluster, left_objects(cluster)),
    )


def _is_last(cluster: Cluster) -> bool:
    return cluster.is_a("control_plane") or cluster.is_a("etcd")


def _check_members(cluster: Cluster) -> None:
    """The others of etcd would wait for a member that lost its data."""

    members = {host.name for host in cluster.spec.etcd_members}
    lost = members & cluster.active
    if "etcd" in cluster.spec.reset_data and lost and members - lost:
        allowed = f"data of etcd only with all of its members: {', '.join(sorted(members))}"
        fix = "leave it out of reset_data, or name them all with --limit"
        raise InputError([Problem("reset_data", list(cluster.spec.reset_data), None, allowed, fix)])


def take_away(cluster: Cluster) -> None:
    """
    Take everything of ours away from the current host, and put back what was there before.

    + cluster: the cluster
    """

    spec, was = cluster.spec, read(Record)
    runtime = cluster.runtime.unit
    ours = _our_units(cluster, was)
    liveness.forget_monitors(cluster)
    services.services(
        name="Stop what is the cluster's",
        units=[services.Unit(n, running=False, enabled=False) for n in ours if n != runtime],
    )
    # It starts a docker that a killed run stopped; another one stays as it is.
    if spec.flannel_leases and (was.exists or cluster.own_facts.ca_fingerprint):
        docker_on_flannel.flannel_absent(
            name="Remove flannel's network", network=spec.flannel_network
        )
    elif cluster.on_flannel or NET_CONFIG in was.of("file"):
        flannel.devices_absent(
            name="Remove flannel's devices and routes", network=spec.cluster_cidr
        )
    state = read(Units, units=[runtime]).units.get(runtime)
    if state and state.active == "active":
        pods.pods_absent(name="Remove the pods", runtime=cluster.runtime.name)
    kube_proxy.remove_rules(cluster)
    # Its sets can go only when no rule names them, so this is first.
    policy_rules.policy_rules_absent(name="Remove the rules of NetworkPolicies")
    leftovers.kube_rules_absent(name="Remove the rules of kubelet and kube-proxy")
    stopped = [services.Unit(SLICE, running=False, enabled=None, masked=None)]
    # docker keeps the address of a bridge that it finds.
    on_pods = cluster.runtime is DOCKER and _is_on_pods(cluster, "docker0")
    if runtime in ours:
        stopped.append(services.Unit(runtime, running=False, enabled=False))
    elif on_pods:
        stopped.append(services.Unit(runtime, running=False, enabled=None))
    services.services(name="Stop what ran pods", units=stopped)
    if cluster.runtime is DOCKER and (runtime in ours or on_pods):
        docker.docker0_absent(name="Remove docker's own network")
    iptables.rules(
        name="Remove the rules of the apiserver's port",
        rules=[],
        owner="kube-apiserver-ports",
        present=False,
        runtime=cluster.runtime.name,
    )
    open_firewalld(cluster, present=False)
    if spec.flannel_leases:
        pod_network.leave_forwarding(cluster)
    else:
        pod_network.leave_network(cluster)
    _put_back(cluster, was)
    if cluster.own_facts.fit.state.selinux:
        selinux.rules(
            name="Forget the rules of the cluster's files",
            rules={n: one for n, one in selinux_rules(cluster).items() if n in was.of("rule")},
            present=False,
        )
    packages.locked(name="Unlock the versions of packages", packages=[])
    services.services(name="Restore services", units=_units_before(was, ours))
    record.kernel_restored(name="Restore the kernel's settings")
    record.forgotten(name="Forget what was there before", stay=_staying(cluster))


def _is_on_pods(cluster: Cluster, name: str) -> bool:
    """Whether a link has an address of pods."""

    link, pods = cluster.own_facts.links.get(name), IPNetwork(cluster.spec.cluster_cidr)
    return any(IPNetwork(one).ip in pods for one in (link.addresses if link else ()))


def _put_back(cluster: Cluster, was: Recorded) -> None:
    """Files, folders and data."""

    spec = cluster.spec
    changed = record.changed_since(was, SHARED)
    record.left_to_others(name="Note which files others changed since", paths=changed)
    left = [path for path in SHARED if was.of("file").get(path) == "others" or path in changed]
    left += [] if was.exists or not cluster.own_facts.ca_fingerprint else [hosts.PATH]
    if hosts.PATH in left:
        hosts.hosts(name="Remove the hosts' names from /etc/hosts", entries={}, present=False)
    if FSTAB in left:
        stored = f"{PLACE}/files{FSTAB}"
        said = read(FileContents, paths=[FSTAB, stored])
        now, before = (
            said.get(path, b"").decode(errors="surrogateescape") for path in (FSTAB, stored)
        )
        if now:
            text = with_swap(now, before)
            files.files(name="Put back the lines of swap in /etc/fstab", files=[fstab(text)])
    if cluster.runtime is DOCKER and {*left} - {hosts.PATH, FSTAB}:
        docker.docker(
            name="Take our options from docker",
            options=dict.fromkeys([*container_runtime.options(), "bip"]),
            nofile=None,
        )
    data = [spec.etcd_data_dir] if "etcd" in spec.reset_data else []
    caches = ["/root/.kube/cache"] if was.of("file").get("/root/.kube") == "absent" else []
    emptied = [spec.kubelet_root, *FOLDERS, *data]
    volumes = [] if "volumes" in spec.reset_data else [spec.kubelet_root]
    leftovers.folders_emptied(
        name="Remove what the cluster wrote",
        folders=emptied,
        volumes=volumes,
        whole=[*WHOLE, *caches],
        hollow=HOLLOW,
    )
    record.files_restored(
        name="Put back the files that were there before",
        known=_known_paths(cluster, was),
        stay=_staying(cluster),
        emptied=[path for path in emptied if path not in _staying(cluster)],
        gone=[*WHOLE, *caches],
    )


def _staying(cluster: Cluster) -> list[str]:
    """Paths of ours that stay with data that is not named."""

    spec, found = cluster.spec, []
    if cluster.own_facts.etcd_data and "etcd" not in spec.reset_data:
        # The CA tells whose data it is.
        found += [spec.etcd_data_dir, MARK]
    if "volumes" not in spec.reset_data:
        root = spec.kubelet_root
        everything = read(Leftovers, paths=[root])
        if everything.get(root) != read(Leftovers, paths=[root], volumes=[root]).get(root):
            found.append(root)
    parents = {path[:end] for path in found for end, letter in enumerate(path) if letter == "/"}
    return [*found, *sorted(parents - {""})]


def _our_units(cluster: Cluster, was: Recorded) -> list[str]:
    """Units that did not run before us."""

    found = [
        name
        for name, state in was.of("unit").items()
        if not state.endswith(" active")
        and not (state == "late" and name == cluster.runtime.unit)
        # What some service made is not put back, and that service may run again by now.
        and not (state == "absent" and name.endswith(".swap"))
        and name != SLICE
    ]
    files = (path for path, state in was.of("file").items() if state in ("absent", "late"))
    found += [
        path.rpartition("/")[2]
        for path in files
        if path.startswith(f"{FOLDER}/") and path.count("/") == 4 and path.endswith(".service")
    ]
    if cluster.own_facts.ca_fingerprint and (not was.exists or was.late):
        found += [*UNITS, *(["flanneld.service"] if cluster.on_flannel else [])]
    return list(dict.fromkeys(found))


def _units_before(was: Recorded, ours: Iterable[str]) -> list[services.Unit]:
    found = []
    for name, state in was.of("unit").items():
        enabled, _, active = state.partition(" ")
        masked = enabled.startswith("masked")
        # Of ours, those go that have come with us.
        came = was.of("file").get(f"{FOLDER}/{name}") in ("absent", "late")
        if (
            came
            or name == SLICE
            or (name in ours and not enabled.startswith(("enabled", "masked")))
        ):
            continue
        runs = active == "active" or state == "late"
        found.append(
            services.Unit(
                name,
                running=None if masked else runs,
                enabled=None if masked or state == "late" else enabled.startswith("enabled"),
                masked=masked,
                config=CONFIG.get(name, ()),
            )
        )
    return found


def _known_paths(cluster: Cluster, was: Recorded) -> list[str]:
    """Paths of a cluster that was built without a record, as they are set in releases of today."""

    if was.exists and not was.late:
        return []
    spec = cluster.spec
    folders = ["/etc/kubernetes", spec.manifest_dir, spec.kubelet_root, *FOLDERS, CONFIG_DIR]
    held = [file.path for file in credential_files(cluster) if file.path not in (CONFIG_DIR, MARK)]
    held += [f"{spec.manifest_dir}/{name}.yaml" for name in PODS]
    # The mark goes last of all files, for it tells that there is something to do.
    return [*folders, MARK, *held, *node_files(cluster), KUBECTL, KUBECONFIG, NET_CONFIG]


PHASES = (ask, reset_nodes, reset_control_plane, delete_objects)


@phase("Reset")
def reset() -> None:
    """Take away what was built."""

    run_phases(PHASES)


if "__name__" not in globals():
    reset()
