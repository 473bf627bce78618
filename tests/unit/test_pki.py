"""Certificates as other programs see them: cryptography's verifier, and a TLS handshake."""

from __future__ import annotations

import ssl
from base64 import b64decode, b64encode
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from pyinfra_kube.cluster import pki

# OpenSSL refuses short ones.
REAL_KEYS = True

NAMES = ["192.0.2.10", "10.0.0.1", "kubernetes", "kubernetes.default.svc.cluster.local"]


@pytest.fixture(scope="module")
def ca() -> pki.KeyPair:
    return pki.make_ca("test-ca")


@pytest.fixture(scope="module")
def server(ca: pki.KeyPair) -> pki.KeyPair:
    return pki.issue(ca, "server", "kube-apiserver", names=NAMES)


@pytest.fixture(scope="module")
def client(ca: pki.KeyPair) -> pki.KeyPair:
    return pki.issue(ca, "client", "system:node:n1", organizations=["system:nodes"])


def parsed(pair: pki.KeyPair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.cert.encode())


@pytest.mark.parametrize("name", NAMES)
def test_a_verifier_accepts_each_name(ca: pki.KeyPair, server: pki.KeyPair, name: str) -> None:
    subject: x509.GeneralName
    try:
        subject = x509.IPAddress(ip_address(name))
    except ValueError:
        subject = x509.DNSName(name)
    verifier = PolicyBuilder().store(Store([parsed(ca)])).build_server_verifier(subject)
    assert len(verifier.verify(parsed(server), [])) == 2


def test_a_verifier_refuses_another_name_and_another_ca(
    ca: pki.KeyPair, server: pki.KeyPair
) -> None:
    policy = PolicyBuilder().store(Store([parsed(ca)]))
    with pytest.raises(VerificationError):
        policy.build_server_verifier(x509.DNSName("example.com")).verify(parsed(server), [])
    other = PolicyBuilder().store(Store([parsed(pki.make_ca("test-ca"))]))
    with pytest.raises(VerificationError):
        other.build_server_verifier(x509.DNSName("kubernetes")).verify(parsed(server), [])


def shake_hands(
    ca: pki.KeyPair, server: pki.KeyPair, client: pki.KeyPair, name: str, folder: Path
) -> dict[str, object]:
    """Let a client with a certificate meet a server; give what the server learns of the client."""
    paths = {"ca": ca.cert, "server": server.cert + server.key, "client": client.cert + client.key}
    for file, text in paths.items():
        (folder / file).write_text(text)
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca"))
    server_side.load_cert_chain(folder / "server")
    server_side.verify_mode = ssl.CERT_REQUIRED
    client_side = ssl.create_default_context(cafile=str(folder / "ca"))
    client_side.load_cert_chain(folder / "client")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client_side.wrap_bio(to_client, to_server, server_hostname=name)
    two = server_side.wrap_bio(to_server, to_client, server_side=True)
    waiting = [one, two] * 4
    for end in waiting:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return dict(two.getpeercert() or {})


def test_a_tls_handshake(
    ca: pki.KeyPair, server: pki.KeyPair, client: pki.KeyPair, tmp_path: Path
) -> None:
    peer = shake_hands(ca, server, client, "192.0.2.10", tmp_path)
    assert peer["subject"] == (
        (("organizationName", "system:nodes"),),
        (("commonName", "system:node:n1"),),
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(ca, server, client, "192.0.2.99", tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(ca, client, client, "192.0.2.10", tmp_path)


def test_what_certificates_may_do(
    ca: pki.KeyPair, server: pki.KeyPair, client: pki.KeyPair
) -> None:
    root = parsed(ca).extensions
    assert root.get_extension_for_class(x509.BasicConstraints).value.ca
    assert root.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    for pair, usage in (
        (server, ExtendedKeyUsageOID.SERVER_AUTH),
        (client, ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        found = parsed(pair).extensions
        assert not found.get_extension_for_class(x509.BasicConstraints).value.ca
        assert list(found.get_extension_for_class(x509.ExtendedKeyUsage).value) == [usage]
        assert found.get_extension_for_class(x509.KeyUsage).value.key_encipherment
        assert isinstance(parsed(pair).signature_hash_algorithm, hashes.SHA256)


def test_read(ca: pki.KeyPair, server: pki.KeyPair, client: pki.KeyPair) -> None:
    found = pki.read(server.cert)
    assert found.names == frozenset(NAMES)
    assert (found.common_name, found.issuer) == ("kube-apiserver", "test-ca")
    assert found.fingerprint == parsed(server).fingerprint(hashes.SHA256()).hex()
    assert pki.read(client.cert).organizations == ("system:nodes",)
    assert pki.read(ca.cert).names == frozenset()
    with pytest.raises(ValueError, match=r".+"):
        pki.read("not a certificate")


def test_issued_by_and_fits(ca: pki.KeyPair, server: pki.KeyPair) -> None:
    other = pki.make_ca("test-ca")
    assert pki.issued_by(server.cert, ca.cert)
    assert not pki.issued_by(server.cert, other.cert)
    assert not pki.issued_by("nonsense", ca.cert)
    assert pki.fits(server.cert, server.key)
    assert not pki.fits(server.cert, ca.key)
    assert not pki.fits("nonsense", ca.key)


def test_a_certificate_never_outlives_its_ca() -> None:
    start = datetime(2020, 1, 1, tzinfo=timezone.utc)
    ca = pki.make_ca("old", now=start)
    late = start + timedelta(days=pki.CA_DAYS - 10)
    pair = pki.issue(ca, "client", "x", days=365, now=late)
    assert pki.read(pair.cert).not_after == pki.read(ca.cert).not_after
    young = pki.issue(ca, "client", "x", days=365, now=start)
    assert pki.read(young.cert).not_after == start + timedelta(days=365)


def test_a_ca_made_again_from_its_key_still_signs_for_old_certificates(
    ca: pki.KeyPair, server: pki.KeyPair
) -> None:
    again = pki.make_ca("test-ca", key=ca.key)
    assert again.key == ca.key
    assert pki.issued_by(server.cert, again.cert)


@pytest.mark.parametrize("part", ["p", "q", "d", "dmp1", "dmq1", "iqmp"])
def test_a_damaged_key_fits_nothing(server: pki.KeyPair, part: str) -> None:
    key = load_pem_private_key(server.key.encode(), password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    number: int = getattr(key.private_numbers(), part)
    size = number.bit_length() // 8
    der = b64decode("".join(server.key.splitlines()[1:-1]))
    other = (number ^ 6).to_bytes(size + 1, "big")[-size:]
    damaged = der.replace(number.to_bytes(size + 1, "big")[-size:], other)
    assert damaged != der
    text = f"-----BEGIN RSA PRIVATE KEY-----\n{b64encode(damaged).decode()}\n"
    text += "-----END RSA PRIVATE KEY-----\n"
    assert pki.fits(server.cert, server.key)
    assert not pki.fits(server.cert, text)


def test_keys_are_of_the_kind_that_old_releases_read() -> None:
    key = pki.make_key()
    assert key.startswith("-----BEGIN RSA PRIVATE KEY-----\n")
    public = pki.public_key(key)
    assert public.startswith("-----BEGIN PUBLIC KEY-----\n")
    assert getattr(load_pem_public_key(public.encode()), "key_size", 0) == 2048


def test_a_key_is_not_shown() -> None:
    pair = pki.KeyPair("cert", "very secret")
    assert "very secret" not in repr(pair)
