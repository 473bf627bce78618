"""
A running etcd comes from HTTP to TLS: static pods one after another, while the API goes on, and
Fedora's units all at once.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import partial
from typing import Any

from pyinfra.api import OperationError
from pyinfra.context import ctx_state

from pyinfra_kube.cluster.components.row_settings import etcd_client_urls, etcd_peer_urls
from pyinfra_kube.cluster.etcd_move import EtcdState, Step
from pyinfra_kube.deploys.phases.control_plane import static_pod
from pyinfra_kube.deploys.phases.verification import answers, api_answers, wait_until
from pyinfra_kube.deploys.run.context import Cluster, current_cluster, told
from pyinfra_kube.deploys.run.etcd import client_files, etcd_facts
from pyinfra_kube.engine.phase import in_lines, phase
from pyinfra_kube.operations import etcd, static_pods, verify

_NAMES = {
    "serve both": "Have etcd on {host} serve TLS too",
    "ask with TLS": "Have the apiserver on {host} ask etcd with TLS",
    "register both": "Register etcd on {host} with TLS too",
    "serve TLS": "Have etcd on {host} serve TLS only",
    "register TLS": "Register etcd on {host} with TLS only",
}


@phase("etcd")
def secure_etcd() -> None:
    """Take the steps that are left to TLS alone."""

    cluster = current_cluster()
    move = cluster.etcd
    states = [move.first]
    for step in move.steps:
        states.append(states[-1].after(step))
    in_lines(
        partial(_take, cluster, step, *around)
        for step, *around in zip(move.steps, states, states[1:], strict=False)
    )
    if move.steps:
        _go_on(cluster, "Wait until etcd has TLS")
    elif cluster.spec.etcd_tls and not move.waits_for and cluster.is_a("etcd"):
        # A run may have been killed just before its last step.
        etcd.peer_urls(
            name="Register etcd with TLS only",
            comes=cluster.own_facts.etcd_unit_serves == "http",
            **_registration(cluster, ("https",)),
        )


@phase("etcd")
def register_fedora_etcd() -> None:
    """
    Register members that are to serve TLS, and still serve HTTP, with both, so that they find each
    other whichever of them has restarted.
    """

    cluster = current_cluster()
    serve = [one.etcd_unit_serves for _, one in told(cluster.spec.etcd_members, cluster.host_facts)]
    if not (cluster.spec.etcd_tls and "http" in serve and len(serve) > 1):
        return
    if cluster.is_a("etcd") and cluster.own_facts.etcd_unit_serves == "http":
        given = _registration(cluster, ("http", "https"))
        given = {key: given[key] for key in ("member", "urls")}
        own = [f"http://127.0.0.1:{cluster.spec.etcd_client_port}"]
        etcd.peer_urls(name="Register etcd with TLS too", endpoints=own, comes=True, **given)
    _go_on(cluster, "Wait until all of etcd is registered with TLS")


def _take(cluster: Cluster, step: Step, before: EtcdState, after: EtcdState) -> None:
    """Take a step on its host, once every member answers."""

    host = cluster.host_spec.name
    name = _NAMES[step.change].format(host=step.host)
    if cluster.is_a("etcd"):
        wait_until(cluster, f"{name}: every member answers", _of_member(cluster, before))
    _go_on(cluster, f"{name}: whose turn it is")
    if host != step.host:
        return
    facts = etcd_facts(cluster.etcd, host, after)
    match step.change:
        case "serve both" | "serve TLS":
            _set(cluster, name, "etcd", facts)
            wait_until(cluster, f"{name}: it answers", _of_member(cluster, after))
        case "ask with TLS":
            _set(cluster, name, "kube-apiserver", facts)
            checks = [answers(cluster, "kube-apiserver", "pod"), api_answers()]
            wait_until(cluster, f"{name}: it answers", checks)
        case "register both":
            etcd.peer_urls(name=name, **_registration(cluster, ("http", "https")), comes=True)
        case "register TLS":
            etcd.peer_urls(name=name, **_registration(cluster, ("https",)), comes=True)


def _set(cluster: Cluster, name: str, component: str, facts: dict[str, object]) -> None:
    keys = cluster.encryption
    # What the phase before leaves.
    providers = keys.last or keys.turned or keys.first.get(cluster.host_spec.name)
    static_pods.static_pods(
        name=name,
        pods=[static_pod(cluster, component, providers, facts)],
        directory=cluster.spec.manifest_dir,
        runtime=cluster.runtime.name,
        leave_first=bool(cluster.release.fact("static_pods_wait")),
    )


def _registration(cluster: Cluster, schemes: tuple[str, ...]) -> dict[str, Any]:
    spec, plan, host = cluster.spec, cluster.plan, cluster.host_spec.name
    return {
        "member": host,
        "urls": [etcd_peer_urls(spec, plan, scheme)[host] for scheme in schemes],
        "endpoints": [etcd_client_urls(spec, plan, "https")[host]],
        **client_files("etcd-server"),
    }


# A kubelet that was away may still have to replace the container of an earlier step.
_RUNS = """\
for comm in $(grep -lx etcd /proc/[0-9]*/comm 2>/dev/null); do
  tr '\\0' '\\n' <"${comm%comm}cmdline"
done | grep -qxF -e"""


def _of_member(cluster: Cluster, state: EtcdState) -> list[verify.Check]:
    """What must hold on the current host, which has a member of etcd."""

    facts = etcd_facts(cluster.etcd, cluster.host_spec.name, state)
    listens = ("--listen-client-urls=", "--listen-peer-urls=")
    flags = [one for one in cluster.command_line("etcd", **facts) if one.startswith(listens)]
    check = answers(cluster, "etcd", "pod", **facts)
    runs = [
        verify.Check(f"etcd runs with {flag}", f"{_RUNS} {shlex.quote(flag)}", check.log)
        for flag in flags
    ]
    return [*runs, check]


def _go_on(cluster: Cluster, name: str) -> None:
    """Wait for the hosts that do this at the same time; stop where one of them failed."""

    verify.barrier(name=name, at=_stop(cluster))


def _stop(cluster: Cluster) -> Callable[[], None]:
    parts = {host.name for host in (*cluster.spec.etcd_members, *cluster.spec.control_plane)}

    def look() -> None:
        if failed := {host.name for host in ctx_state.get().failed_hosts} & parts:
            raise OperationError(
                f"etcd's way to TLS stops here, for {', '.join(sorted(failed))} failed, see above; "
                "mend that and run this again: it goes on where it was"
            )

    return look
