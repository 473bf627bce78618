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
from pyinfra.api.exceptions import FactProcessError
from typing_extensions import override

from pyinfra_kube.engine.printable import Printable
from pyinfra_kube.engine.tools import decoded

_END = "-----END CERTIFICATE-----"


@dataclass(frozen=True)
class Certificate(Printable):
    """
    One certificate.

    + subject, issuer: for example ``CN=kubelet,O=system:nodes``
    + names: DNS names and IP addresses that it is valid for
    + not_after: for example ``2027-01-31T12:00:00+00:00``
    + sha256: fingerprint, hexadecimal
    + authority: whether it may sign others
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_after: str
    sha256: str
    authority: bool = False


class Certificates(FactBase[dict[str, list[Certificate]]]):
    """
    Returns the certificates in each of the files, in their order. A file that does not exist or
    holds none is left out.

    + paths: absolute paths of PEM files

    .. code:: python

        {
            "/srv/kubernetes/server.crt": [
                Certificate(
                    subject="CN=192.0.2.10", issuer="CN=kubernetes-ca",
                    names=("kubernetes", "192.0.2.10", "10.0.0.1"),
                    not_after="2027-01-31T12:00:00+00:00",
                    sha256="1f3a…",
                ),
            ],
        }
    """

    default = dict

    @override
    def command(self, paths: Sequence[str]) -> str:
        # Reading a certificate that is cut off must stop before the key behind it.
        wanted = f"/^-----BEGIN CERTIFICATE-----/,/^{_END}/{{/PRIVATE KEY/q;p;}}"
        return f"""\
for path in {shlex.join(paths)}; do
[ -e "$path" ] || continue
[ -f "$path" ] || {{ echo "$path is not a file" >&2; exit 1; }}
text=$(sed -n {shlex.quote(wanted)} < "$path" | base64 -w 0) && [ -r "$path" ] || exit 1
printf 'file %s\\n%s\\n' "$path" "$text"
done"""

    @override
    def process(self, output: Iterable[str]) -> dict[str, list[Certificate]]:
        lines = list(output)
        found: dict[str, list[Certificate]] = {}
        for path, text in zip(lines[::2], lines[1::2], strict=True):
            path = path.removeprefix("file ")
            certificates = _certificates(decoded(text, path), path)
            found |= {path: certificates} if certificates else {}
        return found


def _certificates(text: str, path: str) -> list[Certificate]:
    begins = "-----BEGIN CERTIFICATE-----"
    parts = "\n".join(map(str.rstrip, text.splitlines())).split(begins)[1:]
    if any(_END not in part for part in parts):
        raise FactProcessError(f"{path}: a certificate in it is cut off; {_FIX}")
    try:
        return [parse(begins + part.partition(_END)[0] + _END) for part in parts]
    # What damage does to a certificate shows wherever it is read.
    except Exception as error:
        said = str(error).partition("\n")[0]
        raise FactProcessError(
            f"{path}: a certificate in it is damaged ({said}); {_FIX}"
        ) from error


_FIX = "restore the file, or delete it"


def parse(pem: str) -> Certificate:
    """Read a certificate from its PEM text."""

    certificate = x509.load_pem_x509_certificate(pem.strip().encode())
    return Certificate(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        names=_names(certificate),
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
