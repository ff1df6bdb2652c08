"""The flows that ask whether a model is there, and wait for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from servable_client._errors import (
    ConnectionFailed,
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    NotReady,
    ServerFailed,
)
from servable_client.engine.core import too_late
from servable_client.engine.effects import Sleep
from servable_client.types.questions import (
    Description,
    Failure,
    MetadataQuestion,
    ReloadQuestion,
    StatusQuestion,
    Target,
)

if TYPE_CHECKING:
    from servable_client._wire import wire_pb2 as wire
    from servable_client.engine.core import Core
    from servable_client.engine.effects import Flow
    from servable_client.net.endpoints import Endpoint
    from servable_client.types.answers import VersionStatus

_FIRST_POLL, _LONGEST_POLL = 0.05, 0.5
_MAX_WAIT = 86400.0


def resolve(core: Core, target: Target, deadline: float) -> Flow[int]:
    """The version that answers for a target."""
    core.forget()
    description = yield from core.describe(target, deadline, fresh=True)
    if description.version is None:
        raise ServerFailed(
            f"the server does not say which version of {target.model} it serves",
            endpoint=core.endpoints[0].url,
            model=target.model,
        )
    return description.version


def ready(core: Core, target: Target, deadline: float) -> Flow[bool]:
    """Whether a question would be answered now."""
    try:
        # What is asked of a model's metadata finds the version as Predict does, label and all;
        # a version's status would be told of any label.
        yield from core.describe(target, deadline, fresh=True)
    except (ModelNotFound, NotReady, ConnectionFailed, DeadlineExceeded):
        return False
    return True


def wait(core: Core, target: Target, timeout: float) -> Flow[int]:
    """Wait until each endpoint that answers serves a version."""
    if not 0 <= timeout <= _MAX_WAIT:
        raise InvalidInput(f"{timeout:g} s is no time to wait")
    end = time.monotonic() + timeout
    pause = _FIRST_POLL
    while True:
        versions: list[int] = []
        missing, unreachable = "the server did not answer", False
        for endpoint in core.endpoints:
            deadline = time.monotonic() + min(core.timeout, max(end - time.monotonic(), 1))
            try:
                found = yield from _look(core, endpoint, target, deadline)
            except (ConnectionFailed, DeadlineExceeded) as error:
                if not versions:
                    missing, unreachable = str(error), error.unreachable
                continue  # the other endpoints are enough
            if isinstance(found, int):
                versions.append(found)
            else:
                versions, missing, unreachable = [], found, False
                break
        if versions:
            core.forget()
            return min(versions)
        if time.monotonic() >= end:
            places = ", ".join(endpoint.url for endpoint in core.endpoints)
            late = too_late(
                f"{target.model} was not available at {places} within {timeout:g} s: {missing}",
                endpoint=core.endpoints[0].url,
                model=target.model,
            )
            late.unreachable = unreachable
            raise late
        yield Sleep(min(pause, max(end - time.monotonic(), 0)))
        pause = min(pause * 1.5, _LONGEST_POLL)


def reload(core: Core, config: wire.ModelServerConfig, timeout: float) -> Flow[None]:
    """Have each endpoint serve what a configuration says."""
    question = ReloadQuestion(target=core.target, config=config)
    for endpoint in core.endpoints:
        try:
            yield from core.attempt(endpoint, question, core.deadline(timeout))
        except Failure as failure:
            raise core.error(failure, endpoint, question) from failure.__cause__
        finally:
            core.forget()


def _look(core: Core, endpoint: Endpoint, target: Target, deadline: float) -> Flow[int | str]:
    """The version of a target that an endpoint serves, or in words what it does instead."""
    # Of all versions: one that is not there yet is an error of its own to the server.
    question: MetadataQuestion | StatusQuestion = (
        StatusQuestion(target=Target(model=target.model))
        if target.label is None
        else MetadataQuestion(target=target)
    )
    try:
        answer = yield from core.attempt(endpoint, question, deadline)
    except Failure as failure:
        error = core.error(failure, endpoint, question)
        if isinstance(error, ModelNotFound):
            return str(error)
        raise error from failure.__cause__
    if isinstance(answer, Description):
        return answer.version or 0
    statuses: list[VersionStatus] = answer
    wanted = [v for v in statuses if target.version in (None, v.version)]
    for status in wanted:
        if status.state == "AVAILABLE":
            return status.version
    failed = [v for v in wanted if v.state == "END" and v.error_code != "OK"]
    if failed and len(failed) == len(wanted):
        raise ServerFailed(
            f"version {failed[0].version} failed to load: {failed[0].error_message}",
            endpoint=endpoint.url,
            model=target.model,
            code=failed[0].error_code,
        )
    return ", ".join(f"{v.version} {v.state}" for v in wanted) or (
        f"the server has no version {target.version}"
    )
