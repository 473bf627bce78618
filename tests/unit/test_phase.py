"""A list of phases runs in its order, whichever lines its operations stand on."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pyinfra.api import Config, Inventory, State
from pyinfra.api.state import StateStage
from pyinfra.context import ctx_config, ctx_host, ctx_state
from pyinfra.operations import server

from pyinfra_kube.engine.phase import phase, run_phases
from pyinfra_kube.facts.packages import PackageStates
from tests.unit.blank import ONE_NODE, prepared

LIBRARY = Path(__file__).parents[2] / "docs/library.md"


@pytest.fixture(autouse=True)
def _command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    # Only then pyinfra orders operations by the lines that call them.
    monkeypatch.setattr("pyinfra.is_cli", True)


def _on(host: str, name: str) -> Callable[[], None]:
    """A phase of one host; the operations of all such phases stand on one line."""

    @phase(name)
    def run() -> None:
        if ctx_host.get().name == host:
            server.shell(name=host, commands=["true"])

    return run


def test_phases_run_in_the_order_of_the_list() -> None:
    hosts = [f"host{index}" for index in range(12)]
    phases = [_on(host, f"phase {index}") for index, host in enumerate(hosts)]
    state = State(Inventory((hosts, {})), Config())
    state.current_deploy_filename = __file__
    state.set_stage(StateStage.Prepare)
    with ctx_state.use(state), ctx_config.use(state.config):
        # Hosts are asked in any order.
        for host in reversed(list(state.inventory)):
            with ctx_host.use(host):
                run_phases(phases)
        names = [next(iter(state.op_meta[key].names)) for key in state.get_op_order()]
    assert names == [f"phase {index} | {host}" for index, host in enumerate(hosts)]


def test_a_phase_can_be_inserted(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", LIBRARY.read_text(), re.S)
    (example,) = [block for block in blocks if "run_phases" in block]
    for program in ("kubelet", "kube-proxy", "kubectl"):
        (tmp_path / program).write_text(program)
    data = {"kubernetes_source": str(tmp_path), "credentials_dir": str(tmp_path / "none")}
    file = tmp_path / "mine.py"
    code = compile(example, str(file), "exec")
    debian = PackageStates("apt", "debian", "12")
    state, _ = prepared(lambda: exec(code, {}), ONE_NODE, data, debian)
    keys = state.inventory.get_host("n").op_hash_order
    names = [next(iter(state.op_meta[key].names)).partition(" | ")[0] for key in keys]
    assert list(dict.fromkeys(names)) == [
        *("Host preparation", "Allocations", "Pod network", "Container runtime", "Credentials"),
        *("Packages", "Proxy", "kubelet", "kube-proxy", "Nodes", "Verification"),
    ]
