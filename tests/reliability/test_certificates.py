"""Certificates that expire, at the embedded server and at the gateway, and are replaced."""

from __future__ import annotations

import datetime as dt
import shutil
import time
from typing import TYPE_CHECKING

import pytest
import trustme
from tests.conftest import NAME, serving
from tests.functional.gateway.gateway import gateway
from tests.functional.serving.test_connections import as_text, pem

from servable_client import TLS, Client, ConnectionFailed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.reliability.callers import Question
    from tests.reliability.conftest import Begin

_DAY = dt.timedelta(days=1)


class Certificates:
    """A certificate in the two forms in which the server and the gateway read it.

    Attributes:
        ca: The authority's certificate.
        config: The server's SSLConfig.
        folder: The gateway's folder of certificates.
    """

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.ca, self.config, self.folder = folder / "ca.pem", folder / "ssl", folder / "certs"
        self.folder.mkdir()
        self._authority.cert_pem.write_to_path(self.ca)

    def issue(self, *, days: int) -> None:
        """Write a certificate that expires in so many days; it has expired if negative."""
        now = dt.datetime.now(dt.UTC)
        own = self._authority.issue_cert(
            "127.0.0.1", not_before=now - 9 * _DAY, not_after=now + days * _DAY
        )
        key, chain = pem(own.private_key_pem), "".join(map(pem, own.cert_chain_pems))
        self.config.write_text(f"server_key: {as_text(key)} server_cert: {as_text(chain)}")
        (self.folder / "tls.key").write_text(key)
        (self.folder / "tls.crt").write_text(chain)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_certificates_that_expire(
    trial: Begin, question: Question, other: Path, tmp_path: Path
) -> None:
    """The server reads its certificate when it starts, the gateway whenever it changes."""
    # A model that is loaded in a moment, since it is started three times.
    shutil.copytree(other, tmp_path / NAME / "1")
    question.expect(1, other)
    certificates = Certificates(tmp_path)
    certificates.issue(days=9)
    flag = f"--ssl_config_file={certificates.config}"
    with (
        serving(tmp_path / NAME, tmp_path / "server", flag) as server,
        gateway(
            tmp_path, grpc_port=server.port, rest_port=server.rest_port, models=NAME
        ) as front,
        trial(
            "certificates expired",
            server,
            addresses={
                "grpc": f"grpcs://127.0.0.1:{server.port}", "http": front.address("https")
            },
            fresh=True,
            tls=TLS(ca=certificates.ca),
        ) as found,
    ):  # fmt: skip
        for _ in range(found.rounds):
            with found.injected():
                certificates.issue(days=-1)
                server.process.terminate()
                server.restart()
                with Client(server.http, model=NAME) as plain:
                    plain.wait_until_available(timeout=60)
                expired = time.monotonic()
                found.until(
                    lambda call: isinstance(call.error, ConnectionFailed) and call.began > expired  # noqa: B023
                )
                server.process.terminate()
                server.process.wait()
                certificates.issue(days=9)
                server.restart()
