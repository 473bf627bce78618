"""
With which keys the Secrets of a cluster are encrypted: what an apiserver is told, and what is in
etcd.

Of a key only its name is read, of a Secret only what stands before its content.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pyinfra.api import FactBase
from typing_extensions import override

from pyinfra_kube.cluster.encryption import IDENTITY
from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import understanding
from pyinfra_kube.facts.etcd import GATEWAYS, curl, to_base64

__all__ = ["EncryptionFile", "FileProviders", "StoredSecrets", "StoredStates", "stored_command"]


@dataclass(frozen=True)
class FileProviders(Printable):
    """
    What :class:`EncryptionFile` returns.

    + sha256: of the file; empty without one
    + providers: names of keys in their order, and ``identity``
    """

    sha256: str = ""
    providers: tuple[str, ...] = ()


class EncryptionFile(FactBase[FileProviders]):
    """
    Returns the providers that an EncryptionConfiguration names, and the digest of the file.

    + path: on the host

    .. code:: python

        FileProviders(sha256="9f86d0…", providers=("2026-bae85bd1", "identity"))
    """

    default = FileProviders

    @override
    def command(self, path: str) -> str:
        name = shlex.quote(path)
        names = r"s/^ *- name: *//p; s/^ *- identity *:.*/identity/p"
        return (
            f"if [ -f {name} ]; then sha256sum <{name} | cut -c 1-64; sed -n '{names}' {name}; fi"
        )

    @override
    def process(self, output: Iterable[str]) -> FileProviders:
        first, *names = [*output] or [""]
        return FileProviders(first, tuple(name.strip("\"' ") for name in names))


Status = Literal["ok", "down", "curl missing"]


@dataclass(frozen=True)
class StoredStates(Printable):
    """
    What :class:`StoredSecrets` returns.

    + status: ``ok``, or why etcd does not tell
    + said: what curl said where it is not ok
    + secrets: how many Secrets need which provider: the name of a key, ``identity``, or, for what
      others encrypted, all that stands before the content
    """

    status: Status = "down"
    said: str = ""
    secrets: dict[str, int] = field(default_factory=dict)


_OURS = re.compile(r"k8s:enc:secretbox:v1:(.+):")

# 96 characters of base64 are the first 72 bytes of a value, of which only what stands before the
# content is printed. The JSON of etcd has spaces in some builds.
_FUNCTIONS = r"""
heads() {
  tr -d ' \n' | tr ',{}[]' '\n\n\n\n\n' | cut -c 1-600 | awk -F'"' '
    $2 == "header" { good = 1 }
    $2 == "key" { last = $4 }
    $2 == "more" && /true/ { more = 1 }
    $2 == "value" && $4 ~ /^azhzOmVuYzp/ { print "value " substr($4, 1, 96); next }
    $2 == "value" { print "value" }
    END { print "end", good + 0, more ? last : "" }'
}
pages() {
  from=$2
  while :; do
    range="{\"key\":\"$from\",\"range_end\":\"$3\",\"limit\":500}"
    page=$(ask --data "$range" "$1/kv/range" | heads)
    case $page in *'end 1 '*) ;; *) return 1 ;; esac
    printf '%s\n' "$page" | sed '$d'
    from=${page##*end 1 }
    [ -n "$from" ] || return 0
    from=$({ printf %s "$from" | base64 -d; printf '\0'; } | base64 -w 0)
  done
}
tell() {
  echo stored
  printf '%s\n' "$1" | awk '$0 == "value" { n++ } END { print "plain", n + 0 }'
  printf '%s\n' "$1" | awk 'NF == 2 { n++ } END { print "encrypted", n + 0 }'
  printf '%s\n' "$1" | awk '{ print $2 }' | base64 -d |
    LC_ALL=C grep -aoE 'k8s:enc:[a-z0-9]+:v[0-9]+:[!-9;-~]+:' | sort | uniq -c
}
stored_at() {
  first=$1
  end=$2
  shift 2
  for base; do
    if found=$(pages "$base" "$first" "$end"); then
      tell "$found"
      return
    fi
  done
  echo silent
}
"""


def stored_command(
    endpoints: Sequence[str],
    prefix: str = "/registry",
    ca: str = "",
    cert: str = "",
    key: str = "",
) -> str:
    """
    Return shell text that defines ``stored``, which prints what :class:`StoredSecrets` reads.

    + endpoints: URLs of etcd
    + prefix: the apiserver's ``--etcd-prefix``
    + ca, cert, key: files on the host, for TLS
    """

    # The end of a range is its beginning with the last character raised by one.
    first, end = (to_base64(f"{prefix}/secrets{letter}") for letter in "/0")
    bases = [f"{one.rstrip('/')}/{gateway}" for one in endpoints for gateway in GATEWAYS]
    ask = f'ask() {{ {curl(ca, cert, key)} --fail "$@"; }}'
    return f"{ask}{_FUNCTIONS}stored() {{ stored_at {first} {end} {shlex.join(bases)}; }}\n"


class StoredSecrets(FactBase[StoredStates]):
    """
    Returns which keys the Secrets in etcd need, through the HTTP interface of v3, which needs only
    curl.

    + endpoints: URLs of etcd
    + prefix: the apiserver's ``--etcd-prefix``
    + ca, cert, key: files on the host, for TLS

    .. code:: python

        StoredStates(status="ok", secrets={"2026-bae85bd1": 12, "identity": 3})
    """

    shared = True

    default = StoredStates

    @override
    def command(
        self,
        endpoints: Sequence[str],
        prefix: str = "/registry",
        ca: str = "",
        cert: str = "",
        key: str = "",
    ) -> str:
        text = stored_command(endpoints, prefix, ca, cert, key)
        return (
            "if ! command -v curl >/dev/null 2>&1; then echo 'curl missing'\n"
            f"else\n{text}said=$(stored 2>&1)\nprintf '%s\\n' \"$said\"\nfi"
        )

    @override
    def process(self, output: Iterable[str]) -> StoredStates:
        lines = list(output)
        if lines == ["curl missing"]:
            return StoredStates("curl missing")
        if "stored" not in lines:
            errors = [line for line in lines if line.startswith("curl: ")]
            return StoredStates(said=errors[-1] if errors else "")
        with understanding("etcd"):
            return StoredStates("ok", "", _secrets(lines[lines.index("stored") + 1 :]))


def _secrets(lines: Sequence[str]) -> dict[str, int]:
    counts = {name: int(number) for number, name in (line.split() for line in lines[2:])}
    plain, encrypted = (int(line.split()[1]) for line in lines[:2])
    found = {IDENTITY: plain} if plain else {}
    for name, count in counts.items():
        ours = _OURS.fullmatch(name)
        found[ours[1] if ours else name] = count
    if unknown := encrypted - sum(counts.values()):
        found["a key without a name"] = unknown
    return found
