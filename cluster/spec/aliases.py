"""The words that inventories may use in place of ours: the guide's, and earlier versions'."""

from __future__ import annotations

GROUPS: dict[str, tuple[str, ...]] = {
    "control_plane": ("masters",),
    "nodes": ("minions",),
    "etcd": (),
}
"""Our groups, each with its other names."""

KEYS: dict[str, tuple[str, ...]] = {
    "control_plane_endpoint": ("master_ip",),
    "cluster_cidr": ("cluster_subnet",),
    "service_cidr": ("service_cluster_ip_range",),
    "pod_cidr": ("node_pod_cidr", "node_x_pod_cidr"),
}
"""Our keys that have other names; any key may be spelled in capitals, as the guide does."""

VALUES: dict[str, dict[str, object]] = {"cloud_provider": {"unset": None}}
"""Values that have another name, by our key."""

OTHER_KEYS = {other: key for key, others in KEYS.items() for other in others}
"""Our key for each other name."""


def our_name(key: str) -> str:
    """
    Give our name for a key.

    + key: as the inventory spells it

    ```
    >>> our_name("CLUSTER_SUBNET")
    'cluster_cidr'
    ```
    """
    name = key.lower() if key.isupper() else key
    return OTHER_KEYS.get(name, name)


def our_value(key: str, value: object) -> object:
    """
    Give our value for another name of it.

    + key: our name for the key
    + value: as the inventory has it
    """
    return VALUES.get(key, {}).get(value, value) if isinstance(value, str) else value
