"""
The tables of flags and fields against a release's own programs: what each names in `--help`, and
what it makes of a configuration file.

They run on this machine, with a network of their own and nothing to talk to, and end at once.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pyinfra_kube.cluster.components import COMPONENTS
from pyinfra_kube.cluster.components.rows import Field
from pyinfra_kube.cluster.data import table
from pyinfra_kube.cluster.fields import KINDS, has_file
from pyinfra_kube.cluster.releases import Release, covers

_FLAG = re.compile(r"^ *(?:-\w, )?--([A-Za-z0-9._-]+)", re.M)
_UNKNOWN_FLAG = re.compile(r"unknown flag|unknown shorthand|provided but not defined")
_UNKNOWN_FIELD = re.compile(r'unknown field \\?"([^"\\]+)')
_DECODING = re.compile(r"cannot unmarshal[^\n]*|no kind [^\n]*is registered[^\n]*")

_OTHER_SAMPLES = {"registerWithTaints[].timeAdded": "2026-01-02T03:04:05Z"}

# A field that nobody has, by whose name in the answer it is seen that the rest was read.
_CONTROL = "notAField"
_SAMPLES: Mapping[str, object] = {
    "bool": True,
    "duration": "30s",
    "int": 10,
    "list": [],
    "map": {},
    "number": 1,
    # Some of them are quantities.
    "text": "10Mi",
}


@dataclass(frozen=True)
class Findings:
    """
    + flags, fields: how many of the tables were tried
    + problems: where a program says otherwise
    """

    flags: int
    fields: int
    problems: list[str]


def compare(folder: Path, version: str) -> Findings:
    """
    Hold the tables against a release's programs.

    + folder: with the programs
    + version: of the release
    """
    release = Release.of(version)
    problems: list[str] = []
    flags = fields = 0
    for component, rows in table("flags").items():
        if (folder / component).exists():
            etcd = (folder / "etcd_version").read_text().strip()
            line = release.line_of(component, etcd)
            flags += len(rows)
            problems += _flags(folder / component, component, line)
    for component in KINDS:
        if has_file(component, release):
            wanted = _known_fields(component, release)
            fields += len(wanted)
            problems += _fields(folder / component, component, release, wanted)
    return Findings(flags, fields, problems)


def _flags(program: Path, component: str, line: tuple[int, int]) -> Iterator[str]:
    """Flags that the table says are there and are not, or the other way round."""
    # Some are named with lines between words too.
    shown = {name.replace("_", "-") for name in _FLAG.findall(_said(program, "--help"))}
    listed = {name: covers(row["in"], line) for name, row in table("flags")[component].items()}
    # What it says of itself is not always so: some flags are not shown, and some only shown.
    unsure = [flag for flag in listed if listed[flag] != (flag in shown)]
    with ThreadPoolExecutor(max_workers=2) as pool:
        taken = list(pool.map(lambda flag: _takes(program, flag), unsure))
    for flag, there in zip(unsure, taken, strict=True):
        if there != listed[flag]:
            says = "flags.json has it" if listed[flag] else "flags.json has it not"
            yield f"{component} --{flag}: {says}, and it {'takes' if there else 'refuses'} it"
    others = table("other_flags")
    if component in others["flags"] and covers(str(others["whole"]), line):
        named = {
            flag
            for spans, names in others["flags"][component].items()
            if covers(spans, line)
            for flag in names.split()
        }
        more = shown - named - listed.keys() - {"help", "version"}
        yield from (f"{component} --{flag}: in no table" for flag in sorted(more))


def _takes(program: Path, flag: str) -> bool:
    return not _UNKNOWN_FLAG.search(_said(program, f"--{flag}=", "--version"))


def _known_fields(component: str, release: Release) -> dict[str, object]:
    """Each field that the table has for a release, with a value of its kind."""
    return {
        path: _OTHER_SAMPLES.get(path, _SAMPLES[row["is"]])
        for path, row in table("fields")[component].items()
        if covers(row["in"], release.minor)
    }


def _fields(
    program: Path, component: str, release: Release, wanted: Mapping[str, object]
) -> Iterator[str]:
    """Fields of the table that the program does not know."""
    content: dict[str, Any] = {_CONTROL: True}
    for row in COMPONENTS[component].rows:
        if isinstance(row, Field) and covers(row.releases, release.minor):
            content |= {row.name: row.value} if row.name in ("apiVersion", "kind") else {}
    for path, value in wanted.items():
        _put(content, path.split("."), value)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.yaml"
        file.write_text(yaml.safe_dump(content))
        kubelet = [f"--root-dir={folder}/root", f"--cert-dir={folder}/pki"]
        said = _said(program, f"--config={file}", *(kubelet if component == "kubelet" else []))
    unknown = {name.rpartition(".")[2] for name in _UNKNOWN_FIELD.findall(said)}
    if wrong := _DECODING.search(said):
        yield f"{component} does not read its file: {wrong[0]}"
    elif _CONTROL not in unknown:
        yield f"{component} does not say what it makes of its file: {said[-300:]}"
    for name in sorted(unknown - {_CONTROL}):
        yield f"{component}: field {name} is in fields.json, and it does not know it"


def _put(content: dict[str, Any], path: list[str], value: object) -> None:
    """Set a field below others; `[]` behind a name is for each item of a list."""
    name, *rest = path
    if not rest:
        content.setdefault(name, value)
        return
    if name.endswith("[]"):
        items = content.get(name[:-2]) or [{}]
        content[name[:-2]] = items
        below = items[0]
    else:
        below = content.setdefault(name, {})
    _put(below, rest, value)


def _said(program: Path, *words: str) -> str:
    """All that a program prints, with a network and a view of processes of its own."""
    alone = ("unshare", "--net", "--pid", "--mount", "--fork", "--kill-child")
    done = subprocess.run(
        [*alone, "timeout", "-k", "1", "20", str(program), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    return done.stdout + done.stderr
