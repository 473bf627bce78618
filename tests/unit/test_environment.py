"""Environment files: which flag goes into which variable, and what of a user's stays."""

from __future__ import annotations

import getpass
import grp
import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfra_kube.cluster.components import COMPONENTS
from pyinfra_kube.cluster.errors import InputError
from pyinfra_kube.cluster.fedora_variables import SHARED, environment, etcd_environment, own_file
from pyinfra_kube.operations.environment import EnvironmentFile, environment_files
from tests.unit.harness import answers, fake_host

# In the order in which the packages' units put them on the command line.
UNITS = {
    "kube-apiserver": (
        "KUBE_LOGTOSTDERR KUBE_LOG_LEVEL KUBE_ETCD_SERVERS KUBE_API_ADDRESS KUBE_API_PORT "
        "KUBELET_PORT KUBE_ALLOW_PRIV KUBE_SERVICE_ADDRESSES KUBE_ADMISSION_CONTROL KUBE_API_ARGS"
    ),
    "kube-controller-manager": (
        "KUBE_LOGTOSTDERR KUBE_LOG_LEVEL KUBE_MASTER KUBE_CONTROLLER_MANAGER_ARGS"
    ),
    "kube-scheduler": "KUBE_LOGTOSTDERR KUBE_LOG_LEVEL KUBE_MASTER KUBE_SCHEDULER_ARGS",
    "kubelet": (
        "KUBE_LOGTOSTDERR KUBE_LOG_LEVEL KUBELET_API_SERVER KUBELET_ADDRESS KUBELET_PORT "
        "KUBELET_HOSTNAME KUBE_ALLOW_PRIV KUBELET_ARGS"
    ),
    "kube-proxy": "KUBE_LOGTOSTDERR KUBE_LOG_LEVEL KUBE_MASTER KUBE_PROXY_ARGS",
}


def test_the_guides_values_stand_in_the_guides_variables() -> None:
    logging = ["--logtostderr=true", "--v=0"]
    server = ["--master=http://fed-master:8080"]
    files = environment(
        {
            "kube-apiserver": [
                "--etcd-servers=http://127.0.0.1:2379",
                "--insecure-bind-address=0.0.0.0",
                "--service-cluster-ip-range=10.254.0.0/16",
                "--allow-privileged=false",
                *logging,
            ],
            "kube-controller-manager": [*server, *logging],
            "kube-scheduler": [*server, *logging],
            "kubelet": [
                "--api-servers=http://fed-master:8080",
                "--address=0.0.0.0",
                "--hostname-override=fed-node",
                "--allow-privileged=false",
                *logging,
            ],
            "kube-proxy": [*server, *logging],
        }
    )
    assert files["/etc/kubernetes/config"] == {
        "KUBE_LOGTOSTDERR": "--logtostderr=true",
        "KUBE_LOG_LEVEL": "--v=0",
        "KUBE_ALLOW_PRIV": "--allow-privileged=false",
        "KUBE_MASTER": "--master=http://fed-master:8080",
    }
    assert files["/etc/kubernetes/kubelet"] == {
        "KUBELET_ADDRESS": "--address=0.0.0.0",
        "KUBELET_PORT": "",
        "KUBELET_HOSTNAME": "--hostname-override=fed-node",
        "KUBELET_API_SERVER": "--api-servers=http://fed-master:8080",
        "KUBELET_ARGS": "",
    }
    apiserver = files["/etc/kubernetes/apiserver"]
    assert apiserver["KUBE_SERVICE_ADDRESSES"] == "--service-cluster-ip-range=10.254.0.0/16"
    assert apiserver["KUBE_API_ARGS"] == ""
    assert files["/etc/kubernetes/proxy"] == {"KUBE_PROXY_ARGS": ""}


def test_a_shared_flag_that_one_reader_lacks_goes_to_the_others_own_files() -> None:
    files = environment(
        {"kube-apiserver": ["--allow-privileged=true", "--v=2"], "kubelet": ["--v=2"]}
    )
    assert files["/etc/kubernetes/config"]["KUBE_ALLOW_PRIV"] == ""
    assert files["/etc/kubernetes/config"]["KUBE_LOG_LEVEL"] == "--v=2"
    assert files["/etc/kubernetes/apiserver"]["KUBE_API_ARGS"] == "--allow-privileged=true"


def test_a_value_that_cannot_be_read_back_is_refused() -> None:
    with pytest.raises(InputError, match=r"kubelet_flags = .* without spaces"):
        environment({"kubelet": ["--node-labels=a=b c"]})


def test_etcd() -> None:
    assert etcd_environment(["--enable-v2=true", "--data-dir=/var/lib/etcd"]) == {
        "ETCD_ENABLE_V2": "true",
        "ETCD_DATA_DIR": "/var/lib/etcd",
    }


_FLAGS = sorted(
    set(SHARED.values())
    | {flag for c in COMPONENTS.values() for flags in c.variables.values() for flag in flags}
    | {"kubeconfig", "cluster-cidr"}
)
_LINES = st.dictionaries(
    st.sampled_from(sorted(UNITS)),
    st.dictionaries(st.sampled_from(_FLAGS), st.sampled_from(["0", "true", "a=b,c=d", ""])),
    min_size=1,
)


@given(_LINES)
def test_every_unit_starts_with_exactly_its_flags(flags: dict[str, dict[str, str]]) -> None:
    lines = {c: [f"--{f}={v}" for f, v in given.items()] for c, given in flags.items()}
    files = environment(lines)
    for component, line in lines.items():
        own = files[own_file(component)]
        variables = {**files["/etc/kubernetes/config"], **own}
        words = [word for name in UNITS[component].split() for word in variables[name].split()]
        assert sorted(words) == sorted(line)


@contextmanager
def this_machine() -> Iterator[tuple[list[str], list[str]]]:
    """A host whose facts are this machine's; yields its no-op reasons and shown lines."""

    def get_fact(fact: Any, **arguments: Any) -> Any:
        instance = fact()
        done = subprocess.run(
            ["sh", "-c", instance.command(**arguments)], capture_output=True, text=True, check=True
        )
        return instance.process(done.stdout.splitlines()) if done.stdout else instance.default()

    with fake_host({}) as (host, noops, shown):
        answers(host, get_fact)
        yield noops, shown


def set_files(*files: EnvironmentFile) -> tuple[list[str], list[str]]:
    """Run the operation on this machine; give the no-op reasons and what was shown."""

    with this_machine() as (noops, shown):
        for command in environment_files._inner(files=list(files)):
            subprocess.run(["sh"], input=command.text, text=True, check=True)
    return noops, shown


def proxy_file(path: Path, variables: Mapping[str, str]) -> EnvironmentFile:
    return EnvironmentFile(
        str(path),
        variables,
        user=getpass.getuser(),
        group=grp.getgrgid(os.getgid()).gr_name,
        template="etc/kubernetes/proxy.j2",
    )


def test_what_a_user_set_stays_and_is_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "proxy"
    path.write_text(
        'KUBE_PROXY_ARGS="--old"\n# mine\nexport HTTP_PROXY=http://u:geheim@proxy \\\n  more\n'
        "#KEY=geheim\nNO_PROXY='a b'\n"
    )
    wanted = proxy_file(path, {"KUBE_PROXY_ARGS": "--proxy-mode=iptables"})

    noops, shown = set_files(wanted)
    assert not noops
    assert "HTTP_PROXY=(kept, value hidden)" in "\n".join(shown)
    assert '  - KUBE_PROXY_ARGS="--old"' in shown
    assert not re.search("geheim", "\n".join(shown))
    text = path.read_text()
    assert text.startswith("# Settings of kube-proxy")
    assert text.endswith(
        "set here.\nexport HTTP_PROXY=http://u:geheim@proxy \\\n  more\nNO_PROXY='a b'\n"
    )
    assert path.stat().st_mode & 0o777 == 0o644

    before = path.stat()
    assert set_files(wanted)[0] == ["1 environment files are as wanted"]
    assert path.stat() == before

    path.chmod(0o600)
    assert f"{path}: mode 600 → 644" in set_files(wanted)[1]
    assert path.stat().st_mode & 0o777 == 0o644
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert path.read_text() == text


def test_a_flag_of_etcd_goes_with_the_inventory(tmp_path: Path) -> None:
    path = tmp_path / "etcd.conf"
    path.write_text("ETCD_NAME=default\nETCD_HEARTBEAT_INTERVAL=200\n")
    before = etcd_environment(["--name=m", "--snapshot-count=5000", "--enable-v2=true"])
    file = replace(proxy_file(path, before), template="etc/etcd/etcd.conf.j2")
    set_files(file)
    assert "# All other flags: ETCD_SNAPSHOT_COUNT ETCD_ENABLE_V2\n" in path.read_text()

    file = replace(file, variables=etcd_environment(["--name=m"]))
    assert '  - ETCD_SNAPSHOT_COUNT="5000"' in set_files(file)[1]
    text = path.read_text()
    assert "# All other flags: none\n" in text
    assert re.findall("^[^#\n].*", text, re.M) == ['ETCD_NAME="m"', "ETCD_HEARTBEAT_INTERVAL=200"]
    assert set_files(file)[0]


def test_a_blank_host_gets_the_file(tmp_path: Path) -> None:
    wanted = proxy_file(tmp_path / "kubernetes/proxy", {"KUBE_PROXY_ARGS": ""})
    assert "absent → file" in set_files(wanted)[1][0]
    shell = f'. {shlex.quote(wanted.path)}; echo "[$KUBE_PROXY_ARGS]"'
    assert subprocess.check_output(["sh", "-c", shell], text=True) == "[]\n"
    assert set_files(wanted)[0]


def test_a_value_that_breaks_out_is_refused() -> None:
    with pytest.raises(Exception, match=r"read KUBE_PROXY_ARGS=.* differently"):
        EnvironmentFile("/etc/kubernetes/proxy", {"KUBE_PROXY_ARGS": 'a"b'})
