"""What facts make of files whose bytes nobody expected, through a real shell."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyinfra_kube.cluster import pki
from pyinfra_kube.engine.subject import Failure, Subject
from pyinfra_kube.facts.certificates import Certificates
from pyinfra_kube.facts.docker_on_flannel import DockerOnFlannel
from pyinfra_kube.facts.flannel import Flannel
from pyinfra_kube.facts.swap import Swaps, SwapStates
from tests.unit.sandbox import Sandbox, sandbox

SUBNET = "FLANNEL_NETWORK=10.16.0.0/16\nFLANNEL_SUBNET=10.16.1.1/24\nFLANNEL_MTU=1450\n"
MASQ = "FLANNEL_IPMASQ=true"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with sandbox(tmp_path_factory.mktemp("host")) as box:
        yield box


def _ask(box: Sandbox, subject: Subject) -> Any:
    return box.ask([subject], box.link(box.words([subject])))[subject.key]


@pytest.mark.parametrize(
    "text",
    [
        f"{SUBNET}{MASQ}\n",
        f"{SUBNET}{MASQ}",
        f"{SUBNET}{MASQ}\n".replace("\n", "\r\n"),
        f"{MASQ}\n{SUBNET}running\nword --bip=1.2.3.4/24\nfollows\nmanager missing",
        f"##pyinfra-kube 1\n##pyinfra-kube status 1\n{SUBNET}{MASQ}",
        f"#{'x' * 200_000}\n{SUBNET}{MASQ}",
    ],
    ids=["whole", "no newline", "as Windows has lines", "our words", "our marks", "a long line"],
)
def test_subnet_env(box: Sandbox, tmp_path: Path, text: str) -> None:
    (tmp_path / "subnet.env").write_text(text, newline="")
    state = _ask(box, Subject(Flannel, {"subnet_file": str(tmp_path / "subnet.env")}))
    assert (state.subnet.subnet, state.subnet.mtu) == ("10.16.1.1/24", 1450)
    assert state.subnet.ip_masq
    assert state.running
    docker = _ask(box, Subject(DockerOnFlannel))
    assert docker.words[-1] == "600"
    assert not docker.follows


def test_a_key_behind_a_cut_off_certificate_is_not_read(box: Sandbox, tmp_path: Path) -> None:
    pair = pki.make_ca("ca")
    (tmp_path / "both.pem").write_text(f"{pair.cert[:400]}\n{pair.key}{pair.cert}")
    subject = Subject(Certificates, {"paths": [str(tmp_path / "both.pem")]})
    printed = box.shell(subject.command(subject.fact()), box.link(box.words([subject])))
    assert not set(printed) & set(pair.key.splitlines())
    failure = _ask(box, subject)
    assert isinstance(failure, Failure)
    assert "both.pem: a certificate in it is cut off" in failure.reason


def test_a_certificate_behind_a_key(box: Sandbox, tmp_path: Path) -> None:
    pair = pki.make_ca("ca")
    (tmp_path / "both.pem").write_bytes(f"{pair.key}{pair.cert}".encode().rstrip() + b"\0\377")
    subject = Subject(Certificates, {"paths": [str(tmp_path / "both.pem")]})
    (certificate,) = _ask(box, subject)[str(tmp_path / "both.pem")]
    assert certificate.authority


def test_a_kernel_without_swap_has_none(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", Swaps().command(str(tmp_path))], capture_output=True, text=True, check=True
    )
    assert Swaps().process(done.stdout.splitlines()) == SwapStates()
