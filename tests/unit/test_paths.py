"""Each path says what it cannot build, before it asks any host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pyinfra.api import Config, Inventory, State
from pyinfra.api.exceptions import DeployError
from pyinfra.context import ctx_config, ctx_host, ctx_state

from pyinfra_kube.deploys.fedora_single_node import fedora_single_node
from pyinfra_kube.deploys.multinode import multinode
from pyinfra_kube.deploys.remove_node import remove_nodes
from pyinfra_kube.deploys.scratch import scratch

HOSTS = {"m": "192.0.2.1", "n1": "192.0.2.11", "n2": "192.0.2.12"}
FLANNEL = {"network": "flannel"}

REFUSED: list[tuple[Callable[[], object], dict[str, Any], str]] = [
    (scratch, FLANNEL, "network = 'flannel'; allowed: routes; fix: use deploys/multinode.py"),
    (fedora_single_node, FLANNEL, "fix: use deploys/multinode.py"),
    (multinode, {}, "network = 'routes'; allowed: flannel; fix: use deploys/fedora_single_node.py"),
    (fedora_single_node, {}, "nodes = ['n1', 'n2']; allowed: one node"),
    (multinode, FLANNEL | {"kubernetes_version": "1.24.0"}, "kubernetes_version = '1.24.0'; all"),
    (multinode, FLANNEL | {"flannel_backend": "gre"}, "flannel_backend = 'gre'; allowed: 'vxlan'"),
    (remove_nodes, {}, "remove_nodes is not set; allowed: a list of nodes that are no masters: n1"),
    (remove_nodes, {"remove_nodes": ["m"]}, "remove_nodes = ['m']; allowed: a list of nodes"),
]


@pytest.mark.parametrize(("path", "data", "said"), REFUSED)
def test_what_a_path_cannot_build(
    path: Callable[[], object], data: dict[str, Any], said: str
) -> None:
    hosts = [(name, {"ssh_hostname": address}) for name, address in HOSTS.items()]
    common = {"kubernetes_version": "1.20.2", "master_ip": HOSTS["m"], **data}
    groups = {"masters": (["m"], {}), "nodes": (["n1", "n2"], {})}
    state = State(Inventory((hosts, common), **groups), Config())
    host = state.inventory.get_host("m")
    with (
        ctx_state.use(state),
        ctx_host.use(host),
        ctx_config.use(Config()),
        pytest.raises(DeployError) as error,
    ):
        path()
    assert said in str(error.value)
    assert "no host was touched" in str(error.value)
