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
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import understanding
from pyinfra_kube.facts.etcd import GATEWAYS, curl, to_base64

__all__ = ["EncryptionFile", "StoredSecrets", "StoredStates", "stored_command"]


class EncryptionFile(FactBase[list[str]]):
    """
    Returns the providers that an EncryptionConfiguration names, in their order: names of keys, and
    ``identity``.

    + path: on the host

    .. code:: python

        ["2026-bae85bd1", "identity"]
    """

    default = list

    @override
    def command(self, path: str) -> str:
        return (
            f"[ ! -f {shlex.quote(path)} ] || while read -r dash key name; do "
            'case "$dash $key" in '
            "'- name:') echo \"$name\" ;; '- identity:') echo identity ;; "
            f"esac; done <{shlex.quote(path)}"
        )

    @override
    def process(self, output: Iterable[str]) -> list[str]:
        return [name.strip("\"' ") for name in output]


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

# Of each value awk decodes what stands before its content, and nothing else leaves it. Some builds
# of etcd put spaces into their JSON. A page begins at the last key of the one before with a zero
# byte.
_FUNCTIONS = r"""
heads() {
  awk '
    function head(text, i, n, value, bits, found, colons) {
      for (i = 1; i <= length(text) && i <= 160 && colons < 5; i++) {
        n = index(letters, substr(text, i, 1)) - 1
        if (n < 0) break
        value = value * 64 + n
        bits += 6
        if (bits >= 8) {
          bits -= 8
          n = int(value / 2 ^ bits)
          value -= n * 2 ^ bits
          if (n < 33 || n > 126) return ""
          found = found sprintf("%c", n)
          if (n == 58) colons++
        }
      }
      return colons == 5 ? found : ""
    }
    function after(key) {
      if (sub(/==$/, "A=", key) || sub(/=$/, "A", key)) return key
      return key "AA=="
    }
    BEGIN { RS = ","; letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/" }
    /"header"/ { good = 1 }
    /"more": *true/ { more = 1 }
    match($0, /"key": *"[^"]*"/) {
      key = substr($0, RSTART, RLENGTH)
      gsub(/^"key": *"|"$/, "", key)
    }
    match($0, /"value": *"/) {
      text = substr($0, RSTART + RLENGTH, 160)
      name = "identity"
      if (text ~ /^azhzOmVuYzp/) name = (found = head(text)) ? found : "nameless"
      count[name]++
    }
    END { for (name in count) print "secrets", count[name], name
      print "end", good + 0, more ? after(key) : "" }'
}
pages() {
  from=$2
  while :; do
    range="{\"key\":\"$from\",\"range_end\":\"$3\",\"limit\":500}"
    page=$(ask --data "$range" "$1/kv/range") || return 1
    page=$(printf '%s\n' "$page" | heads)
    printf '%s\n' "$page"
    case $page in *'end 1 '*) ;; *'end 0 '*) return 1 ;; *) return 2 ;; esac
    from=${page##*end 1 }
    [ -n "$from" ] || return 0
  done
}
stored_at() {
  first=$1
  end=$2
  shift 2
  for base; do
    code=0
    found=$(pages "$base" "$first" "$end") || code=$?
    case $code in 0) printf '%s\nstored\n' "$found"; return ;; 2) echo strange; return ;; esac
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
        if lines[-1:] == ["silent"]:
            errors = [line for line in lines if line.startswith("curl: ")]
            return StoredStates(said=errors[-1] if errors else "")
        if lines[-1:] != ["stored"]:
            raise FactProcessError("awk does not work: it does not tell what etcd has")
        with understanding("awk"):
            return StoredStates("ok", "", _secrets(lines))


def _secrets(lines: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "secrets":
            number, name = rest.split(" ")
            ours = _OURS.fullmatch(name)
            provider = ours[1] if ours else name
            found[provider] = found.get(provider, 0) + int(number)
    return found
