"""The lab itself: its hosts are real, and nothing of it is left afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from runpy import run_path
from threading import Thread
from typing import Any

import pytest

from tests.lab import Lab, LabError, down, go_build, held, official
from tests.lab.places import CACHE, CONTROL_GROUP, DISKS, KNOWN_HOSTS, LINK, RUN

PYINFRA = str(Path(sys.executable).with_name("pyinfra"))

pytestmark = pytest.mark.lab

CONTROL_PLANE, NODE = "kube-master", "kube-node-1"
RELEASE = "1.20"

CNI = "/opt/cni/bin"
CONTAINERD_FILES = {
    "/etc/containerd/config.toml": """\
version = 3
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = 'k8s.gcr.io/pause:3.2'
""",
    "/etc/crictl.yaml": "runtime-endpoint: unix:///run/containerd/containerd.sock\n",
    "/etc/cni/net.d/10-pods.conflist": """\
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cbr0", "isDefaultGateway": true, "ipMasq": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.20.0.0/24"}]]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
""",
    "/root/pod.json": """\
{"metadata": {"name": "try", "namespace": "default", "uid": "1"}, "log_directory": "/tmp",
 "linux": {"cgroup_parent": "/kubepods/pod1"}}
""",
    "/root/container.json": """\
{"metadata": {"name": "try"}, "image": {"image": "docker.io/lab/test:1"},
 "command": ["sleep", "600"], "log_path": "try.log"}
""",
}


@pytest.fixture(scope="module")
def lab(release: str) -> Iterator[Lab]:
    settings = _settings()
    with held():
        lab = Lab.up([CONTROL_PLANE, NODE], release=release)
        yield lab
        marks = _marks(lab)
        assert _traces(marks)
        down()
    _eventually(lambda: not _traces(marks), lambda: "\n".join(_traces(marks)))
    assert _settings() == settings


def test_hosts_boot_whole(lab: Lab) -> None:
    for name in lab.hosts:
        assert lab.exec(name, "systemctl is-system-running").stdout.strip() == "running"
        assert lab.exec(name, "hostname").stdout.strip() == name
        assert lab.exec(name, "systemctl --failed --no-legend").stdout == ""


def test_ssh_and_the_inventory_reach_every_host(lab: Lab) -> None:
    pyinfra = [PYINFRA, "-y", "inventories/lab.py", "exec", "--", "hostname"]
    done = subprocess.run(pyinfra, capture_output=True, text=True, cwd=_repository())
    assert done.returncode == 0, done.stderr
    for name in lab.hosts:
        assert f"[{name}] {name}" in done.stdout + done.stderr


def test_hosts_see_their_own_network_only(lab: Lab) -> None:
    links = lab.exec(NODE, "ls /sys/class/net").stdout.split()
    assert links == ["eth0", "lo"]
    assert lab.exec(NODE, f"ping -c 1 -W 2 {lab.hosts[CONTROL_PLANE].ip}").returncode == 0


def test_outside_sees_the_hosts_address(lab: Lab) -> None:
    seen = lab.exec(NODE, f"curl -s http://{lab.network.outside_address}/").stdout
    assert seen.strip() == lab.hosts[NODE].ip


def test_no_packet_gets_out(lab: Lab) -> None:
    stranger = "198.18.77.77"
    seen = []
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003)) as watch:
        watch.settimeout(0.2)
        for gateway in (lab.network.gateway, lab.network.control):
            lab.exec(NODE, f"ip route replace {stranger} via {gateway}")
            lab.exec(NODE, f"ping -c 1 -W 1 {stranger}; curl -m 1 http://{stranger}/")
        lab.exec(NODE, f"ip route delete {stranger}")
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            try:
                packet, (link, *_) = watch.recvfrom(65535)
            except TimeoutError:
                break
            if socket.inet_aton(stranger) in packet[:20] and link != LINK:
                seen.append(link)
    assert seen == []


def test_kernel_settings_of_a_host_are_its_own(lab: Lab) -> None:
    before = Path("/proc/sys/kernel/panic").read_text()
    lab.exec(NODE, "sysctl -w kernel.panic=77 vm.overcommit_memory=1")
    assert lab.exec(NODE, "sysctl -n kernel.panic").stdout == "77\n"
    assert Path("/proc/sys/kernel/panic").read_text() == before


def test_docker_installs_and_runs(lab: Lab) -> None:
    assert lab.kubernetes
    assert lab.exec(NODE, "command -v docker").returncode != 0
    installed = lab.exec(NODE, "apt-get install -y docker.io containernetworking-plugins")
    assert installed.returncode == 0, installed.stderr
    assert lab.exec(NODE, "docker info -f '{{.Driver}}'").stdout.strip() == "overlay2"
    with (lab.kubernetes / "test.tar").open("rb") as image:
        _ssh(lab, NODE, "docker load", stdin=image.read())
    answer = lab.exec(NODE, f"docker run lab/test:1 wget -qO- {lab.network.outside_address}")
    assert answer.stdout.strip() == lab.hosts[NODE].ip
    lab.reboot(NODE)
    assert lab.exec(NODE, "docker images -q lab/test:1").stdout != ""


# It builds containerd, which takes minutes where that was never done.
@pytest.mark.slow
def test_containerd_of_today_runs_pods(lab: Lab) -> None:
    """What the lab builds works on its hosts: containerd with runc, CNI plugins and crictl."""
    assert lab.kubernetes
    host = "kube-node-8"
    lab.add(host)
    programs = {"containerd": "/usr/local/bin", "crictl": "/usr/local/bin", "cni-plugins": CNI}
    for part, place in programs.items():
        packed = subprocess.run(["tar", "-C", go_build.built(part), "-c", "."], capture_output=True)
        _ssh(lab, host, f"mkdir -p {place} && tar -C {place} -x", stdin=packed.stdout)
    _ssh(lab, host, "apt-get install -y runc && mkdir -p /etc/containerd /etc/cni/net.d")
    for path, text in CONTAINERD_FILES.items():
        _ssh(lab, host, f"cat >{path}", stdin=text.encode())
    _ssh(lab, host, "systemd-run --unit=containerd --property=Delegate=yes containerd")
    _eventually(lambda: lab.exec(host, "ctr version").returncode == 0)
    for image in ("pause", "test"):
        archive = (lab.kubernetes / f"{image}.tar").read_bytes()
        _ssh(lab, host, "ctr --namespace=k8s.io images import -", stdin=archive)
    started = _ssh(lab, host, "crictl run --no-pull /root/container.json /root/pod.json").strip()
    ask = f"crictl exec {started} wget -qO- {lab.network.outside_address}"
    assert lab.exec(host, ask).stdout.strip() == lab.hosts[host].ip
    groups = "find /sys/fs/cgroup -path '*/kubepods/*' -name cgroup.procs | wc -l"
    assert lab.exec(host, groups).stdout.strip() != "0"
    lab.reboot(host)
    assert lab.exec(host, groups).stdout.strip() == "0"
    lab.remove(host)


def test_reboot_keeps_the_disk_and_the_address_and_nothing_else(lab: Lab) -> None:
    lab.exec(NODE, "echo kept >/root/file; touch /run/gone; ip link add br0 type bridge")
    lab.exec(NODE, "iptables -A FORWARD -s 10.9.9.9 -j DROP; sysctl -w kernel.panic=78")
    boot = lab.exec(NODE, "cat /proc/sys/kernel/random/boot_id").stdout
    lab.reboot(NODE)
    assert lab.exec(NODE, "cat /proc/sys/kernel/random/boot_id").stdout != boot
    assert lab.exec(NODE, "cat /root/file").stdout == "kept\n"
    assert lab.exec(NODE, "test -e /run/gone").returncode != 0
    assert lab.exec(NODE, "ip link show br0").returncode != 0
    assert "10.9.9.9" not in lab.exec(NODE, "iptables -S").stdout
    assert lab.exec(NODE, "sysctl -n kernel.panic").stdout != "78\n"
    assert lab.hosts[NODE].ip in lab.exec(NODE, "ip -br address show eth0").stdout
    assert _ssh(lab, NODE, "systemctl is-system-running --wait").strip() == "running"


def test_a_host_can_reboot_itself(lab: Lab) -> None:
    boot = _boot(lab)
    lab.exec(CONTROL_PLANE, "systemctl reboot")
    _eventually(lambda: _boot(lab) not in ("", boot))
    lab.host(CONTROL_PLANE).wait_until_ready()


def test_power_failure_keeps_what_was_written(lab: Lab) -> None:
    lab.exec(NODE, "echo written >/var/lib/docker/file")
    lab.power_off(NODE)
    with pytest.raises(LabError, match="is off"):
        lab.exec(NODE, "true")
    lab.start(NODE)
    assert lab.exec(NODE, "cat /var/lib/docker/file").stdout == "written\n"


def test_cut_off_host_is_unreachable_until_mended(lab: Lab) -> None:
    ping = f"ping -c 1 -W 1 {lab.hosts[NODE].ip}"
    lab.cut(NODE)
    assert lab.exec(CONTROL_PLANE, ping).returncode != 0
    assert lab.exec(NODE, "true").returncode == 0
    lab.mend(NODE)
    assert lab.exec(CONTROL_PLANE, ping.replace("-W 1", "-W 3")).returncode == 0


def test_full_disk(lab: Lab) -> None:
    lab.fill_disk(NODE)
    for place in ("/root", "/var/lib/docker", "/usr/local", "/etc"):
        done = lab.exec(NODE, f"cp /etc/services {place}/more")
        assert "No space left on device" in done.stderr, place
        lab.exec(NODE, f"rm -f {place}/more")
    lab.free_disk(NODE)
    assert lab.exec(NODE, "echo text >/root/more").returncode == 0


def test_built_in_features_are_found_by_modprobe(lab: Lab) -> None:
    assert lab.exec(NODE, "modprobe br_netfilter overlay").returncode == 0
    assert lab.exec(NODE, "modprobe no_such_thing").returncode != 0


def test_reset_gives_a_blank_host(lab: Lab) -> None:
    started = time.monotonic()
    lab.reset([NODE])
    assert time.monotonic() - started < 15
    assert lab.exec(NODE, "test -e /root/file").returncode != 0
    assert lab.exec(NODE, "command -v docker").returncode != 0
    assert _ssh(lab, NODE, "hostname").strip() == NODE


@pytest.mark.parametrize(
    ("runtime", "storage"),
    [
        ("docker", "docker info -f '{{.Driver}}' | grep overlay2"),
        ("containerd", "ctr plugins list | grep 'overlayfs .* ok'"),
    ],
)
def test_hosts_come_and_go(lab: Lab, runtime: str, storage: str) -> None:
    lab.add("kube-node-9", runtime=runtime)
    assert "overlay" in _ssh(lab, "kube-node-9", storage)
    address = lab.hosts["kube-node-9"].ip
    lab.remove("kube-node-9")
    assert "kube-node-9" not in lab.hosts
    assert lab.exec(NODE, f"ping -c 1 -W 1 {address}").returncode != 0


def test_a_second_run_is_refused_with_a_reason(lab: Lab) -> None:
    with pytest.raises(LabError, match="up already"):
        Lab.up(["other"])
    for command in (["up", "other"], ["down"]):
        done = subprocess.run(
            [sys.executable, "-m", "tests.lab", *command],
            capture_output=True,
            text=True,
            cwd=_repository(),
        )
        assert done.returncode == 1
        assert f"Another run holds the lab (process {os.getpid()}: " in done.stderr


def test_another_release_is_provided(lab: Lab, release: str) -> None:
    lab.provide("1.37")
    try:
        data = _inventory()
        assert data["kubernetes_version"].startswith("1.37.")
        assert data["kubernetes_source"] == data["runtime_source"] == str(lab.kubernetes)
        assert (lab.release.minor, data["containerd_version"][0]) == ((1, 37), "2")
    finally:
        lab.provide(release)
    assert _inventory()["kubernetes_source"] == str(lab.kubernetes)
    assert f"{lab.release.version}.".startswith(f"{release}.")


@pytest.mark.parametrize(
    ("programs", "version", "images"),
    [
        pytest.param(
            ["kubelet", "kube-apiserver", "kube-scheduler"],
            "1.25.3",
            {
                "kube-apiserver": "registry.k8s.io/kube-apiserver:v1.25.3",
                "kube-scheduler": "registry.k8s.io/kube-scheduler:v1.25.3",
                "pause": "registry.k8s.io/pause:3.8",
            },
            id="bare binaries",
        ),
        pytest.param(
            ["hyperkube"],
            "1.3.10",
            {
                "hyperkube": "gcr.io/google_containers/hyperkube:v1.3.10",
                "pause": "gcr.io/google_containers/pause-amd64:3.0",
            },
            id="hyperkube",
        ),
    ],
)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "address"])
def test_other_binaries(
    tmp_path: Path, programs: list[str], version: str, images: dict[str, str], packed: bool
) -> None:
    folder = tmp_path / "kubernetes/server/bin"
    _stand_ins(folder, programs, version)
    with tarfile.open(tmp_path / "release.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "kubernetes", "kubernetes")
    choice = f"file://{tmp_path}/release.tar.gz" if packed else str(folder)
    done = _make_release(tmp_path / "cache", KUBERNETES_BIN=choice)
    assert done.returncode == 0, done.stderr
    _check_release(Path(done.stdout.strip()), version, images)


def test_binaries_of_a_releases_own_site(tmp_path: Path) -> None:
    version = "1.23.17"
    folder = tmp_path / f"site/v{version}/bin/linux/amd64"
    _stand_ins(folder, official.PROGRAMS, version)
    for program in official.PROGRAMS:
        digest = hashlib.sha256((folder / program).read_bytes()).hexdigest()
        (folder / f"{program}.sha256").write_text(digest)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "site"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        site = f"http://127.0.0.1:{server.server_port}/"

        def make(version: str) -> subprocess.CompletedProcess[str]:
            chosen = {"RELEASES": site, "KUBERNETES_VERSION": version}
            return _make_release(tmp_path / "cache", **chosen)

        missing = make("1.23.18")
        assert missing.returncode == 1
        assert f"lab: Kubernetes 1.23.18 cannot be had from {site}" in missing.stderr
        assert "404" in missing.stderr
        done = make(version)
        assert done.returncode == 0, done.stderr
        images = {
            "kube-proxy": f"k8s.gcr.io/kube-proxy:v{version}",
            "pause": "k8s.gcr.io/pause:3.6",
        }
        _check_release(Path(done.stdout.strip()), version, images)

        shutil.rmtree(tmp_path / "cache")
        (folder / "kubelet").write_text("#!/bin/sh\necho another\n")
        wrong = make(version)
        assert wrong.returncode == 1
        assert "its digest is not" in wrong.stderr
        server.shutdown()


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ("/nowhere", "KUBERNETES_BIN=/nowhere is neither a folder nor an address."),
        ("file:///nowhere.tar.gz", "file:///nowhere.tar.gz cannot be fetched"),
        ("/etc/ssl", "no binary there says which Kubernetes it is"),
    ],
)
def test_binaries_that_are_none(choice: str, reason: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.lab", "kubernetes"],
        capture_output=True,
        text=True,
        cwd=_repository(),
        env={**os.environ, "PYINFRA_KUBE_LAB": "other", "KUBERNETES_BIN": choice},
    )
    assert done.returncode == 1
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_inventory_refuses_to_load_while_the_lab_is_down() -> None:
    done = subprocess.run(
        [PYINFRA, "inventories/lab.py", "exec", "--", "true"],
        capture_output=True,
        text=True,
        cwd=_repository(),
        env={**os.environ, "PYINFRA_KUBE_LAB": "nobody"},
    )
    assert done.returncode != 0
    assert "The lab is down. Bring it up: make lab-up" in done.stderr
    assert "Traceback" not in done.stderr


def _inventory() -> dict[str, Any]:
    """What the lab's inventory says of a cluster."""
    data: dict[str, Any] = run_path(str(_repository() / "inventories/lab.py"))["control_plane"][1]
    return data


def _stand_ins(folder: Path, programs: Sequence[str], version: str) -> None:
    """Programs that only say which Kubernetes they are."""
    folder.mkdir(parents=True)
    for program in programs:
        (folder / program).write_text(f"#!/bin/sh\necho Kubernetes v{version}\n")
        (folder / program).chmod(0o755)


def _make_release(cache: Path, **choice: str) -> subprocess.CompletedProcess[str]:
    """Have the chosen release made in a cache of its own, on the roots that there are."""
    cache.mkdir(exist_ok=True)
    for made in CACHE.glob("root-debian.*/"):
        if not (cache / made.name).exists():
            (cache / made.name).symlink_to(made)
    names = {"PYINFRA_KUBE_LAB": "other", "PYINFRA_KUBE_LAB_CACHE": str(cache)}
    return subprocess.run(
        [sys.executable, "-m", "tests.lab", "kubernetes"],
        capture_output=True,
        text=True,
        cwd=_repository(),
        env={**os.environ, **names, **choice},
    )


def _check_release(release: Path, version: str, images: dict[str, str]) -> None:
    """Check what a release's folder holds: the version, the digests, and images by their names."""
    assert (release / "version").read_text().strip() == version
    sums = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=release)
    assert sums.returncode == 0
    for name, tag in images.items():
        with tarfile.open(release / f"{name}.tar") as tar:
            manifest = tar.extractfile("manifest.json")
            assert manifest
            assert json.load(manifest)[0]["RepoTags"] == [tag]
        assert (release / f"{name}.docker_tag").read_text().strip() == tag.rpartition(":")[2]


def _boot(lab: Lab) -> str:
    """The ID of the control-plane host's boot; empty while it reboots."""
    try:
        return lab.exec(CONTROL_PLANE, "cat /proc/sys/kernel/random/boot_id").stdout
    except LabError:
        return ""


def _ssh(lab: Lab, name: str, command: str, stdin: bytes = b"") -> str:
    record = lab.hosts[name]
    options = ["-o", f"UserKnownHostsFile={KNOWN_HOSTS}", "-o", "BatchMode=yes"]
    words = ["ssh", "-i", record.ssh_key, *options, f"root@{record.ip}", command]
    return subprocess.run(words, input=stdin, capture_output=True, check=True).stdout.decode()


def _repository() -> Path:
    return Path(__file__).parents[2]


def _settings() -> list[str]:
    return [Path(f"/proc/sys/kernel/{name}").read_text() for name in ("panic", "panic_on_oops")]


def _marks(lab: Lab) -> list[str]:
    """What tells this lab's things on the machine: names, addresses, processes.

    A namespace lives only by its processes and by mounts, and both are looked for.
    """
    processes = [_process(pid) for name in lab.hosts for pid in lab.host(name).processes()]
    addresses = str(lab.network.control).rpartition(".")[0] + "."
    return [LINK, CONTROL_GROUP, str(RUN), str(DISKS), addresses, *filter(None, processes)]


def _traces(marks: list[str]) -> list[str]:
    """Everything on the machine that bears one of these marks."""
    everything = [
        *Path("/proc/self/mountinfo").read_text().splitlines(),
        *map(str, Path("/sys/fs/cgroup").glob("*/*")),
        *map(str, Path("/run").glob("*")),
        *map(str, DISKS.parent.glob("*")),
        *(_process(int(path.name)) for path in Path("/proc").glob("[0-9]*")),
        *_lines("ip -o link"),
        *_lines("ip route show table all"),
        *_lines("ip rule"),
        *_lines("losetup --list --noheadings --output NAME,BACK-FILE"),
    ]
    return [line for line in everything if any(mark in line for mark in marks)]


def _process(pid: int) -> str:
    """A process by its number and the moment of its start: numbers come again."""
    try:
        return f"process {pid} {Path(f'/proc/{pid}/stat').read_text().split()[-31]}"
    except OSError:
        return ""


def _lines(command: str) -> list[str]:
    return subprocess.run(command.split(), capture_output=True, text=True).stdout.splitlines()


def _eventually(
    check: Callable[[], bool], why: Callable[[], str] = str, patience: float = 20
) -> None:
    deadline = time.monotonic() + patience
    while not check():
        assert time.monotonic() < deadline, why()
        time.sleep(0.2)
