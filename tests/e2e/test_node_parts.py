"""The parts of a node, each by itself, on a host with a real systemd, docker and kubelet."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import FactBase

from pyinfra_kube.facts.certificates import Certificates
from pyinfra_kube.facts.nodes import Nodes
from pyinfra_kube.facts.processes import Flags
from pyinfra_kube.operations import services
from pyinfra_kube.operations.util.script import Script
from tests.lab import Lab, down, held
from tests.unit.harness import answers, fake_host

pytestmark = pytest.mark.lab

HOST = "kube-master"
REPOSITORY = Path(__file__).parents[2]


class Part:
    """One host, and deploys of a few lines on it."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.deploy = folder / "deploy.py"
        assert lab.kubernetes
        self.release = lab.kubernetes

    def sh(self, command: str) -> str:
        done = self.lab.exec(HOST, command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout.strip()

    def pyinfra(self, text: str, *options: str) -> subprocess.CompletedProcess[str]:
        self.deploy.write_text(textwrap.dedent(text).replace("RELEASE", str(self.release)))
        pyinfra = str(Path(sys.executable).with_name("pyinfra"))
        command = [pyinfra, "inventories/lab.py", str(self.deploy), *options]
        return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)

    def plan(self, text: str) -> set[str]:
        """The operations that a dry run announces."""

        done = self.pyinfra(text, "--dry", "--json")
        assert done.returncode == 0, done.stderr
        report = _report(done)
        assert not any(op["hosts_with_conditional_change"] for op in report["plan"])
        return {op["name"] for op in report["plan"] if op["hosts_with_change"]}

    def run(self, text: str) -> set[str]:
        """Run; return the operations that changed something."""

        done = self.pyinfra(text, "-y", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return {op["name"] for op in _report(done)["results"]["operations"] if op["success"]}

    def settle(self, text: str) -> set[str]:
        """Run as planned, and see that nothing is left to do."""

        planned = self.plan(text)
        assert self.run(text) == planned
        assert self.plan(text) == set()
        return planned

    def fact(self, fact: type[FactBase[Any]], **arguments: Any) -> Any:
        instance = fact()
        command: Any = instance.command
        lines = self.sh(command(**arguments)).splitlines()
        return instance.process(lines) if lines else instance.default()

    def once(self, operation: Any, **arguments: Any) -> list[str]:
        """Run an operation's scripts without pyinfra around them; return what ``--diff`` shows."""

        with fake_host({}) as (host, _, shown):
            answers(host, self.fact)
            for command in operation._inner(**arguments):
                assert isinstance(command, Script)
                text = base64.b64encode(str(command.connector_arguments["_stdin"]).encode())
                self.sh(f"echo {text.decode()} | base64 -d | {command.get_raw_value()}")
        return shown

    def fails(self, text: str) -> str:
        done = self.pyinfra(text, "-y")
        assert done.returncode != 0
        return done.stdout + done.stderr


def _report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with held():
        yield Lab.up([HOST], docker=True)
        down()


@pytest.fixture
def part(lab: Lab, tmp_path: Path) -> Part:
    return Part(lab, tmp_path)


@pytest.fixture
def part_1_20(part: Part) -> Part:
    if part.lab.release.minor != (1, 20):
        pytest.skip("its command lines are those of 1.20")
    return part


UNITS = [
    services.Unit("firewalld.service", running=False, enabled=False),
    services.Unit("docker.service", config=["/etc/docker/daemon.json", "/etc/hosts"]),
    services.Unit("part.service", config=["/etc/part.conf"]),
]
UNIT = "[Service]\\nExecStart=/bin/sleep 1000\\n[Install]\\nWantedBy=multi-user.target\\n"


@pytest.fixture(scope="module")
def unit(lab: Lab) -> None:
    lab.exec(HOST, f"printf '{UNIT}' > /etc/systemd/system/part.service; touch /etc/part.conf")


def test_units_run_in_one_operation(part: Part, unit: None) -> None:
    text = """
        from pyinfra_kube.operations import services
        services.services(name="Run units", units=[services.Unit("part.service")])
    """
    assert part.settle(text) == {"Run units"}
    assert part.sh("systemctl is-enabled part") == "enabled"


@pytest.mark.parametrize(
    "spoil",
    [
        "touch /etc/part.conf",
        "touch -d '+1 day' /etc/part.conf",
        "mkdir -p /etc/systemd/system/part.service.d; "
        "printf '[Service]\\nEnvironment=A=B\\n' > /etc/systemd/system/part.service.d/a.conf",
        "rm /etc/systemd/system/part.service.d/a.conf; systemctl daemon-reload",
        # systemd starts what it had read, however new the file is.
        "touch -d '+1 second' /etc/systemd/system/part.service; sleep 2; systemctl restart part",
        "systemctl stop part; systemctl disable part",
        "systemctl stop part; systemctl mask --runtime part",
    ],
)
def test_units_are_never_older_than_what_they_read(part: Part, unit: None, spoil: str) -> None:
    pids = "systemctl show --value --property=MainPID part docker"
    part.once(services.services, units=UNITS)
    assert part.once(services.services, units=UNITS) == []
    part.sh(spoil)
    before = part.sh(pids).split()
    changed = part.once(services.services, units=UNITS)
    assert changed
    assert all(line.startswith("part.service: ") for line in changed)
    after = part.sh(pids).split()
    assert after[0] not in ("0", before[0])
    assert after[1] == before[1], "docker is none of part's business"
    assert part.once(services.services, units=UNITS) == []


@pytest.mark.parametrize("pause", ["1s", "5ms"])
def test_a_unit_that_does_not_stay_up_is_reported_with_its_journal(part: Part, pause: str) -> None:
    unit = f"""
        [Unit]
        StartLimitIntervalSec=0
        [Service]
        ExecStart=/bin/sh -c 'echo why it fails; exit 3'
        Restart=always
        RestartSec={pause}
    """
    part.sh(f"cat > /etc/systemd/system/bad.service <<'UNIT'\n{textwrap.dedent(unit)}\nUNIT")
    said = part.fails(
        """
        from pyinfra_kube.operations import services
        services.services(
            name="Run a bad unit", units=[services.Unit("bad.service", enabled=None)]
        )
        """
    )
    assert "bad.service" in said
    assert "why it fails" in said
    part.sh("systemctl stop bad; rm /etc/systemd/system/bad.service")


DOCKER = """
    from pyinfra_kube.operations import docker, services
    configured = docker.docker(
        name="Configure docker",
        options={"bridge": "none", "iptables": False, "ip-masq": False, "mtu": 1460},
        nofile=7000,
    )
    services.services(
        name="Run docker",
        units=[
            services.Unit("docker.service", config=docker.CONFIG, restart=configured.will_change)
        ],
    )
    docker.docker0_absent(name="Remove docker0")
    docker.working(name="Docker works", storage_drivers=["overlay2"])
"""


def test_docker_keeps_what_others_told_it(part: Part) -> None:
    part.sh("echo '{\"debug\": true}' > /etc/docker/daemon.json")
    part.sh("echo 'DOCKER_OPTS=\"--mtu 1400 --max-concurrent-uploads=2\"' > /etc/default/docker")
    part.sh("iptables -t nat -A POSTROUTING -s 10.9.0.0/16 -j MASQUERADE")
    part.sh("systemctl restart docker")

    changed = part.settle(DOCKER)

    assert changed == {"Configure docker", "Run docker", "Remove docker0"}
    assert json.loads(part.sh("cat /etc/docker/daemon.json"))["debug"] is True
    assert "--max-concurrent-uploads=2" in part.sh("tr '\\0' ' ' < /proc/$(pidof dockerd)/cmdline")
    assert "7000" in part.sh("grep 'open files' /proc/$(pidof dockerd)/limits")
    assert "docker0" not in part.sh("ip -o link")
    rules = part.sh("iptables-save")
    assert "DOCKER" not in rules
    assert "-A POSTROUTING -s 10.9.0.0/16 -j MASQUERADE" in rules

    part.sh("sed -i s/1460/1500/ /etc/docker/daemon.json")
    assert part.settle(DOCKER) == {"Configure docker", "Run docker"}


def test_a_docker_that_is_stopped_is_not_started_by_looking(part: Part) -> None:
    part.sh("systemctl stop docker.service; systemctl start docker.socket")
    part.plan(DOCKER)
    part.plan(IMAGES)
    assert part.lab.exec(HOST, "systemctl is-active docker.service").stdout.strip() == "inactive"
    part.sh("systemctl start docker.service")


IMAGES = """
    from pyinfra_kube.operations import images
    images.images(
        name="Load images",
        files={
            "k8s.gcr.io/pause:3.2": "RELEASE/pause.tar",
            "k8s.gcr.io/etcd:3.4.13-0": "RELEASE/etcd.tar",
            "example.org/other/name:7": "RELEASE/test.tar",
            "lab/test:1": "RELEASE/test.tar",
        },
    )
"""


def test_images_are_loaded_where_they_are_missing_or_others(part: Part) -> None:
    assert part.settle(IMAGES) == {"Load images"}
    ids = part.sh("docker inspect --format '{{.Id}}' lab/test:1 example.org/other/name:7")
    assert len(set(ids.split())) == 1

    part.sh("docker tag k8s.gcr.io/pause:3.2 lab/test:1; docker rmi example.org/other/name:7")
    assert part.settle(IMAGES) == {"Load images"}
    part.sh("mkdir /var/tmp/pyinfra-kube-images; echo half > /var/tmp/pyinfra-kube-images/a.tar")
    assert part.settle(IMAGES) == {"Load images"}
    part.sh("test ! -e /var/tmp/pyinfra-kube-images")


BINARIES = """
    from pyinfra_kube.operations import binaries
    binaries.binaries(
        name="Install programs",
        binaries=[
            binaries.Binary("/usr/local/bin/kubelet", "RELEASE/kubelet"),
            binaries.Binary("/usr/local/bin/kubectl", "RELEASE/kubectl"),
        ],
    )
"""


def test_programs_are_replaced_when_they_are_others(part: Part) -> None:
    assert part.settle(BINARIES) == {"Install programs"}
    assert f"v{part.lab.release.version}" in part.sh("kubectl version --client")

    part.sh("echo x >> /usr/local/bin/kubectl; chmod 600 /usr/local/bin/kubelet")
    before = part.sh("stat -c %i /usr/local/bin/kubelet")
    assert part.settle(BINARIES) == {"Install programs"}
    assert part.sh("stat -c %a /usr/local/bin/kubelet") == "755"
    assert part.sh("stat -c %i /usr/local/bin/kubelet") == before, "only its mode was wrong"


ETCD = """
    from pyinfra_kube.operations import etcd
    tls = {"ca": "/srv/pki/ca.crt", "cert": "/srv/pki/ca.crt", "key": "/srv/pki/ca.key"}
    for api, endpoint, files in (
        ("v2", "http://127.0.0.1:2379", {}),
        ("v3", "http://127.0.0.1:2379", {}),
        ("v3", "https://127.0.0.1:2479", tls),
    ):
        etcd.keys(
            name=f"Set keys {api} {endpoint}",
            keys=[
                etcd.Key("/coreos.com/network/config", '{"Network": "10.10.0.0/16"}', json=True),
                etcd.Key("/text", "it's \\n <b> & 'more' $x \\\\", previous=PREVIOUS),
                etcd.Key("/gone", present=False),
            ],
            endpoints=["http://127.0.0.1:9", endpoint],
            api=api,
            **files,
        )
"""


def _run_etcd(part: Part, name: str, *flags: str) -> None:
    part.sh(
        "mkdir -p /srv/pki && cd /srv/pki && [ -e ca.key ] || openssl req -x509 -newkey rsa:2048 "
        "-nodes -keyout ca.key -out ca.crt -subj /CN=127.0.0.1 -days 2 "
        "-addext subjectAltName=IP:127.0.0.1 2>/dev/null"
    )
    part.sh(
        f"docker run -d --name {name} --network host -v /srv/pki:/srv/pki "
        f"k8s.gcr.io/etcd:3.4.13-0 etcd --enable-v2 --data-dir=/data {' '.join(flags)}"
    )


def test_keys_of_etcd(part: Part) -> None:
    part.run(IMAGES)
    _run_etcd(part, "plain")
    tls = "https://127.0.0.1:2479"
    part_tls = [f"--listen-client-urls={tls}", f"--advertise-client-urls={tls}"]
    part_tls += ["--listen-peer-urls=http://127.0.0.1:2480", "--cert-file=/srv/pki/ca.crt"]
    part_tls += ["--initial-advertise-peer-urls=http://127.0.0.1:2480", "--client-cert-auth"]
    part_tls += ["--initial-cluster=default=http://127.0.0.1:2480", "--key-file=/srv/pki/ca.key"]
    _run_etcd(part, "tls", *part_tls, "--trusted-ca-file=/srv/pki/ca.crt")
    try:
        health = "curl -sf http://127.0.0.1:2379/health"
        part.sh(f"for n in $(seq 30); do {health} && exit; sleep 1; done")
        assert len(part.settle(ETCD.replace("PREVIOUS", "None"))) == 3
        raw = part.sh("curl -s http://127.0.0.1:2379/v2/keys/text")
        assert json.loads(raw)["node"]["value"] == "it's \n <b> & 'more' $x \\"

        part.sh("curl -s -X PUT -d value=theirs http://127.0.0.1:2379/v2/keys/text")
        part.sh("curl -s -X PUT -d value=1 http://127.0.0.1:2379/v2/keys/gone")
        said = part.fails(ETCD.replace("PREVIOUS", "'another'"))
        assert "it has 'theirs', and only 'another' may be replaced" in said
        changed = part.settle(ETCD.replace("PREVIOUS", "'theirs'"))
        assert changed == {"Set keys v2 http://127.0.0.1:2379"}
        assert '"errorCode":100' in part.sh("curl -s http://127.0.0.1:2379/v2/keys/gone")
        said = part.fails(ETCD.replace("PREVIOUS", "None").replace("/srv/pki/ca.key", "/none"))
        assert "refuses us" in said
    finally:
        part.sh("docker rm -f plain tls")
    assert "does not answer" in part.fails(ETCD.replace("PREVIOUS", "None"))


KUBELET = """
    from pyinfra_kube.operations import kubelet, services, static_pods
    unit = kubelet.kubelet(
        name="Set up kubelet",
        flags=[
            "--pod-manifest-path=/etc/kubernetes/manifests",
            "--fail-swap-on=false",
            "--cgroup-driver=cgroupfs",
            "--pod-infra-container-image=k8s.gcr.io/pause:3.2",
            "--file-check-frequency=2s",
        ],
    )
    services.services(
        name="Run kubelet",
        units=[
            services.Unit(
                "kubelet.service",
                config=["/usr/local/bin/kubelet"],
                restart=unit.will_change,
            ),
        ],
    )
    text = (
        "apiVersion: v1\\nkind: Pod\\nmetadata: {name: part, namespace: kube-system}\\nspec:\\n"
        "  hostNetwork: true\\n  containers:\\n  - name: part\\n    image: lab/test:1\\n"
        "    command: [sh, -c, 'trap exit TERM; while :; do sleep 1; done']\\n"
    )
    static_pods.static_pods(
        name="Run a pod",
        pods=[static_pods.StaticPod("part", text, config=["/etc/part.conf"])],
        absent=["old"],
    )
"""


def test_static_pods_are_never_older_than_what_they_read(part_1_20: Part) -> None:
    part = part_1_20
    part.run(IMAGES)
    part.run(BINARIES)
    part.sh("touch /etc/part.conf")
    assert part.settle(KUBELET) == {"Set up kubelet", "Run kubelet", "Run a pod"}
    container = "docker ps -q --no-trunc --filter label=io.kubernetes.container.name=part"
    first = part.sh(f"for n in $(seq 60); do {container} | grep . && exit; sleep 1; done")
    assert first

    part.sh("chmod 600 /etc/part.conf")
    assert part.plan(KUBELET) == set(), "a mode is no reason to restart"
    for spoil in ("touch /etc/part.conf", "touch -d '+1 day' /etc/part.conf"):
        part.sh(spoil)
        assert part.settle(KUBELET) == {"Run a pod"}, spoil
        second = part.sh(container)
        assert second
        assert second != first
        first = second

    manifests = "cd /etc/kubernetes/manifests"
    part.sh(f"{manifests} && cp part.yaml old.yaml && sed -i 's/sleep 1/sleep 2/' part.yaml")
    assert part.settle(KUBELET) == {"Run a pod"}

    # The old container takes a while to end, and is no reason to restart the new one.
    slow = KUBELET.replace("trap exit", "trap :").replace("{name: part", "{name: slow")
    slow = slow.replace("hostNetwork", "terminationGracePeriodSeconds: 15\\n  hostNetwork")
    assert part.settle(slow) == {"Run a pod"}
    part.sh("touch /etc/part.conf")
    assert part.settle(slow.replace("sleep 1", "sleep 2")) == {"Run a pod"}

    # kubelet never sees the other manifest, and so keeps the container.
    part.sh(f"systemctl stop kubelet; {manifests} && echo '#' >> part.yaml; touch /etc/part.conf")
    last = part.sh(f"{container} --last 1")
    assert part.settle(slow.replace("sleep 1", "sleep 2")) == {"Run kubelet", "Run a pod"}
    assert part.sh(f"{container} --last 1") != last
    part.sh("rm /etc/kubernetes/manifests/part.yaml")


CONTROL_PLANE = """
    from pyinfra_kube.operations import images, kubeconfig, secrets, static_pods
    from pyinfra_kube.operations.static_pods import Probe, StaticPod, manifest
    images.images(
        name="Load the API server",
        files={"k8s.gcr.io/kube-apiserver:v1.20.2": "RELEASE/kube-apiserver.tar"},
    )
    secrets.secret_files(
        name="Set tokens",
        files={"/srv/kubernetes/known_tokens.csv": "TOKEN,admin,admin\\n"},
    )
    kubeconfig.kubeconfig(
        name="Set kubeconfig",
        paths={
            "/root/part.kubeconfig": (
                "{apiVersion: v1, kind: Config, current-context: c,"
                " clusters: [{name: c, cluster: {server: 'https://127.0.0.1:6443',"
                " certificate-authority: /srv/kubernetes/server.crt}}],"
                " users: [{name: u, user: {token: TOKEN}}],"
                " contexts: [{name: c, context: {cluster: c, user: u}}]}"
            )
        },
    )
    read = ["/srv/kubernetes/known_tokens.csv", "/srv/kubernetes/server.crt"]
    server = [
        "--etcd-servers=http://127.0.0.1:2379",
        "--service-cluster-ip-range=10.254.0.0/24",
        "--token-auth-file=/srv/kubernetes/known_tokens.csv",
        "--tls-cert-file=/srv/kubernetes/server.crt",
        "--tls-private-key-file=/srv/kubernetes/server.key",
        "--service-account-issuer=https://kubernetes",
        "--service-account-signing-key-file=/srv/kubernetes/server.key",
        "--service-account-key-file=/srv/kubernetes/server.key",
    ]
    static_pods.static_pods(
        name="Run the control plane",
        pods=[
            StaticPod(
                "etcd",
                manifest(
                    "etcd",
                    image="k8s.gcr.io/etcd:3.4.13-0",
                    flags=["--data-dir=/var/lib/etcd"],
                    probe=Probe(port=2379, path="/health"),
                ),
            ),
            StaticPod(
                "kube-apiserver",
                manifest(
                    "kube-apiserver",
                    image="k8s.gcr.io/kube-apiserver:v1.20.2",
                    flags=server,
                    probe=Probe(port=6443, scheme="HTTPS", path=""),
                ),
                config=read,
            ),
        ],
    )
"""
NODES = """
    from pyinfra_kube.operations import nodes
    nodes.node_objects(
        name="Set nodes",
        nodes=[
            nodes.NodeObject(
                "by-hand", pod_cidr="10.10.1.0/24", labels={"disk": "ssd", "old": None}, create=True
            ),
        ],
        absent=["gone"],
        kubeconfig="/root/part.kubeconfig",
    )
"""


def test_a_control_plane_and_its_node_objects(part_1_20: Part) -> None:
    part = part_1_20
    for text in (IMAGES, BINARIES, KUBELET.split("    text = (")[0]):
        part.run(text)
    part.sh(
        "mkdir -p /srv/kubernetes && cd /srv/kubernetes && openssl req -x509 -newkey rsa:2048 "
        "-nodes -keyout server.key -out server.crt -subj /CN=part/O=lab -days 30 "
        "-addext subjectAltName=IP:127.0.0.1,DNS:kubernetes 2>/dev/null"
    )
    (certificate,) = part.fact(Certificates, paths=["/srv/kubernetes/server.crt", "/none"])[
        "/srv/kubernetes/server.crt"
    ]
    assert certificate.names == ("kubernetes", "127.0.0.1")
    assert certificate.subject == "O=lab,CN=part"

    assert part.fact(Nodes, kubeconfig="/root/part.kubeconfig").status == "down"
    assert len(part.settle(CONTROL_PLANE)) == 4
    kubectl = "kubectl --kubeconfig=/root/part.kubeconfig"
    part.sh(f"for n in $(seq 90); do {kubectl} get --raw /api && exit; sleep 1; done; exit 1")
    running = part.fact(Flags, names=["kube-apiserver", "etcd", "kubelet"])
    assert running["kube-apiserver"].running["token-auth-file"].endswith("known_tokens.csv")
    assert running["kubelet"].running == running["kubelet"].configured

    gone = '{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gone"}}'
    part.sh(f"echo '{gone}' | {kubectl} create -f -")
    assert part.settle(NODES) == {"Set nodes"}
    state = part.fact(Nodes, kubeconfig="/root/part.kubeconfig")
    assert state.nodes["by-hand"].pod_cidr == "10.10.1.0/24"
    assert state.nodes["by-hand"].labels["disk"] == "ssd"
    part.sh(f"{kubectl} label node by-hand old=1 disk=hdd mine=1 --overwrite")
    assert part.settle(NODES) == {"Set nodes"}
    labels = part.fact(Nodes, kubeconfig="/root/part.kubeconfig").nodes["by-hand"].labels
    assert labels == {"disk": "ssd", "mine": "1", "kubernetes.io/hostname": "by-hand"}
    said = part.fails(NODES.replace("10.10.1.0", "10.10.2.0"))
    assert "it has 10.10.1.0/24, which cannot become 10.10.2.0/24" in said

    part.sh("echo TOKEN2,other,other >> /srv/kubernetes/known_tokens.csv")
    assert part.settle(CONTROL_PLANE) == {"Set tokens", "Run the control plane"}


def test_no_secret_is_shown(part: Part) -> None:
    text = CONTROL_PLANE.replace("TOKEN", "n0tToBeSeen")
    for options in (["--dry", "--diff"], ["-y", "--diff", "-vvv", "--debug-all"]):
        done = part.pyinfra(text, *options)
        assert done.returncode == 0, done.stderr
        assert "content hidden" in done.stdout + done.stderr or "-y" in options
        assert "n0tToBeSeen" not in done.stdout + done.stderr


NAMES = """
    from pyinfra_kube.operations import hosts
    hosts.hosts(
        name="Know the names",
        entries={"kube-master": "ADDRESS", "kube-node-1": "192.0.2.12"},
        unless_resolved=True,
    )
"""


@pytest.fixture
def names(part: Part) -> Iterator[str]:
    """A deploy that knows the host's own address; the file of names is as before afterwards."""

    part.sh("cp -a /etc/hosts /root/hosts; cp -a /etc/nsswitch.conf /root/")
    yield NAMES.replace("ADDRESS", part.lab.hosts[HOST].ip)
    part.sh("rm /etc/hosts; mv /root/hosts /etc/hosts; mv /root/nsswitch.conf /etc/")


def test_names_behind_a_link_whatever_else_is_there(part: Part, names: str) -> None:
    theirs = b"127.0.0.1 localhost\r\n127.0.1.1\tKUBE-MASTER.example KUBE-MASTER # me\r\n10.9.9.9 x"
    part.sh("mkdir -p /srv/own; mv /etc/hosts /srv/own/names; ln -s ../srv/own/names /etc/hosts")
    part.sh(f"echo {base64.b64encode(theirs).decode()} | base64 -d > /srv/own/names")
    part.sh("chmod 640 /srv/own/names")
    assert part.settle(names) == {"Know the names"}
    assert part.sh("readlink /etc/hosts; stat -c %a /srv/own/names") == "../srv/own/names\n640"
    written = base64.b64decode(part.sh("base64 -w 0 /etc/hosts"))
    assert written.startswith(theirs + b"\n# BEGIN")
    assert part.sh("getent ahostsv4 kube-node-1").split()[0] == "192.0.2.12"
    # Its own name may lead to itself, whatever the case.
    assert part.sh("getent ahostsv4 kube-master").split()[0] == "127.0.1.1"
    # What another line says already needs no block.
    part.sh("printf '192.0.2.12\\tKube-Node-1.example KUBE-NODE-1\\n' > /etc/hosts")
    assert part.settle(names) == {"Know the names"}
    assert "kube-node-1" not in part.sh("cat /etc/hosts")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            "sed -i '1i 127.0.1.1 KUBE-NODE-1.example KUBE-NODE-1' /etc/hosts",
            "/etc/hosts:1 gives kube-node-1 the address 127.0.1.1, not 192.0.2.12",
        ),
        (
            "printf '# mine\\n::1 kube-node-1' > /etc/hosts",
            "/etc/hosts:2 gives kube-node-1 the address ::1, not 192.0.2.12",
        ),
        (
            "sed -i 's/^hosts:.*/hosts: dns/' /etc/nsswitch.conf",
            "kube-node-1 is unknown here, not 192.0.2.12",
        ),
        (
            "mv /etc/hosts /root/aside; ln -s hosts /etc/hosts",
            "/etc/hosts: it is a link that leads to itself; remove it",
        ),
        (
            "mount --bind /etc/hosts /etc/hosts",
            "/etc/hosts: /etc/hosts is a mount point",
        ),
    ],
)
def test_names_that_cannot_be_right_are_refused(
    part: Part, names: str, spoil: str, said: str
) -> None:
    part.sh(spoil)
    before = part.sh("cat /etc/hosts 2>&1 || true")
    try:
        assert said in part.fails(names)
        if "nsswitch" not in spoil:
            assert part.sh("cat /etc/hosts 2>&1 || true") == before
    finally:
        part.sh("umount /etc/hosts 2>/dev/null || true")
