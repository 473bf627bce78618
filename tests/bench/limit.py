"""
The lower limit of a first run: the same cluster by a few lines of shell, which find all files in
one transfer and check nothing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pyinfra_kube.engine.record import PLACE
from pyinfra_kube.facts.objects import FIELD_MANAGER
from tests.bench.timed import Door
from tests.e2e.paths import ssh
from tests.lab import Lab
from tests.lab.lab import HOSTS

CONTROL_PLANE = HOSTS[0]
_SCRIPT = Path(__file__).with_name("limit.sh")
_KINDS = "clusterroles,clusterrolebindings,serviceaccounts,configmaps,services,deployments"


def learn(lab: Lab, there: Mapping[str, Door], store: Path, folder: Path) -> Path:
    """
    Keep what a cluster that our own run has built is made of: a folder for each host.

    + lab: with the cluster
    + there: doors of its hosts
    + store: its credentials
    + folder: a new one
    """

    for name in lab.hosts:
        root = folder / name
        own = root / "root/limit"
        own.mkdir(parents=True)
        paths = "sed 's/^[^ ]*  .//' wrote | while read -r it; do [ ! -e /$it ] || echo $it; done"
        archive = subprocess.Popen(
            [*_ssh(there[name]), f"cd {PLACE} && ({paths}) | tar -c -C / -T -"],
            stdout=subprocess.PIPE,
        )
        subprocess.run(["tar", "-x", "-C", root], stdin=archive.stdout, check=True)
        assert archive.wait() == 0
        units = sorted(path.name for path in (root / "etc/systemd/system").glob("*.service"))
        (own / "units").write_text(" ".join(units))
        installed = ssh(lab, name, "dpkg-query --show --showformat='${Package}\\n' | sort")
        (own / "packages").write_text(installed)
        shutil.copy(_SCRIPT, own)
        for image in ssh(lab, name, "ctr --namespace=k8s.io images list --quiet").split():
            assert lab.kubernetes
            archived = lab.kubernetes / f"{image.rpartition('/')[2].partition(':')[0]}.tar"
            if archived.exists():
                shutil.copy(archived, own)
    own = folder / CONTROL_PLANE / "root/limit"
    for end in ("crt", "key"):
        shutil.copy(store / f"clients/emergency.{end}", own)
    (own / "objects.json").write_text(json.dumps(_objects(lab)))
    return folder


def run(folder: Path, doors: Mapping[str, Door], api: str) -> float:
    """
    Build the cluster; return how many seconds that took.

    + folder: that ``learn`` has filled
    + doors: of blank hosts
    + api: the address of the control-plane host
    """

    def one(name: str) -> None:
        server = api if name == CONTROL_PLANE else "-"
        sent = subprocess.Popen(["tar", "-c", "-C", folder / name, "."], stdout=subprocess.PIPE)
        script = f"tar -x -C / && sh /root/limit/{_SCRIPT.name} {server} {len(doors)}"
        subprocess.run(
            [*_ssh(doors[name]), script], stdin=sent.stdout, check=True, stdout=subprocess.DEVNULL
        )
        assert sent.wait() == 0

    began = time.monotonic()
    with ThreadPoolExecutor() as pool:
        list(pool.map(one, doors))
    return time.monotonic() - began


def _ssh(door: Door) -> list[str]:
    options = [f"UserKnownHostsFile={door.known_hosts}", "LogLevel=ERROR", "BatchMode=yes"]
    return [
        *("ssh", "-i", door.key, "-p", str(door.port)),
        *(word for option in options for word in ("-o", option)),
        f"root@{door.address}",
    ]


def _objects(lab: Lab) -> dict[str, Any]:
    """The API's objects that our run made, as they can be made again."""

    text = ssh(
        lab,
        CONTROL_PLANE,
        f"kubectl get {_KINDS} --all-namespaces --show-managed-fields --output=json",
    )
    found = json.loads(text)
    ours = [
        item
        for item in found["items"]
        if any(it["manager"] == FIELD_MANAGER for it in item["metadata"].get("managedFields", ()))
        # One that has a name alone has no managed fields.
        or (item["kind"], item["metadata"]["name"]) == ("ServiceAccount", "coredns")
    ]
    for item in ours:
        item.pop("status", None)
        for key in ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"):
            item["metadata"].pop(key, None)
    return {**found, "items": ours}
