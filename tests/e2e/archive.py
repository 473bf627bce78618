"""An archive of deploys/support.py: made, read, and searched for secrets."""

from __future__ import annotations

import base64
import tarfile

from tests.e2e.paths import Site, succeeded

# What it has of every host.
SOME = ("addresses.txt", "log-kubelet.txt", "containers.txt", "iptables.txt", "manifests.txt")


def made(site: Site) -> dict[str, str]:
    """Path within the archive → content."""
    file = site.folder / "support.tar.gz"
    file.unlink(missing_ok=True)
    succeeded(site.run("-y", "--data", f"support_file={file}", deploy="support"))
    assert f"{file.stat().st_mode & 0o777:o}" == "600"
    assert file.stat().st_size < 10_000_000
    with tarfile.open(file) as archive:
        found = {one.name.partition("/")[2]: archive.extractfile(one) for one in archive}
        return {name: data.read().decode() for name, data in found.items() if data}


def secrets_in(files: dict[str, str], site: Site) -> list[tuple[str, str]]:
    """Each file with a secret of the credential store, as it is or in base64."""
    secrets = site.secrets()
    assert secrets
    forms = {form for one in secrets for form in (one, *_encoded(one))}
    return [(name, form) for name, text in files.items() for form in forms if form in text]


def _encoded(secret: str) -> list[str]:
    """A secret in base64, at each place that it can begin at; its first and last letters vary."""
    data = secret.encode()
    return [base64.b64encode(b"x" * n + data).decode()[4:-4] for n in range(3)]
