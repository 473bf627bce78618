"""
An Ansible inventory of 2016 as the inventory of the multi-node path.

    ANSIBLE_INVENTORY=~/contrib/ansible/inventory/hosts \
        pyinfra inventories/ansible.py deploys/multinode.py --dry

Without the variable it reads the example in ansible_2016/. The group_vars and host_vars beside
the inventory or the playbook are read too. What they cannot say (kubernetes_version, if packages
decided it, or control_plane_endpoint, if the hosts have names only) goes into group_data/all.py
beside this file, under our names.
"""

import os
from pathlib import Path

from pyinfra import logger
from pyinfra.api.exceptions import InventoryError

from pyinfra_kube.ansible_2016.inventory import read_inventory
from pyinfra_kube.cluster.errors import InputError

_example = Path(__file__).resolve().parent / "ansible_2016" / "hosts"
try:
    _inventory = read_inventory(os.environ.get("ANSIBLE_INVENTORY") or _example)
except InputError as _error:
    raise InventoryError(str(_error)) from None

for _warning in _inventory.warnings:
    logger.warning(_warning)

# masters, etcd, nodes, whatever other groups there are, and all.
globals().update(_inventory.as_pyinfra())
