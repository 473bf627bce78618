"""Whole paths on hosts that have an address, a package manager and nothing else, without any."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from pyinfra.api import Config, Inventory, State
from pyinfra.api.state import StateStage
from pyinfra.context import ctx_config, ctx_host, ctx_state

from pyinfra_kube.facts.bridge import Link
from pyinfra_kube.facts.etcd import Keys
from pyinfra_kube.facts.nodes import NodeStates
from pyinfra_kube.facts.packages import PackageStates
from pyinfra_kube.facts.services import UnitStates
from tests.unit.harness import FactRunner, answers

HOSTS = {"m": "192.0.2.1", "n": "192.0.2.11", "o": "192.0.2.12"}
ADDRESSES = {name: {"ssh_hostname": address} for name, address in HOSTS.items()}
ONE_NODE = {"control_plane": ["m"], "nodes": ["n"]}
TWO_NODES = {"control_plane": ["m"], "nodes": ["n", "o"]}

Path_ = Callable[[], object]
Groups = Mapping[str, Sequence[str]]
Hosts = Mapping[str, Mapping[str, Any]]


@contextmanager
def cluster_of(groups: Groups, data: Mapping[str, Any], own: Hosts = ADDRESSES) -> Iterator[State]:
    """The state of a run that has connected to no host yet."""

    used = {name for names in groups.values() for name in names}
    hosts = [(name, dict(own[name])) for name in own if name in used]
    common = {"kubernetes_version": "1.20.2", "control_plane_endpoint": HOSTS["m"], **data}
    members = {group: (list(names), {}) for group, names in groups.items()}
    state = State(Inventory((hosts, common), **members), Config(DIFF=True))
    state.current_deploy_filename = __file__
    state.set_stage(StateStage.Prepare)
    with ctx_state.use(state), ctx_config.use(state.config):
        yield state


def prepared(
    path: Path_,
    groups: Groups,
    data: Mapping[str, Any],
    packages: PackageStates,
    own: Hosts = ADDRESSES,
    more: Mapping[str, Any] = MappingProxyType({}),
    each: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    dead: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> tuple[State, dict[str, str]]:
    """
    What a run would be, and what ``--diff`` shows of it on each host.

    + own: the data of each host
    + more: facts of every host, by ``MODULE.FACT``
    + each: facts of one host, by its name
    + dead: hosts that cannot be connected to
    + left_out: hosts that the command line leaves out
    """

    shown: dict[str, list[str]] = {}
    with cluster_of(groups, data, own) as state:
        hosts = [host for host in state.inventory if host.name not in {*dead, *left_out}]
        state.failed_hosts.update(host for host in state.inventory if host.name in dead)
        for host in hosts:
            link = Link("eth0", "", 1500, "", (f"{host.data.ssh_hostname}/24",), True, None)
            facts: dict[str, Any] = {
                "bridge.Links": {"eth0": link},
                "packages.Packages": packages,
                "services.Units": UnitStates(manager="systemd"),
                **more,
                **each.get(host.name, {}),
            }
            if "remove_nodes" in data:
                facts |= {"nodes.Nodes": NodeStates("ok"), "etcd.EtcdKeys": Keys("ok")}
            answers(host, FactRunner(facts))
            vars(host)["log"] = _noting(shown, host.name)
            state.activate_host(host)
        for host in hosts:
            with ctx_host.use(host):
                path()
    return state, {name: "\n".join(lines) for name, lines in shown.items()}


def _noting(shown: dict[str, list[str]], host: str) -> Callable[..., None]:
    return lambda text, *_, **__: shown.setdefault(host, []).append(text)
