"""Checks of a host's certificates, and of the keys that sign and check tokens."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from pyinfra_kube.checks.check import Said
from pyinfra_kube.checks.readings import Host, Readings, Untold

# Days that a certificate should still last.
_DAYS = 30

_PEM = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.S)


def certificates(host: Host) -> dict[str, list[x509.Certificate]]:
    """
    Give the certificates in the files of a host; those in a kubeconfig as ``PATH client`` and
    ``PATH authority``.

    + host: it
    """
    found: dict[str, list[x509.Certificate]] = {}
    for part in f"\n{host.answer('certificates').text}".split("\nfile ")[1:]:
        path, _, text = part.partition("\n")
        for word, key in (("authority", "certificate-authority"), ("client", "client-certificate")):
            if data := re.search(rf"{key}-data: *\"?([A-Za-z0-9+/=]+)", text):
                pem = base64.b64decode(data[1]).decode(errors="replace")
                found[f"{path} {word}"] = _read(pem)
        if "-----BEGIN" in text:
            found[path] = _read(text)
    return found


def _read(text: str) -> list[x509.Certificate]:
    found = []
    for pem in _PEM.findall(text):
        try:
            found.append(x509.load_pem_x509_certificate(pem.encode()))
        except ValueError:
            continue
    return found


def days_left(host: Host, readings: Readings) -> dict[str, int]:
    """
    Give the days that each certificate of a host still lasts, by its file.

    + host: it
    + readings: of the cluster
    """
    return {
        path: (held[0].not_valid_after_utc - readings.now).days
        for path, held in (certificates(host) if "certificates" in host.answers else {}).items()
        if held
    }


def ends(host: Host, readings: Readings) -> Iterator[Said]:
    """Certificates that have ended, soon will, or have not begun."""
    for path, held in certificates(host).items():
        if not held:
            yield Said("it cannot be read", "a certificate", path)
        for one in held[:1]:
            left = (one.not_valid_after_utc - readings.now).total_seconds() / 86400
            when, first = f"{one.not_valid_after_utc:%Y-%m-%d}", one.not_valid_before_utc
            if first > readings.now:
                yield Said(f"begins {first:%Y-%m-%d %H:%M} UTC", "one that is valid", path)
            if left < 0:
                yield Said(f"ended {when}", "one that is valid", path)
            elif left < _DAYS:
                yield Said(f"ends {when}", f"{_DAYS} days or more", path, state="warning")


def signers(host: Host, readings: Readings) -> Iterator[Said]:
    """CAs that are not those of the cluster, and certificates that none of them signed."""
    known = _authorities(readings)
    held = certificates(host)
    for path, certs in held.items():
        # One that signs itself, such as openssl's, says that it is a CA, too.
        issued = certs[:1] if path in host.wanted.issued else []
        own = [one for one in certs if _is_authority(one) and one not in issued]
        leaves = [one for one in certs if one in issued or not _is_authority(one)]
        strange = own and not any(_digest(one) in known for one in own)
        if strange:
            yield Said(f"the CA {_name(own[0])}, {_digest(own[0])[:8]}", "the cluster's CA", path)
        for one in leaves:
            if not any(_signed(one, ca) for ca in known.values()):
                yield Said(f"signed by {_issuer(one)}, not by a CA of the cluster", "", path)


def _authorities(readings: Readings) -> dict[str, x509.Certificate]:
    """The CAs of the first host of the control plane that tells them, or that most hosts have."""

    counts: dict[str, int] = {}
    by_digest: dict[str, x509.Certificate] = {}
    hosts = [host for host in readings.hosts.values() if "certificates" in host.answers]
    for host in hosts:
        for path, certs in certificates(host).items():
            # A kubeconfig's is a copy, and what a CA signs is none.
            for one in certs if " " not in path and path not in host.wanted.issued else ():
                if _is_authority(one):
                    by_digest[_digest(one)] = one
                    weight = len(hosts) if host.is_a("control_plane") else 1
                    counts[_digest(one)] = counts.get(_digest(one), 0) + weight
    most = [digest for digest, count in counts.items() if count * 2 >= len(hosts)]
    if not most:
        raise Untold("no host tells the cluster's CA")
    return {digest: by_digest[digest] for digest in most}


def _is_authority(one: x509.Certificate) -> bool:
    try:
        return one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _signed(one: x509.Certificate, ca: x509.Certificate) -> bool:
    try:
        one.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _digest(one: x509.Certificate) -> str:
    return hashlib.sha256(one.tbs_certificate_bytes).hexdigest()


def _name(one: x509.Certificate) -> str:
    return one.subject.rfc4514_string()


def _issuer(one: x509.Certificate) -> str:
    return one.issuer.rfc4514_string()


def open_secrets(host: Host, _: Readings) -> Iterator[Said]:
    """Files with a secret that every user of the host can read."""
    for path in host.answer("open secrets").text.splitlines():
        yield Said("others can read it", "its owner alone can", path)


def kubeconfigs(host: Host, readings: Readings) -> Iterator[Said]:
    """Kubeconfigs that lead elsewhere, or whose token no apiserver takes."""
    taken = {
        digest
        for name in readings.control_plane
        if (answer := readings.hosts[name].answers.get("tokens")) and answer.good
        for digest in answer.text.split()
    }
    for line in host.answer("kubeconfigs").text.splitlines():
        kind, path, value = line.split(" ", 2)
        wanted = host.wanted.servers.get(path)
        if kind == "server" and wanted and value.strip('"') != wanted:
            yield Said(value or "no server", wanted, path)
        elif kind == "token" and taken and value not in taken:
            yield Said("a token that no apiserver takes", "that of known_tokens.csv", path)


def token_keys(host: Host, readings: Readings) -> Iterator[Said]:
    """A key that signs tokens which an apiserver does not accept."""
    signs = _keys(host.answer("token keys").text.partition("accepted\n")[0])
    for name in readings.control_plane:
        if "token keys" not in readings.hosts[name].answers:
            continue
        said = readings.hosts[name].answer("token keys").text.partition("accepted\n")[2]
        if signs and not signs <= _keys(said):
            yield Said(
                f"the apiserver of {name} accepts other keys", "the one that signs", about=(name,)
            )


def _keys(text: str) -> set[str]:
    found = re.findall("-----BEGIN [A-Z ]*PUBLIC KEY-----(.*?)-----END", text, re.S)
    # The two ways to write an RSA key end alike.
    return {"".join(one.split())[-300:] for one in found}
