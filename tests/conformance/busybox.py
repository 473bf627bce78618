"""
busybox with its own defaults. Debian's shell of it drops variables whose names a shell cannot say,
which specs have it pass on, and no other shell reports errors in the words that they look for.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.lab import debian_source
from tests.lab.cache import digest, kept
from tests.lab.machine import require_tools, run, run_logged, say
from tests.lab.places import LOGS

_TOOLS = {
    "/usr/include/stdio.h": "libc6-dev",
    "dpkg-source": "dpkg-dev",
    "gcc": "gcc",
    "make": "make",
    "bzip2": "bzip2",
}
_BUILD = """
make defconfig
sed -i 's/^# CONFIG_STATIC is not set$/CONFIG_STATIC=y/' .config
make --jobs=2 busybox
"""


def built() -> Path:
    """The folder of the program; built now if the cache has none of this recipe."""
    return kept("busybox", digest([_BUILD]), _build)


def _build(folder: Path) -> None:
    require_tools(_TOOLS)
    work = folder / "work"
    debian_source.fetch("busybox", work)
    # The release as it is, without Debian's patches.
    (archive,) = work.glob("busybox_*.orig.tar.bz2")
    source = work / "source"
    source.mkdir()
    run("tar", "--extract", "--strip-components=1", "--file", archive, "--directory", source)
    log = LOGS / "busybox.log"
    say(f"building busybox (log: {log})")
    environment = {"KCONFIG_NOTIMESTAMP": "1", "LC_ALL": "C.UTF-8"}
    build = ("nice", "sh", "-euc", f'cd "$0"\n{_BUILD}', source)
    run_logged(*build, log=log, environment=environment)
    (source / "busybox").rename(folder / "busybox")
    shutil.rmtree(work)
