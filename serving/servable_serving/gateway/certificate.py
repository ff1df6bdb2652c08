"""The TLS certificate: self-signed, unless the user has one."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from servable_serving.core.addresses import is_ip_address
from servable_serving.gateway.errors import USAGE, GatewayError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from servable_serving.gateway.settings import Settings

VALID_FOR = dt.timedelta(days=825)
RENEW_BEFORE = dt.timedelta(days=30)
# Marks the folder of a self-signed certificate of ours, which may be replaced.
MARK = "self-signed"


def ensure_certificate(settings: Settings, now: dt.datetime | None = None) -> bool:
    """Ensure a certificate: the user's, or a self-signed one that is not about to expire.

    Args:
        settings: Where it is, and the names to make one for.
        now: The time; default: the clock's.

    Returns:
        Whether one was made.

    Raises:
        GatewayError: It cannot be read, or none can be made.
    """
    now = now or dt.datetime.now(dt.UTC)
    try:
        made = needs_new(settings, now)
        if made:
            _make(settings, now)
    except OSError as error:
        raise GatewayError(
            f"cannot make a certificate in {settings.certs}: {error.strerror}"
        ) from error
    paths = (settings.certificate, settings.certificate_key)
    if not all(os.access(path, os.R_OK) for path in paths):
        raise GatewayError(
            f"the certificate {paths[0]} and its key {paths[1]} cannot both be read",
            exit_status=USAGE,
        )
    return made


def needs_new(settings: Settings, now: dt.datetime) -> bool:
    """Whether a certificate must be made: there is none, or ours expires within 30 days."""
    if not settings.certificate.exists() and not settings.certificate_key.exists():
        return True
    if not (settings.certs / MARK).exists():
        return False
    expires = expiry(settings.certificate)
    return expires is None or expires - now <= RENEW_BEFORE


def expiry(certificate: Path) -> dt.datetime | None:
    """When a certificate expires; None if the file is not a readable certificate."""
    try:
        return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return None


def self_signed(names: Sequence[str], now: dt.datetime) -> tuple[bytes, bytes]:
    """A certificate and its private key, as PEM.

    Args:
        names: Host names and IP addresses.
        now: When it begins to be valid.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Servable gateway")])
    usage = dict.fromkeys(
        (
            "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
            "crl_sign", "encipher_only", "decipher_only",
        ),
        False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + VALID_FOR)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=True, **usage), critical=True
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _general(name: str) -> x509.GeneralName:
    if is_ip_address(name):
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)


def _make(settings: Settings, now: dt.datetime) -> None:
    certificate, key = self_signed(settings.tls_names, now)
    settings.certs.mkdir(parents=True, exist_ok=True)
    _write(settings.certificate_key, key, 0o600)
    _write(settings.certificate, certificate, 0o644)  # clients need it to trust it
    (settings.certs / MARK).touch()


def _write(path: Path, content: bytes, mode: int) -> None:
    incoming = path.with_name(f"{path.name}.new")
    incoming.unlink(missing_ok=True)
    handle = os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)  # regardless of the umask
    incoming.replace(path)
