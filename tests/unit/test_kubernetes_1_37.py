"""
What is rendered for 1.37.2, held against files with which a cluster of 1.37.2 was built by hand:
the same in meaning, but for the differences that are listed here.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from pyinfra_kube.cluster.allocation import make_plan
from pyinfra_kube.cluster.components.common import CIPHERS
from pyinfra_kube.cluster.components.rendering import command_line, configuration
from pyinfra_kube.cluster.components.row_settings import settings
from pyinfra_kube.cluster.releases import Release
from pyinfra_kube.cluster.spec import ClusterSpec
from pyinfra_kube.deploys.phases.control_plane import manifest

BY_HAND = Path(__file__).parent / "fixtures/kubernetes-1.37"
RELEASE = Release.of("1.37.2")
HOST, FACTS = "n1", {"fail_cgroup_v1": False, "fail_swap_on": False, "proxy_mode": "nftables"}

# Where files are: by hand, and here.
PLACES = {
    "/etc/kubernetes/pki/apiserver.crt": "/srv/kubernetes/server.crt",
    "/etc/kubernetes/pki/apiserver.key": "/srv/kubernetes/server.key",
    "/etc/kubernetes/pki/apiserver-etcd-client.crt": "/srv/kubernetes/etcd-client.crt",
    "/etc/kubernetes/pki/apiserver-etcd-client.key": "/srv/kubernetes/etcd-client.key",
    "/etc/kubernetes/pki/apiserver-kubelet-client.crt": "/srv/kubernetes/kubelet-client.crt",
    "/etc/kubernetes/pki/apiserver-kubelet-client.key": "/srv/kubernetes/kubelet-client.key",
    "/etc/kubernetes/pki/kubelet-server.crt": "/var/lib/kubelet/pki/kubelet.crt",
    "/etc/kubernetes/pki/kubelet-server.key": "/var/lib/kubelet/pki/kubelet.key",
    "/etc/kubernetes/pki/sa.": "/srv/kubernetes/service-account.",
    "/etc/kubernetes/pki/": "/srv/kubernetes/",
    "/etc/kubernetes/controller-manager.conf": "/srv/kubernetes/kube-controller-manager.kubeconfig",
    "/etc/kubernetes/scheduler.conf": "/srv/kubernetes/kube-scheduler.kubeconfig",
    "/etc/kubernetes/scheduler.yaml": "/srv/kubernetes/kube-scheduler.yaml",
    "/etc/kubernetes/kube-proxy.conf": "/var/lib/kube-proxy/kubeconfig",
}

LOCAL = "https://127.0.0.1"
# Flag → what it is by hand, and here; None where it is not set.
FLAGS: dict[str, dict[str, tuple[str | None, str | None]]] = {
    "etcd": {
        # One member beside the only apiserver serves it alone.
        "listen-client-urls": (f"{LOCAL}:2379,https://198.51.100.13:2379", f"{LOCAL}:2379"),
        "advertise-client-urls": ("https://198.51.100.13:2379", f"{LOCAL}:2379"),
        "listen-peer-urls": ("https://198.51.100.13:2380", f"{LOCAL}:2380"),
        "initial-advertise-peer-urls": ("https://198.51.100.13:2380", f"{LOCAL}:2380"),
        "initial-cluster": ("n1=https://198.51.100.13:2380", f"n1={LOCAL}:2380"),
        "initial-cluster-token": (None, "lab"),
        # The default from 3.6 on.
        "snapshot-count": ("10000", None),
    },
    "kube-apiserver": {
        "bind-address": (None, "0.0.0.0"),
        # What no one without a credential may see, and who asked for what.
        "authentication-config": (None, "/srv/kubernetes/authentication.yaml"),
        "audit-policy-file": (None, "/srv/kubernetes/audit-policy.yaml"),
        "audit-log-path": (None, "/var/log/kube-apiserver/audit.log"),
        "audit-log-maxage": (None, "30"),
        "audit-log-maxbackup": (None, "10"),
        "audit-log-maxsize": (None, "100"),
        "profiling": (None, "false"),
        "tls-cipher-suites": (None, ",".join(CIPHERS)),
        "service-account-extend-token-expiration": (None, "false"),
        # Nodes get their credentials from here, and need no token to join.
        "enable-bootstrap-token-auth": ("true", None),
        "v": (None, "2"),
    },
    "kube-controller-manager": {
        # The plan gives each node its pod CIDR.
        "allocate-node-cidrs": ("true", "false"),
        "controllers": ("*,bootstrapsigner,tokencleaner", None),
        # One CA signs while two are trusted.
        "cluster-signing-cert-file": (
            "/srv/kubernetes/ca.crt",
            "/srv/kubernetes/signing-ca.crt",
        ),
        # Alone it needs no election, and so outlives an apiserver that is away.
        "leader-elect": ("true", "false"),
        "profiling": (None, "false"),
        "v": (None, "2"),
    },
    "kube-scheduler": {"v": (None, "2")},
}
FIELDS: dict[str, dict[str, tuple[Any, Any]]] = {
    "kubelet": {
        "address": (None, "0.0.0.0"),
        "enableProfilingHandler": (None, False),
        "registerNode": (None, True),
        # What the CIS benchmark asks for.
        "tlsCipherSuites": (None, [*CIPHERS]),
        "podPidsLimit": (None, 4096),
        # kubelet's own bounds, said.
        "containerLogMaxFiles": (None, 5),
        "containerLogMaxSize": (None, "10Mi"),
        "imageGCHighThresholdPercent": (None, 85),
        "imageGCLowThresholdPercent": (None, 80),
        "seccompDefault": (None, True),
        "registerWithTaints": (
            None,
            [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}],
        ),
    },
    # By default it answers whoever asks.
    "kube-proxy": {"healthzBindAddress": (None, "127.0.0.1:10256")},
    "kube-scheduler": {
        "leaderElection": ({"leaderElect": True}, {"leaderElect": False}),
        "enableProfiling": (None, False),
    },
}


def _spec() -> ClusterSpec:
    data = {
        "kubernetes_version": RELEASE.version,
        "cluster_name": "lab",
        "address": "198.51.100.13",
        "cluster_cidr": "10.200.0.0/16",
        "service_cidr": "10.96.0.0/16",
        "credential_kind": "certificate",
        "etcd_version": "3.7.3-0",
        "etcd_tls": True,
        "certificate_signing": True,
    }
    other = {**data, "address": "198.51.100.14"}
    return ClusterSpec.from_inventory(
        {"control_plane": [HOST], "nodes": ["n2"]}, {HOST: data, "n2": other}
    )


SPEC = _spec()
CONTEXT = settings(SPEC, make_plan(SPEC), HOST, FACTS)


def by_hand(name: str) -> Any:
    text = (BY_HAND / f"{name}.yaml").read_text()
    for theirs, ours in PLACES.items():
        text = text.replace(theirs, ours)
    return yaml.safe_load(text)


def rendered(component: str) -> Any:
    cluster: Any = SimpleNamespace(
        spec=SPEC,
        release=RELEASE,
        settings=lambda: CONTEXT,
        command_line=lambda component: command_line(component, RELEASE, CONTEXT),
    )
    return yaml.safe_load(manifest(cluster, component))


def differences(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = theirs.keys() | ours.keys()
    both = {name: (theirs.get(name), ours.get(name)) for name in names}
    return {name: pair for name, pair in both.items() if pair[0] != pair[1]}


def _flags(container: dict[str, Any]) -> dict[str, str]:
    return dict(line.removeprefix("--").split("=", 1) for line in container["command"][1:])


@pytest.mark.parametrize("component", FLAGS)
def test_flags(component: str) -> None:
    (theirs,), (ours,) = (
        pod["spec"]["containers"] for pod in (by_hand(component), rendered(component))
    )
    assert theirs["command"][0] == ours["command"][0]
    assert differences(_flags(theirs), _flags(ours)) == FLAGS[component]


@pytest.mark.parametrize("component", FLAGS)
def test_pods(component: str) -> None:
    theirs, ours = by_hand(component), rendered(component)
    assert theirs["metadata"] == ours["metadata"]
    (theirs_container,), (ours_container,) = (
        pod["spec"].pop("containers") for pod in (theirs, ours)
    )
    volumes = [pod["spec"].pop("volumes") for pod in (theirs, ours)]
    assert all(volumes)
    grace = 10 if component == "kube-apiserver" else 30
    assert differences(theirs["spec"], ours["spec"]) == {
        "terminationGracePeriodSeconds": (None, grace)
    }
    (port,) = theirs_container["ports"]
    for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
        wanted = theirs_container.get(kind)
        if wanted:
            wanted["httpGet"]["port"] = port["containerPort"]
        assert ours_container.get(kind) == wanted
    for key in ("name", "image", "imagePullPolicy"):
        assert theirs_container[key] == ours_container[key]
    if component != "etcd":  # Ours asks for more CPU, and for no memory.
        assert theirs_container["resources"] == ours_container["resources"]


@pytest.mark.parametrize(
    ("component", "file"),
    [
        ("kubelet", "kubelet"),
        ("kube-proxy", "kube-proxy"),
        ("kube-scheduler", "scheduler-configuration"),
    ],
)
def test_configuration_files(component: str, file: str) -> None:
    theirs = by_hand(file)
    assert differences(theirs, configuration(component, RELEASE, CONTEXT)) == FIELDS[component]
