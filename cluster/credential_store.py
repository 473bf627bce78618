"""
The folder on the control machine that keeps a cluster's credentials.

``CredentialStore.plan`` makes in memory what the folder lacks, so that a dry run knows everything
and writes nothing; ``CredentialStore.save`` writes it.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from pyinfra_kube.cluster.allocation import AddressPlan
from pyinfra_kube.cluster.certificate_ends import days_left
from pyinfra_kube.cluster.certificates import AUTHORITIES, CA, certificates
from pyinfra_kube.cluster.credential_plan import CredentialPlan
from pyinfra_kube.cluster.credential_set import Credentials
from pyinfra_kube.cluster.errors import InputError, Problem
from pyinfra_kube.cluster.spec import ClusterSpec

# Of client certificates, of those that one host alone serves with, and of later authorities.
_FOLDERS = ("clients", "etcd", "kubelets", AUTHORITIES)
LOCK = ".lock"
UNFINISHED = ".new-"


class CredentialStore:
    """
    The folder of a cluster's credentials on the control machine.

    + folder: where it is; it need not be there yet

    Raises ``InputError`` when a file of it cannot be read.

    ```
    store = CredentialStore("inventories/kubernetes-credentials")
    credentials = store.plan(spec, plan)
    print("\\n".join(credentials.changes))
    store.save()
    ```
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self._stored = _read_folder(self.folder)
        self._planned = dict(self._stored)
        self._changes: dict[str, str] = {}

    def plan(
        self, spec: ClusterSpec, plan: AddressPlan, now: datetime | None = None
    ) -> Credentials:
        """
        Give every credential of a cluster; what the store lacks is made, in memory only.

        + spec: the cluster
        + plan: its addresses
        + now: the time; by default the present

        A second call gives the same. Raises ``InputError`` when something is to be issued and the
        store holds a CA without its key, and for a node name too long for a certificate.
        """
        now = now or datetime.now(timezone.utc)
        maker = CredentialPlan(spec, self._planned, now)
        issued = tuple(certificates(spec, plan))
        maker.make(issued)
        self._planned = maker.files
        self._changes.update(maker.changes)
        return Credentials(
            spec=spec,
            changes=tuple(f"{name}: {why}" for name, why in self._changes.items()),
            warnings=tuple(maker.warnings),
            new=not self._stored,
            certificates=issued,
            days_left=days_left(spec, issued, maker.files, now),
            _files=maker.files,
        )

    def days_left(self, spec: ClusterSpec, plan: AddressPlan) -> str:
        """
        Give one line with the days that are left of stored certificates; empty without any.

        + spec: the cluster
        + plan: its addresses
        """
        now = datetime.now(timezone.utc)
        return days_left(spec, certificates(spec, plan), self._stored, now)

    def save(self) -> list[str]:
        """
        Write what was planned and is not stored yet; give the names of the files written.

        The folder is 0700, each file 0600 from its first byte and replaced whole. Raises
        ``InputError`` when another run wrote the folder since it was read.
        """
        new = {n: text for n, text in self._planned.items() if self._stored.get(n) != text}
        if new:
            with _locked(self.folder):
                if _read_folder(self.folder) != self._stored:
                    allowed = "a folder that only one run writes; another one wrote it meanwhile"
                    folder = str(self.folder)
                    problem = Problem("credentials_dir", folder, None, allowed, "run again")
                    raise InputError([problem])
                for name in sorted(new, key=_save_order):
                    write_whole(self.folder / name, new[name])
        else:
            _close_to_others(self.folder)
        self._stored, self._changes = dict(self._planned), {}
        return sorted(new)


def compare_with_hosts(
    credentials: Credentials, folder: str | Path, fingerprints: Mapping[str, str]
) -> list[Problem]:
    """
    Name the hosts that hold a CA which the store does not know: it was lost, or is another's.

    + credentials: what the store gives
    + folder: where the store is
    + fingerprints: host → SHA-256 of the CA certificate that it holds, for those that hold one

    ```
    compare_with_hosts(credentials, store.folder, {"m1": "ab12…"})
    ```
    """
    strange: dict[str, list[str]] = {}
    for host, fingerprint in fingerprints.items():
        if fingerprint.lower().replace(":", "") not in credentials.ca_fingerprints:
            strange.setdefault(fingerprint, []).append(host)
    allowed = "the folder that holds the CA of these hosts (SHA-256 {}…)"
    fix = (
        "restore that folder from a copy, or name it in credentials_dir; or set "
        "replace_credentials = True: every host then gets new credentials and service accounts' "
        "tokens end"
    )
    return [
        Problem("credentials_dir", str(folder), ", ".join(hosts), allowed.format(ca[:16]), fix)
        for ca, hosts in strange.items()
    ]


def _read_folder(folder: Path) -> dict[str, str]:
    try:
        parts = (folder, *(folder / one for one in _FOLDERS))
        paths = [path for part in parts for path in _files_of(part)]
        return {
            str(path.relative_to(folder)): path.read_text(encoding="ascii")
            for path in sorted(paths)
            if path.suffix in (".crt", ".key", ".pub", ".json")
        }
    except (OSError, UnicodeDecodeError) as error:
        allowed = f"a folder of credentials that can be read ({error})"
        raise InputError([Problem("credentials_dir", str(folder), None, allowed)]) from None


def _files_of(folder: Path) -> list[Path]:
    # Not glob: that takes a folder which it may not read for an empty one.
    if not folder.exists():
        return []
    return [Path(entry.path) for entry in os.scandir(folder) if entry.is_file()]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other runs out while a folder is written."""
    for path in (folder, *(folder / one for one in _FOLDERS)):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    _close_to_others(folder)
    with open(os.open(folder / LOCK, os.O_CREAT | os.O_RDWR, 0o600)) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for rest in folder.rglob(f"{UNFINISHED}*"):
            rest.unlink()
        if not (folder / ".gitignore").exists():
            write_whole(folder / ".gitignore", "*\n")
        yield


def _save_order(name: str) -> tuple[bool, bool, str]:
    # The CA first and each key before its certificate: what a run that dies leaves can be mended.
    return name != f"{CA}.key", not name.endswith(".key"), name


def write_whole(path: Path, text: str) -> None:
    """
    Put a file in its place whole, closed to others from its first byte.

    + path: in a folder that is there
    + text: ASCII
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED)
    try:
        with open(handle, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _close_to_others(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        mode = 0o700 if path.is_dir() else 0o600
        if path.exists() and path.stat().st_mode & 0o777 != mode:
            path.chmod(mode)
