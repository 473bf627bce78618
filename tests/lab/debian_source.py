"""Source packages of one fixed Debian release, and Kubernetes 1.20 and its suite built from one."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.lab import roots
from tests.lab.cache import digest, kept
from tests.lab.machine import require_tools, run, run_logged, say
from tests.lab.places import HERE, LOGS

VERSION = "1.20.2"

_SCRIPT = HERE / "build/kubernetes.sh"
_SUITE_SCRIPT = HERE / "build/conformance.sh"
# Of both.
_PARTS = [HERE / "build/debian-go.sh", HERE / "build/reflect2.sed"]
_TOOLS = {
    "/usr/include/stdio.h": "libc6-dev",
    "dpkg-source": "dpkg-dev",
    "gcc": "gcc",
    "go": "golang-go",
    "jq": "jq",
    "make": "make",
    "rsync": "rsync",
}

# Whatever the machine itself takes its packages from.
_SOURCES = "deb-src [signed-by={key}] {mirror} bookworm main\n"
_KEY = "/usr/share/keyrings/debian-archive-keyring.gpg"
_APT = """\
Dir::Etc::SourceList "{folder}/sources.list";
Dir::Etc::SourceParts "-";
Dir::State::Lists "{folder}/lists";
Dir::Cache "{folder}/cache";
APT::Sandbox::User "root";
"""


def built() -> Path:
    """The folder of its programs; built now if the cache has none of this recipe."""
    recipe = digest(_SCRIPT, *_PARTS)
    return kept("kubernetes-built", recipe, lambda it: _build(it, "Kubernetes", _SCRIPT))


def suite() -> Path:
    """The folder of its conformance suite, with what its images are made from; likewise."""
    what = "the conformance suite of Kubernetes"
    recipe = digest(_SUITE_SCRIPT, *_PARTS)
    return kept("conformance-1.20", recipe, lambda it: _build(it, what, _SUITE_SCRIPT))


def _build(folder: Path, what: str, script: Path) -> None:
    """The network is used to fetch the source only."""
    require_tools(_TOOLS)
    work = folder / "work"
    fetch("kubernetes", work)
    (description,) = work.glob(f"kubernetes_*{VERSION}-*.dsc")
    run("dpkg-source", "--extract", description, work / "source")
    log = LOGS / f"{script.stem}.log"
    say(f"building {what} {VERSION}, once: some 8 minutes on 2 cores (log: {log})")
    run_logged("nice", script, work / "source", f"v{VERSION}", folder, log=log)
    shutil.rmtree(work)


def fetch(package: str, work: Path) -> None:
    """
    Fetch a source package, whose digests Debian vouches for.

    + package: its name
    + work: the folder for its files, made here
    """
    for place in ("lists/partial", "cache/archives/partial"):
        (work / "apt" / place).mkdir(parents=True)
    (work / "apt/sources.list").write_text(_SOURCES.format(key=_KEY, mirror=roots.MIRROR))
    (work / "apt/apt.conf").write_text(_APT.format(folder=work / "apt"))
    environment = {"APT_CONFIG": str(work / "apt/apt.conf"), "LC_ALL": "C.UTF-8"}
    say(f"fetching the source package of {package}")
    run("apt-get", "update", environment=environment)
    run("apt-get", "source", "--download-only", package, folder=work, environment=environment)
