"""
Make one archive with what somebody needs who is to find out what is wrong with a cluster: what
verification finds, logs, configurations, addresses, rules, objects. Secrets are taken out.

    pyinfra INVENTORY deploys/support.py
    pyinfra INVENTORY deploys/support.py --data support_file=/tmp/cluster.tar.gz
"""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile

from pyinfra.api import State
from pyinfra.api.exceptions import DeployError, FactError
from pyinfra.context import ctx_state

from pyinfra_kube.checks.judge import Verdict
from pyinfra_kube.checks.page import page
from pyinfra_kube.checks.report import document, text
from pyinfra_kube.cluster.errors import InputError, Problem
from pyinfra_kube.cluster.redaction import document as json_in
from pyinfra_kube.cluster.redaction import redact
from pyinfra_kube.deploys.run.context import Cluster
from pyinfra_kube.deploys.run.packet_way import text_of_way
from pyinfra_kube.deploys.run.readings import judge_cluster, on_each_host
from pyinfra_kube.deploys.run.support import API, questions
from pyinfra_kube.deploys.run.topology import text_of
from pyinfra_kube.deploys.run.topology_facts import look
from pyinfra_kube.deploys.run.topology_picture import picture
from pyinfra_kube.engine.phase import phase
from pyinfra_kube.engine.snapshot import ask_now
from pyinfra_kube.facts.answers import Answers
from pyinfra_kube.operations import control_machine

# Bytes of one file, and of the archive; a log's end tells more than its beginning.
_FILE, _ARCHIVE = 400_000, 10_000_000
# The picture of the topology for a phone.
NARROW = "topology-narrow.svg"
# Seconds that one question may take.
_PATIENCE = 20


@phase("Support")
def support() -> None:
    """
    Ask all hosts, and write the archive, once.

    Raises ``InputError`` where it cannot be written.
    """

    state = ctx_state.get()
    cluster, verdict, new = judge_cluster(state)
    path = _path(cluster)
    content = _made(state, cluster, verdict, path) if new else b""
    control_machine.save(
        name="Write the archive on the control machine",
        pending=lambda: [f"{path}, {len(content) // 1024} KiB"] if content else [],
        write=lambda: _write(path, content),
    )


def _made(state: State, cluster: Cluster, verdict: Verdict, path: Path) -> bytes:
    """The archive."""

    told = on_each_host(state, cluster, lambda: _ask(cluster))
    files = {"verify.txt": text(verdict) + "\n", "verify.json": document(verdict)}
    files |= _topology(cluster)
    for host in (one.name for one in cluster.spec.hosts if one.name in told):
        files |= {f"{host}/{name}": content for name, content in told[host].items()}
    safe = {name: _end(redact(content)) for name, content in files.items()}
    title = f"{cluster.spec.cluster_name}, {time.strftime('%Y-%m-%d %H:%M')}"
    sizes = {name: len(content) for name, content in safe.items()}
    index = page(title, verdict, sizes, *(safe.get(one, "") for one in ("topology.svg", NARROW)))
    return packed({"index.html": redact(index), **safe}, path.name.partition(".")[0])


def _topology(cluster: Cluster) -> dict[str, str]:
    """Who has which address, as text and as a picture."""

    try:
        topology, ways = look(cluster)
    except (DeployError, FactError, InputError) as error:
        return {"topology.txt": f"{error}\n"}
    lines = [line for way in ways for line in ["", *text_of_way(way)]]
    told = "\n".join([*text_of(topology), *lines])
    return {
        "topology.txt": f"{told}\n",
        "topology.svg": picture(topology, ways),
        NARROW: picture(topology, columns=1),
    }


def _path(cluster: Cluster) -> Path:
    named = cluster.spec.support_file
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = Path(named or f"{cluster.spec.cluster_name}-support-{stamp}.tar.gz").expanduser()
    if path.is_dir() or not path.parent.is_dir():
        allowed = "a file in a folder that is there"
        raise InputError([Problem("support_file", str(path), None, allowed)])
    return path


def _ask(cluster: Cluster) -> dict[str, str]:
    """What the current host tells, by the names of files."""

    asked = questions(cluster)
    try:
        told = ask_now(Answers, commands=asked, patience=_PATIENCE)
    except FactError as error:
        return {"unanswered.txt": f"{error}\n"}
    ends = {None: f"\n(no end in {_PATIENCE} s)\n", 0: "\n"}
    texts = {name: one.text for name, one in told.items()}
    for name in API.keys() & texts.keys():
        if told[name].good and not json_in(texts[name]):
            # Without its beginning it cannot be taken apart, and secrets would stay in it.
            texts[name] = "(left out: too long)"
    return {
        name: f"# {asked[name].splitlines()[-1][:200]}\n{text}"
        f"{ends.get(told[name].code, chr(10) + f'(exit status {told[name].code})' + chr(10))}"
        for name, text in texts.items()
    }


def _end(text: str) -> str:
    """The last of a host's answer, below the question."""

    title, _, rest = text.partition("\n")
    return f"{title}\n{rest[-_FILE:]}" if text.startswith("# ") else text


def packed(files: Mapping[str, str], folder: str, most: int = _ARCHIVE) -> bytes:
    """
    Return an archive of files, their beginnings left out where it would be too large.

    + files: path → content
    + folder: that they are in
    + most: bytes that it may have
    """

    kept = _FILE
    while True:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            for name, content in files.items():
                data = content.encode()
                data = data if name == "index.html" else data[-kept:]
                entry = tarfile.TarInfo(f"{folder}/{name}")
                entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
                archive.addfile(entry, io.BytesIO(data))
        if len(out.getvalue()) <= most or kept < 1000:
            return out.getvalue()
        kept //= 2


def _write(path: Path, content: bytes) -> None:
    """The file gets its name when it is whole; nobody else reads it."""

    # It is made with mode 0600.
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


if "__name__" not in globals():
    support()
