"""
Every file of every host of a few clusters, as it will stand there: `make rendered`.

Paths are prepared on blank hosts, without any. What is random or depends on the day stands for
itself in words: a private key is one line, a certificate what it says, a token is named after its
user.
"""

from __future__ import annotations

import base64
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from runpy import run_path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from pyinfra.context import ctx_host

from pyinfra_kube.cluster import pki
from pyinfra_kube.cluster.credential_set import ENCRYPTION, TOKENS
from pyinfra_kube.cluster.runtimes import CONTAINERD
from pyinfra_kube.deploys.multinode import multinode
from pyinfra_kube.deploys.run import context
from pyinfra_kube.deploys.run.artifacts import CNI_PLUGINS
from pyinfra_kube.deploys.scratch import scratch
from pyinfra_kube.engine.snapshot import discovering
from pyinfra_kube.facts.files import FileState
from pyinfra_kube.facts.hosts import HostsFile
from pyinfra_kube.facts.packages import PackageStates
from pyinfra_kube.operations import objects
from pyinfra_kube.operations.environment import EnvironmentFile, plan_environment_files
from pyinfra_kube.operations.files import File, plan_files
from tests.unit.blank import Path_, prepared

REPOSITORY = Path(__file__).parents[1]
FOLDER = REPOSITORY / "examples/rendered"

DEBIAN = PackageStates("apt", "debian", "12")
# The last Fedora that brings flannel.
FEDORA = PackageStates("dnf", "fedora", "34")

_CGROUPS = "/sys/fs/cgroup/cgroup.controllers"

# What a new host has, where it decides a file.
FACTS = {
    "files.Files": {_CGROUPS: FileState("file", "444", "root", "root", 0, 0)},
    "files.FileContents": {"/proc/sys/kernel/osrelease": b"6.1.0-30-amd64\n"},
    "hosts.Hosts": HostsFile("127.0.0.1 localhost\n"),
    "sysctl.Modules": {"br_netfilter": "available"},
    "sysctl.Sysctls": {"net.ipv4.ip_forward": "0", "net.bridge.bridge-nf-call-iptables": None},
}
# The sites publish those of their programs; here nothing is asked.
DIGESTS = dict.fromkeys(("kubelet", "kube-proxy", "kubectl"), "0" * 64)
RUNTIME_DIGESTS = dict.fromkeys(
    (*CONTAINERD.programs, *CONTAINERD.helpers, "crictl", *CNI_PLUGINS), "0" * 64
)


@dataclass(frozen=True)
class Example:
    """
    A cluster that is rendered.

    + path: what builds it
    + inventory: below inventories/
    + packages: the hosts' distribution
    + data: over the inventory's own
    """

    path: Path_
    inventory: str
    packages: PackageStates
    data: Mapping[str, Any] = field(default_factory=dict)


EXAMPLES = {
    "scratch-1.37.2": Example(
        scratch,
        "scratch.py",
        DEBIAN,
        {"runtime_source": "https://mirror.example/containerd", "containerd_version": "2.4.2"},
    ),
    "scratch-1.20.2": Example(scratch, "scratch_docker.py", DEBIAN),
    "scratch-1.3.10": Example(
        scratch,
        "scratch_docker.py",
        DEBIAN,
        {
            "kubernetes_version": "1.3.10",
            "apiserver_approach": "http",
            "bridge_approach": "kubelet",
            "hyperkube": True,
        },
    ),
    "fedora-multinode": Example(multinode, "multinode.py", FEDORA),
}


def main() -> None:
    texts = render_all()
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name, text in texts.items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def stored() -> dict[str, str]:
    """What stands in the repository, by path below the folder."""

    paths = sorted(path for path in FOLDER.rglob("*") if path.is_file())
    return {str(path.relative_to(FOLDER)): path.read_text() for path in paths}


def render_all() -> dict[str, str]:
    """Every example's files, by path below the folder."""

    return {
        "README.md": _readme(),
        **{
            f"{name}/{path}": text
            for name, example in EXAMPLES.items()
            for path, text in render(example).items()
        },
    }


def render(example: Example) -> dict[str, str]:
    """An example's files, by path below its own folder."""

    inventory = run_path(str(REPOSITORY / "inventories" / example.inventory))
    hosts = {group: dict(inventory[group]) for group in ("control_plane", "nodes")}
    groups = {group: list(members) for group, members in hosts.items()}
    own = {name: data for members in hosts.values() for name, data in members.items()}
    with (
        TemporaryDirectory() as folder,
        _quick_keys(),
        _noted() as noted,
        _noted_objects() as manifests,
    ):
        data = {
            "control_plane_endpoint": None,
            **inventory["all"][1],
            "kubernetes_sha256": DIGESTS,
            **({"runtime_sha256": RUNTIME_DIGESTS} if "runtime_source" in example.data else {}),
            **example.data,
            "credentials_dir": f"{folder}/none",
        }
        state, shown = prepared(example.path, groups, data, example.packages, own, FACTS)
    cluster = context._clusters[state]
    assert isinstance(cluster, context.Cluster)
    kept = [*cluster.credentials.changes, *cluster.new_addresses]
    public = _Public(cluster.credentials._files, cluster.credentials.secrets())
    texts = {"control-machine.txt": public.words(_lines("Kept on the control machine", kept))}
    texts |= {f"api/{name}.yaml": text for name, text in manifests.items()}
    for host, files in noted.items():
        for file in files.values():
            if file.kind == "file":
                texts[f"{host}{file.path}"] = public.text(file)
        texts[f"{host}/other.txt"] = _other(files, shown[host].splitlines(), kept)
    return texts


# What operations want of files


@contextmanager
def _noted() -> Iterator[dict[str, dict[str, File]]]:
    """Note what is asked of files, by host and path."""

    found: dict[str, dict[str, File]] = {}

    def noting(plan: Callable[[Sequence[Any]], Any]) -> Callable[[Sequence[Any]], Any]:
        def note(files: Sequence[File | EnvironmentFile]) -> Any:
            if not discovering():
                host = found.setdefault(ctx_host.get().name, {})
                host.update({file.path: _file(file) for file in files})
            return plan(files)

        return note

    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            for plan in (plan_files, plan_environment_files):
                if name.startswith("pyinfra_kube.") and getattr(module, plan.__name__, 0) is plan:
                    patch.setattr(module, plan.__name__, noting(plan))
        yield found


@contextmanager
def _noted_objects() -> Iterator[dict[str, str]]:
    """Note the manifests that are applied, by name."""

    found: dict[str, str] = {}
    read_documents = objects.documents

    def note(manifest: objects.Manifest) -> Any:
        found[manifest.name] = manifest.text
        return read_documents(manifest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects, "documents", note)
        yield found


def _file(wanted: File | EnvironmentFile) -> File:
    if isinstance(wanted, File):
        return wanted
    return File(wanted.path, wanted.text, wanted.mode, wanted.user, wanted.group)


@cache
def _key() -> rsa.RSAPrivateKey:
    """One key for all: to make them is most of the time that rendering would take."""

    return rsa.generate_private_key(public_exponent=65537, key_size=1024)


@contextmanager
def _quick_keys() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pki, "_new_key", _key)
        yield


# What stands for secrets, and for what differs from run to run


class _Public:
    """
    Files with stand-ins for credentials.

    + credentials: the cluster's, by the names that the store gives them
    + secrets: what must stand nowhere
    """

    def __init__(self, credentials: Mapping[str, str], secrets: Sequence[str]) -> None:
        words = _words(credentials.get(TOKENS, ""))
        self.stand_ins = {word: f"TEST-token-of-{user}" for user, word in words.items()}
        for name, secret in _words(credentials.get(ENCRYPTION, "")).items():
            called = name.rpartition("-")[0]
            self.stand_ins |= {secret: f"TEST-key-{called}", name: f"{called}-TEST"}
        for name, text in credentials.items():
            encoded = base64.b64encode(text.encode()).decode()
            self.stand_ins[encoded] = f"TEST-{name}-in-base64"
        self.secrets = secrets

    def text(self, file: File) -> str:
        """A file's text as the repository may have it."""

        return self.words(_said(file, file.data.decode()))

    def words(self, text: str) -> str:
        """A text as the repository may have it."""

        for word, stand_in in self.stand_ins.items():
            text = text.replace(word, stand_in)
        assert not any(secret in text for secret in self.secrets), text.partition("\n")[0]
        return text


def _words(text: str) -> dict[str, str]:
    return dict(re.findall(r'"(\S+)": "(\S+)"', text))


def _said(file: File, text: str) -> str:
    """A file in words where it is a key or a certificate; any other as it is."""

    name = Path(file.path).name
    if " PRIVATE KEY-----" in text:
        return f"(secret: the private key of {Path(name).stem}, mode {file.mode})\n"
    if " PUBLIC KEY-----" in text:
        return f"(the public key of {Path(name).stem})\n"
    if " CERTIFICATE-----" in text:
        return _certificate(text)
    return text


def _certificate(text: str) -> str:
    said = pki.read(text)
    days = round((said.not_after - datetime.now(timezone.utc)) / timedelta(days=1))
    names = f", for {', '.join(sorted(said.names))}" if said.names else ""
    subject = ", ".join([said.common_name, *said.organizations])
    return f"(a certificate of {subject}, issued by {said.issuer} for {days} days{names})\n"


# What is no file's text


def _other(files: Mapping[str, File], shown: Sequence[str], kept: Sequence[str]) -> str:
    """Modes and owners, links, and what is no file at all, as ``--diff`` words it."""

    kinds: dict[str, list[str]] = {"Files": [], "Folders": [], "Links": []}
    for path, file in sorted(files.items()):
        if file.kind == "link":
            kinds["Links"].append(f"{path} → {file.target}")
        elif file.kind in ("file", "directory"):
            line = f"{file.mode} {file.user}:{file.group} {path}"
            kinds["Files" if file.kind == "file" else "Folders"].append(line)
    kinds["What is no file"] = [line for line in shown if _is_other(line, files, kept)]
    return "\n".join(_lines(title, lines) for title, lines in kinds.items() if lines)


def _is_other(line: str, files: Mapping[str, File], kept: Sequence[str]) -> bool:
    """Whether a line is neither of a file nor of the control machine."""

    return not (line.startswith("  ") or line.partition(": ")[0] in files or line in kept)


def _lines(title: str, lines: Sequence[str]) -> str:
    return "".join([f"{title}\n", *(f"  {line}\n" for line in lines)])


def _readme() -> str:
    rows = "".join(f"| {name} | {_paths(example)} |\n" for name, example in EXAMPLES.items())
    return _README.format(rows=rows)


def _paths(example: Example) -> str:
    settings = ", ".join(f"`{key} = {value!r}`" for key, value in example.data.items())
    name = f"`deploys/{example.path.__name__}.py` with `inventories/{example.inventory}`"
    return f"{name}{' and ' if settings else ''}{settings}"


_README = """\
# Files as they stand

Every file that a path sets on every host, as it will stand there. `make rendered` writes this
folder. A unit test holds it equal to what the code makes.

| folder | made by |
|---|---|
{rows}
`CLUSTER/HOST/` is the root of a host. `CLUSTER/HOST/other.txt` has the modes, owners and links,
and what is no file: packages, kernel settings, bridges, routes, rules, images, units.
`CLUSTER/api/` has the objects that are applied to the cluster's API.
`CLUSTER/control-machine.txt` says what is kept where pyinfra runs.

No credential here is real. A private key is one line that says whose it is. A certificate is one
line that says what it says. A token is `TEST-token-of-` and its user, and
the key of Secrets is `TEST-key-` and its name. Digests of programs are
zeros, and mirror.example is no real host. The hosts were new: Linux 6.1 with cgroup v2, one line in
/etc/hosts, and no docker.
"""


if __name__ == "__main__":
    main()
