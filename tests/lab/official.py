"""A release's own programs, from its site or a mirror of it: `URL/v1.37.2/bin/linux/amd64/NAME`.

They are fetched by the package's own operation, run on this machine, and each is held against the
digest that the site publishes.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.lab.cache import digest, kept
from tests.lab.machine import LabError, run, say
from tests.lab.places import HERE

PROGRAMS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)

_DEPLOY = HERE / "official_deploy.py"


def fetched(site: str, version: str) -> Path:
    """The folder of a release's programs; fetched now if the cache has none of them.

    + site: such as `https://dl.k8s.io`
    + version: without a leading "v"
    """
    kind = f"official-{version.rpartition('.')[0]}"
    return kept(kind, digest(site, version), lambda folder: _fetch(folder, site, version))


def _fetch(folder: Path, site: str, version: str) -> None:
    say(f"fetching Kubernetes {version} from {site}")
    source = f"{site.rstrip('/')}/v{version}/bin/linux/amd64"
    words = {"folder": folder, "source": source, "programs": ",".join(PROGRAMS)}
    data = [word for name, value in words.items() for word in ("--data", f"{name}={value}")]
    pyinfra = Path(sys.executable).with_name("pyinfra")
    try:
        run(pyinfra, "-y", *data, "@local", _DEPLOY)
    except LabError as error:
        raise LabError(f"Kubernetes {version} cannot be had from {site}.\n{error}") from error
