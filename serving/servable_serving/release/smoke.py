"""The smoke test: a version answers its own golden requests where it is served."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from servable_client import ConnectionFailed, DeadlineExceeded
from servable_serving.core.names import BYTES_SIGNATURE
from servable_serving.release.fleet import ReleaseError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from servable_client import Client
    from servable_serving.release.deployment import Labels
    from servable_serving.release.fleet import Live
    from servable_serving.release.steps import Steps

# Servers may compute in bfloat16, on another processor than the one that exported.
_TOLERANCE = 0.02
_SECONDS = 30.0


def bring_up(version: int, labels: Labels, steps: Steps, manifest: Mapping[str, Any]) -> None:
    """Wait until a version is served, and test it there.

    Args:
        version: The version, which is in the repository.
        labels: The model's labels.
        steps: Where the steps are told.
        manifest: The version's manifest.

    Raises:
        ReleaseError: It fails to load or to answer.
    """
    with steps.step("wait") as step:
        step.said = labels.bring(version)
    with steps.step("smoke") as step:
        if labels.live is None:
            step.outcome, step.said = "skipped", "no server was asked"
        else:
            step.said = smoke_test(labels.live, version, manifest)


def smoke_test(live: Live, version: int, manifest: Mapping[str, Any]) -> str:
    """Ask each server that answers for a version's golden requests, by the SDK.

    Args:
        live: The servers.
        version: The version to ask.
        manifest: Its manifest.

    Returns:
        What was asked, in words.

    Raises:
        ReleaseError: An answer is another one, or came from another version.
        ServableError: The server failed.
    """
    golden = manifest.get("golden") or []
    pictures = [base64.b64decode(request["png"]) for request in golden]
    asked = 0
    for client in live.clients:
        try:
            signatures = client.metadata(version=version)
        except (ConnectionFailed, DeadlineExceeded):
            continue  # one that is away: others serve it
        asked += 1
        if BYTES_SIGNATURE not in signatures:
            golden = []  # they are files
        if golden:
            _ask(client, version, pictures, golden)
    if not asked:
        raise ReleaseError(f"version {version} does not answer at {live.server}")
    if not golden:
        return f"version {version} tells its signatures; it has no golden requests"
    return f"{len(golden)} golden requests answered as exported, by version {version}"


def _ask(
    client: Client, version: int, pictures: list[bytes], golden: list[Mapping[str, Any]]
) -> None:
    answers = client.predict(
        {"image_bytes": pictures}, signature=BYTES_SIGNATURE, version=version, timeout=_SECONDS
    )
    _check_version(client, answers.version, version)
    for row, request in enumerate(golden):
        expected = np.asarray(request["probabilities"], np.float64)
        found = np.asarray(answers["probabilities"][row], np.float64)
        if found.shape != expected.shape or not np.abs(found - expected).max() <= _TOLERANCE:
            raise ReleaseError(
                f"golden request {row} was answered otherwise at {client.endpoint} than when "
                f"version {version} was exported: {_top(found)} in place of {_top(expected)}"
            )
    # And as a user would, the picture prepared by the SDK.
    answer = client.classify(pictures[0], version=version, timeout=_SECONDS)
    _check_version(client, answer.version, version)
    expected = np.asarray(golden[0]["probabilities"], np.float64)
    if expected[answer.class_id] < expected.max() - _TOLERANCE:
        raise ReleaseError(
            f"{client.endpoint} says {answer.label} of golden request 0, and "
            f"{golden[0]['label']} is right"
        )


def _check_version(client: Client, found: int | None, version: int) -> None:
    if found != version:
        raise ReleaseError(f"version {found} answered at {client.endpoint} for version {version}")


def _top(probabilities: np.ndarray) -> str:
    if not probabilities.size or not np.isfinite(probabilities).all():
        return "no probabilities"
    best = int(probabilities.argmax())
    return f"class {best} ({probabilities[best]:.3f})"
