"""A line that drops while files are on their way to hosts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyinfra_kube.engine.sending import FOLDER
from tests.e2e.paths import REPOSITORY, Site, eventually, execute, succeeded
from tests.lab import Lab
from tests.lab.lab import HOSTS

pytestmark = [pytest.mark.lab, pytest.mark.slow]

RELEASE = "1.37"
NODE = HOSTS[-1]
WAITING = f"{FOLDER}-0"
SEEN = "/root/seen"


def start(site: Site) -> subprocess.Popen[bytes]:
    """A run that begins at once."""
    with (site.folder / "said").open("wb") as said:
        return subprocess.Popen(
            [
                *(Path(sys.executable).with_name("pyinfra"), site.inventory),
                *(REPOSITORY / "deploys/scratch.py", "-y"),
            ],
            cwd=site.folder,
            env=site.environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def files(lab: Lab) -> set[str]:
    """What has arrived at the node, or is on its way, and waits for its operation."""
    return {*execute(lab, NODE, f"ls {WAITING} 2>/dev/null || true")}


def whole(names: set[str]) -> set[str]:
    return {name for name in names if not name.endswith(".part")}


def under_way(lab: Lab) -> set[str]:
    """The same, once a file is there and the next one is coming."""

    def look() -> set[str]:
        names = files(lab)
        return names if whole(names) and whole(names) != names else set()

    return set(eventually(look, patience=180))


def test_what_was_sent_is_not_sent_again(lab: Lab, site: Site) -> None:
    run = start(site)
    under_way(lab)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    there = whole(files(lab))
    watch = f"while sleep 0.05; do ls {WAITING}; done >{SEEN} 2>/dev/null"
    execute(lab, NODE, f"setsid sh -c '{watch}' >/dev/null 2>&1 & echo $! >/root/watcher")
    run = start(site)
    # The line is cut in the middle of the rest.
    eventually(lambda: whole(files(lab)) - there, patience=180)
    under_way(lab)
    lab.cut(NODE)
    time.sleep(20)
    lab.mend(NODE)
    assert run.wait(timeout=600) == 0, (site.folder / "said").read_text()[-3000:]
    execute(lab, NODE, "kill $(cat /root/watcher)")
    seen = {*execute(lab, NODE, f"cat {SEEN}")}
    assert there <= seen
    assert not {f"{name}.part" for name in there} & seen
    assert not files(lab)
    assert succeeded(site.run("-y", "--json")).changed == set()
