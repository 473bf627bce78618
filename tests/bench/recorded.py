"""
pyinfra's command line, with what a host answers to each command written down.

    BENCH_RECORDING=/tmp/answers.json BENCH_FOLDER=/etc/bench/light-1.d \\
        python -m tests.bench.recorded INVENTORY … --limit light-1

What differs from host to host and from run to run, a folder and the mark of a round trip, is
written as a placeholder.
"""

from __future__ import annotations

# pyinfra's command line patches the standard library as it is imported: it comes first.
from pyinfra_cli.main import main as pyinfra_main

# isort: split
import atexit
import base64
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.sshuserclient import SSHClient

FOLDER, MARK = "/etc/bench/OWN.d", "##pyinfra-kube-MARK"
_MARK = re.compile(r"##pyinfra-kube-[0-9a-f]{16}")


class Recorder:
    """
    Notes the answers of one host, in their order, by the digest of the command.

    + folder: that only this host has
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.answers: dict[str, list[dict[str, Any]]] = {}
        self.sent = ""

    def patch(self) -> None:
        """See what is sent to the host, and what comes back."""

        send, run = SSHClient.exec_command, SSHConnector.run_shell_command

        def sending(client: Any, command: str, *args: Any, **kwargs: Any) -> Any:
            self.sent = command
            return send(client, command, *args, **kwargs)

        def running(connector: Any, *args: Any, **kwargs: Any) -> Any:
            works, output = run(connector, *args, **kwargs)
            self._note(works, output.stdout_lines, output.stderr_lines)
            return works, output

        def transferring(*_: Any, **__: Any) -> None:
            raise RuntimeError("a transfer cannot be recorded")

        for name, instead in {
            "run_shell_command": running,
            "put_file": transferring,
            "get_file": transferring,
        }.items():
            setattr(SSHConnector, name, instead)
        setattr(SSHClient, "exec_command", sending)  # noqa: B010

    def _note(self, works: bool, stdout: list[str], stderr: list[str]) -> None:
        mark = (_MARK.findall(self.sent) or [""])[0]

        def plain(text: str) -> str:
            text = text.replace(mark, MARK) if mark else text
            return text.replace(self.folder, FOLDER)

        answer = {
            "parts": [{"text": plain(text), "encoded": one} for text, one in _parts(stdout, mark)],
            "said": plain("".join(f"{line}\n" for line in stderr)),
            "status": 0 if works else 1,
        }
        digest = hashlib.sha256(plain(self.sent).encode()).hexdigest()
        self.answers.setdefault(digest, []).append(answer)


def _parts(lines: list[str], mark: str) -> list[tuple[str, bool]]:
    """What was printed; between two marks a round trip has its answers encoded."""

    places = [number for number, line in enumerate(lines) if mark and line == mark]
    if len(places) != 2:
        return [("".join(f"{line}\n" for line in lines), False)]
    first, last = places
    before, within, after = lines[: first + 1], lines[first + 1 : last], lines[last:]
    return [
        ("".join(f"{line}\n" for line in before), False),
        (base64.b64decode("".join(within)).decode(), True),
        ("".join(f"{line}\n" for line in after), False),
    ]


def main() -> None:
    path = Path(os.environ.pop("BENCH_RECORDING"))
    recorder = Recorder(os.environ.pop("BENCH_FOLDER"))
    recorder.patch()
    atexit.register(lambda: path.write_text(json.dumps(recorder.answers)))
    pyinfra_main()


if __name__ == "__main__":
    main()
