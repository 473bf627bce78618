"""
The lab's hosts as an ordinary inventory over ssh: a cluster of Kubernetes built from source.

Bring the lab up first (``make lab-up``). While it is down this inventory refuses to load, so that
no packet for a host of the lab ever goes elsewhere.
"""

import json
import os
from pathlib import Path

from pyinfra.api.exceptions import InventoryError

_name = os.environ.get("PYINFRA_KUBE_LAB", "lab")
_folder = Path(f"/run/pyinfra-kube-{_name}")
try:
    _lab = json.loads((_folder / "hosts.json").read_text())
except FileNotFoundError:
    raise InventoryError("The lab is down. Bring it up: make lab-up") from None

_data = {
    "ssh_user": "root",
    "ssh_known_hosts_file": _lab["known_hosts"],
    "ssh_strict_host_key_checking": "yes",
    "ssh_allow_agent": False,
    "ssh_look_for_keys": False,
    "cluster_name": _name,
    # They go with the hosts.
    "credentials_dir": str(_folder / "credentials"),
    "cluster_cidr": "10.10.0.0/16",
    "service_cidr": "10.254.0.0/24",
    "control_plane_endpoint": _lab["hosts"][0]["ip"],
}

# A lab of hosts only has none.
if _lab["kubernetes"]:
    _release = Path(_lab["kubernetes"])
    _data["kubernetes_source"] = str(_release)
    _data["kubernetes_version"] = (_release / "version").read_text().strip()
    # It may be another than the release came with.
    _data["etcd_version"] = (_release / "etcd_version").read_text().strip()
    if (_release / "containerd_version").exists():
        # The same folder has containerd, crictl and CNI plugins.
        _data["runtime_source"] = str(_release)
        _data["containerd_version"] = (_release / "containerd_version").read_text().strip()

_hosts = [
    (host["name"], {"ssh_hostname": host["ip"], "ssh_key": host["ssh_key"]})
    for host in _lab["hosts"]
]

control_plane = ([host for host in _hosts if "master" in host[0]], _data)
nodes = ([host for host in _hosts if "master" not in host[0]], _data)
