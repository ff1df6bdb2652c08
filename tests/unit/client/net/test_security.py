"""TLS files, API keys and tokens."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from servable_client import TLS, Client, InvalidInput
from servable_client.net.endpoints import parse_servers
from servable_client.net.security import Credentials, checked_secret

SECRET = "s3cr3t-of-mine"


class Files:
    """A CA bundle, a client certificate and its key."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("client@example.org")
        self.ca = folder / "ca.pem"
        self.certificate = folder / "client.pem"
        self.key = folder / "client.key"
        self.text = folder / "notes.txt"
        authority.cert_pem.write_to_path(self.ca)
        self.certificate.write_bytes(b"".join(c.bytes() for c in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(self.key)
        self.text.write_text("milk, eggs")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("certificates"))


def test_the_default_trusts_the_well_known_authorities() -> None:
    context = TLS().ssl_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) > 50


def test_a_ca_bundle_stands_in_their_place(files: Files) -> None:
    assert len(TLS(ca=files.ca).ssl_context().get_ca_certs()) == 1


def test_a_certificate_and_its_key_are_accepted(files: Files) -> None:
    TLS(ca=files.ca, certificate=files.certificate, key=files.key).check()


def test_grpc_gets_credentials_of_the_same_files(files: Files) -> None:
    tls = TLS(ca=files.ca, certificate=str(files.certificate), key=files.key)
    assert isinstance(tls.grpc_credentials(), grpc.ChannelCredentials)
    assert isinstance(TLS().grpc_credentials(), grpc.ChannelCredentials)


@pytest.mark.parametrize("options", [{"certificate": "c"}, {"key": "k"}], ids=str)
def test_one_of_a_pair_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        TLS(**options)


@pytest.mark.parametrize(
    "names",
    [
        {"ca": "missing"},
        {"ca": "text"},
        {"certificate": "certificate", "key": "text"},
        {"certificate": "text", "key": "key"},
        {"certificate": "certificate", "key": "missing"},
    ],
    ids=str,
)
def test_files_that_do_not_fit_are_refused(files: Files, names: dict[str, str]) -> None:
    options: dict[str, Any] = {
        option: getattr(files, name, Path("missing.pem")) for option, name in names.items()
    }
    with pytest.raises(InvalidInput):
        TLS(**options).check()


def test_the_keys_path_is_not_shown(files: Files) -> None:
    assert "client.key" not in repr(TLS(certificate=files.certificate, key=files.key))


@pytest.mark.parametrize("secret", ["", "a\nb", "tail ", " head", "schlüssel", "a\x00", 7, None])
def test_a_secret_that_fits_no_header_is_refused(secret: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        checked_secret(secret, "API key")
    assert "API key" in caught.value.message
    assert not secret or str(secret).strip() not in caught.value.message


def test_a_secret_that_fits_is_returned() -> None:
    assert checked_secret(SECRET, "token") == SECRET


def test_fixed_secrets_become_headers_once() -> None:
    found = Credentials(api_key="k", token="t")
    assert found.fixed == (("x-api-key", "k"), ("authorization", "Bearer t"))


def test_other_headers_follow_in_lower_case() -> None:
    found = Credentials(api_key="k", token=None, headers={"X-Tenant": "blue team", "x-empty": ""})
    others = (("x-tenant", "blue team"), ("x-empty", ""))
    assert found.fixed == (("x-api-key", "k"), *others)
    later = Credentials(api_key=lambda: "k", token=None, headers={"X-Tenant": "blue team"})
    assert later.fixed is None
    assert later.others == others[:1]
    assert not Credentials(api_key=None, token=None, headers={"x-tenant": "blue"})


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ("x-tenant: blue", "headers must be a mapping"),
        ({"x-tenant": 7}, "x-tenant must be text"),
        ({7: "x"}, "name of a header must be text"),
        ({"x tenant": "blue"}, "not a valid name"),
        ({"": "blue"}, "not a valid name"),
        ({"x-trace-bin": "blue"}, "not a valid name"),
        ({"X-Api-Key": "k"}, "credential"),
        ({"Authorization": "k"}, "credential"),
        ({"Content-Type": "text/plain"}, "sets the header"),
        ({"grpc-timeout": "1S"}, "sets the header"),
        ({"x-tenant": "blue\r\nx-admin: 1"}, "printable ASCII"),
        ({"x-tenant": " blue"}, "printable ASCII"),
        ({"x-tenant": "bl\u00fc"}, "printable ASCII"),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused(headers: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        Credentials(api_key=None, token=None, headers=headers)


def test_no_secrets_are_no_headers() -> None:
    found = Credentials(api_key=None, token=None)
    assert found.fixed == ()
    assert not found


def test_a_function_is_called_later() -> None:
    found = Credentials(api_key="k", token=lambda: pytest.fail("called"))
    assert found.fixed is None
    assert [name for name, *_ in found.secrets] == ["x-api-key", "authorization"]


@pytest.mark.parametrize("scheme", ["grpc", "http"])
@pytest.mark.parametrize("host", ["models.example", "10.0.0.7", "[2001:db8::1]"])
def test_secrets_are_not_sent_in_the_clear(scheme: str, host: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Credentials(api_key=SECRET, token=None).check_endpoints(
            parse_servers(f"{scheme}://{host}"), plaintext=False
        )
    assert SECRET not in caught.value.message


@pytest.mark.parametrize(
    ("server", "plaintext"),
    [
        ("grpcs://models.example", False),
        ("https://models.example", False),
        ("grpc://localhost", False),
        ("http://127.0.0.1", False),
        ("http://models.example", True),
    ],
)
def test_where_secrets_may_be_sent(server: str, plaintext: bool) -> None:
    Credentials(api_key=SECRET, token=None).check_endpoints(
        parse_servers(server), plaintext=plaintext
    )


def test_without_secrets_any_endpoint_will_do() -> None:
    Credentials(api_key=None, token=None).check_endpoints(
        parse_servers("http://models.example"), plaintext=False
    )


def test_a_client_does_not_show_its_secrets() -> None:
    client = Client(model="m", api_key=SECRET, token=SECRET)
    assert SECRET not in repr(client)
    assert SECRET not in repr(Credentials(api_key=SECRET, token=SECRET))
