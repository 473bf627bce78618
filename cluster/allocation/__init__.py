"""Who gets which address: hosts, pods, bridges, services, DNS."""

from pyinfra_kube.cluster.allocation.make import make_plan
from pyinfra_kube.cluster.allocation.own_addresses import SeenAddresses, choose_addresses
from pyinfra_kube.cluster.allocation.plan import AddressPlan, NodeAddresses

__all__ = ["AddressPlan", "NodeAddresses", "SeenAddresses", "choose_addresses", "make_plan"]
