"""
Certificates on a host. Keys are never read.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from pyinfra.api import FactBase
from typing_extensions import override

_END = "-----END CERTIFICATE-----"


@dataclass(frozen=True)
class Certificate:
    """
    One certificate.

    + subject, issuer: as ``CN=kubelet,O=system:nodes``
    + names: DNS names and IP addresses that it holds for
    + not_before, not_after: as ``2027-01-31T12:00:00+00:00``
    + sha256: fingerprint, hexadecimal
    + authority: whether it may sign others
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: str
    not_after: str
    sha256: str
    authority: bool = False


class Certificates(FactBase[dict[str, list[Certificate]]]):
    """
    Returns the certificates in each of the files, in their order; a file that is not there or
    holds none is left out.

    + paths: absolute paths of PEM files

    .. code:: python

        {
            "/srv/kubernetes/server.crt": [
                Certificate(
                    subject="CN=192.0.2.10", issuer="CN=kubernetes-ca",
                    names=("kubernetes", "192.0.2.10", "10.0.0.1"),
                    not_before="2026-01-31T12:00:00+00:00",
                    not_after="2027-01-31T12:00:00+00:00",
                    sha256="1f3a…",
                ),
            ],
        }
    """

    default = dict

    @override
    def command(self, paths: Sequence[str]) -> str:
        return (
            f"for path in {shlex.join(paths)}; do "
            '[ -r "$path" ] || continue; echo "file $path"; '
            f"sed -n '/^-----BEGIN CERTIFICATE-----/,/^{_END}/p' \"$path\"; echo; done"
        )

    @override
    def process(self, output: Iterable[str]) -> dict[str, list[Certificate]]:
        found: dict[str, list[Certificate]] = {}
        path = ""
        lines: list[str] = []
        for line in output:
            if line.startswith("file "):
                path, lines = line[len("file ") :], []
                continue
            lines.append(line)
            if line.strip() == _END:
                found.setdefault(path, []).append(parse("\n".join(lines)))
                lines = []
        return found


def parse(pem: str) -> Certificate:
    """Read a certificate from its PEM text."""

    certificate = x509.load_pem_x509_certificate(pem.strip().encode())
    return Certificate(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        names=_names(certificate),
        not_before=certificate.not_valid_before_utc.isoformat(),
        not_after=certificate.not_valid_after_utc.isoformat(),
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        authority=_authority(certificate),
    )


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def _authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
