"""Fixes that people type, typed on real folders and mounts of a namespace."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pyinfra_kube.cluster.fitness.fixes import removal

# Shell that mounts the data of somebody below a folder.
MOUNTS = {
    "a bind mount": 'mkdir -p "$K/pods/1" && mount --bind "$DATA" "$K/pods/1"',
    "a path with a blank": 'mkdir -p "$K/a b" && mount --bind "$DATA" "$K/a b"',
    "mounts in mounts": """\
mkdir -p "$K/pods" && mount -t tmpfs none "$K/pods" && mkdir "$K/pods/z" "$K/pods/a" &&
mount --bind "$DATA" "$K/pods/z" && mount -t tmpfs none "$K/pods/a"
""",
    "one over the other": """\
mkdir -p "$K/v" && mount --bind "$DATA" "$K/v" && mount -t tmpfs none "$K/v"
""",
}
_BUSY = """\
mkdir -p "$K/pods/1" && mount --bind "$DATA" "$K/pods/1" && cd "$K/pods/1" || exit 1
"""


def _typed(folder: Path, mounts: str) -> tuple[bool, bool]:
    """Whether the data and the folder are there after the fix."""

    kubelet, data = folder / "kubelet", folder / "data"
    kubelet.mkdir()
    data.mkdir()
    (data / "file").touch()
    script = f"""\
K={kubelet} DATA={data}
{mounts}
{removal(str(kubelet))}
"""
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if "unshare" in done.stderr:
        pytest.skip(done.stderr)
    return (data / "file").exists(), kubelet.exists()


@pytest.mark.parametrize("name", MOUNTS)
def test_what_is_mounted_below_is_unmounted_and_kept(name: str, tmp_path: Path) -> None:
    assert _typed(tmp_path, MOUNTS[name]) == (True, False)


def test_nothing_is_removed_beside_a_mount_in_use(tmp_path: Path) -> None:
    assert _typed(tmp_path, _BUSY) == (True, True)


def test_a_folder_whose_name_begins_alike_stays(tmp_path: Path) -> None:
    (tmp_path / "kubelet-data").mkdir()
    assert _typed(tmp_path, "mount -t tmpfs none ${K}-data") == (True, False)
    assert (tmp_path / "kubelet-data").exists()
