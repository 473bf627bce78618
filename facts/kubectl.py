"""
How kubectl is asked on a host, and what its answers mean.
"""

from __future__ import annotations

import base64
import gzip
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pyinfra.api.exceptions import FactProcessError

Status = Literal["ok", "missing", "down", "refused"]

# Seconds that kubectl may take.
PATIENCE = 20

# What kubectl says for 401, 403 and certificates that do not match.
_REFUSALS = re.compile(
    r"unauthorized|forbidden|must be logged in|x509:|tls: |credentials|certificate", re.I
)
# Without a cache an older kubectl asks about every API group again and again, and waits in between.
# Where there is no memory to keep it in, it is nowhere: nothing can be written below /proc.
_CACHE = """\
HOME=$(mktemp -d -p /dev/shm 2>/dev/null) || HOME=/proc
export HOME
trap '[ "$HOME" = /proc ] || rm -rf "$HOME"' EXIT
trap 'exit 1' HUP INT TERM
"""
_OWN_ERRORS = re.compile(r"(unknown|unrecognized) (flag|option|command|shorthand)")


@dataclass(frozen=True)
class Answer:
    """
    What kubectl answered.

    + text: what it printed
    + said: what it wrote to standard error
    + code: its exit status; ``None`` where it is not installed
    """

    text: str
    said: str
    code: int | None


def kubectl_words(kubectl: str = "kubectl", kubeconfig: str = "", server: str = "") -> str:
    """
    Return the command line of kubectl for a cluster, without the proxy that the host may have.

    + kubectl: the program
    + kubeconfig: path on the host
    + server: URL of the API server
    """

    words = ["env", "NO_PROXY=*", "no_proxy=*", kubectl]
    words += [f"--kubeconfig={kubeconfig}"] if kubeconfig else []
    words += [f"--server={server}"] if server else []
    return shlex.join(words)


def asking(
    kubectl: str, question: str, given: str = "", patience: int = PATIENCE, older: str = ""
) -> str:
    """
    Return shell text that asks kubectl, if it is there, and leaves nothing behind.

    + kubectl: the program
    + question: the whole command line, as from ``kubectl_words``
    + given: what kubectl reads on standard input
    + patience: seconds that it may take
    + older: the command line for a server that does not know a kind that is asked for

    ``answer`` reads what it prints.
    """

    command, again = (f"timeout {patience} {words}" for words in (question, older))
    if given:
        packed = base64.b64encode(gzip.compress(given.encode(), mtime=0)).decode()
        command = f"printf %s {packed} | base64 -d | gzip -d | {command}"
    asked_again = f"""\
case $said in
*"resource type"*) said=$({again} 2>&1 >&5 5>&-); status=$? ;;
esac
"""
    return f"""\
if ! command -v {shlex.quote(kubectl)} >/dev/null 2>&1; then echo missing
else (
echo answer
{_CACHE}\
exec 5>&1
said=$({command} 2>&1 >&5 5>&-)
status=$?
{asked_again if older else ""}\
printf '\\nstatus %s\\n%s\\n' $status "$said"
) fi"""


def answer(output: Iterable[str]) -> Answer:
    """
    Return what kubectl answered.

    + output: the lines that the text of ``asking`` printed

    Raises ``FactProcessError``.
    """

    first, *lines = output
    if first == "missing":
        return Answer("", "", None)
    ends = [number for number, line in enumerate(lines) if re.fullmatch(r"status \d+", line)]
    if first != "answer" or not ends:
        raise FactProcessError("kubectl does not work: its answer was cut off")
    text, said = "\n".join(lines[: ends[-1]]), "\n".join(lines[ends[-1] + 1 :]).strip()
    return Answer(text, said, int(lines[ends[-1]].split()[1]))


def failed(given: Answer, patience: int = PATIENCE) -> tuple[Status, str]:
    """
    Return what a failure means, and what kubectl said. One without a message is kubectl's own, not
    its server's.

    + given: kubectl's answer
    + patience: seconds that it could take

    Raises ``FactProcessError`` where kubectl itself does not work.
    """

    if given.code in (124, 137):
        return "down", f"kubectl got no answer in {patience} s"
    said = given.said or given.text.strip()
    last = said.rpartition("\n")[2].strip()
    if not last or given.code in (126, 127) or _OWN_ERRORS.search(said):
        why = last or f"exit status {given.code}"
        raise FactProcessError(f"kubectl does not work: {why}")
    return "refused" if _REFUSALS.search(last) else "down", last
