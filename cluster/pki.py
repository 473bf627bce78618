"""
Keys and certificates, PEM text to PEM text; nothing is read or written.

RSA 2048 with SHA-256, and keys in PKCS #1, because the releases of 2016 read nothing newer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

KEY_BITS = 2048
CA_DAYS = 3650
# Hosts' clocks may lag behind; Go refuses a certificate that is not valid yet.
BACKDATED = timedelta(hours=1)

USAGES = {
    "server": [ExtendedKeyUsageOID.SERVER_AUTH],
    "client": [ExtendedKeyUsageOID.CLIENT_AUTH],
    "peer": [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
}


@dataclass(frozen=True)
class KeyPair:
    """
    A certificate and its private key, both PEM.

    + cert: the certificate
    + key: its key, a secret
    """

    cert: str
    key: str = field(repr=False)


@dataclass(frozen=True)
class Certificate:
    """
    What a certificate says.

    + common_name: whom it names; to Kubernetes a client's user
    + organizations: to Kubernetes a client's groups
    + names: the DNS names and addresses that it is good for
    + issuer: the common name of who signed it
    + not_before, not_after: its begin and its end, UTC
    + fingerprint: SHA-256 of it, in hexadecimal
    """

    common_name: str
    organizations: tuple[str, ...]
    names: frozenset[str]
    issuer: str
    not_before: datetime
    not_after: datetime
    fingerprint: str


def make_key() -> str:
    """Make an RSA key, PEM."""
    return _key_text(_new_key())


def public_key(key: str) -> str:
    """
    Give the public half of a key, PEM.

    + key: the private key, PEM
    """
    public = _look_at(key).public_key()
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return public.public_bytes(encoding, form).decode()


def make_ca(name: str, *, key: str | None = None, now: datetime | None = None) -> KeyPair:
    """
    Make a root certificate, good for ten years.

    + name: its common name
    + key: its key, PEM; by default a new one
    + now: the time to count from; by default the present
    """
    key = key or make_key()
    own = _read_key(key)
    return KeyPair(_sign(_builder(_name(name, ()), own, None, CA_DAYS, now), own), key)


def issue(
    ca: KeyPair,
    kind: str,
    common_name: str,
    organizations: Iterable[str] = (),
    names: Iterable[str] = (),
    *,
    days: int = 365,
    now: datetime | None = None,
) -> KeyPair:
    """
    Issue a certificate with a key of its own. It never outlives the CA.

    + ca: who signs
    + kind: "server", "client", or both for a "peer"
    + common_name: whom it names; to Kubernetes a client's user
    + organizations: to Kubernetes a client's groups
    + names: DNS names and addresses that it is good for
    + days: how long it is good
    + now: the time to count from; by default the present

    ```
    pair = issue(ca, "server", "kube-apiserver", names=["192.0.2.10", "kubernetes"])
    ```
    """
    signer, ca_cert = _read_key(ca.key), _read_cert(ca.cert)
    key = _new_key()
    subject = _name(common_name, organizations)
    builder = _builder(subject, key, ca_cert, days, now)
    builder = builder.add_extension(x509.ExtendedKeyUsage(USAGES[kind]), critical=False)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = builder.add_extension(authority, critical=False)
    sans = [_general_name(name) for name in dict.fromkeys(names)]
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=False)
    return KeyPair(_sign(builder, signer), _key_text(key))


def read(cert: str) -> Certificate:
    """
    Read what a certificate says.

    + cert: PEM

    Raises ``ValueError`` for a text that is none.
    """
    try:
        parsed = _read_cert(cert)
        return Certificate(
            common_name=next(iter(_words(parsed.subject, NameOID.COMMON_NAME)), ""),
            organizations=_words(parsed.subject, NameOID.ORGANIZATION_NAME),
            names=_names(parsed),
            issuer=next(iter(_words(parsed.issuer, NameOID.COMMON_NAME)), ""),
            not_before=parsed.not_valid_before_utc,
            not_after=parsed.not_valid_after_utc,
            fingerprint=parsed.fingerprint(hashes.SHA256()).hex(),
        )
    # What damage does to a certificate shows wherever it is read.
    except Exception as error:
        raise ValueError(f"not a certificate: {error}") from error


def readable(cert: str) -> bool:
    """
    Tell whether a text is a certificate.

    + cert: PEM
    """
    try:
        read(cert)
    except ValueError:
        return False
    return True


def issued_by(cert: str, ca_cert: str) -> bool:
    """
    Tell whether a CA signed a certificate.

    + cert: the certificate, PEM
    + ca_cert: the CA's, PEM
    """
    try:
        _read_cert(cert).verify_directly_issued_by(_read_cert(ca_cert))
    # Damaged ones fail in their own ways.
    except Exception:
        return False
    return True


def fits(cert: str, key: str) -> bool:
    """
    Tell whether a certificate and a private key belong together.

    + cert: the certificate, PEM
    + key: the key, PEM
    """
    try:
        return _read_cert(cert).public_key() == _look_at(key).public_key()
    # Damaged ones fail in their own ways.
    except Exception:
        return False


def _builder(
    subject: x509.Name,
    key: rsa.RSAPrivateKey,
    ca: x509.Certificate | None,
    days: int,
    now: datetime | None,
) -> x509.CertificateBuilder:
    """What a CA is to sign; without one it is a CA's own certificate."""
    now = now or datetime.now(timezone.utc)
    end = now + timedelta(days=days)
    builder = x509.CertificateBuilder(ca.subject if ca else subject, subject, key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - BACKDATED)
    builder = builder.not_valid_after(min(end, ca.not_valid_after_utc) if ca else end)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    constraints = x509.BasicConstraints(ca=not ca, path_length=None)
    builder = builder.add_extension(identifier, critical=False)
    builder = builder.add_extension(constraints, critical=True)
    return builder.add_extension(_key_usage(ca=not ca), critical=True)


def _sign(builder: x509.CertificateBuilder, key: rsa.RSAPrivateKey) -> str:
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not ca,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str, organizations: Iterable[str]) -> x509.Name:
    groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in organizations]
    return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names(cert: x509.Certificate) -> frozenset[str]:
    try:
        sans = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = (str(address) for address in sans.get_values_for_type(x509.IPAddress))
    return frozenset([*addresses, *sans.get_values_for_type(x509.DNSName)])


def _words(name: x509.Name, oid: x509.ObjectIdentifier) -> tuple[str, ...]:
    return tuple(str(attribute.value) for attribute in name.get_attributes_for_oid(oid))


def _read_cert(text: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(text.encode())


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)


def _look_at(text: str) -> rsa.RSAPrivateKey:
    """A key that signs nothing now: its numbers must agree, whether they are prime takes long."""
    key = _read_key(text, primes=False)
    numbers = key.private_numbers()
    p, q, d, public = numbers.p, numbers.q, numbers.d, numbers.public_numbers
    whole = (
        p * q == public.n
        and all(public.e * d % (prime - 1) == 1 for prime in (p, q))
        and numbers.dmp1 == rsa.rsa_crt_dmp1(d, p)
        and numbers.dmq1 == rsa.rsa_crt_dmq1(d, q)
        and numbers.iqmp == rsa.rsa_crt_iqmp(p, q)
    )
    if not whole:
        raise ValueError("a damaged key")
    return key


# One CA signs for many hosts.
@lru_cache(maxsize=8)
def _read_key(text: str, primes: bool = True) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(
        text.encode(), password=None, unsafe_skip_rsa_key_validation=not primes
    )
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("not an RSA key")
    return key


def _key_text(key: rsa.RSAPrivateKey) -> str:
    form, encryption = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, encryption).decode()
