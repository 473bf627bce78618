"""From the file of an inventory to its plan, or to all that is wrong, without any host."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyinfra_kube.cluster.errors import InputError, Problem
from pyinfra_kube.deploys.plan import main
from pyinfra_kube.deploys.run.artifacts import Artifacts

INVENTORIES = Path(__file__).parents[2] / "inventories"

INVENTORY = """\
{group} = [("m1", {{"ssh_hostname": "192.0.2.10"}})]
nodes = [("n1", {{"ssh_hostname": "192.0.2.11"}}), ("n2", {{"ssh_hostname": "192.0.2.12"}})]
all = (["m1", "n1", "n2"], {data})
"""
DATA = {"kubernetes_version": "1.20.2", "control_plane_endpoint": "192.0.2.10"}
GUIDE = {
    "KUBERNETES_VERSION": "1.3.10",
    "MASTER_IP": "192.0.2.10",
    "CLUSTER_SUBNET": "10.20.0.0/16",
}


def run(folder: Path, data: dict[str, object], group: str = "control_plane") -> int:
    path = folder / "inventory.py"
    path.write_text(INVENTORY.format(group=group, data=data))
    return main([str(path)])


EXAMPLES = sorted(path.stem for path in INVENTORIES.glob("*.py") if path.stem != "lab")


@pytest.mark.parametrize("path", EXAMPLES)
def test_every_example_has_a_plan(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(INVENTORIES / f"{path}.py")]) == 0
    assert "HOST " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("data", "group", "row"),
    [
        (
            DATA,
            "control_plane",
            "n2    192.0.2.12  node                10.10.1.0/24  10.10.1.1/24  253",
        ),
        (
            DATA,
            "control_plane",
            "m1    192.0.2.10  control-plane etcd  -             -             -",
        ),
        (GUIDE, "masters", "n2    192.0.2.12  node                10.20.1.0/24  10.20.1.1/24  253"),
    ],
)
def test_plan(
    data: dict[str, object],
    group: str,
    row: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(tmp_path, data, group) == 0
    assert row in capsys.readouterr().out.splitlines()
    assert [path.name for path in tmp_path.iterdir()] == ["inventory.py"]


@pytest.mark.parametrize(
    ("data", "group", "said"),
    [
        ({**DATA, "colour": "red"}, "control_plane", "colour = (not shown); allowed: a known key"),
        (DATA, "mastres", "fix: rename the group mastres"),
    ],
)
def test_no_plan(
    data: dict[str, object],
    group: str,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(tmp_path, data, group) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("control_plane = [\nnodes = []", "line 1"),
        ("control_plane = ['m1']\nnodes = nobody", "line 2, in <module>"),
        (
            INVENTORY.format(group="control_plane", data=DATA) + "etcd = ['m7']",
            "etcd = []; allowed: 1, 3 or 5 hosts of the inventory",
        ),
    ],
)
def test_wrong_python_and_names_that_are_no_hosts(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "inventory.py"
    path.write_text(text)
    assert main([str(path)]) == 1
    told = capsys.readouterr().err
    assert said in told
    assert "plan.py" not in told


def test_no_inventory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path / "inventory.py")])
    assert "there is no file" in capsys.readouterr().err


def test_group_data_beside_the_inventory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "group_data").mkdir()
    (tmp_path / "group_data/all.py").write_text('cluster_name = "from-group-data"\n')
    assert run(tmp_path, DATA) == 0
    assert "from-group-data" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["n1: ten\n", "n1: fd00::/64\n", "- n1\n", "n1: [\n"])
def test_addresses_that_are_none(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book = tmp_path / "addresses.yaml"
    book.write_text(text)
    assert run(tmp_path, {**DATA, "credentials_dir": str(tmp_path)}) == 1
    (said,) = capsys.readouterr().err.splitlines()[1:]
    assert said.startswith(f"  credentials_dir = '{book}'; allowed: host: CIDR, one a line (")


def problem_of(artifacts: Artifacts, name: str) -> Problem:
    with pytest.raises(InputError) as error:
        artifacts.binary(name)
    (problem,) = error.value.problems
    return problem


def test_a_digest_of_an_image_that_is_none_of_the_clusters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pinned = {"registry.k8s.io/pause:3.10.2": "0" * 64, "pause": "0" * 64}
    assert run(tmp_path, {**DATA, "kubernetes_version": "1.37.2", "image_sha256": pinned}) == 1
    (said,) = capsys.readouterr().err.splitlines()[1:]
    assert said.startswith("  image_sha256.pause = ")
    for name in ("pause:3.10.2", "etcd:3.", "kube-apiserver:v1.37.2", "coredns/coredns:v"):
        assert f"registry.k8s.io/{name}" in said


def test_binaries_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "server/bin").mkdir(parents=True)
    (tmp_path / "server/bin/kubelet").write_text("kubelet")
    own = Artifacts(str(tmp_path), "", {"kubelet": "0" * 64})
    missing, wrong = problem_of(own, "kubectl"), problem_of(own, "kubelet")
    assert (missing.key, missing.allowed) == ("kubernetes_source", "a folder with kubectl in it")
    assert (wrong.key, wrong.value) == ("kubernetes_sha256.kubelet", "0" * 64)
    found, digest = Artifacts(str(tmp_path), "", {}).binary("kubelet")
    assert (found, digest[:8]) == (str(tmp_path / "server/bin/kubelet"), "1ca4bc7e")
