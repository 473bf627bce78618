"""The settings of one host."""

from __future__ import annotations

import re

from pydantic import Field

from pyinfra_kube.cluster.spec.values import Address, Labels, Network, NodeName, Settings

_HOST_NAME = r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?"
CONTROL_PLANE_ROLE = "node-role.kubernetes.io/control-plane"
"""The label, and the key of the taint, of the nodes of the control plane."""

# A kubelet from 1.16 on does not start with labels of these domains.
_RESERVED = re.compile(r"(^|\.)(kubernetes|k8s)\.io/")


def _own_name(data: dict[str, object]) -> str:
    """the host's name"""
    return str(data.get("name", ""))


class HostSpec(Settings):
    """What the inventory says of one host."""

    name: str
    """The host's name in the inventory."""
    roles: frozenset[str] = frozenset()
    """Of `control_plane`, `node` and `etcd`."""
    control_plane_only: bool = False
    """Whether it is a node for the control plane alone."""
    address: Address | None = None
    """Where the other hosts reach it. By default `ssh_hostname` or the host's name, where that is
    an address, else one that the host has."""
    pod_cidr: Network | None = None
    """The network of its pods. By default the first free one; a node keeps what it has."""
    hostname_override: NodeName = Field(default_factory=_own_name, validate_default=True)
    """Its name as a node."""
    node_labels: Labels = {}
    """Labels of its node. Those in Kubernetes' own domains, which a kubelet may not set, are set
    through the apiserver."""
    flannel_iface: str | None = None
    """The interface that flannel uses, or its address. By default that of the default route."""

    @property
    def known_as(self) -> str | None:
        """
        The name that other hosts find it by, which may be the one of its node alone; ``None`` for
        a name that each host has for itself, and for an address.
        """
        name = self.name if re.fullmatch(_HOST_NAME, self.name) else self.hostname_override
        local = name.lower().split(".")[0] == "localhost"
        return None if local or re.fullmatch(r"[\d.]+", name) else name

    @property
    def reserved_labels(self) -> dict[str, str]:
        """The labels in Kubernetes' own domains, with which no kubelet from 1.16 on starts."""
        return {key: self.node_labels[key] for key in self.node_labels if _RESERVED.search(key)}
