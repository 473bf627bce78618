"""
Who may do what on a cluster of today: people with a kubeconfig of their own, API servers behind the
front proxy, kubelets, and nodes with the credential of another.

One cluster for all: each fixture is a step of its life, made from the one before.
"""

from __future__ import annotations

import json
import re
import shutil
import stat
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from pyinfra_kube.cluster import pki
from tests.e2e.paths import Run, Site, eventually, execute, ssh, succeeded
from tests.e2e.person import Person, kubeconfig_of
from tests.e2e.pods import Kubectl
from tests.lab import Lab, go_build
from tests.lab.lab import HOSTS

pytestmark = pytest.mark.lab

CONTROL_PLANE, *NODES = HOSTS
RELEASE = "1.37"

TAKE = "Take access away"
KEEP = "Keep people's kubeconfigs on the control machine"
GIVE = "Give access"


@pytest.fixture(scope="module")
def built(lab: Lab, site: Site) -> Run:
    return succeeded(site.run("-y", "--json"))


@pytest.fixture(scope="module")
def pods(built: Run, kubectl: Kubectl) -> dict[str, str]:
    return kubectl.run_web(NODES)


def access(site: Site, *options: str, **data: object) -> Run:
    """A run of deploys/access.py."""
    words = [word for key, value in data.items() for word in ("--data", f"access_{key}={value}")]
    return site.run(*options, "--json", *words, deploy="access")


def let_in(site: Site, **data: object) -> Run:
    """The same for good; the dry run before names what it then does."""
    dry = succeeded(access(site, "--dry", **data))
    run = succeeded(access(site, "-y", **data))
    assert run.changed == dry.planned
    assert dry.conditional == set()
    again = succeeded(access(site, "--dry", **data))
    assert (again.planned, again.conditional) == (set(), set())
    assert succeeded(access(site, "-y", **data)).changed == set()
    return run


def did(run: Run) -> set[str]:
    return {name for name, host in run.changed}


@pytest.fixture(scope="module")
def alice(lab: Lab, site: Site, pods: object) -> Person:
    run = let_in(site, user="alice", group="viewers", days=7)
    assert did(run) == {KEEP, GIVE}
    assert str(kubeconfig_of(site, "alice")) in run.said
    return Person(lab, kubeconfig_of(site, "alice"))


# People


def test_a_kubeconfig_is_kept_here_alone(alice: Person, lab: Lab, site: Site) -> None:
    assert stat.filemode(alice.kubeconfig.stat().st_mode) == "-rw-------"
    assert stat.filemode(alice.kubeconfig.parent.stat().st_mode) == "drwx------"
    cert, key = alice.pem()
    said = pki.read(cert.read_text())
    assert said.organizations == ()
    assert timedelta(days=6) < said.not_after - datetime.now(timezone.utc) <= timedelta(days=7)
    secret = key.read_text().splitlines()[3]
    for options in (["--dry", "--diff"], ["-y", "-vvv", "--debug-all"]):
        run = succeeded(access(site, *options, user="alice", group="viewers", days=7))
        assert secret not in run.said + run.out
    for host in HOSTS:
        assert execute(lab, host, f"grep -rl {secret} /srv /root /etc /var/lib /tmp || :") == []


def test_a_viewer_views(alice: Person) -> None:
    assert "web-" in alice.may("get", "pods")
    assert alice.may("get", "deployments", "--all-namespaces")
    assert alice.may_not("get", "secrets", "--all-namespaces")
    assert alice.may_not("get", "nodes")
    assert alice.may_not("delete", "service", "web")
    assert alice.may_not("create", "configmap", "alice")
    assert alice.may_not("get", "clusterrolebindings")
    assert alice.may_not("get", "--raw=/metrics")


def test_somebody_else_edits(alice: Person, lab: Lab, site: Site) -> None:
    let_in(site, user="bob", group="editors")
    bob = Person(lab, kubeconfig_of(site, "bob"))
    bob.may("create", "configmap", "bob")
    bob.may("delete", "configmap", "bob")
    bob.may_not("get", "clusterrolebindings")
    assert alice.may("get", "pods")


def test_whoever_is_revoked_is_out_at_once_and_for_good(
    alice: Person, lab: Lab, site: Site, tmp_path: Path
) -> None:
    old = Person(lab, shutil.copy(alice.kubeconfig, tmp_path / "old"))
    assert old.may("get", "pods")
    run = succeeded(access(site, "-y", revoke="alice"))
    assert old.may_not("get", "pods")
    assert did(run) == {TAKE, KEEP}
    assert not alice.kubeconfig.exists()
    again = succeeded(access(site, "-y", revoke="alice"))
    assert (did(again), "alice has no access" in again.said) == (set(), True)

    let_in(site, user="alice", group="cluster-admins")
    assert alice.may("get", "nodes")
    assert old.may_not("get", "pods")


def test_another_group_ends_the_one_before(
    alice: Person, lab: Lab, site: Site, tmp_path: Path
) -> None:
    old = Person(lab, shutil.copy(alice.kubeconfig, tmp_path / "old"))
    run = let_in(site, user="alice", group="viewers", days=7)
    assert did(run) == {TAKE, KEEP, GIVE}
    assert old.may_not("get", "pods")
    assert alice.may("get", "pods")
    assert alice.may_not("get", "secrets")


def test_a_lost_kubeconfig_is_made_anew_and_the_lost_one_ends(
    alice: Person, lab: Lab, site: Site, tmp_path: Path
) -> None:
    lost = Person(lab, shutil.move(alice.kubeconfig, tmp_path / "lost"))
    assert lost.may("get", "pods")
    assert did(let_in(site, user="alice", group="viewers", days=7)) == {TAKE, KEEP, GIVE}
    assert alice.may("get", "pods")
    assert lost.may_not("get", "pods")


def test_drift_of_a_binding_is_mended(alice: Person, site: Site, kubectl: Kubectl) -> None:
    [name] = _bindings(kubectl, "alice")
    more = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory"}]
    patch = json.dumps([{"op": "add", "path": "/subjects/-", "value": more[0]}])
    kubectl(f"patch clusterrolebinding {name} --type=json --patch-file=/dev/stdin", patch)
    assert did(succeeded(access(site, "-y"))) == {GIVE}
    found = kubectl.get(f"clusterrolebinding {name}")
    assert [one["name"] for one in found["subjects"]] == [name]
    assert alice.may("get", "pods")
    assert did(succeeded(access(site, "-y"))) == set()


def test_whoever_has_had_access_long_enough_goes(
    alice: Person, lab: Lab, site: Site, kubectl: Kubectl
) -> None:
    let_in(site, user="carol", group="viewers", days=1)
    carol = Person(lab, kubeconfig_of(site, "carol"))
    assert carol.may("get", "pods")
    [name] = _bindings(kubectl, "carol")
    past = "pyinfra-kube/ends=2026-01-02T03:04:05Z"
    kubectl(f"annotate --overwrite clusterrolebinding {name} {past}")
    dry = succeeded(access(site, "--dry"))
    assert re.search(r"carol +expired", dry.said)
    run = succeeded(access(site, "-y"))
    assert dry.planned == run.changed
    assert did(run) == {TAKE, KEEP}
    assert carol.kubeconfig.exists() is False
    assert _bindings(kubectl, "carol") == []
    assert alice.may("get", "pods")


def test_a_binding_of_somebody_else_is_not_overlooked(
    alice: Person, lab: Lab, site: Site, kubectl: Kubectl, tmp_path: Path
) -> None:
    """Somebody gave an identity of ours more than this deploy knows of."""
    let_in(site, user="dave", group="viewers")
    dave = Person(lab, shutil.copy(kubeconfig_of(site, "dave"), tmp_path / "dave"))
    [name] = _bindings(kubectl, "dave")
    kubectl(f"create rolebinding extra --clusterrole=edit --user={name}")
    for _ in range(2):
        run = access(site, "-y", revoke="dave")
        assert run.code != 0
        assert f"RoleBinding default/extra names {name}" in run.said
        assert _bindings(kubectl, "dave") == []
    assert not kubeconfig_of(site, "dave").exists()
    kubectl("delete rolebinding extra")
    assert dave.may_not("get", "pods")
    succeeded(access(site, "-y", revoke="dave"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"user": "system:node:n", "group": "viewers"}, 'fix: write "node.n"'),
        ({"user": "eve"}, "access_group is not set; allowed: one of viewers"),
        ({"user": "eve", "group": "root"}, "access_group = 'root'; allowed: 'viewers'"),
        ({"user": "eve", "group": "viewers", "days": 4000}, "access_days = 4000; allowed: at most"),
        ({"user": "eve", "group": "viewers", "revoke": "eve"}, "access_revoke = 'eve'; allowed:"),
        ({"group": "viewers"}, "access_group = 'viewers'; allowed: nothing"),
    ],
)
def test_wrong_input_is_refused(
    alice: Person, site: Site, data: dict[str, object], said: str
) -> None:
    before = site.contents()
    for option in ("--dry", "-y"):
        run = access(site, option, **data)
        assert run.code != 0
        assert said in run.said
    assert site.contents() == before


def _bindings(kubectl: Kubectl, person: str) -> list[str]:
    """The names of somebody's bindings."""
    found = kubectl.get(f"clusterrolebindings --selector=pyinfra-kube/user={person}")
    return [one["metadata"]["name"] for one in found]


@pytest.fixture(scope="module")
def viewer(pods: object, lab: Lab, site: Site) -> Person:
    """Somebody whom the API knows, and who may do little."""
    succeeded(access(site, "-y", user="frank", group="viewers"))
    return Person(lab, kubeconfig_of(site, "frank"))


# API servers behind the front proxy

METRICS_PORT = 4443
METRICS = f"""\
systemd-run --quiet --unit=metrics-server /root/metrics-server --secure-port={METRICS_PORT} \
  --kubeconfig=/root/erin --authentication-kubeconfig=/root/erin \
  --authorization-kubeconfig=/root/erin --cert-dir=/root/metrics-certs \
  --kubelet-certificate-authority=/srv/kubernetes/ca.crt \
  --kubelet-preferred-address-types=InternalIP --metric-resolution=15s
"""


@pytest.fixture(scope="module")
def metrics(pods: object, lab: Lab, site: Site, kubectl: Kubectl) -> Iterator[str]:
    """metrics-server beside a node's kubelet, as the API that it serves; its URL."""
    let_in(site, user="erin", group="cluster-admins")
    program = (go_build.built("metrics-server") / "metrics-server").read_bytes()
    ssh(lab, NODES[0], "cat >/root/metrics-server; chmod 755 /root/metrics-server", program)
    kubeconfig = kubeconfig_of(site, "erin").read_bytes()
    ssh(lab, NODES[0], "umask 77; cat >/root/erin", kubeconfig)
    execute(lab, NODES[0], METRICS)
    address = lab.hosts[NODES[0]].ip
    kubectl(
        "apply --filename=-",
        json.dumps(
            {
                "kind": "List",
                "apiVersion": "v1",
                "items": [
                    {
                        "apiVersion": "v1",
                        "kind": "Service",
                        "metadata": {"name": "metrics", "namespace": "kube-system"},
                        "spec": {"ports": [{"port": 443, "targetPort": METRICS_PORT}]},
                    },
                    {
                        "apiVersion": "discovery.k8s.io/v1",
                        "kind": "EndpointSlice",
                        "metadata": {
                            "name": "metrics",
                            "namespace": "kube-system",
                            "labels": {"kubernetes.io/service-name": "metrics"},
                        },
                        "addressType": "IPv4",
                        "ports": [{"name": "", "port": METRICS_PORT, "protocol": "TCP"}],
                        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
                    },
                    {
                        "apiVersion": "apiregistration.k8s.io/v1",
                        "kind": "APIService",
                        "metadata": {"name": "v1beta1.metrics.k8s.io"},
                        "spec": {
                            "group": "metrics.k8s.io",
                            "version": "v1beta1",
                            "service": {"name": "metrics", "namespace": "kube-system"},
                            "insecureSkipTLSVerify": True,
                            "groupPriorityMinimum": 100,
                            "versionPriority": 100,
                        },
                    },
                ],
            }
        ),
    )
    yield f"https://{address}:{METRICS_PORT}"
    kubectl("delete apiservice v1beta1.metrics.k8s.io")
    execute(lab, NODES[0], "systemctl stop metrics-server")


def test_an_aggregated_api_answers_through_the_front_proxy(
    metrics: str, lab: Lab, site: Site, viewer: Person
) -> None:
    """It reads kubelets' metrics with the cluster's CA, and knows who asks."""
    erin = Person(lab, kubeconfig_of(site, "erin"))

    def measured() -> set[str]:
        found = json.loads(erin.may("get", "--raw=/apis/metrics.k8s.io/v1beta1/nodes"))
        return {item["metadata"]["name"] for item in found["items"]}

    assert eventually(lambda: measured() == set(HOSTS), 120)
    # Whom the front proxy names is whom metrics-server asks about.
    assert "pyinfra-kube:frank:" in viewer.may_not("get", "nodes.metrics.k8s.io")


def test_who_is_not_the_front_proxy_names_nobody(
    metrics: str, lab: Lab, site: Site, viewer: Person
) -> None:
    """An API server behind it believes the headers of the front proxy's certificate alone."""
    url = f"{metrics}/apis/metrics.k8s.io/v1beta1/nodes"
    root = "-H 'X-Remote-User: root' -H 'X-Remote-Group: system:masters'"
    ask = f"curl -sk -m 10 -o /dev/null -w '%{{http_code}}' {root}"
    front = "/srv/kubernetes/front-proxy-client"
    with_front = f"--cert {front}.crt --key {front}.key"
    assert execute(lab, CONTROL_PLANE, f"{ask} {with_front} {url}") == ["200"]
    # No certificate, one of the cluster's own CA, and one of another CA with the right name.
    kubelet_client = "/srv/kubernetes/kubelet-client"
    others = ["", f"--cert {kubelet_client}.crt --key {kubelet_client}.key"]
    pair = pki.issue(pki.make_ca("kubernetes-front-proxy-ca"), "client", "front-proxy-client")
    for name, text in (("crt", pair.cert), ("key", pair.key)):
        ssh(lab, CONTROL_PLANE, f"umask 77; cat >/root/stranger.{name}", text.encode())
    others.append("--cert /root/stranger.crt --key /root/stranger.key")
    # The apiserver itself believes nobody else either.
    own = f"https://{lab.hosts[CONTROL_PLANE].ip}:6443/api/v1/secrets"
    for words in others:
        assert execute(lab, CONTROL_PLANE, f"{ask} {words} {url}")[0] in ("401", "403"), words
        assert execute(lab, CONTROL_PLANE, f"{ask} {words} {own}")[0] in ("401", "403"), words


# Kubelets

PATHS = (
    *("/pods", "/runningpods/", "/metrics", "/metrics/cadvisor", "/stats/summary", "/configz"),
    *("/logs/", "/containerLogs/default/web/web", "/exec/default/web/web?command=id"),
    *("/run/default/web/web?cmd=id", "/debug/pprof/", "/healthz"),
)


@pytest.mark.parametrize("host", HOSTS)
def test_kubelets_answer_nobody_without_a_credential(viewer: Person, lab: Lab, host: str) -> None:
    """Nor one of another CA, nor whoever has one of the cluster's but may not."""
    url = f"https://{lab.hosts[host].ip}:10250"
    pair = pki.issue(pki.make_ca("kubernetes-ca"), "client", "admin", ["system:masters"])
    own, own_key = (path.read_text() for path in viewer.pem())
    texts = {"stranger": (pair.cert, pair.key), "viewer": (own, own_key)}
    for name, (cert, key) in texts.items():
        for end, text in (("crt", cert), ("key", key)):
            ssh(lab, CONTROL_PLANE, f"umask 77; cat >/root/{name}.{end}", text.encode())
    ask = "curl -sk -m 10 -o /dev/null -w '%{http_code}\\n'"
    for words, code in (
        ("", "401"),
        ("-H 'Authorization: Bearer of-nobody'", "401"),
        ("--cert /root/stranger.crt --key /root/stranger.key", "401"),
        ("--cert /root/viewer.crt --key /root/viewer.key", "403"),
    ):
        command = "; ".join(f"{ask} {words} '{url}{path}'" for path in PATHS)
        assert execute(lab, CONTROL_PLANE, command) == [code] * len(PATHS), words
    for port in (10255, 4194):
        assert lab.exec(CONTROL_PLANE, f"curl -m 5 http://{lab.hosts[host].ip}:{port}/").returncode


# A node's credential


@pytest.fixture(scope="module")
def node(pods: object, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Whoever has taken a node's own credential from its disk."""
    file = tmp_path_factory.mktemp("node") / "kubeconfig"
    file.touch(mode=0o600)
    file.write_text(ssh(lab, NODES[0], "cat /var/lib/kubelet/kubeconfig"))
    return Person(lab, file)


@pytest.fixture(scope="module")
def used(pods: object, kubectl: Kubectl) -> dict[str, str]:
    """A Secret for each node, which a pod there uses: node → its name."""
    items = []
    for host in NODES:
        name = f"only-{host}"
        items.append(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name},
                "stringData": {"value": host},
            }
        )
        reference = {"secretKeyRef": {"name": name, "key": "value"}}
        items.append(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name},
                "spec": {
                    "nodeName": host,
                    "terminationGracePeriodSeconds": 0,
                    "containers": [
                        {
                            "name": "sleep",
                            "image": "registry.k8s.io/pause:none",
                            "env": [{"name": "VALUE", "valueFrom": reference}],
                        }
                    ],
                },
            }
        )
    kubectl("apply --filename=-", json.dumps({"kind": "List", "apiVersion": "v1", "items": items}))
    return {host: f"only-{host}" for host in NODES}


def test_a_node_reads_the_secrets_of_its_own_pods_alone(node: Person, used: dict[str, str]) -> None:
    own, other = (used[host] for host in NODES)
    eventually(lambda: node.may("get", "secret", own, "--output=name"))
    node.may_not("get", "secret", other)
    node.may_not("get", "secrets")
    node.may_not("get", "secrets", "--all-namespaces")
    node.may_not("get", "secret", own, "--namespace=kube-system")


def test_a_node_changes_itself_alone(node: Person, used: dict[str, str]) -> None:
    own, *others = (f"/api/v1/nodes/{name}" for name in (*NODES, CONTROL_PLANE))
    condition = {"type": "Tried", "status": "True", "reason": "Tried", "message": "by a test"}
    status = {"status": {"conditions": [condition]}}
    labels = {"metadata": {"labels": {"example.com/tried": "yes"}}}
    assert node.send("PATCH", f"{own}/status", status) == 200
    assert node.send("PATCH", own, labels) == 200
    for other in others:
        assert node.send("PATCH", f"{other}/status", status) == 403
        assert node.send("PATCH", other, labels) == 403
        assert node.send("PATCH", other, {"spec": {"unschedulable": True}}) == 403
        assert node.send("DELETE", other) == 403
    # What would let it have pods that are meant for others, or have it registered anew.
    restricted = {"metadata": {"labels": {"node-restriction.kubernetes.io/tried": "yes"}}}
    assert node.send("PATCH", own, restricted) == 403
    taint = {"key": "example.com/tried", "value": "yes", "effect": "NoSchedule"}
    assert node.send("PATCH", own, {"spec": {"taints": [taint]}}) == 403
    assert node.send("DELETE", own) == 403
    new = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "kube-node-9"}}
    assert node.send("POST", "/api/v1/nodes", new) == 403


def test_a_node_touches_nothing_of_another(
    node: Person, used: dict[str, str], kubectl: Kubectl
) -> None:
    pods = "/api/v1/namespaces/default/pods"
    own, other = (f"{pods}/{used[host]}" for host in NODES)
    message = {"status": {"message": "by a test"}}
    assert node.send("PATCH", f"{own}/status", message) == 200
    assert node.send("PATCH", f"{other}/status", message) == 403
    assert node.send("DELETE", other) == 403
    assert node.send("DELETE", own) == 200
    [web] = kubectl.get(f"pods --selector=on={NODES[1]}")
    assert node.send("DELETE", f"{pods}/{web['metadata']['name']}") == 403
    leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
    holder = {"metadata": {"labels": {"example.com/tried": "yes"}}}
    assert node.send("PATCH", f"{leases}/{NODES[0]}", holder) == 200
    assert node.send("PATCH", f"{leases}/{NODES[1]}", holder) == 403
    token = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    default = "/api/v1/namespaces/default/serviceaccounts/default/token"
    assert node.send("POST", default, token) == 403
    assert node.send("GET", f"/api/v1/nodes/{NODES[1]}/proxy/pods") == 403
    assert node.send("GET", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings") == 403
    kubectl(f"delete pod {used[NODES[1]]} --wait=false")
