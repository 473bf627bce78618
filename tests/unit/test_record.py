"""The record of what was there before, and what comes back of it, in a shell."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pyinfra_kube.engine.record import MARK, PLACE, SET_BY_COMPONENTS
from pyinfra_kube.facts.leftovers import Leftovers, files_in
from pyinfra_kube.facts.record import Record, Recorded
from pyinfra_kube.operations.files import WRITER

Shell = Callable[..., Recorded]


@pytest.fixture(params=["sh", "bash"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    """Run lines after the shared functions, in a folder in place of the host."""

    def inside(text: str) -> str:
        return text.replace(PLACE, f"{tmp_path}{PLACE}").replace(MARK, f"{tmp_path}{MARK}")

    def run(*lines: str) -> Recorded:
        text = inside(f"set -eu\n{WRITER}") + "\n".join(lines)
        subprocess.run([request.param], input=text, text=True, check=True, cwd=tmp_path)
        said = subprocess.run(
            ["sh", "-c", inside(Record().command())], capture_output=True, text=True, check=True
        )
        return Record().process(said.stdout.splitlines())

    return run


def put(path: Path, content: str) -> str:
    data = content.encode()
    words = f"put {path} 644 {path.owner()}" if path.exists() else f"put {path} 644 $(id -un)"
    digest = hashlib.sha256(data).hexdigest()
    return f"{words} $(id -gn) {digest} <<'.'\n{base64.encodebytes(data).decode()}.\n"


def test_what_we_replace_is_kept_once(shell: Shell, tmp_path: Path) -> None:
    own, new = tmp_path / "own", tmp_path / "folder/new"
    own.write_text("of the user\n")
    own.chmod(0o600)
    shell(put(own, "ours"), put(new, "ours"), f"point {tmp_path}/link own")
    found = shell(put(own, "ours, later"))
    assert found.of("file") == {
        str(own): "kept",
        str(new.parent): "absent",
        str(new): "absent",
        f"{tmp_path}/link": "absent",
    }
    assert found.wrote == {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in (own, new)
    }
    kept = Path(f"{tmp_path}{PLACE}/files{own}")
    assert kept.read_text() == "of the user\n"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / PLACE[1:]).stat().st_mode & 0o777 == 0o700


def test_what_kubelet_and_kube_proxy_will_change_is_known(shell: Shell, tmp_path: Path) -> None:
    found = shell(put(tmp_path / "new", "ours")).of("sysctl")
    there = {one for one in SET_BY_COMPONENTS if os.access(f"/proc/sys/{one}", os.R_OK)}
    assert found == {
        one.replace("/", "."): Path(f"/proc/sys/{one}").read_text().strip() for one in there
    }
    assert "net.ipv4.conf.all.route_localnet" in found
    (tmp_path / MARK[1:]).parent.mkdir(parents=True)
    (tmp_path / MARK[1:]).touch()
    shutil.rmtree(tmp_path / PLACE[1:])
    assert shell(put(tmp_path / "newer", "ours")).of("sysctl") == {}


def test_a_cluster_that_was_there_first_is_no_original(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / MARK[1:]).parent.mkdir(parents=True)
    (tmp_path / MARK[1:]).touch()
    old = tmp_path / "unit"
    old.write_text("of an earlier version\n")
    found = shell(put(old, "ours"), "note unit kubelet.service 'enabled active'")
    assert found.late
    assert found.was == {"file": {str(old): "late"}, "unit": {"kubelet.service": "late"}}
    assert not Path(f"{tmp_path}{PLACE}/files{old}").exists()


def test_what_died_before_its_line_is_kept_by_the_next_run(shell: Shell, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("of the user\n")
    half = Path(f"{tmp_path}{PLACE}/files{own}.part")
    half.parent.mkdir(parents=True)
    half.write_text("of th")
    (tmp_path / PLACE[1:] / "before").touch()
    assert shell(put(own, "ours")).of("file") == {str(own): "kept"}
    assert Path(f"{tmp_path}{PLACE}/files{own}").read_text() == "of the user\n"


def test_volumes_stay_without_what_the_api_gave(tmp_path: Path) -> None:
    volumes = tmp_path / "pods/1/volumes"
    data = volumes / "kubernetes.io~empty-dir/data/file"
    secret = volumes / "kubernetes.io~secret/token/file"
    for path in (data, secret, tmp_path / "config"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    command = Leftovers().command([str(tmp_path)], volumes=[str(tmp_path)])
    said = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert Leftovers().process(said.stdout.splitlines())[str(tmp_path)].entries == 2
    subprocess.run(["sh", "-c", f"{files_in(str(tmp_path), keeps=True)} -delete"], check=True)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [data]


def test_what_is_the_hosts_is_not_taken_for_a_late_clusters(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / MARK[1:]).parent.mkdir(parents=True)
    (tmp_path / MARK[1:]).touch()
    found = shell(
        "for name in kubelet.service systemd-networkd.service dev-sda2.swap; do",
        "  note unit $name 'enabled active'",
        "done",
        "note file /etc/fstab kept",
        "note file /etc/systemd/zram-generator.conf.d/one.conf kept",
        "note file /etc/hosts kept",
        "if taken_for_ours file /etc/fstab; then exit 1; fi",
    )
    assert found.late
    assert found.of("unit") == {
        "kubelet.service": "late",
        "systemd-networkd.service": "enabled active",
        "dev-sda2.swap": "enabled active",
    }
    assert found.of("file") == {
        "/etc/fstab": "kept",
        "/etc/systemd/zram-generator.conf.d/one.conf": "kept",
        "/etc/hosts": "late",
    }
