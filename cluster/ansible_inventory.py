"""Where inventories that were written for earlier versions look for ``read_inventory``."""

from pyinfra_kube.ansible_2016.inventory import AnsibleInventory, read_inventory

__all__ = ["AnsibleInventory", "read_inventory"]
