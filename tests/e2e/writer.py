"""Somebody who writes to a cluster all the time, and knows what was acknowledged."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from tests.e2e.paths import execute
from tests.lab import Lab

ADMIN = "/srv/kubernetes/admin.kubeconfig"
_PORT = 6443
_PAGE = 2000


class Writer:
    """
    Makes ConfigMaps through the apiservers, at a steady rate, each with a name of its own. One that
    does not answer is left for the next.

    + lab: with a cluster
    + hosts: its control plane
    + folder: an empty one for the administrator's credentials
    + rate: writes a second
    + name: what the names begin with; another one for each writer of a cluster
    """

    def __init__(
        self, lab: Lab, hosts: list[str], folder: Path, rate: float = 50, name: str = "written"
    ) -> None:
        self.acknowledged: list[str] = []
        self.tried = 0
        self.longest_pause = 0.0
        self.seconds = 0.0
        self._addresses = [lab.hosts[name].ip for name in hosts]
        self._rate, self._name = rate, name
        self._tls, self._headers = _credentials(
            "\n".join(execute(lab, hosts[0], f"cat {ADMIN}")), folder
        )
        self._connection: http.client.HTTPSConnection | None = None
        self._place = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._end.set()
        self._thread.join()

    def lost(self) -> set[str]:
        """What was acknowledged and is not there."""
        return {*self.acknowledged} - {*self.names()}

    def __str__(self) -> str:
        done = len(self.acknowledged)
        return (
            f"{done} of {self.tried} writes acknowledged in {self.seconds:.0f} s, "
            f"{done / self.seconds:.1f} a second; longest pause {self.longest_pause:.1f} s"
        )

    def _write(self) -> None:
        begin = last = time.monotonic()
        while not self._end.is_set():
            name = f"{self._name}-{self.tried}"
            self.tried += 1
            item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
            code, _ = self._ask("POST", "/api/v1/namespaces/default/configmaps", item)
            now = time.monotonic()
            if code == 201:
                self.acknowledged.append(name)
                self.longest_pause = max(self.longest_pause, now - last)
                last = now
            self._end.wait(max(0.0, begin + self.tried / self._rate - now) if code else 0.02)
        self.seconds = time.monotonic() - begin
        self.longest_pause = max(self.longest_pause, time.monotonic() - last)

    def names(self) -> Iterator[str]:
        """All ConfigMaps that there are, whoever made them."""
        path, more = f"/api/v1/namespaces/default/configmaps?limit={_PAGE}", ""
        while True:
            code, text = self._ask("GET", path + more)
            assert code == 200, text
            found = json.loads(text)
            yield from (item["metadata"]["name"] for item in found["items"])
            if not (token := found["metadata"].get("continue")):
                return
            more = f"&continue={token}"

    def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """The code and the text of an answer; 0 for none."""
        try:
            if not self._connection:
                address = self._addresses[self._place % len(self._addresses)]
                self._connection = http.client.HTTPSConnection(
                    address, _PORT, timeout=5, context=self._tls
                )
            given = json.dumps(body) if body else None
            self._connection.request(method, path, given, self._headers)
            answer = self._connection.getresponse()
            text = answer.read().decode()
            if answer.status < 500:
                return answer.status, text
        except (OSError, http.client.HTTPException) as error:
            text = str(error)
        if self._connection:
            self._connection.close()
        self._connection = None
        self._place += 1
        return 0, text


def _credentials(kubeconfig: str, folder: Path) -> tuple[ssl.SSLContext, dict[str, str]]:
    found = yaml.safe_load(kubeconfig)
    cluster, user = found["clusters"][0]["cluster"], found["users"][0]["user"]
    ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
    tls = ssl.create_default_context(cadata=ca)
    headers = {"Content-Type": "application/json"}
    if token := user.get("token"):
        return tls, {**headers, "Authorization": f"Bearer {token}"}
    pair = folder / "administrator.pem"
    pair.touch(mode=0o600)
    parts = [user["client-certificate-data"], user["client-key-data"]]
    pair.write_text("".join(base64.b64decode(part).decode() for part in parts))
    tls.load_cert_chain(pair)
    return tls, headers
