"""What a package manager would remove, by what it says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pyinfra_kube.facts.packages import REMOVALS

DNF5 = """\
Package              Arch   Version       Repository      Size
Upgrading:
 libseccomp          x86_64 2.6.0-1.fc44  updates    172.0 KiB
   replacing libseccomp x86_64 2.5.9-1.fc44 fedora   171.0 KiB
Installing:
 kubernetes1.37      x86_64 1.37.2-1.fc44 updates     90.0 MiB
   replacing kubernetes1.36-all x86_64 1.36.3-1.fc44 updates 1.0 KiB
Removing:
 kubernetes1.36      x86_64 1.36.3-1.fc44 updates     89.0 MiB

Transaction Summary:
 Installing:         1 package
 Removing:           1 package
"""
DNF4 = """\
================================================================
 Package           Arch    Version          Repository     Size
================================================================
Installing:
 kubernetes-master x86_64  1.20.5-1.fc34    updates        30 M
     replacing  kubernetes1.19-node.x86_64 1.19.4-1.fc34
Removing dependent packages:
 docker-ce         x86_64  3:20.10-1.fc34   @docker       110 M

Transaction Summary
================================================================
"""

# As dnf5, which knows an option of a command only after it.
_DNF = """\
#!/bin/sh
for word; do
  case $word in
  install) break ;;
  --allowerasing) echo 'Unknown argument "--allowerasing" for command "dnf5".' >&2; exit 2 ;;
  esac
done
case "$*" in
*--allowerasing*) cat {said} ;;
*) echo 'Failed to resolve the transaction' >&2; exit 1 ;;
esac
"""


@pytest.mark.parametrize(
    ("said", "removed"),
    [
        (DNF5, ["kubernetes1.36-all", "kubernetes1.36"]),
        (DNF4, ["kubernetes1.19-node", "docker-ce"]),
    ],
)
@pytest.mark.parametrize("options", ["--enablerepo=testing --allowerasing", ""])
def test_removals_of_dnf(said: str, removed: list[str], options: str, tmp_path: Path) -> None:
    (tmp_path / "said").write_text(said)
    (tmp_path / "dnf").write_text(_DNF.format(said=tmp_path / "said"))
    (tmp_path / "dnf").chmod(0o755)
    found = subprocess.run(
        ["sh", "-c", f"{REMOVALS}\nremovals dnf {options} -- one"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.split() == removed
