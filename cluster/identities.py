"""Who the users of a cluster's apiserver are: the administrator, and what runs on its hosts."""

from __future__ import annotations

from pyinfra_kube.cluster.components import (
    COMPONENTS,
    CONTROL_PLANE_COMPONENTS,
    NODE_COMPONENTS,
    flanneld,
)
from pyinfra_kube.cluster.components.common import ADMIN, CLUSTER_ADMINS
from pyinfra_kube.cluster.components.rows import User
from pyinfra_kube.cluster.releases import Release, covers
from pyinfra_kube.cluster.spec import ClusterSpec

# Who each of them is, by ``credential_policy``.
_USERS = {
    **{name: one.users for name, one in COMPONENTS.items() if one.users},
    "flanneld": flanneld.USERS,
}
_ASKING = [name for name, one in COMPONENTS.items() if one.users]
ON_CONTROL_PLANE = [name for name in _ASKING if name in CONTROL_PLANE_COMPONENTS]
ON_NODES = [name for name in _ASKING if name in NODE_COMPONENTS]
"""The components that ask the apiserver."""


def users(spec: ClusterSpec) -> list[User]:
    """
    Give every user of a cluster's apiserver, once each: administrators, control plane, then nodes.

    + spec: the cluster
    """
    of_control_plane = [user_of(spec, part) for part in ("admin", *ON_CONTROL_PLANE)]
    parts = [*ON_NODES, *(["flanneld"] if spec.flannel_on_api else [])]
    of_nodes = [user_of(spec, part, node.name) for node in spec.nodes for part in parts]
    return list(dict.fromkeys([*of_control_plane, *of_nodes]))


_BOUND = ADMIN._replace(groups=(CLUSTER_ADMINS,))


def admins_bound(spec: ClusterSpec) -> bool:
    """
    Whether a binding lets administrators do everything: from 1.24 on, where RBAC decides.

    + spec: the cluster
    """
    release = Release.of(spec.kubernetes_version)
    modes = (spec.authorization_mode or release.authorization_mode).split(",")
    return covers("1.24-", release.minor) and "RBAC" in modes


def user_of(spec: ClusterSpec, component: str, host: str | None = None) -> User:
    """
    Give who a component is to the apiserver.

    + spec: the cluster
    + component: such as "kubelet"; "admin" for the administrator
    + host: the host that it runs on; needed for what runs on nodes

    ```
    >>> user_of(spec, "kube-proxy", "node1").user
    'system:kube-proxy'
    ```
    """
    who = ADMIN if component == "admin" else _USERS[component][spec.credential_policy]
    if who == ADMIN:
        return _BOUND if admins_bound(spec) else ADMIN
    if component in ON_CONTROL_PLANE or host is None:
        return who
    node = spec.host(host).hostname_override
    return who._replace(name=who.name.format(node=node), user=who.user.format(node=node))


def is_own_user(user: str, uid: str, groups: str) -> bool:
    """
    Whether a row of known_tokens.csv or basic_auth.csv is of a user of ours, under any policy and
    for any node, also one that is gone.

    + user, uid: the row's second and third value
    + groups: the others, with commas between

    ```
    >>> is_own_user("system:node:n1", "kubelet-n1", "system:nodes")
    True
    >>> is_own_user("alice", "alice-uid", "developers")
    False
    ```
    """

    def matches(who: User) -> bool:
        before, node, after = who.name.partition("{node}")
        name = uid[len(before) : len(uid) - len(after)] if node else ""
        own = who.name.format(node=name), who.user.format(node=name), ",".join(who.groups)
        return own == (uid, user, groups)

    everybody = [ADMIN, _BOUND, *(who for one in _USERS.values() for who in one.values())]
    return any(matches(who) for who in everybody)
