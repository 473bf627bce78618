"""Discovery passes of several hosts run side by side, and none undoes what another has prepared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from pyinfra.api import Config, Inventory, State
from pyinfra.context import ctx_config, ctx_host, ctx_state
from pyinfra.operations import server

from pyinfra_kube.engine.prefetch import prefetch


def _prepare(state: State, name: str, ask: Callable[[], object]) -> None:
    def build() -> None:
        server.shell(name="of both", commands=["true"])
        ask()
        if name == "other":
            server.shell(name="of other", commands=["true"])

    host: Any = state.inventory.get_host(name)
    with ctx_config.use(state.config.copy()), ctx_host.use(host):
        prefetch(build)
        build()


@pytest.mark.parametrize("seconds", [(0.0, 0.3), (0.2, 0.3), (0.3, 0.0)])
def test_discovery_passes_run_side_by_side(seconds: tuple[float, float]) -> None:
    state = State(Inventory((["one", "other"], {})), Config())
    flags = (state.print_noop_info, state.check_for_changes)
    with ctx_state.use(state):
        pauses = zip(("one", "other"), seconds, strict=True)
        waits = [
            gevent.spawn(_prepare, state, name, lambda pause=pause: gevent.sleep(pause))
            for name, pause in pauses
        ]
        gevent.joinall(waits, raise_error=True)
        added = [[state.op_meta[key].names for key in ops] for ops in state.ops.values()]
        assert added == [[{"of both"}], [{"of both"}, {"of other"}]]
        assert len(state.get_op_order()) == 2
    assert (state.print_noop_info, state.check_for_changes) == flags
