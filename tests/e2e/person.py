"""Whoever has a kubeconfig, away from the hosts: what the API answers to that."""

from __future__ import annotations

import base64
import json
import re
import shutil
import ssl
import subprocess
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from tests.e2e.paths import Site, succeeded
from tests.lab import Lab

_TYPES = {"PATCH": "application/strategic-merge-patch+json"}


@dataclass(frozen=True)
class Person:
    """kubectl on the control machine, with somebody's kubeconfig."""

    lab: Lab
    kubeconfig: Path

    def asks(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        assert self.lab.kubernetes
        program = self.lab.kubernetes / "kubectl"
        return subprocess.run(
            [program, f"--kubeconfig={self.kubeconfig}", "--cache-dir=/dev/null", *words],
            env={"HOME": str(self.kubeconfig.parent), "NO_PROXY": "*"},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def may(self, *words: str, stdin: str = "") -> str:
        """What comes of what must be allowed."""
        done = self.asks(*words, stdin=stdin)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def may_not(self, *words: str, stdin: str = "") -> str:
        """What the API says of what must be forbidden, not merely fail."""
        done = self.asks(*words, stdin=stdin)
        assert done.returncode, (words, done.stdout)
        assert re.search(r"\b[Ff]orbidden\b", done.stderr), (words, done.stderr)
        return done.stderr

    def send(self, method: str, path: str, body: object = None) -> int:
        """The code of the answer to one request, for kubectl asks something else before."""
        config = yaml.safe_load(self.kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=ca)
        headers = {"Content-Type": _TYPES.get(method, "application/json")}
        if "token" in user:
            headers["Authorization"] = f"Bearer {user['token']}"
        else:
            context.load_cert_chain(*self.pem())
        server = urlsplit(cluster["server"])
        assert server.hostname
        connection = HTTPSConnection(server.hostname, server.port, timeout=30, context=context)
        connection.request(method, path, json.dumps(body) if body else None, headers)
        try:
            return connection.getresponse().status
        finally:
            connection.close()

    def pem(self) -> tuple[Path, Path]:
        """The files of its client certificate and key, beside the kubeconfig."""
        user = yaml.safe_load(self.kubeconfig.read_text())["users"][0]["user"]
        files = []
        for part in ("certificate", "key"):
            path = self.kubeconfig.with_suffix(f".{part}.pem")
            path.touch(mode=0o600)
            path.write_bytes(base64.b64decode(user[f"client-{part}-data"]))
            files.append(path)
        return files[0], files[1]


def kubeconfig_of(site: Site, person: str) -> Path:
    """Where a site keeps somebody's kubeconfig."""
    return site.store / f"users/{person}.kubeconfig"


def see_a_person_come_and_go(lab: Lab, site: Site) -> None:
    """Whoever is let in may view, whoever is revoked may nothing, and no second run does more."""
    words = ["--data", "access_user=pat", "--data", "access_group=viewers"]
    dry = succeeded(site.run("--dry", "--json", *words, deploy="access"))
    run = succeeded(site.run("-y", "--json", *words, deploy="access"))
    assert run.changed == dry.planned
    assert len(run.changed) == 2
    assert succeeded(site.run("-y", "--json", *words, deploy="access")).changed == set()
    pat = Person(lab, kubeconfig_of(site, "pat"))
    old = Person(lab, Path(shutil.copy(pat.kubeconfig, site.folder / "old")))
    assert pat.may("get", "pods", "--all-namespaces")
    pat.may_not("get", "secrets", "--all-namespaces")
    pat.may_not("get", "nodes")
    succeeded(site.run("-y", "--data", "access_revoke=pat", deploy="access"))
    old.may_not("get", "pods")
    succeeded(site.run("-y", *words, deploy="access"))
    assert pat.may("get", "services", "--all-namespaces")
    old.may_not("get", "pods")
