"""Fixes that people type, typed on real folders and mounts of a namespace."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyinfra_kube.cluster.fitness.fixes import FSTAB, removal, swap_stays_off
from pyinfra_kube.deploys.phases.host_preparation import without_swap

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


_WORDS = st.sampled_from(["/dev/sda2", "none", "swap", "sw", "ext4", "0", "#", "# was swap", ""])
_LINES = st.lists(_WORDS, max_size=6).flatmap(
    lambda words: st.sampled_from([" ", "\t", "  "]).map(lambda gap: gap.join(words))
)


@given(st.lists(_LINES, max_size=5).map("\n".join))
@example("/dev/sda2 none swap\n/dev/sdb1 /data ext4 defaults 0 0 # was swap once\n")
def test_the_fix_of_fstab_is_what_a_run_does(text: str) -> None:
    command = FSTAB.replace("sed -Ei", "sed -E").removesuffix(" /etc/fstab")
    done = subprocess.run(["sh", "-c", command], input=text, capture_output=True, text=True)
    assert done.stdout == without_swap(text)


def test_what_makes_swap_is_turned_off_by_its_kind() -> None:
    makers = ["UUID=1", "/swapfile", "a.swap", "zram-generator.conf.d/1.conf"]
    assert swap_stays_off(makers) == (
        f"{FSTAB}; systemctl disable a.swap; mkdir -p /etc/systemd/zram-generator.conf.d && "
        "ln -sf /dev/null /etc/systemd/zram-generator.conf.d/1.conf"
    )
