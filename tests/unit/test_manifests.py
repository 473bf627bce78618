"""The manifests of the control plane say what they were asked for, whatever the words are."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pyinfra_kube.cluster.components import PODS
from pyinfra_kube.engine.templates import render
from pyinfra_kube.operations.static_pods import Mount, Probe, manifest

COMPONENTS = sorted(PODS)
WORDS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1).filter(str.strip)
FLAGS = st.lists(WORDS.map(lambda word: f"--flag={word}"))


def _pod(component: str, flags: list[str], **values: Any) -> dict[str, Any]:
    pod: dict[str, Any] = yaml.safe_load(manifest(component, "example.org/i:1", flags, **values))
    assert (pod["kind"], pod["metadata"]["name"]) == ("Pod", component)
    return pod


@pytest.mark.parametrize("component", COMPONENTS)
@given(flags=FLAGS)
def test_flags_arrive_as_they_are(component: str, flags: list[str]) -> None:
    (container,) = _pod(component, flags)["spec"]["containers"]
    assert container["command"] == [component, *flags]


@pytest.mark.parametrize("component", COMPONENTS)
@given(flags=FLAGS)
def test_a_log_file_gets_what_the_component_prints(component: str, flags: list[str]) -> None:
    pod = _pod(component, flags, log_file="/var/log/a.log", command=["/hyperkube", "x"])
    (container,) = pod["spec"]["containers"]
    shell, option, text = container["command"]
    assert (shell, option) == ("/bin/sh", "-c")
    assert shlex.split(text) == [
        *("exec", "/hyperkube", "x", *flags),
        *(">>", "/var/log/a.log", "2>&1"),
    ]
    assert {"name": "logs", "hostPath": {"path": "/var/log"}} in pod["spec"]["volumes"]


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_mount_has_its_volume(component: str) -> None:
    spec = _pod(
        component,
        [],
        mounts=[Mount("/etc/cloud.conf"), Mount("/var/state", read_only=False)],
        priority_class="system-node-critical",
    )["spec"]
    (container,) = spec["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume["hostPath"]["path"] for volume in spec["volumes"]}
    assert {name: mount["mountPath"] for name, mount in mounts.items()} == volumes
    read_only = {mount["mountPath"] for mount in mounts.values() if mount.get("readOnly")}
    assert {"/etc/cloud.conf", "/srv/kubernetes"} <= read_only
    assert "/var/state" not in read_only
    assert "livenessProbe" not in container
    assert spec["priorityClassName"] == "system-node-critical"


def test_a_pod_without_files_of_the_host_has_no_volumes() -> None:
    spec = _pod("kube-scheduler", [], credentials_dir="")["spec"]
    assert "volumes" not in spec
    assert "volumeMounts" not in spec["containers"][0]


def test_probes() -> None:
    https = _pod("kube-scheduler", [], probe=Probe(10259, scheme="HTTPS"))
    request = https["spec"]["containers"][0]["livenessProbe"]["httpGet"]
    assert request == {"host": "127.0.0.1", "port": 10259, "path": "/healthz", "scheme": "HTTPS"}
    tcp = _pod("kube-scheduler", [], probe=Probe(10259, path=""))
    assert tcp["spec"]["containers"][0]["livenessProbe"]["tcpSocket"] == {"port": 10259}


@given(flags=FLAGS)
def test_units_have_one_flag_a_line(flags: list[str]) -> None:
    text = render(
        "etc/systemd/system/kubelet.service.j2",
        binary="/usr/local/bin/kubelet",
        flags=flags,
        after=[],
        watchdog=0,
    )
    start = text.index("ExecStart=")
    words = text[start : text.index("\nRestart=")].split(" \\\n  ")
    assert words[0] == "ExecStart=/usr/local/bin/kubelet"
    assert [_unquoted(word) for word in words[1:]] == flags


def _unquoted(word: str) -> str:
    """What systemd makes of a word."""

    if word.startswith('"'):
        word = word[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return word.replace("%%", "%").replace("$$", "$")
