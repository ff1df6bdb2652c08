"""The smoke test: golden requests at fake servers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.unit.serving.release.fakes import FakeClient, FakeServers, golden

from servable_client import ConnectionFailed, ModelNotFound
from servable_serving.model.golden import golden_request
from servable_serving.release import smoke
from servable_serving.release.server_group import ReleaseError
from servable_serving.release.smoke import bring_up, smoke_test
from servable_serving.release.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from servable_serving.release.deployment import Deployment

MANIFEST = {"golden": [golden(0.2, 0.8), golden(0.21, 0.79)]}


def at(root: Path, *clients: FakeClient) -> FakeServers:
    return FakeServers(root, clients=clients)


def test_the_exported_answers_pass(root: Path) -> None:
    assert "2 golden requests" in smoke_test(at(root, FakeClient()), 3, MANIFEST)


def test_small_differences_of_another_processor_pass(root: Path) -> None:
    smoke_test(at(root, FakeClient(probabilities=(0.215, 0.785))), 3, MANIFEST)


@pytest.mark.parametrize(
    "client",
    [
        FakeClient(probabilities=(0.8, 0.2)),
        FakeClient(probabilities=(0.25, 0.75)),
        FakeClient(probabilities=(0.1, 0.2, 0.7)),
        FakeClient(probabilities=()),
        FakeClient(probabilities=(float("nan"), float("nan"))),
        FakeClient(answers_as=2),
    ],
)
def test_another_answer_fails(root: Path, client: FakeClient) -> None:
    with pytest.raises(ReleaseError):
        smoke_test(at(root, client), 3, MANIFEST)


def test_every_server_is_asked(root: Path) -> None:
    with pytest.raises(ReleaseError):
        smoke_test(at(root, FakeClient(), FakeClient(probabilities=(0.8, 0.2))), 3, MANIFEST)


def test_a_server_that_is_down_is_left_out(root: Path) -> None:
    smoke_test(at(root, FakeClient(down=True), FakeClient()), 3, MANIFEST)


def test_no_server_that_answers_fails(root: Path) -> None:
    with pytest.raises(ReleaseError):
        smoke_test(at(root, FakeClient(down=True)), 3, MANIFEST)


@pytest.mark.parametrize("manifest", [{}, {"golden": None}, {"golden": []}])
def test_a_version_without_golden_requests_is_asked_its_signatures(
    root: Path, manifest: dict[str, object]
) -> None:
    assert "no golden requests" in smoke_test(at(root, FakeClient()), 3, manifest)


def test_golden_requests_need_a_signature_for_files(root: Path) -> None:
    client = FakeClient(signatures=("serving_default",), probabilities=(0.8, 0.2))
    assert "no golden requests" in smoke_test(at(root, client), 3, MANIFEST)


def test_the_class_of_a_user_counts_too(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient()
    right = client.classify(b"", version=3, timeout=1)
    monkeypatch.setattr(client, "classify", lambda *_, **__: replace(right, class_id=0))
    with pytest.raises(ReleaseError):
        smoke_test(at(root, client), 3, MANIFEST)


def test_bringing_up_waits_and_tests(deployment: Deployment, servers: FakeServers) -> None:
    servers.clients = [FakeClient()]
    steps = Steps(None)
    bring_up(2, deployment, steps, MANIFEST)
    assert [(step.name, step.outcome) for step in steps.taken] == [
        ("wait", "passed"), ("smoke", "passed"),
    ]  # fmt: skip


def test_a_server_that_ends_meanwhile_is_left_out(root: Path) -> None:
    ending = Ending()
    assert "2 golden requests" in smoke_test(at(root, ending, FakeClient()), 3, MANIFEST)
    with pytest.raises(ReleaseError, match="does not answer"):
        smoke_test(at(root, ending, Ending()), 3, MANIFEST)


class Ending(FakeClient):
    """A server that ends as it is sent a prediction."""

    def predict(self, *_: Any, **__: Any) -> Any:
        raise ConnectionFailed("the connection was reset")


class Behind(FakeClient):
    """A server that loads the version after some requests."""

    asked = 0

    def metadata(self, *, version: int) -> Mapping[str, Any]:
        self.asked += 1
        if self.asked < 3:
            raise ModelNotFound("Servable not found for request")
        return super().metadata(version=version)


def test_a_server_that_has_not_loaded_it_yet_is_asked_again(
    deployment: Deployment, servers: FakeServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smoke, "_PAUSE", 0.0)
    behind = Behind()
    servers.clients = [behind]
    bring_up(2, replace(deployment, timeout=1e6), Steps(None), MANIFEST)
    assert behind.asked == 3
    servers.clients = [Behind()]
    with pytest.raises(ModelNotFound):
        bring_up(3, replace(deployment, timeout=0.0), Steps(None), MANIFEST)


def test_without_servers_the_smoke_test_is_skipped(deployment: Deployment) -> None:
    steps = Steps(None)
    bring_up(2, replace(deployment, servers=None), steps, MANIFEST)
    assert steps.taken[-1].outcome == "skipped"


def any_golden(price: float) -> dict[str, object]:
    return golden_request("price", {"age": np.zeros(1)}, {"price": np.array([price])})


def test_a_model_of_any_kind_answers_as_exported(root: Path) -> None:
    client = FakeClient(signatures=("price",), probabilities=(1.0, 2.0))
    assert "1 golden requests" in smoke_test(at(root, client), 3, {"golden": [any_golden(3.0)]})
    for manifest in ({"golden": [any_golden(4.0)]}, {"golden": [any_golden(float("nan"))]}):
        with pytest.raises(ReleaseError):
            smoke_test(at(root, client), 3, manifest)
    client = FakeClient(signatures=("price",), probabilities=(1.0, 2.0), answers_as=2)
    with pytest.raises(ReleaseError):
        smoke_test(at(root, client), 3, {"golden": [any_golden(3.0)]})
