"""The self-signed certificate: when one is made, and what is in it."""

from __future__ import annotations

import datetime as dt
import ipaddress
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from servable_serving.gateway.certificate import (
    MARK,
    VALID_FOR,
    ensure_certificate,
    expiry,
    needs_new,
    self_signed,
)
from servable_serving.gateway.errors import GatewayError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.serving.gateway.conftest import MakeSettings

    from servable_serving.gateway.settings import Settings

NOW = dt.datetime(2026, 11, 28, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


@pytest.fixture
def settings(make: MakeSettings) -> Settings:
    return make()


def put(settings: Settings, *, made: dt.datetime) -> None:
    """A user's certificate."""
    certificate, key = self_signed(["example.org"], made)
    settings.certs.mkdir(exist_ok=True)
    settings.certificate.write_bytes(certificate)
    settings.certificate_key.write_bytes(key)


def test_the_first_start_makes_one(settings: Settings) -> None:
    assert ensure_certificate(settings, NOW)
    assert expiry(settings.certificate) == NOW + VALID_FOR
    assert (settings.certs / MARK).exists()


def test_the_second_start_keeps_it(settings: Settings) -> None:
    ensure_certificate(settings, NOW)
    before = settings.certificate.read_bytes()
    assert not ensure_certificate(settings, NOW + DAY)
    assert settings.certificate.read_bytes() == before


@pytest.mark.parametrize(("days_left", "renewed"), [(31, False), (30, True), (1, True), (-1, True)])
def test_ours_is_renewed_within_30_days_of_its_end(
    settings: Settings, days_left: int, renewed: bool
) -> None:
    ensure_certificate(settings, NOW)
    assert needs_new(settings, NOW + VALID_FOR - days_left * DAY) is renewed


def test_a_users_own_is_never_replaced(settings: Settings) -> None:
    put(settings, made=NOW - VALID_FOR)
    assert not needs_new(settings, NOW)


def test_ours_that_cannot_be_read_is_replaced(settings: Settings) -> None:
    ensure_certificate(settings, NOW)
    settings.certificate.write_text("broken")
    assert ensure_certificate(settings, NOW)
    assert expiry(settings.certificate) is not None


def test_one_file_of_two_is_a_usage_error(settings: Settings) -> None:
    put(settings, made=NOW)
    settings.certificate_key.unlink()
    with pytest.raises(GatewayError) as caught:
        ensure_certificate(settings, NOW)
    assert caught.value.exit_status == 2


def test_a_folder_that_cannot_be_made(make: MakeSettings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(GatewayError) as caught:
        ensure_certificate(make(CERTS=str(tmp_path / "file" / "certs")), NOW)
    assert caught.value.exit_status == 1


def test_the_key_is_its_owners_alone_and_the_certificate_everybodys(settings: Settings) -> None:
    ensure_certificate(settings, NOW)
    assert settings.certificate_key.stat().st_mode & 0o777 == 0o600
    assert settings.certificate.stat().st_mode & 0o777 == 0o644


def test_names_and_addresses() -> None:
    pem, _ = self_signed(["localhost", "127.0.0.1", "::1"], NOW)
    certificate = x509.load_pem_x509_certificate(pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("127.0.0.1"),
        ipaddress.ip_address("::1"),
    ]


def test_the_key_belongs_to_the_certificate() -> None:
    pem, key = self_signed(["localhost"], NOW)
    private = serialization.load_pem_private_key(key, password=None)
    assert private.public_key() == x509.load_pem_x509_certificate(pem).public_key()


def test_no_certificate_has_no_expiry(tmp_path: Path) -> None:
    assert expiry(tmp_path / "nothing") is None
