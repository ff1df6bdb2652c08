"""Rate limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.functional.gateway.gateway import KEY, OTHER_KEY, ROWS, gateway

from servable_client import Retry, ServerBusy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RunningServer


def test_each_key_has_a_rate_of_its_own(
    backend: RunningServer, keys: dict[str, Any], tmp_path: Path
) -> None:
    with gateway(
        tmp_path,
        grpc_port=backend.port,
        rest_port=backend.rest_port,
        SERVABLE_RATE="1r/m",
        SERVABLE_BURST=3,
        **keys,
    ) as running:
        alice = {"x-api-key": KEY}
        statuses = [running.ask(headers=alice).status_code for _ in range(6)]
        assert statuses == [200] * 4 + [429] * 2
        answer = running.ask(headers=alice)
        assert list(answer.json()) == ["error"]
        assert answer.headers["retry-after"] == "1"
        # The same allowance holds for gRPC, and the refusal says when to ask again.
        with (
            running.client("grpcs", api_key=KEY, retry=Retry(attempts=1)) as client,
            pytest.raises(ServerBusy) as caught,
        ):
            client.predict({"x": np.array(ROWS, np.float32)}, version=1)
        assert (caught.value.code, caught.value.retry_after) == ("RESOURCE_EXHAUSTED", 1.0)
        assert running.ask(headers={"x-api-key": OTHER_KEY}).status_code == 200
        # Whoever has no key is refused for that, and uses up nobody's allowance.
        assert {running.ask().status_code for _ in range(10)} == {401}
        assert running.get("/healthz").ok


def test_no_limit(backend: RunningServer, tmp_path: Path) -> None:
    with gateway(
        tmp_path, grpc_port=backend.port, rest_port=backend.rest_port, SERVABLE_RATE=0
    ) as running:
        assert {running.ask().status_code for _ in range(50)} == {200}


def test_unknown_keys_are_limited_and_known_ones_are_not(
    backend: RunningServer, keys: dict[str, Any], tmp_path: Path
) -> None:
    with gateway(
        tmp_path,
        grpc_port=backend.port,
        rest_port=backend.rest_port,
        SERVABLE_UNKNOWN_KEY_RATE="1r/m",
        **keys,
    ) as running:
        wrong = {"x-api-key": "guess-0123456789-abcdefgh"}
        answers = [running.ask(headers=wrong) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [401] * 3 + [429] * 2
        assert all(list(answer.json()) == ["error"] for answer in answers)
        assert answers[0].headers["www-authenticate"] == "Bearer"
        assert answers[-1].headers["retry-after"] == "1"
        # The same count holds for gRPC and for requests without a key.
        assert running.ask().status_code == 429
        inputs = {"x": np.array(ROWS, np.float32)}
        with (
            running.client("grpcs", api_key="x" * 20, retry=Retry(attempts=1)) as client,
            pytest.raises(ServerBusy) as caught,
        ):
            client.predict(inputs, version=1)
        assert caught.value.code == "RESOURCE_EXHAUSTED"
        for scheme in ("grpcs", "https"):
            with running.client(scheme, api_key=KEY) as client:
                client.predict(inputs, version=1)


def test_secrets_that_everybody_may_read_are_named(
    backend: RunningServer, keys: dict[str, Any], tmp_path: Path
) -> None:
    mine = tmp_path / "keys"
    mine.write_bytes(keys["SERVABLE_API_KEYS_FILE"].read_bytes())
    said = {}
    for mode in (0o644, 0o640):
        mine.chmod(mode)
        (folder := tmp_path / oct(mode)).mkdir()
        with gateway(
            folder,
            grpc_port=backend.port,
            rest_port=backend.rest_port,
            SERVABLE_API_KEYS_FILE=mine,
        ) as running:
            assert running.ask(headers={"x-api-key": KEY}).status_code == 200
            said[mode] = running.said
    assert f"{mine} is secret and readable by every user" in said[0o644]
    assert "readable by every user" not in said[0o640]


def test_a_message_that_is_too_large_is_not_sent_again(
    backend: RunningServer, tmp_path: Path
) -> None:
    codes: list[str] = []
    rows = np.zeros((100_000, 3), np.float32)  # 1.2 MB
    with (
        gateway(
            tmp_path, grpc_port=backend.port, rest_port=backend.rest_port, SERVABLE_MAX_BODY="1m"
        ) as running,
        running.client("grpcs", on_response=lambda event: codes.append(event.code)) as client,
        pytest.raises(ServerBusy),
    ):
        client.predict({"x": rows}, version=1)
    # The server has room for it at no later time: the same code stands for a busy server.
    assert codes.count("RESOURCE_EXHAUSTED") == 1
