"""Start, reload and stop: settings, certificates, keys, readiness, reloads under load."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import threading
from contextlib import AbstractContextManager, closing
from functools import partial
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import numpy as np
import pytest
import requests
import trustme
from tests.conftest import ROOT, free_port, serving
from tests.functional.gateway.gateway import (
    KEY,
    OTHER_KEY,
    ROWS,
    START,
    Gateway,
    callers,
    environment,
    gateway,
)
from tests.functional.serving.calls import config_of, eventually

from servable_client import AccessDenied, Retry
from servable_serving.gateway.settings import DEFAULTS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RunningServer


def refused(folder: Path, **settings: object) -> str:
    """What the gateway logs before it ends with status 2."""
    ports = {"tls": free_port(), "grpc": free_port(), "rest": free_port()}
    done = subprocess.run(
        START,
        env=environment(folder, ports, **settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"SERVABLE_BIND": "0.0.0.0"}, "without API keys"),
        ({"SERVABLE_BIND": "192.0.2.7", "SERVABLE_API_KEYS_FILE": "/nowhere"}, "without API keys"),
        ({"SERVABLE_MAX_BODY": "lots"}, "invalid SERVABLE_MAX_BODY 'lots'"),
        ({"SERVABLE_RATE": "fast"}, "invalid SERVABLE_RATE 'fast'"),
        ({"SERVABLE_BURST": "-1"}, "invalid SERVABLE_BURST '-1'"),
        ({"SERVABLE_TIMEOUT": "0"}, "invalid SERVABLE_TIMEOUT '0'"),
        ({"SERVABLE_UPSTREAM": "a b; c"}, "invalid SERVABLE_UPSTREAM"),
        ({"SERVABLE_CORS_ORIGINS": "example.org"}, "invalid SERVABLE_CORS_ORIGINS 'example.org'"),
        ({"SERVABLE_METRICS_SYSLOG": "there"}, "invalid SERVABLE_METRICS_SYSLOG 'there'"),
        ({"SERVABLE_CERTIFICATE": "/nowhere/tls.crt", "SERVABLE_CERTIFICATE_KEY": "/etc/hosts"},
         "cannot both be read"),
    ],
)  # fmt: skip
def test_an_invalid_setting_is_a_usage_error(
    tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    assert said in refused(tmp_path, **settings)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("alice", "line 2 of"),
        ("alice:short", "the key alice"),
        (f"alice:{KEY}$", "the key alice"),
        (f'al"ice:{KEY}', "line 2 of"),
        (f"alice:{KEY}\nbob:{KEY}", "the keys bob and alice are the same"),
    ],
)
def test_an_invalid_key_is_a_usage_error(tmp_path: Path, line: str, said: str) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"# keys\n{line}\n")
    message = refused(tmp_path, SERVABLE_API_KEYS_FILE=keys)
    assert said in message
    assert KEY not in message


def certificate_at(gateway: Gateway) -> str:
    return ssl.get_server_certificate(("127.0.0.1", gateway.ports["tls"]), timeout=60)


def test_a_certificate_is_made_once_and_reloaded_when_replaced(
    backend: RunningServer, tmp_path: Path
) -> None:
    def started() -> AbstractContextManager[Gateway]:
        return gateway(tmp_path, grpc_port=backend.port, rest_port=backend.rest_port)

    with started() as first:
        made = certificate_at(first)
        assert (tmp_path / "certs" / "tls.key").stat().st_mode & 0o77 == 0
        with first.client("https", retry=Retry(attempts=1)) as client:
            assert client.ready()
    with started() as second:
        assert certificate_at(second) == made
        other = trustme.CA().issue_cert("127.0.0.1")
        other.private_key_pem.write_to_path(tmp_path / "certs" / "tls.key")
        (tmp_path / "certs" / "tls.crt").write_bytes(other.cert_chain_pems[0].bytes())
        eventually(lambda: certificate_at(second) == other.cert_chain_pems[0].bytes().decode())
        # Half of a pair, as it stands for a moment when files are copied, changes nothing.
        (tmp_path / "certs" / "tls.key").write_text("none")
        eventually(lambda: "nginx rejected the new configuration" in second.said)
        assert certificate_at(second) == other.cert_chain_pems[0].bytes().decode()


def test_keys_are_reloaded(backend: RunningServer, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"alice:{KEY}\n")
    with gateway(
        tmp_path,
        grpc_port=backend.port,
        rest_port=backend.rest_port,
        SERVABLE_API_KEYS_FILE=keys,
    ) as running:
        alice, bob = ({"x-api-key": key} for key in (KEY, OTHER_KEY))
        assert [running.ask(headers=h).status_code for h in (alice, bob, {})] == [200, 401, 401]
        keys.write_text(f"bob:{OTHER_KEY}\n")
        eventually(lambda: running.ask(headers=bob).status_code == 200)
        eventually(lambda: running.ask(headers=alice).status_code == 401)

        def tells_of_keys(start: int) -> bool:
            return "keys" in running.said[start:]

        # A mistake in the file opens nothing and shuts nobody out.
        for mistake in ("bob\n", "", f"bob:{OTHER_KEY}\ncarol:short\n"):
            before = len(running.said)
            keys.write_text(mistake)
            eventually(partial(tells_of_keys, before))
            assert [running.ask(headers=h).status_code for h in (bob, {})] == [200, 401]


def test_ready_is_when_every_model_is_available(
    small_models: Path, backend: RunningServer, tmp_path: Path
) -> None:
    """The models of models.config, at whatever server has them."""
    config = tmp_path / "models" / "models.config"
    config.parent.mkdir()
    linear = {"linear": small_models / "linear"}
    config.write_text(config_of({**linear, "shoes": small_models / "shoes"}))
    with gateway(
        tmp_path, grpc_port=backend.port, rest_port=backend.rest_port, wait=False
    ) as running:
        eventually(lambda: "no server has shoes AVAILABLE" in running.said)
        answer = running.get("/readyz")
        assert (answer.status_code, answer.json()) == (503, {"error": "Not ready"})
        assert running.get("/healthz").json() == {"status": "alive"}
        config.write_text(config_of(linear))
        eventually(running.ready)
        assert running.get("/readyz").json() == {"status": "ready"}
        config.write_text(config_of({**linear, "boots": small_models / "boots"}))
        eventually(lambda: not running.ready())


def test_a_server_that_starts_later_is_found(small_models: Path, tmp_path: Path) -> None:
    with gateway(
        tmp_path, grpc_port=(grpc := free_port()), rest_port=(rest := free_port()), wait=False
    ) as running:
        eventually(lambda: "no server has linear AVAILABLE" in running.said)
        answer = running.ask()
        assert (answer.status_code, answer.headers["retry-after"]) == (502, "1")
        assert list(answer.json()) == ["error"]
        with (
            running.client("grpcs", timeout=500, retry=Retry(attempts=1000)) as client,
            serving(
                small_models / "linear",
                tmp_path / "server",
                f"--port={grpc}",
                f"--rest_api_port={rest}",
                model="linear",
                wait=False,
            ),
        ):
            # Asked before there is anybody, answered once there is.
            assert client.predict({"x": np.array(ROWS, np.float32)})["y"].shape == (1, 3)
            eventually(running.ready)
        eventually(lambda: not running.ready())


def test_reloads_under_load_fail_nothing(backend: RunningServer, tmp_path: Path) -> None:
    """Eight reloads under four callers over TLS: by gRPC and by REST."""
    traffic = tmp_path / "models" / "models.traffic"
    traffic.parent.mkdir()
    traffic.write_text("linear stable 1 100\nlinear canary 2 0\n")
    with gateway(tmp_path, grpc_port=backend.port, rest_port=backend.rest_port) as running:
        with callers(running, "grpcs", "grpcs", "https", "https") as (asked, failed):

            def goes_on(before: int) -> bool:
                return asked[0] > before + 20

            for share in range(1, 9):
                before = asked[0]
                running.traffic(f"linear stable 1 {100 - share}", f"linear canary 2 {share}")
                eventually(partial(goes_on, before))
        assert not failed, failed[:3]
        assert asked[0] > 160
        assert running.said.count("reloaded") == 8


def test_a_stop_waits_for_requests_in_flight(opened: Gateway) -> None:
    with closing(HTTPConnection("127.0.0.1", opened.ports["rest"], timeout=60)) as connection:
        # Sent when this returns; nginx has still to read it, of which it tells nothing before the
        # request's end.
        connection.request("POST", "/v1/models/nap:predict", '{"instances": [[2.0, 0.0, 0.0]]}')
        threading.Event().wait(0.5)
        opened.process.send_signal(signal.SIGTERM)
        assert opened.process.wait(60) == 0
        assert json.load(connection.getresponse())["predictions"] == [[2.0, 0.0, 0.0]]
    with pytest.raises(requests.ConnectionError):
        opened.get("/healthz")


def test_without_keys_it_serves_this_machine_only(opened: Gateway) -> None:
    assert "without API keys" in opened.said
    with opened.client("grpc") as client:
        assert client.ready()
    # A reload is nobody's without an admin key, here too.
    with opened.client("grpc", retry=Retry(attempts=1)) as client, pytest.raises(AccessDenied):
        client.reload_config("model_config_list {}")


def test_every_setting_is_documented() -> None:
    docs = (ROOT / "docs" / "gateway.md").read_text()
    missing = {name for name in DEFAULTS if f"`{name}`" not in docs}
    assert not missing
