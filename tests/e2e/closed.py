"""What a cluster keeps from whoever holds no credential, and how a test looks for it."""

from __future__ import annotations

import base64
import json
import re
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.e2e.paths import REPOSITORY, Site, execute
from tests.e2e.pods import Kubectl
from tests.lab import Lab

AUDIT_LOG = "/var/log/kube-apiserver/audit.log"
FILE = "/srv/kubernetes/encryption.yaml"
SNAPSHOT = "/var/lib/etcd/snapshot.db"

ETCDCTL = (
    "crictl exec $(crictl ps --quiet --name '^etcd$') etcdctl"
    " --endpoints=https://127.0.0.1:2379 --cacert=/srv/kubernetes/etcd-ca.crt"
    " --cert=/srv/kubernetes/etcd-server.crt --key=/srv/kubernetes/etcd-server.key"
)


def make_secret(kubectl: Kubectl, name: str) -> str:
    """Make a Secret and return its value, which is nowhere else."""
    value = secrets.token_hex(16)
    item = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": {"value": value},
    }
    kubectl("create --filename=-", json.dumps(item))
    return value


class Writer:
    """Makes Secrets all the time; knows those that the apiserver said it made."""

    def __init__(self, kubectl: Kubectl, name: str) -> None:
        self.made: dict[str, str] = {}
        self.failed = 0
        # The longest time without success, in seconds.
        self.pause = 0.0
        self._kubectl, self._name = kubectl, name
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _write(self) -> None:
        number, last = 0, time.monotonic()
        while not self._end.is_set():
            number += 1
            name = f"{self._name}-{number}"
            try:
                self.made[name] = make_secret(self._kubectl, name)
                now = time.monotonic()
                self.pause, last = max(self.pause, now - last), now
            except AssertionError:
                self.failed += 1
                time.sleep(0.2)


def value_of(kubectl: Kubectl, name: str) -> str:
    """The value of such a Secret."""
    return base64.b64decode(
        kubectl(f"get secret {name} --output=jsonpath={{.data.value}}")
    ).decode()


def see_value_nowhere(lab: Lab, host: str, value: str) -> None:
    """Neither etcd's data and snapshot nor the audit log has a value, plain or in base64."""
    execute(lab, host, f"{ETCDCTL} snapshot save {SNAPSHOT} && sync")
    encoded = base64.b64encode(value.encode()).decode().rstrip("=")[:-1]
    places = f"/var/lib/etcd {AUDIT_LOG.rpartition('/')[0]}"
    look = f"grep --recursive --text --files-with-matches -e {value} -e {encoded} {places}"
    found = lab.exec(host, look)
    execute(lab, host, f"rm {SNAPSHOT}")
    assert (found.returncode, found.stdout) == (1, "")


def providers(lab: Lab, host: str) -> list[str]:
    """What an apiserver's file names, and in which order."""
    lines = execute(lab, host, f"[ ! -e {FILE} ] || grep -E -- '- (name|identity):' {FILE}")
    words = [line.strip(" -{}").split(":") for line in lines]
    return [word[1].strip(' "') if word[0] == "name" else word[0] for word in words]


def stored(lab: Lab, host: str) -> set[str]:
    """The keys that Secrets in etcd need, by name; ``identity`` where one needs none."""
    ask = f"{ETCDCTL} get --prefix /registry/secrets/"
    [count] = execute(lab, host, f"{ask} --keys-only | grep -c /registry/secrets/")
    begin = "k8s:enc:secretbox:v1:"
    heads = execute(lab, host, f"{ask} --print-value-only | grep -aoE '{begin}[^:]+:' || :")
    names = [head.removeprefix(begin).rstrip(":") for head in heads]
    return {*names, *(["identity"] if len(names) < int(count) else [])}


def answers(lab: Lab, host: str, address: str, paths: list[str]) -> dict[str, str]:
    """The codes that somebody without a credential gets from an apiserver."""
    ask = "curl -sk -m 5 -o /dev/null -w '%{http_code}'"
    return {path: execute(lab, host, f"{ask} https://{address}:6443{path}")[0] for path in paths}


def killed(site: Site, mark: str, deploy: str = "scratch") -> None:
    """A run that is killed when it begins an operation."""
    words = [Path(sys.executable).with_name("pyinfra"), site.inventory]
    log = site.folder / "killed.log"
    with log.open("w") as file:
        run = subprocess.Popen(
            [*words, REPOSITORY / f"deploys/{deploy}.py", "-y"],
            cwd=site.folder,
            env=site.environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
        # "Starting serial operation", where hosts take turns.
        begun = re.compile(rf"Starting .*operation: .*{re.escape(mark)}")
        while not begun.search(log.read_text()):
            assert run.poll() is None, log.read_text()[-4000:]
            time.sleep(0.05)
        time.sleep(0.5)
        run.kill()
        run.wait()


def see_kubelets_closed(lab: Lab, control_plane: str, nodes: list[str]) -> None:
    """They serve with the cluster's CA, answer nobody else, and nobody without a credential."""
    ask = "curl -s -m 5 --noproxy '*' -o /dev/null -w '%{http_code}'"
    trusted = f"{ask} --cacert /srv/kubernetes/ca.crt"
    for node in nodes:
        for name in (node, lab.hosts[node].ip):
            url = f"https://{name}:10250"
            for path in ("/pods", "/metrics", "/run/default/web/web?cmd=id"):
                assert execute(lab, control_plane, f"{trusted} '{url}{path}'") == ["401"]
            assert lab.exec(control_plane, f"{ask} {url}/pods").returncode == 60
        for port in (10255, 4194):
            # Nobody listens.
            plain = f"curl -m 5 --noproxy '*' http://{lab.hosts[node].ip}:{port}/"
            assert lab.exec(control_plane, plain).returncode == 7
