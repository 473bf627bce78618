"""
A running cluster comes from one release to the next, by one line of its inventory: a client of a
service loses no answer meanwhile, a run that is killed is made good, and what Kubernetes forbids is
refused.

One cluster for all: each fixture is a step of its life, made from the one before.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.paths import (
    REPOSITORY,
    Run,
    Site,
    eventually,
    execute,
    load_test_image,
    starts,
    succeeded,
)
from tests.e2e.pods import PORT, SERVE, Kubectl
from tests.lab import Lab
from tests.lab.lab import HOSTS
from tests.lab.release_images import TEST_IMAGE

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CONTROL_PLANE, *NODES = HOSTS
RELEASE, NEXT, SKIPS = "1.36", "1.37", "1.35"

# Two pods of which one is always ready, and which go on for a while when they are told to end: the
# hosts that lead packets to them have heard of it by then.
_POD: dict[str, Any] = {
    "terminationGracePeriodSeconds": 20,
    "containers": [
        {
            "name": "web",
            "image": TEST_IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", SERVE.replace("exit 0", "sleep 8; exit 0")],
            "readinessProbe": {
                "httpGet": {"path": "/", "port": PORT},
                "periodSeconds": 1,
            },
        }
    ],
}
_LABELS = {"app": "asked"}
_OBJECTS: list[dict[str, Any]] = [
    {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "asked"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": _LABELS},
            "template": {"metadata": {"labels": _LABELS}, "spec": _POD},
        },
    },
    {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "asked"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": _LABELS}},
    },
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "asked"},
        "spec": {"selector": _LABELS, "ports": [{"port": 80, "targetPort": PORT}]},
    },
]

# Twenty times a second, in a process of its own that no drain ends.
_ASK = """\
while [ ! -e /run/enough ]; do
  curl --silent --max-time 3 --output /dev/null --write-out '%{http_code}\\n' "$1"
  sleep 0.03
done >/run/answers
"""


@dataclass(frozen=True)
class Upgraded:
    """
    + dry: what the plan of it said
    + killed: what the run had done on nodes when it was killed: kubelet's version by node
    + rest: the plan of what was left
    + run: the run that went on
    + answers: what a client of the service got meanwhile, with how often
    + seconds: for how long it asked
    """

    dry: Run
    killed: dict[str, str]
    rest: Run
    run: Run
    answers: Counter[str]
    seconds: float


# The steps


@pytest.fixture(scope="module")
def served(lab: Lab, site: Site, kubectl: Kubectl) -> str:
    """A cluster of the older release with the service: its URL. Somebody cordoned one node."""
    succeeded(site.run("-y"))
    load_test_image(lab, NODES)
    url = serve(kubectl)
    kubectl(f"cordon {CONTROL_PLANE}")
    return url


def serve(kubectl: Kubectl) -> str:
    """Have the service: its URL. Nodes have the image already."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": _OBJECTS})
    kubectl("apply --filename=-", text.replace(f'"{TEST_IMAGE}"', f'"{kubectl.image}"'))
    kubectl("rollout status deployment/asked --timeout=90s")
    return f"http://{kubectl.get('service asked')['spec']['clusterIP']}/"


@pytest.fixture(scope="module")
def upgraded(served: str, lab: Lab, site: Site, kubectl: Kubectl) -> Upgraded:
    """One line of the inventory changes; the run is killed at a node, and another one goes on."""
    execute(lab, CONTROL_PLANE, "rm -f /run/enough")
    lab.provide(NEXT)
    asks = f"sh -c {shlex.quote(_ASK)} ask {served}"
    client = threading.Thread(target=lambda: lab.exec(CONTROL_PLANE, asks, timeout=None))
    began = time.monotonic()
    client.start()
    try:
        dry = succeeded(site.run("--dry", "--json"))
        kill_when_drained(site, kubectl, NODES[0])
        killed = kubelets(kubectl)
        rest = succeeded(site.run("--dry", "--json"))
        run = succeeded(site.run("-y", "--json", timeout=1200))
    finally:
        execute(lab, CONTROL_PLANE, "touch /run/enough")
        client.join()
    seconds = time.monotonic() - began
    answers = Counter(execute(lab, CONTROL_PLANE, "cat /run/answers"))
    return Upgraded(dry, killed, rest, run, answers, seconds)


def kill_when_drained(site: Site, kubectl: Kubectl, node: str, deploy: str = "scratch") -> None:
    """Kill a run once a node is marked."""
    pyinfra, path = Path(sys.executable).with_name("pyinfra"), REPOSITORY / f"deploys/{deploy}.py"
    words: list[str | Path] = [pyinfra, site.inventory, path, "-y"]
    with (site.folder / "killed.log").open("wb") as log:
        run = subprocess.Popen(
            words,
            cwd=site.folder,
            env=site.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + 900
            while not _marked(kubectl, node):
                assert run.poll() is None, (site.folder / "killed.log").read_text()[-4000:]
                assert time.monotonic() < deadline
                time.sleep(0.5)
        finally:
            run.kill()
            run.wait()


def _marked(kubectl: Kubectl, node: str) -> bool:
    """Whether an upgrade cordoned a node. The API may be away for a moment."""
    try:
        found = kubectl.get(f"node {node}")
    except AssertionError:
        return False
    return "pyinfra-kube/drained-for" in found["metadata"].get("annotations", {})


def kubelets(kubectl: Kubectl) -> dict[str, str]:
    nodes = kubectl.get("nodes")
    return {one["metadata"]["name"]: one["status"]["nodeInfo"]["kubeletVersion"] for one in nodes}


def cordoned(kubectl: Kubectl) -> set[str]:
    nodes = kubectl.get("nodes")
    return {one["metadata"]["name"] for one in nodes if one["spec"].get("unschedulable")}


# The upgrade


def test_the_plan_says_what_is_to_come(upgraded: Upgraded) -> None:
    said = next(text for _, text in upgraded.dry.lines if "→" in text and "drained" in text)
    assert re.fullmatch(
        rf"Kubernetes 1\.36\.\d+ → 1\.37\.\d+: control plane first, then {', '.join(HOSTS)}, "
        "drained one by one",
        said,
    )
    # Somebody keeps pods away from the control plane already.
    drains = {(f"Upgrade | Drain {name}", CONTROL_PLANE) for name in NODES}
    assert drains <= upgraded.dry.planned
    assert upgraded.dry.conditional == set()


def test_a_client_loses_no_answer(upgraded: Upgraded) -> None:
    total = sum(upgraded.answers.values())
    print(f"{total} answers in {upgraded.seconds:.0f} s: {dict(upgraded.answers)}")
    assert set(upgraded.answers) == {"200"}
    assert total > 5 * upgraded.seconds


def test_the_killed_run_came_half_way(upgraded: Upgraded) -> None:
    assert upgraded.killed[CONTROL_PLANE].startswith(f"v{NEXT}.")
    assert upgraded.killed[NODES[1]].startswith(f"v{RELEASE}.")


def test_the_next_run_goes_on(upgraded: Upgraded) -> None:
    assert upgraded.run.changed == upgraded.rest.planned
    assert upgraded.rest.conditional == set()
    assert ("Upgrade | Install kubelet", CONTROL_PLANE) in upgraded.dry.planned
    assert ("Upgrade | Install kubelet", CONTROL_PLANE) not in upgraded.run.changed
    back = {(f"Upgrade | Let {name} have pods again", CONTROL_PLANE) for name in NODES}
    assert back <= upgraded.run.changed


def test_every_part_is_of_the_next_release(upgraded: Upgraded, kubectl: Kubectl, lab: Lab) -> None:
    version = f"v{lab.release.version}"
    assert kubelets(kubectl) == dict.fromkeys(HOSTS, version)
    assert kubectl("version --output=json").count(f'"gitVersion": "{version}"') == 2
    for pod in kubectl.get("pods --namespace=kube-system --selector=tier=control-plane"):
        (container,) = pod["spec"]["containers"]
        assert "etcd" in container["image"] or container["image"].endswith(version)
    for name in HOSTS:
        assert execute(lab, name, "kube-proxy --version") == [f"Kubernetes {version}"]


def test_who_cordoned_a_node_finds_it_so(upgraded: Upgraded, kubectl: Kubectl) -> None:
    assert cordoned(kubectl) == {CONTROL_PLANE}
    kubectl(f"uncordon {CONTROL_PLANE}")
    assert kubectl.ready_nodes() == set(HOSTS)
    marks = "pyinfra-kube/drained-for"
    assert not [n for n in kubectl.get("nodes") if marks in n["metadata"].get("annotations", {})]


def test_the_run_after_it_changes_and_restarts_nothing(
    upgraded: Upgraded, kubectl: Kubectl, lab: Lab, site: Site
) -> None:
    # The next release has another CoreDNS, whose pods go on for a while when others take over.
    eventually(lambda: not kubectl.ending())
    before = {name: starts(lab, name) for name in HOSTS}
    assert succeeded(site.run("-y", "--json")).changed == set()
    assert {name: starts(lab, name) for name in HOSTS} == before


# What is refused, before anything is changed


def test_it_does_not_go_back(upgraded: Upgraded, lab: Lab, site: Site) -> None:
    before = {name: starts(lab, name) for name in HOSTS}
    lab.provide(RELEASE)
    run = site.run("-y")
    assert run.code
    assert "a control plane never goes back" in run.said
    assert "no host was touched" in run.said
    assert {name: starts(lab, name) for name in HOSTS} == before
    lab.provide(NEXT)


@pytest.fixture(scope="module")
def older(upgraded: object, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A cluster that is two minor releases older."""
    lab.reset()
    lab.provide(SKIPS)
    site = Site(tmp_path_factory.mktemp("older") / "cluster")
    succeeded(site.run("-y"))
    return site


def test_a_pod_that_would_be_lost_is_named(older: Site, lab: Lab) -> None:
    kubectl = Kubectl(lab, CONTROL_PLANE)
    load_test_image(lab, NODES)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "alone"},
        "spec": _POD,
    }
    kubectl("apply --filename=-", json.dumps(pod))
    eventually(lambda: kubectl.get("pod alone")["status"]["phase"] == "Running")
    lab.provide(RELEASE)
    run = older.run("--dry")
    assert run.code
    assert "drain_force = False" in run.said
    assert "default/alone" in run.said


def test_no_minor_release_is_skipped(older: Site, lab: Lab) -> None:
    before = {name: starts(lab, name) for name in HOSTS}
    lab.provide(NEXT)
    run = older.run("-y")
    assert run.code
    assert re.search(r"allowed: 1\.35 or 1\.36, .* one minor release at a time", run.said)
    assert re.search(r'fix: run this with "1\.36\.\d+", then with "1\.37\.\d+"', run.said)
    assert {name: starts(lab, name) for name in HOSTS} == before
