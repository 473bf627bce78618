"""
Show that the lab's cluster works: its nodes, a pod on each, each answering the
other and a service, by address and by name.

    python -m tests.show
"""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.e2e.paths import eventually, load_test_image, ssh
from tests.e2e.pods import PORT, SERVE
from tests.lab import Lab
from tests.lab.machine import LabError
from tests.lab.release_images import TEST_IMAGE

LABELS = {"app": "show"}


def _pod(node: str) -> dict[str, Any]:
    # Bare, and placed by hand: every release knows such pods.
    container = {"name": "web", "image": TEST_IMAGE, "command": ["sh", "-c", SERVE]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"show-{node}", "labels": LABELS},
        "spec": {"nodeName": node, "containers": [container], "terminationGracePeriodSeconds": 0},
    }


SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "show"},
    "spec": {"selector": LABELS, "ports": [{"port": 80, "targetPort": PORT}]},
}


class Cluster:
    """The lab's cluster, through kubectl on its control plane."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.control_plane = next(name for name in lab.hosts if "master" in name)
        self.nodes = [name for name in lab.hosts if name != self.control_plane]

    def kubectl(self, words: str, stdin: str = "") -> str:
        return ssh(self.lab, self.control_plane, f"kubectl {words}", stdin.encode())

    def start(self) -> None:
        """Run a web server on each node, and a service in front of them."""
        load_test_image(self.lab, self.nodes)
        items = [*map(_pod, self.nodes), SERVICE]
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        self.kubectl("apply -f -", listed)

    def addresses(self) -> dict[str, str]:
        """Pod → address, once all are ready."""

        def ready() -> dict[str, str]:
            items = json.loads(self.kubectl("get pods --selector=app=show -o json"))["items"]
            running = [pod for pod in items if pod["status"].get("phase") == "Running"]
            found = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in running}
            return found if len(found) == len(self.nodes) else {}

        return dict(eventually(ready, 120))

    def fetch(self, pod: str, url: str) -> str:
        words = f"exec {pod} -- timeout 5 wget -q -O - {url}"
        return eventually(lambda: self.kubectl(words).strip(), 60)  # type: ignore[no-any-return]


def main() -> int:
    cluster = Cluster(Lab.load())
    cluster.start()
    addresses = cluster.addresses()
    print(cluster.kubectl("get nodes -o wide"))
    print(cluster.kubectl("get pods -o wide"))
    for pod in addresses:
        for other, address in addresses.items():
            if other != pod:
                print(f"{pod} asks {address}: {cluster.fetch(pod, f'http://{address}:{PORT}/')}")
    service = json.loads(cluster.kubectl("get service show -o json"))["spec"]["clusterIP"]
    # By its name too, where the cluster has a DNS.
    services = cluster.kubectl("--namespace=kube-system get services -o name").split()
    names = [service, *(["show"] if "service/kube-dns" in services else [])]
    for pod in addresses:
        for name in names:
            print(f"{pod} asks the service {name}: {cluster.fetch(pod, f'http://{name}/')}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (LabError, AssertionError) as error:
        sys.exit(f"the cluster does not work: {error}")
