"""The smoke test: send a version its own golden requests where it is served."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from servable_client import ConnectionFailed, DeadlineExceeded, ModelNotFound
from servable_serving.core.names import BYTES_SIGNATURE
from servable_serving.model.golden import golden_requests
from servable_serving.release.server_group import ReleaseError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from servable_serving.model.golden import GoldenRequest
    from servable_serving.release.deployment import Deployment
    from servable_serving.release.server_group import ReleaseClient, Servers
    from servable_serving.release.steps import Steps

# Servers may compute in bfloat16, or on another processor than the one that exported.
_TOLERANCE = 0.02
_SECONDS = 30.0
_PAUSE = 0.5


def bring_up(
    version: int, deployment: Deployment, steps: Steps, manifest: Mapping[str, Any]
) -> None:
    """Wait until a version is served, and test it there.

    Args:
        version: A version of the repository.
        deployment: The model's deployment.
        steps: Reports the steps.
        manifest: The version's manifest.

    Raises:
        ReleaseError: It fails to load or to answer.
    """
    with steps.step("wait") as step:
        step.said = deployment.load(version)
    with steps.step("smoke") as step:
        if deployment.servers is None:
            step.outcome, step.said = "skipped", "no server"
        else:
            end = time.monotonic() + deployment.timeout
            step.said = _smoke_test_until(end, deployment.servers, version, manifest)


def _smoke_test_until(
    end: float, servers: Servers, version: int, manifest: Mapping[str, Any]
) -> str:
    while True:
        try:
            return smoke_test(servers, version, manifest)
        except ModelNotFound as error:
            # A server that has come meanwhile, or that a balancer of another kind has chosen, and
            # that has not loaded the version yet.
            if error.missing_signature or time.monotonic() >= end:
                raise
        time.sleep(_PAUSE)


def smoke_test(servers: Servers, version: int, manifest: Mapping[str, Any]) -> str:
    """Send a version's golden requests to each server that answers.

    Args:
        servers: The servers.
        version: The version.
        manifest: Its manifest.

    Returns:
        The outcome, in words.

    Raises:
        ReleaseError: An answer differs, or came from another version.
        ServableError: The server failed.
    """
    golden = [one for one in manifest.get("golden") or [] if "png" in one]
    requests = golden_requests(manifest)
    images = [base64.b64decode(request["png"]) for request in golden]
    asked = 0
    for client in servers.clients:
        try:
            signatures = client.metadata(version=version)
            if BYTES_SIGNATURE not in signatures:
                golden = []  # they are image files
            if golden:
                _ask(client, version, images, golden)
            for request in requests:
                _ask_any(client, version, request)
        except (ConnectionFailed, DeadlineExceeded):
            continue  # it is down: others serve the version, or it ends them all
        asked += 1
    if not asked:
        raise ReleaseError(f"version {version} does not answer at {servers.address}")
    count = len(golden) + len(requests)
    if not count:
        return f"version {version} reports its signatures; it has no golden requests"
    where = "" if asked == 1 else f" at each of {asked} servers"
    return f"{count} golden requests answered as exported, by version {version}{where}"


def _ask(
    client: ReleaseClient, version: int, images: list[bytes], golden: list[Mapping[str, Any]]
) -> None:
    answers = client.predict(
        {"image_bytes": images}, signature=BYTES_SIGNATURE, version=version, timeout=_SECONDS
    )
    _check_version(client, answers.version, version)
    for row, request in enumerate(golden):
        expected = np.asarray(request["probabilities"], np.float64)
        found = np.asarray(answers["probabilities"][row], np.float64)
        if found.shape != expected.shape or not np.abs(found - expected).max() <= _TOLERANCE:
            raise ReleaseError(
                f"{client.endpoint} answers golden request {row} differently than when version "
                f"{version} was exported: {_top(found)} in place of {_top(expected)}"
            )
    # And as a user would, with the client preparing the image.
    answer = client.classify(images[0], version=version, timeout=_SECONDS)
    _check_version(client, answer.version, version)
    expected = np.asarray(golden[0]["probabilities"], np.float64)
    if expected[answer.class_id] < expected.max() - _TOLERANCE:
        raise ReleaseError(
            f"{client.endpoint} classifies golden request 0 as {answer.label}, expected "
            f"{golden[0]['label']}"
        )


def _ask_any(client: ReleaseClient, version: int, request: GoldenRequest) -> None:
    answer = client.predict(
        dict(request.inputs), signature=request.signature, version=version, timeout=_SECONDS
    )
    _check_version(client, answer.version, version)
    if (how := request.difference(answer, _TOLERANCE)) is not None:
        raise ReleaseError(
            f"{client.endpoint} answers the golden request to {request.signature} differently than "
            f"when version {version} was exported: {how}"
        )


def _check_version(client: ReleaseClient, found: int | None, version: int) -> None:
    if found != version:
        raise ReleaseError(f"version {found} answered at {client.endpoint} for version {version}")


def _top(probabilities: np.ndarray) -> str:
    if not probabilities.size or not np.isfinite(probabilities).all():
        return "no probabilities"
    best = int(probabilities.argmax())
    return f"class {best} ({probabilities[best]:.3f})"
