"""What somebody wants: inventory data, read once into a typed `ClusterSpec`, or refused whole."""

from pyinfra_kube.cluster.spec.aliases import our_name
from pyinfra_kube.cluster.spec.base import unknown_endpoint
from pyinfra_kube.cluster.spec.checks import check_endpoint, hosts_with_endpoint
from pyinfra_kube.cluster.spec.cluster import ClusterSpec
from pyinfra_kube.cluster.spec.host import HostSpec
from pyinfra_kube.cluster.spec.inventory import CLUSTER_KEYS, HOST_KEYS, KEYS, says_address
from pyinfra_kube.cluster.spec.values import node_name

__all__ = [
    "CLUSTER_KEYS",
    "HOST_KEYS",
    "KEYS",
    "ClusterSpec",
    "HostSpec",
    "check_endpoint",
    "hosts_with_endpoint",
    "node_name",
    "our_name",
    "says_address",
    "unknown_endpoint",
]
