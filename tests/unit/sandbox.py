"""
A host whose tools can be taken away: a folder of links to the tools that facts call, with scripts
for those that this machine cannot run, and something real for each fact to see.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from pyinfra_kube.cluster import pki
from pyinfra_kube.engine.round_trip import RoundTrip
from pyinfra_kube.engine.subject import Subject
from pyinfra_kube.engine.tools import OWN_PATH
from pyinfra_kube.facts.access import Bindings
from pyinfra_kube.facts.answers import Answers
from pyinfra_kube.facts.binaries import RunningVersions, Versions
from pyinfra_kube.facts.bridge import Links, LoosePorts
from pyinfra_kube.facts.certificates import Certificates
from pyinfra_kube.facts.checks import Checks
from pyinfra_kube.facts.cni import Cni
from pyinfra_kube.facts.containerd import Containerd
from pyinfra_kube.facts.docker import Docker, DockerNetworks
from pyinfra_kube.facts.docker_on_flannel import DockerOnFlannel
from pyinfra_kube.facts.encryption import EncryptionFile, StoredSecrets
from pyinfra_kube.facts.environment import EnvironmentFiles
from pyinfra_kube.facts.etcd import EtcdHealth, EtcdKeys, EtcdMembers
from pyinfra_kube.facts.etcd_roles import EtcdRoles
from pyinfra_kube.facts.files import FileContents, Files, LinkSteps, Obstacles
from pyinfra_kube.facts.firewall import OtherFirewalls
from pyinfra_kube.facts.firewalld import Firewalld
from pyinfra_kube.facts.fitness import Fitness
from pyinfra_kube.facts.flannel import Flannel
from pyinfra_kube.facts.hosts import Hosts, Reachable
from pyinfra_kube.facts.images import Images
from pyinfra_kube.facts.iptables import Rules
from pyinfra_kube.facts.leftovers import KubeRules, Leftovers
from pyinfra_kube.facts.nftables import NftTable
from pyinfra_kube.facts.nodes import Evictable, Nodes
from pyinfra_kube.facts.objects import AppliedObjects, Objects
from pyinfra_kube.facts.packages import Candidates, Locks, Packages, Removals
from pyinfra_kube.facts.pods import PodContainers
from pyinfra_kube.facts.processes import Flags, Listeners
from pyinfra_kube.facts.record import Folders, Record
from pyinfra_kube.facts.routes import Routes
from pyinfra_kube.facts.selinux import Labels
from pyinfra_kube.facts.services import CommandDropIns, Units
from pyinfra_kube.facts.static_pods import StaticPods
from pyinfra_kube.facts.swap import Swaps
from pyinfra_kube.facts.sysctl import Modules, Sysctls, SysctlSettings
from pyinfra_kube.facts.times import Mtimes
from pyinfra_kube.facts.users import UserTables
from pyinfra_kube.facts.ways import Decisions, Peers, ProxyChains
from pyinfra_kube.facts.workloads import Workloads

# Facts look through all processes: another run of these tests has one of its own.
PROGRAM = f"pyinfra-kube-stand-in-{os.getpid()}"

# Scripts in place of tools that cannot run here: what each prints for what facts ask.
_SCRIPTS = {
    "apt-get": "printf 'Remv docker-ce [5]\\nInst docker.io (20.10)\\nConf docker.io (20.10)\\n'\n",
    "crictl": """\
cat <<'EOT'
{"containers": [{"id": "c1", "metadata": {"name": "etcd", "attempt": 1}, "image": {"image": "e:1"},
"state": "CONTAINER_RUNNING", "createdAt": "1700000000000000000",
"labels": {"io.kubernetes.pod.name": "etcd-m", "io.kubernetes.pod.namespace": "kube-system"}}]}
EOT
""",
    "docker": """\
case "$*" in
info*) printf 'Server Version: 20.10.24\\nStorage Driver: overlay2\\nCgroup Driver: cgroupfs\\n'
echo 'Docker Root Dir: /var/lib/docker' ;;
images*) printf 'REPOSITORY TAG IMAGE ID\\nk8s.gcr.io/pause 3.2 sha256:80d2 2 years\\n' ;;
ps*) printf 'CONTAINER ID IMAGE COMMAND\\n3e8a pause sleep\\n' ;;
'network ls'*) echo n1 ;;
'network inspect'*) echo '[{"Name": "bridge", "Driver": "bridge"}]' ;;
inspect*) echo 'container 3e8a /k8s_etcd_0 true 1 2024-01-02T03:04:05Z 0 e:1 \
{"io.kubernetes.pod.name": "etcd-m", "io.kubernetes.container.name": "etcd"}' ;;
--version) echo 'Docker version 20.10.24, build 1' ;;
esac
""",
    "dockerd": "echo 'Docker version 20.10.24, build 1'\n",
    "dpkg-query": "printf 'installed\\tdpkg\\t1\\ninstalled\\tdocker.io\\t20.10\\n'; exit 1\n",
    "etcdctl": """\
case "$*" in
*'user get'*) echo '{"header": {"revision": 1}, "roles": ["root"]}' ;;
*'role get'*) echo '{"header": {"revision": 1}, "perm": [{"key": "L2E="}]}' ;;
*)
echo '{"header": {"revision": 1}, "kvs": [{"key": "L2E=", "value": "L2E=", "mod_revision": 1}]}' ;;
esac
""",
    "firewall-cmd": """\
case "$*" in
--state) echo running ;;
--get-default-zone) echo public ;;
*) printf 'public (active)\\n  target: default\\n  sources: 10.10.0.0/16\\n  ports: 6443/tcp\\n' ;;
esac
""",
    "flanneld": "echo 0.9.0 >&2\n",
    "getent": """\
case "$*" in
'passwd 0') echo root:x:0:0:root:/root:/bin/sh ;;
*dns*) echo '192.0.2.9 STREAM name' ;;
*) echo "192.0.2.9 $3" ;;
esac
""",
    "bridge": 'echo \'[{"ifname": "flannel.1", "mac": "m2", "dst": "192.0.2.2"}]\'\n',
    "ip": """\
case "$*" in
'-4 -j neigh show') echo '[{"dev": "flannel.1", "dst": "10.10.2.0", "lladdr": "m2"}]' ;;
'-j address show type veth') echo '[{"ifindex": 5, "link_index": 2, "ifname": "veth1"}]' ;;
*) exec ip "$@" ;;
esac
""",
    "iptables-save": """\
case "$*" in *-V*|*--version*) echo 'iptables-save v1.8.9 (nf_tables)'; exit ;; esac
printf '*filter\\n:KUBE-FIREWALL - [0:0]\\n:FORWARD DROP [0:0]\\n-A FORWARD -j ACCEPT\\nCOMMIT\\n'
""",
    "iptables": "echo 'iptables v1.8.9 (nf_tables)'\n",
    "nft": """\
case "$*" in
--version) echo 'nftables v1.0.6 (Lester Gooch #5)' ;;
'list tables') printf 'table inet filter\\ntable ip kube-proxy\\n' ;;
*'list table ip kube-proxy') printf '%s {\\n' 'table ip kube-proxy' 'chain services'
printf '%s\\n' 'accept' '}' '}' ;;
*) echo '{"nftables": [{"chain": {"family": "inet", "table": "filter", "name": "forward", \
"hook": "forward", "prio": 0, "policy": "drop"}}]}' ;;
esac
""",
    "kubectl": """\
case "$*" in
*--raw=/version*) echo '{"gitVersion": "v1.20.2"}' ;;
*--filename=-*)
grep -q Namespace || exit 1
echo '{"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "shop"}}' ;;
*clusterrolebindings*)
echo '{"items": [{"kind": "ClusterRoleBinding", "roleRef": {"name": "view"}, '
echo '"metadata": {"name": "pyinfra-kube:alice:4f9c21ab"}}]}' ;;
*'pods,services,'*)
echo '{"items": [{"kind": "Pod", "metadata": {"name": "p", "namespace": "shop"}, "spec": {}}]}' ;;
*'get pods'*) echo '{"items": [{"metadata": {"name": "p", "namespace": "shop"}}]}' ;;
*)
echo '{"items": [{"metadata": {"name": "n", "labels": {}}, '
echo '"spec": {"podCIDR": "10.10.1.0/24"}}]}' ;;
esac
""",
    "nsenter": """\
echo '[{"ifindex": 2, "link_index": 5, "ifname": "eth0", "addr_info": [{"family": "inet", \
"local": "10.10.1.2", "prefixlen": 24}]}]'
""",
    "matchpathcon": """\
shift
for path; do echo "$path has context u:r:tmp_t:s0, should be u:r:bin_t:s0"; done
""",
    "ping": """\
echo '64 bytes from 192.0.2.1: icmp_seq=1 ttl=64 time=0.1 ms'
echo '1 packets transmitted, 1 received, 0% packet loss'
""",
    "rpm": "echo 'version 20.10.21-1.fc24'\n",
    "systemctl": """\
case "$1" in is-active) exit 0 ;; esac
while [ $# -gt 0 ]; do case "$1" in *.service|*.socket)
echo 'LoadState=loaded'; echo 'ActiveState=active'; echo 'SubState=running'; echo "Id=$1"
echo "MainPID=$STAND_IN"; echo 'NeedDaemonReload=no'; echo 'UnitFileState=enabled'
echo 'ExecStart={ path=/p ; argv[]=/usr/bin/dockerd --bridge=cbr0 ; ignore_errors=no ; }'
[ $# = 1 ] || echo ;; esac; shift; done
""",
}

_ETCD = {
    "/health": b'{"health":"true"}',
    "/version": b'{"etcdserver":"3.4.13"}',
    "/v3/cluster/member/list": b'{"header":{},"members":[{"ID":"255","name":"m"}]}',
    "/v3/kv/range": b'{"header":{"revision":"9"},"kvs":[{"key":"L2E=","mod_revision":"8"}]}',
    "/v2/keys/a": b'{"action":"get","node":{"key":"/a","value":"b","modifiedIndex":4}}',
}


class _Etcd(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = _ETCD.get(self.path, b"404 page not found")
        self.send_response(200 if self.path in _ETCD else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@dataclass
class Sandbox:
    """
    The folder, and the facts with what they are to see.
    """

    folder: Path
    environment: dict[str, str]
    subjects: list[Subject]

    def link(self, names: Iterable[str]) -> Path:
        """A folder with these tools."""

        folder = Path(mkdtemp(dir=self.folder))
        for name in names:
            (folder / name).symlink_to(self.tool(name))
        return folder

    def script(self, name: str, text: str) -> Path:
        """A folder with a script in place of a tool."""

        folder = Path(mkdtemp(dir=self.folder))
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
        return folder

    def tool(self, name: str) -> Path:
        return self.folder / "scripts" / name if name in _SCRIPTS else _tool(name)

    def words(self, subjects: Sequence[Subject]) -> list[str]:
        """Every word of the facts' commands that can be a tool. The host has apt, and no other."""

        words = set(re.findall(r"[\w.-]+", RoundTrip(subjects).command)) - {"dnf", "yum"}
        return sorted(word for word in words if self.tool(word).is_file())

    def called(self, subject: Subject) -> list[str]:
        """The tools that a fact's command really calls, seen by wrappers around them."""

        folder = Path(mkdtemp(dir=self.folder))
        log = folder / "log"
        for word in self.words([subject]):
            wrapper = f'#!/bin/sh\necho {word} >> {log}\nexec {self.tool(word)} "$@"\n'
            (folder / word).write_text(wrapper)
            (folder / word).chmod(0o755)
        # Without RoundTrip around it, which has tools of its own.
        self.shell(f"{{\n{subject.command(subject.fact())}\n}} </dev/null", folder)
        return sorted(set(log.read_text().split())) if log.exists() else []

    def shell(self, command: str, *path: Path) -> list[str]:
        environment = {**self.environment, "PATH": ":".join(map(str, path))}
        # What this machine has there is not the host's.
        command = command.replace(OWN_PATH, "")
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=90,
        )
        return done.stdout.decode().split("\n")

    def ask(self, subjects: Sequence[Subject], *path: Path) -> dict[str, Any]:
        trip = RoundTrip(subjects)
        return trip.process(self.shell(trip.command, *path))


@cache
def _tool(name: str) -> Path:
    return Path(shutil.which(name) or f"/no/{name}").resolve()


@contextmanager
def sandbox(folder: Path) -> Iterator[Sandbox]:
    """Make it, with an etcd that listens and a program that runs."""

    (folder / "scripts").mkdir()
    for name, text in _SCRIPTS.items():
        (folder / "scripts" / name).write_text(
            f"#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n{text}"
        )
        (folder / "scripts" / name).chmod(0o755)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Etcd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    program = folder / PROGRAM
    program.symlink_to("/bin/sleep")
    running = subprocess.Popen([f"{program}", "600"])
    environment = {**os.environ, "STAND_IN": str(running.pid), "LC_ALL": "C"}
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        files = _files(folder)
        yield Sandbox(folder, environment, _subjects(url, files))
    finally:
        running.kill()
        running.wait()
        server.shutdown()
        server.server_close()


def _files(folder: Path) -> dict[str, str]:
    files = {
        "certificate": pki.make_ca("ca").cert,
        "manifests/etcd.yaml": "kind: Pod\n",
        "subnet": 'FLANNEL_SUBNET="10.16.1.1/24"\nFLANNEL_MTU=1450',
        "environment": "KUBE_ARGS='a'\nOWN=b",
        "encryption.yaml": "providers:\n- secretbox:\n    keys:\n    - name: one\n",
        "mounts": "1 1 0:4 net:[9] /run/netns/pod rw - nsfs nsfs rw\n",
        "users.csv": "token,alice,alice-uid\n",
        "root/etc/containerd/config.toml": "version = 2\n",
        "root/etc/fstab": "/dev/sda2 none swap sw 0 0\n",
        "root/proc/swaps": "Filename Type\n",
        "root/sys/fs/selinux/enforce": "1",
        "root/usr/bin/crictl": "#!/bin/sh\necho crictl version 1.37.0\n",
        "net.d/10-pods.conflist": "{}\n",
        "record/before": "file\t/etc/hosts\tkept\n",
        "root/etc/systemd/system/one.service.d/10.conf": "[Service]\nExecStart=/bin/true\n",
    }
    for name, text in files.items():
        path = folder / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "files/root/usr/bin/crictl").chmod(0o755)
    (folder / "files/link").symlink_to("subnet")
    (folder / "files/loop").symlink_to("loop")
    return {
        name: str(folder / "files" / name) for name in [*files, "link", "loop", "root", "record"]
    }


_NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "name": "shop"}


def _subjects(url: str, files: dict[str, str]) -> list[Subject]:
    paths = [files["certificate"], files["link"]]
    manifests = str(Path(files["manifests/etcd.yaml"]).parent)
    return [
        Subject(Links),
        Subject(LoosePorts, {"mounts": files["mounts"]}),
        Subject(Routes),
        Subject(Certificates, {"paths": paths[:1]}),
        Subject(Answers, {"commands": {"yes": "echo yes"}}),
        Subject(Checks, {"commands": {"yes": "true", "no": "false"}, "given": {"a": "echo a"}}),
        Subject(Cni, {"conf_dir": str(Path(files["net.d/10-pods.conflist"]).parent)}),
        Subject(Containerd, {"root": files["root"]}),
        Subject(Docker),
        Subject(DockerNetworks),
        Subject(EnvironmentFiles, {"files": {files["environment"]: ["KUBE_ARGS"]}}),
        Subject(EncryptionFile, {"path": files["encryption.yaml"]}),
        Subject(StoredSecrets, {"endpoints": [url]}),
        Subject(EtcdHealth, {"endpoints": [url]}),
        Subject(EtcdMembers, {"endpoints": [url]}),
        Subject(EtcdKeys, {"endpoints": [url], "paths": ["/a"]}),
        Subject(EtcdKeys, {"endpoints": [url], "paths": ["/a"], "api": "v2"}),
        Subject(EtcdKeys, {"endpoints": [url], "paths": ["/a"], "api": "grpc"}),
        Subject(EtcdRoles, {"endpoint": url, "roles": ["root"], "users": ["root"]}),
        Subject(Files, {"paths": paths}),
        Subject(FileContents, {"paths": paths}),
        Subject(Folders, {"paths": [files["record"]]}),
        Subject(Leftovers, {"paths": [files["record"]]}),
        Subject(KubeRules),
        Subject(Record, {"place": files["record"]}),
        Subject(LinkSteps, {"paths": [*paths, files["loop"]]}),
        Subject(Obstacles, {"paths": [*paths, files["loop"]]}),
        Subject(DockerOnFlannel),
        Subject(Fitness, {"paths": paths, "programs": ["mount"]}),
        Subject(Flannel, {"subnet_file": files["subnet"]}),
        Subject(Hosts, {"names": ["one", "two"], "marker": "own"}),
        Subject(Reachable, {"addresses": ["192.0.2.1"]}),
        Subject(Images),
        Subject(Rules),
        Subject(OtherFirewalls),
        Subject(Firewalld),
        Subject(NftTable, {"table": "ip kube-proxy"}),
        Subject(Bindings),
        Subject(Evictable, {"node": "n1"}),
        Subject(Nodes),
        Subject(Objects, {"references": [_NAMESPACE]}),
        Subject(AppliedObjects, {"manifest": "kind: Namespace"}),
        Subject(Packages, {"names": ["docker.io", "etcd"]}),
        Subject(Locks, {"names": ["docker.io", "etcd"]}),
        Subject(Candidates, {"names": ["containerd"]}),
        Subject(Labels, {"paths": paths, "whole": [manifests], "root": files["root"]}),
        Subject(Labels, {"root": files["root"]}),
        Subject(Swaps, {"root": files["root"]}),
        Subject(PodContainers),
        Subject(Flags, {"names": [PROGRAM]}),
        Subject(Listeners, {"ports": [int(url.rpartition(":")[2])]}),
        Subject(Units, {"units": ["docker.service"], "config": paths}),
        Subject(CommandDropIns, {"units": ["one.service"], "root": files["root"]}),
        Subject(Removals, {"names": ["docker.io"]}),
        Subject(UserTables, {"paths": [files["users.csv"]]}),
        Subject(StaticPods, {"directory": manifests}),
        Subject(StaticPods, {"directory": manifests, "runtime": "crio"}),
        Subject(Sysctls, {"keys": ["net.ipv4.ip_forward", "kernel.pid_max"]}),
        Subject(SysctlSettings),
        Subject(Modules, {"modules": ["br_netfilter"]}),
        Subject(Mtimes, {"paths": paths}),
        Subject(RunningVersions, {"programs": {"docker.service": files["root/usr/bin/crictl"]}}),
        Subject(Decisions, {"destination": "127.0.0.1"}),
        Subject(Peers),
        Subject(ProxyChains),
        Subject(Workloads),
        Subject(Versions, {"paths": [files["root/usr/bin/crictl"]]}),
    ]
