"""The parts of a node, each by itself, on a host with a real systemd, docker and kubelet."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import tarfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyinfra.api import FactBase

from pyinfra_kube.engine.digest import sha256_of
from pyinfra_kube.engine.script import Script
from pyinfra_kube.facts.certificates import Certificates
from pyinfra_kube.facts.nodes import Nodes
from pyinfra_kube.facts.processes import Flags
from pyinfra_kube.facts.systemd import expand, variables
from pyinfra_kube.operations import services
from tests.environment_corpus import corpus
from tests.lab import Lab, down, held
from tests.unit.harness import answers, fake_host

pytestmark = pytest.mark.lab

HOST = "kube-master"
RELEASE = "1.20"
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
        """The operations that a dry run lists."""

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
def lab(release: str) -> Iterator[Lab]:
    with held():
        yield Lab.up([HOST], runtime="docker", release=release)
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


def test_what_follows_a_unit_is_waited_for(part: Part, unit: None) -> None:
    """One that follows needs three seconds; another one follows that."""
    slow = (
        "[Unit]\\nRequires=part.service\\nAfter=part.service\\n"
        "[Service]\\nExecStartPre=/bin/sleep 3\\nExecStart=/bin/sleep 1000\\n"
    )
    units = "/etc/systemd/system"
    names = "slow.service slower.service"
    part.sh(
        f"printf '{slow}' > {units}/slow.service && "
        f"sed s/part/slow/ {units}/slow.service > {units}/slower.service && "
        f"systemctl daemon-reload && systemctl start {names}"
    )
    try:
        part.sh("touch -d '+1 second' /etc/part.conf; sleep 2")
        assert part.once(services.services, units=UNITS)
        assert part.sh(f"systemctl is-active {names}").split() == ["active"] * 2
    finally:
        part.sh(f"systemctl stop {names}; cd {units} && rm {names} && systemctl daemon-reload")


@pytest.mark.parametrize(
    ("pause", "type_"), [("1s", "simple"), ("5ms", "simple"), ("1s", "notify"), ("1s", "exec")]
)
def test_a_unit_that_does_not_stay_up_is_reported_with_its_journal(
    part: Part, pause: str, type_: str
) -> None:
    unit = f"""
        [Unit]
        StartLimitIntervalSec=0
        [Service]
        Type={type_}
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


TOLD = """
    from pyinfra_kube.operations import docker, services
    docker.docker(
        name="Configure docker",
        options={"bridge": "none", "iptables": False, "ip-masq": False},
        defaults={
            "data-root": "/var/lib/docker",
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "insecure-registries": ["10.10.0.0/16"],
        },
    )
    services.services(
        name="Run docker", units=[services.Unit("docker.service", config=docker.CONFIG)]
    )
    docker.docker0_absent(name="Remove docker0")
    docker.working(name="Docker works")
"""
MINE = "/etc/systemd/system/docker.service.d/mine.conf"
MAKE_ROOM = f"mkdir -p /etc/docker $(dirname {MINE}); rm -rf /etc/docker/daemon.json {MINE}"
START = "ExecStart=\\nExecStart=/usr/sbin/dockerd -H fd:// \\$OPTIONS \\$INSECURE_REGISTRY"


@pytest.mark.parametrize(
    ("told", "registries"),
    [
        (
            'echo \'{"data-root": "/data/docker", "insecure-registries": ["10.9.0.0/16"], '
            '"log-opts": {"max-size": "1m", "tag": "geheim"}}\' > /etc/docker/daemon.json; '
            "chmod 600 /etc/docker/daemon.json",
            "10.9.0.0/16 10.10.0.0/16",
        ),
        (
            "printf '[Service]\\nEnvironment=\"DOCKER_OPTS=--iptables=false -g /data/docker\"\n' "
            f"> {MINE}",
            "10.10.0.0/16",
        ),
        (
            f'printf "[Service]\nEnvironmentFile=-/etc/sysconfig/docker\n{START}\n" > {MINE}; '
            "mkdir -p /etc/sysconfig; cat > /etc/sysconfig/docker <<'.'\n"
            "OPTIONS=' --data-root=/data/docker --log-opt tag=\"{{.Name}} x\"\n'\n"
            "INSECURE_REGISTRY=--insecure-registry=10.9.0.0/16\n.\n",
            "10.9.0.0/16 10.10.0.0/16",
        ),
    ],
)
def test_what_a_hosts_docker_has_stays(part: Part, told: str, registries: str) -> None:
    part.sh(
        f"{MAKE_ROOM} /etc/default/docker /etc/sysconfig\n{told}\n"
        "systemctl daemon-reload; systemctl restart docker\n"
        "tar -c -C / etc/hostname | docker import - theirs:1"
    )

    runs = [part.pyinfra(TOLD, how, "--diff", "-vvv") for how in ("--dry", "-y")]
    shown = "".join(run.stdout + run.stderr for run in runs)
    assert "docker: data-root /data/docker stays (" in shown
    assert "geheim" not in shown
    assert part.settle(TOLD) == set()

    info = part.sh("docker info --format '{{.DockerRootDir}} {{json .RegistryConfig}}'")
    assert info.startswith("/data/docker ")
    assert all(f'"{registry}"' in info for registry in registries.split())
    part.sh("docker image inspect theirs:1")
    if "geheim" in told:
        assert part.sh("stat -c %a /etc/docker/daemon.json") == "600"
        assert "geheim" in part.sh("cat /etc/docker/daemon.json")


def test_a_drop_in_that_systemd_has_not_read_is_named(part: Part) -> None:
    part.sh(f"{MAKE_ROOM}; systemctl daemon-reload; systemctl restart docker")
    part.sh(f"printf '[Service]\\nEnvironment=DOCKER_OPTS=--iptables=true\\n' > {MINE}")
    assert f"{MINE}: changed since systemd read it" in part.fails(TOLD)
    part.sh(f"rm {MINE}; systemctl daemon-reload; touch {MINE.replace('mine', 'kubernetes')}")
    part.run(TOLD)


@pytest.mark.parametrize(
    ("told", "error"),
    [
        (
            f"printf '[Service]\nEnvironment=DOCKER_OPTS=--iptables=true\n' > {MINE}",
            f"option iptables: wanted is false, and DOCKER_OPTS in {MINE} says --iptables=true",
        ),
        (
            "echo '{\"debug\": true,}' > /etc/docker/daemon.json",
            "/etc/docker/daemon.json: it is not valid",
        ),
    ],
)
def test_a_docker_that_cannot_be_told_is_left_alone(part: Part, told: str, error: str) -> None:
    clean = f"{MAKE_ROOM}; systemctl daemon-reload"
    part.sh(f"{clean}; {told}; systemctl daemon-reload; systemctl start docker || true")
    pid = "systemctl show --value --property=MainPID docker"
    before = part.sh(pid)
    said = part.fails(TOLD)
    assert HOST in said
    assert error in said
    assert part.sh(pid) == before
    part.sh(f"{clean}; systemctl restart docker")


def test_a_docker_that_is_stopped_is_not_started_by_looking(part: Part) -> None:
    part.sh("systemctl stop docker.service; systemctl start docker.socket")
    part.plan(DOCKER)
    part.plan(IMAGES)
    assert part.lab.exec(HOST, "systemctl is-active docker.service").stdout.strip() == "inactive"
    part.sh("systemctl start docker.service")


RUN_DOCKER = """
    from pyinfra_kube.operations import services
    services.services(name="Run docker", units=[services.Unit("docker.service")])
"""


@pytest.mark.parametrize("runtime", ["", "--runtime"])
def test_a_mask_on_what_docker_requires_is_seen_and_taken(part: Part, runtime: str) -> None:
    part.sh(f"systemctl stop docker.service docker.socket; systemctl mask {runtime} docker.socket")
    assert part.settle(RUN_DOCKER) == {"Run docker"}
    part.sh(f"systemctl stop docker.service docker.socket; systemctl mask {runtime} docker.service")
    part.sh(f"systemctl mask {runtime} docker.socket")
    shown = part.pyinfra(RUN_DOCKER, "--dry", "--diff").stderr
    assert "docker.socket: masked → unmasked, it is required" in shown
    assert part.settle(RUN_DOCKER) == {"Run docker"}
    assert part.sh("systemctl is-active docker.service") == "active"


def test_a_unit_of_a_system_that_is_read_only_is_restarted(part: Part, unit: None) -> None:
    part.sh("cp /etc/systemd/system/part.service /usr/lib/systemd/system/theirs.service")
    units = [services.Unit("theirs.service")]
    part.once(services.services, units=units)
    part.sh("sed -i s/1000/1001/ /usr/lib/systemd/system/theirs.service")
    part.sh("mount --bind /usr /usr && mount -o remount,bind,ro /usr")
    try:
        assert part.once(services.services, units=units) == [
            "theirs.service: restarted: its unit file changed"
        ]
        assert "1001" in part.sh("tr '\\0' ' ' < /proc/$(pidof -s sleep)/cmdline; ps -ef")
        assert part.once(services.services, units=units) == []
    finally:
        part.sh(
            "umount --lazy /usr; systemctl stop theirs; rm /usr/lib/systemd/system/theirs.service"
        )


PACKAGE = """
    from pyinfra_kube.operations import packages
    packages.packages(name="Install", packages=["part-engine"], removable=REMOVABLE)
"""
_CONTROL = """\
mkdir -p /srv/repository/{name}/DEBIAN
printf 'Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: me <me@example.com>\n\
Description: a part\n{more}' > /srv/repository/{name}/DEBIAN/control
dpkg-deb --build --nocheck /srv/repository/{name} /srv/repository/{name}.deb >/dev/null
"""


_INDEX = """\
cd /srv/repository
for file in *.deb; do
  dpkg-deb --field $file
  echo "Filename: ./$file"
  echo "Size: $(stat -c %s $file)"
  echo "SHA256: $(sha256sum $file | cut -d ' ' -f 1)"
  echo
done > Packages
"""


def test_packages_keep_their_version_and_are_let_go_again(part: Part) -> None:
    text = """
        from pyinfra_kube.operations import packages
        packages.locked(name="Lock", packages=PACKAGES)
    """
    part.sh("apt-mark hold curl")
    try:
        assert part.settle(text.replace("PACKAGES", '["docker.io", "curl"]')) == {"Lock"}
        assert part.sh("apt-mark showhold").split() == ["curl", "docker.io"]
        part.sh("apt-mark unhold docker.io")
        assert part.settle(text.replace("PACKAGES", '["docker.io"]')) == {"Lock"}
        # Of ours, for the other was there before us.
        assert part.settle(text.replace("PACKAGES", "[]")) == {"Lock"}
        assert part.sh("apt-mark showhold").split() == ["curl"]
    finally:
        part.sh("apt-mark unhold curl")


def test_what_an_installation_would_remove_is_refused_unless_it_may(part: Part) -> None:
    conflict = "Conflicts: part-engine\\n"
    for name, more in {"part-engine": "", "part-ce": conflict}.items():
        part.sh(_CONTROL.format(name=name, more=more))
    part.sh("dpkg --install /srv/repository/part-engine.deb && dpkg --remove part-engine")
    part.sh("dpkg --install /srv/repository/part-ce.deb")
    sources = "deb [trusted=yes] file:/srv/repository ./"
    part.sh(_INDEX)
    part.sh(f"echo '{sources}' > /etc/apt/sources.list.d/part.list")
    refusal = "installing part-engine would remove part-ce"
    # Without lists the host cannot tell before the run has fetched them.
    said = part.fails(PACKAGE.replace("REMOVABLE", "[]"))
    assert "it would remove part-ce" in said
    done = part.pyinfra(PACKAGE.replace("REMOVABLE", "[]"), "--dry")
    assert done.returncode == 1
    assert refusal in done.stderr
    assert part.sh("dpkg-query -W -f '${db:Status-Status}' part-ce") == "installed"
    done = part.pyinfra(PACKAGE.replace("REMOVABLE", '["part-ce"]'), "--dry", "--diff")
    assert "package part-ce: installed → removed" in done.stderr
    assert part.settle(PACKAGE.replace("REMOVABLE", '["part-ce"]')) == {"Install"}
    part.sh("rm -r /srv/repository /etc/apt/sources.list.d/part.list")


# Prints the variables that systemd makes of a file, and the words that it makes of one of them.
CORPUS_UNIT = r"""
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
EnvironmentFile=/srv/corpus/%i.env
StandardOutput=append:/srv/corpus/%i.out
ExecStart=/usr/bin/env -0
ExecStart=/usr/bin/printf "%%s\\0" END $V ${V}
"""


def test_environment_files_are_read_as_systemd_reads_them(part: Part) -> None:
    texts = corpus()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for number, text in enumerate(texts):
            entry = tarfile.TarInfo(f"{number}.env")
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    said = part.sh(
        "mkdir /srv/corpus; cd /srv/corpus; base64 -d <<'.' | tar xz\n"
        f"{base64.encodebytes(packed.getvalue()).decode()}.\n"
        f"cat > /run/systemd/system/corpus@.service <<'.'\n{CORPUS_UNIT}.\n"
        "systemctl daemon-reload; systemctl --version | head -n 1\n"
        f"seq -f corpus@%g.service 0 {len(texts) - 1} | xargs systemctl start >/dev/null\n"
        "tar cz *.out | base64"
    )
    release, _, data = said.partition("\n")
    systemd = int(release.split()[1])
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(data))) as tar:
        for number, text in enumerate(texts):
            entry = tar.extractfile(f"{number}.out")
            assert entry
            parts = entry.read().decode().split("\0")[:-1]
            end = parts.index("END")
            given = dict(part.partition("=")[::2] for part in parts[:end])
            found = variables(text, systemd)
            assert {name: given.get(name) for name in found} == found, text
            assert not (given.keys() - found.keys()) & {"A", "B", "V", "_x1"}, text
            words = [word.text for word in expand(["$V", "${V}"], found)]
            assert words == parts[end + 1 :], text


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


WAITING = """
    from pyinfra.operations import server
    from pyinfra_kube.operations import binaries, files
    files.files(name="Begin", files=[files.File("/etc/part-begin", "1\\n")])
    server.shell(
        name="Wait for the program that a later operation installs",
        commands=[
            "for n in $(seq 100); do ls /var/tmp/pyinfra-kube-files-0 | grep -qxE '[0-9a-f]{64}' "
            "&& break; sleep 0.2; done; ls /var/tmp/pyinfra-kube-files-0 > /etc/part-waits"
        ],
    )
    binaries.binaries(
        name="Install a program", binaries=[binaries.Binary("/opt/part", "RELEASE/kubelet")]
    )
"""


_ARRIVED = "/var/tmp/pyinfra-kube-files-0"


def test_programs_arrive_while_other_operations_run(part: Part) -> None:
    part.sh(f"rm -rf /opt/part {_ARRIVED}")
    assert "Install a program" in part.run(WAITING)
    assert part.sh("cat /etc/part-waits") == sha256_of(str(part.release / "kubelet"))
    _see_the_program(part)
    part.sh(f"test ! -e {_ARRIVED}")


def test_what_a_killed_run_sent_is_damaged(part: Part) -> None:
    digest = sha256_of(str(part.release / "kubelet"))
    part.sh(f"rm -rf /opt/part {_ARRIVED}; install -d -m 700 {_ARRIVED}")
    part.sh(f"cd {_ARRIVED}; echo x | tee a {digest} {digest}.part")
    part.run(WAITING)
    _see_the_program(part)
    part.sh(f"test ! -e {_ARRIVED}")


def _see_the_program(part: Part) -> None:
    digest = sha256_of(str(part.release / "kubelet"))
    assert part.sh("sha256sum < /opt/part").split()[0] == digest
    assert part.sh("stat -c '%a %U' /opt/part") == "755 root"


def test_a_folder_of_somebody_else_takes_no_program(part: Part) -> None:
    part.sh(f"rm -rf /opt/part {_ARRIVED}; install -d -o nobody {_ARRIVED}")
    part.run(WAITING.replace("seq 100", "seq 1"))
    _see_the_program(part)
    assert part.sh(f"stat -c %U {_ARRIVED}; rmdir {_ARRIVED}") == "nobody"


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


REMOVAL = """
    from pyinfra_kube.operations import etcd
    etcd.keys(name="Remove a key", keys=[etcd.Key("/text", present=False)], api="{api}")
"""


def _enable_auth(part: Part) -> None:
    root, guest = (
        '{"user":"root","password":"x"}',
        '{"role":"guest","revoke":{"kv":{"read":["/*"]}}}',
    )
    for request in (
        f"v2/auth/users/root -X PUT -d '{root}'",
        "v2/auth/enable -X PUT",
        f"v2/auth/roles/guest -u root:x -X PUT -d '{guest}'",
        """v3/auth/user/add -d '{"name":"root","password":"x"}'""",
        """v3/auth/role/add -d '{"name":"root"}'""",
        """v3/auth/user/grant -d '{"user":"root","role":"root"}'""",
        "v3/auth/enable -d '{}'",
    ):
        part.sh(f"curl -sf http://127.0.0.1:2379/{request}")


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
        assert "do not accept each other's certificates" in said
        _enable_auth(part)
        for api in ("v2", "v3"):
            said = part.fails(REMOVAL.format(api=api))
            assert "etcd at http://127.0.0.1:2379 refuses this host" in said
    finally:
        part.sh("docker rm -f plain tls")
    assert "does not answer" in part.fails(ETCD.replace("PREVIOUS", "None"))
    assert "does not answer" in part.fails(REMOVAL.format(api="v3"))


KUBELET = """
    from pyinfra_kube.operations import component_unit, services, static_pods
    unit = component_unit.component_unit(
        name="Set up kubelet",
        component="kubelet",
        after=["docker.service"],
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
    from pyinfra_kube.operations import files, images, static_pods
    from pyinfra_kube.operations.static_pods import Probe, StaticPod, manifest
    images.images(
        name="Load the API server",
        files={"k8s.gcr.io/kube-apiserver:v1.20.2": "RELEASE/kube-apiserver.tar"},
    )
    config = (
        "{apiVersion: v1, kind: Config, current-context: c,"
        " clusters: [{name: c, cluster: {server: 'https://127.0.0.1:6443',"
        " certificate-authority: /srv/kubernetes/server.crt}}],"
        " users: [{name: u, user: {token: TOKEN}}],"
        " contexts: [{name: c, context: {cluster: c, user: u}}]}"
    )
    secret = {
        "/srv/kubernetes/known_tokens.csv": "TOKEN,admin,admin\\n",
        "/root/part.kubeconfig": config,
    }
    files.files(
        name="Set tokens and kubeconfig",
        files=[files.File(path, text, mode="600", secret=True) for path, text in secret.items()],
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
    assert len(part.settle(CONTROL_PLANE)) == 3
    kubectl = "kubectl --kubeconfig=/root/part.kubeconfig"
    part.sh(f"for n in $(seq 90); do {kubectl} get --raw /api && exit; sleep 1; done; exit 1")
    running = part.fact(Flags, names=["kube-apiserver", "etcd", "kubelet"])
    assert running["kube-apiserver"].running["token-auth-file"].endswith("known_tokens.csv")
    assert running["kubelet"].running == running["kubelet"].configured

    # What the host has for the world is none of the way to its own cluster.
    variables = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
    part.sh(f"printf '%s=http://127.0.0.1:9\\n' {' '.join(variables)} >> /etc/environment")
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
    assert part.settle(CONTROL_PLANE) == {"Set tokens and kubeconfig", "Run the control plane"}


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
