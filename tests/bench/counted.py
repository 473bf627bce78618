"""
pyinfra's command line, with its round trips counted: commands and transfers sent to each host.

    BENCH_COUNTS=/tmp/counts.json python -m tests.bench.counted INVENTORY …
"""

from __future__ import annotations

# pyinfra's command line patches the standard library as it is imported: it comes first.
from pyinfra_cli.main import main as pyinfra_main

# isort: split
import atexit
import functools
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from pyinfra.connectors.ssh import SSHConnector


def main() -> None:
    counts: Counter[str] = Counter()
    for name in ("run_shell_command", "put_file", "get_file"):
        setattr(SSHConnector, name, _counting(getattr(SSHConnector, name), counts))
    path = Path(os.environ.pop("BENCH_COUNTS"))
    atexit.register(lambda: path.write_text(json.dumps(counts)))
    pyinfra_main()


def _counting(function: Any, counts: Counter[str]) -> Any:
    @functools.wraps(function)
    def counting(self: Any, *args: Any, **kwargs: Any) -> Any:
        counts[self.host.name] += 1
        return function(self, *args, **kwargs)

    return counting


if __name__ == "__main__":
    main()
