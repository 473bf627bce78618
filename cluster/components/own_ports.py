"""The ports that a host's components take for themselves, and two that take the same."""

from __future__ import annotations

from collections.abc import Iterator

from pyinfra_kube.cluster.components import components_on
from pyinfra_kube.cluster.components.rendering import ports, probe
from pyinfra_kube.cluster.components.row_settings import health_settings
from pyinfra_kube.cluster.errors import Problem
from pyinfra_kube.cluster.releases import Release
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.cluster.spec.checks import PORTS


def own_ports(spec: ClusterSpec, component: str) -> set[int]:
    """
    Give the TCP ports of a component.

    + spec: the cluster
    + component: a key of ``COMPONENTS``

    ```
    >>> own_ports(spec, "kube-scheduler")
    {10259}
    ```
    """
    more = {
        "etcd": {spec.etcd_client_port, spec.etcd_peer_port},
        "kube-apiserver": {spec.apiserver_port},
        "kubelet": {kubelet_port(spec)},
    }
    asked = probe(component, Release.of(spec.kubernetes_version), health_settings(spec))
    return {int(asked.port), *more.get(component, ())}


def kubelet_port(spec: ClusterSpec) -> int:
    """
    Give the port on which the apiserver reaches kubelets.

    + spec: the cluster
    """
    default = ports("kubelet", Release.of(spec.kubernetes_version))["port"]
    asked = spec.kubelet_configuration.get("port", spec.kubelet_flags.get("port", default))
    return int(str(asked))


def shared_ports(spec: ClusterSpec) -> Iterator[Problem]:
    """
    Give what is wrong where an inventory gives two components of a host one port.

    + spec: the cluster
    """
    # All hosts have the ports from the same settings.
    found: dict[tuple[str, str], Problem] = {}
    for host in spec.hosts:
        seen: dict[int, str] = {}
        for component in components_on(host.roles):
            for port in sorted(own_ports(spec, component)):
                owner = seen.setdefault(port, component)
                if owner == component:
                    continue
                named = [key for key in PORTS if getattr(spec, key) == port]
                # No other component has a port that can be chosen.
                of_kubelet = ("kubelet_configuration", "kubelet_flags")
                named += [f"{key}.port" for key in of_kubelet if "port" in getattr(spec, key)]
                allowed = f"a port that {owner} or {component} has alone"
                problem = Problem(named[0], port, host.name, allowed)
                found.setdefault((owner, component), problem)
    yield from found.values()
