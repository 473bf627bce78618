"""Kubeconfigs: how a component, or the administrator, finds the apiserver and proves who it is."""

from __future__ import annotations

from functools import cache
from typing import Any

import yaml

from pyinfra_kube.cluster.identities import ON_CONTROL_PLANE
from pyinfra_kube.cluster.spec import ClusterSpec


def server_of(spec: ClusterSpec, component: str) -> str:
    """
    Give the URL that a component asks the apiserver at: that of its own host, where it runs beside
    one.

    + spec: the cluster
    + component: such as "kubelet"; "admin" for the administrator
    """
    if spec.apiserver_approach == "https" and component in ON_CONTROL_PLANE:
        return f"https://127.0.0.1:{spec.secure_port}"
    return spec.apiserver_url


@cache
def kubeconfig(
    name: str,
    user_name: str,
    cluster: tuple[tuple[str, str], ...],
    user: tuple[tuple[str, str], ...],
) -> str:
    """
    Give a kubeconfig, always with its keys in the same order.

    + name: of the cluster and of the context
    + user_name: of the user
    + cluster: keys of the cluster, with their values
    + user: what proves the user, key by key; empty where nobody asks
    """
    context = {"cluster": name, "user": user_name} if user else {"cluster": name}
    config: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": dict(cluster)}],
        "users": [{"name": user_name, "user": dict(user)}] if user else [],
        "contexts": [{"name": name, "context": context}],
        "current-context": name,
    }
    return str(yaml.safe_dump(config, sort_keys=False, width=10**6))
