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
