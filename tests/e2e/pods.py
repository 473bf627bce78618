"""Pods to try a cluster with: a small web server on each node, and a service in front of them."""

from __future__ import annotations

import json
import shlex
from itertools import permutations
from typing import Any

from tests.e2e.paths import eventually, execute, load_test_image, ssh
from tests.lab import Lab
from tests.lab.release_images import TEST_IMAGE

PORT = 8080

# Each logs and serves its own name, and ends when told to: a host that shuts down waits for it.
SERVE = (
    f"mkdir -p /www && hostname | tee /www/index.html; trap 'exit 0' TERM; "
    f"httpd -f -p {PORT} -h /www & wait"
)
_SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": PORT}]},
}


def _web(node: str, image: str) -> dict[str, Any]:
    """One on a node, in words that every release from 1.2 on knows."""
    labels = {"app": "web", "on": node}
    container = {"name": "web", "image": image, "command": ["sh", "-c", SERVE]}
    pod = {
        "terminationGracePeriodSeconds": 0,
        "nodeSelector": {"kubernetes.io/hostname": node},
        "containers": [{**container, "imagePullPolicy": "IfNotPresent"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": f"web-{node}"},
        "spec": {
            "replicas": 1,
            "selector": labels,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


class Kubectl:
    """
    kubectl on a control-plane host, as root.

    + lab: with the hosts
    + host: the control-plane host
    + registry: of the image to test with, where it must be named
    """

    def __init__(self, lab: Lab, host: str, registry: str = "") -> None:
        self.lab = lab
        self.host = host
        self.image = f"{registry}{TEST_IMAGE}"

    def __call__(self, words: str, stdin: str = "") -> str:
        return ssh(self.lab, self.host, f"kubectl {words}", stdin.encode())

    def get(self, what: str) -> Any:
        found = json.loads(self(f"get {what} --output=json"))
        return found.get("items", found)

    def ready_nodes(self) -> set[str]:
        return {node["metadata"]["name"] for node in self.get("nodes") if _is(node, "Ready")}

    def run_web(self, nodes: list[str]) -> dict[str, str]:
        """Have a web server on each of the nodes; return pod → its address."""
        load_test_image(self.lab, nodes)
        items = [*(_web(node, self.image) for node in nodes), _SERVICE]
        self("apply --filename=-", json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        return self.web(len(nodes))

    def web(self, count: int, patience: float = 90) -> dict[str, str]:
        """Wait until so many of the web servers are ready; return pod → its address."""

        def ready() -> dict[str, str]:
            pods = {
                pod["metadata"]["name"]: pod["status"]["podIP"]
                for pod in self.get("pods --selector=app=web")
                if _is(pod, "Ready") and "deletionTimestamp" not in pod["metadata"]
            }
            return pods if len(pods) == count else {}

        return dict(eventually(ready, patience))

    def ending(self) -> list[str]:
        """The pods that are told to end and still run."""
        pods = [pod["metadata"] for pod in self.get("pods --all-namespaces")]
        return [one["name"] for one in pods if "deletionTimestamp" in one]

    def fetch(self, pod: str, url: str) -> str:
        """What a pod gets from an address."""
        return self(f"exec {pod} -- timeout 5 wget -q -O - {url}").strip()

    def see_pods_reach_pods(self, pods: dict[str, str]) -> None:
        """Each of these pods (pod → address) gets an answer from each of the others."""
        for pod, other in permutations(pods, 2):
            assert self.fetch(pod, f"http://{pods[other]}:{PORT}/") == other

    def see_a_service_lead_to_pods(self, pods: dict[str, str]) -> None:
        """Also to the very pod that asks, whose packets turn back on the bridge."""
        url = f"http://{self.get('service web')['spec']['clusterIP']}/"
        # One of them by chance; that one never comes is less likely than one in a thousand.
        loop = f"for i in $(seq 20); do timeout 5 wget -q -O - {url} || exit 1; done"
        for pod in pods:
            answers = self(f"exec {pod} -- sh -c {shlex.quote(loop)}").split()
            assert len(answers) == 20
            assert set(answers) == set(pods)
        for pod in self.get("pods --selector=app=web"):
            (answer,) = execute(self.lab, pod["spec"]["nodeName"], f"curl -s -m 5 {url}")
            assert answer in pods

    def see_pods_leave_as_their_nodes(self) -> None:
        """Who is outside of the cluster sees the address of the pod's node."""
        for pod in self.get("pods --selector=app=web"):
            url = f"http://{self.lab.network.outside_address}/"
            seen = self.fetch(pod["metadata"]["name"], url)
            assert seen == self.lab.hosts[pod["spec"]["nodeName"]].ip


def _is(item: dict[str, Any], condition: str) -> bool:
    return any(
        one["type"] == condition and one["status"] == "True"
        for one in item["status"].get("conditions", [])
    )
