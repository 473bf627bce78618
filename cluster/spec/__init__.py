"""What somebody wants: inventory data, read once into a typed `ClusterSpec`, or refused whole."""

from pyinfra_kube.cluster.spec.cluster import ClusterSpec
from pyinfra_kube.cluster.spec.host import HostSpec

__all__ = ["ClusterSpec", "HostSpec"]
