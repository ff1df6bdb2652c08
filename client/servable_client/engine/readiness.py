"""The flows that check whether a model is available, wait for it, and reload it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servable_client._errors import (
    ConnectionFailed,
    DeadlineExceeded,
    ModelNotFound,
    NotReady,
    ServerFailed,
)
from servable_client.engine.effects import Sleep
from servable_client.engine.errors import deadline_exceeded, error_of
from servable_client.types.arguments import as_seconds
from servable_client.types.operations import (
    Description,
    Failure,
    MetadataOperation,
    ReloadOperation,
    StatusOperation,
    Target,
)

if TYPE_CHECKING:
    from servable_client._errors import ServableError
    from servable_client._wire import wire_pb2 as wire
    from servable_client.engine.core import Engine
    from servable_client.engine.effects import Flow
    from servable_client.net.endpoints import Endpoint
    from servable_client.types.answers import VersionStatus

_FIRST_POLL, _LONGEST_POLL = 0.05, 0.5
_MAX_WAIT = 86400.0


def resolve(engine: Engine, target: Target, deadline: float) -> Flow[int]:
    """Find the version that a target points to."""
    engine.forget()
    description = yield from engine.describe(target, deadline, fresh=True)
    return _version(description, engine.endpoints[0], target)


def _version(description: Description, endpoint: Endpoint, target: Target) -> int:
    if description.version is None:
        raise ServerFailed(
            f"the server did not report which version of {target.model} it serves",
            endpoint=endpoint.url,
            model=target.model,
        )
    return description.version


def ready(engine: Engine, target: Target, deadline: float) -> Flow[bool]:
    """Whether a request would be answered now."""
    try:
        # Reading the metadata resolves the version as Predict does, including the label; the
        # status of a model ignores labels.
        yield from engine.describe(target, deadline, fresh=True)
    except (ModelNotFound, NotReady, ConnectionFailed, DeadlineExceeded):
        return False
    return True


def wait(engine: Engine, target: Target, timeout: float) -> Flow[int]:
    """Wait until each reachable endpoint serves a version."""
    timeout = as_seconds("timeout", timeout, longest=_MAX_WAIT, zero=True)
    end = engine.now() + timeout
    pause = _FIRST_POLL
    while True:
        versions: list[int] = []
        missing = "the server did not respond"
        cause: ServableError | None = None
        for endpoint in engine.endpoints:
            deadline = engine.now() + min(engine.timeout, max(end - engine.now(), 1))
            try:
                found = yield from _look(engine, endpoint, target, deadline)
            except (ConnectionFailed, DeadlineExceeded) as error:
                if not versions:
                    missing, cause = str(error), error
                continue  # the other endpoints suffice
            if isinstance(found, int):
                versions.append(found)
            else:
                versions, missing, cause = [], found, None
                break
        if versions:
            engine.forget()
            return min(versions)
        if engine.now() >= end:
            places = ", ".join(endpoint.url for endpoint in engine.endpoints)
            late = deadline_exceeded(
                f"{target.model} was not available at {places} within {timeout:g} s: {missing}",
                endpoint=engine.endpoints[0].url,
                model=target.model,
            )
            if cause is None:
                late.hint = "`servable status` shows versions and labels"
            else:
                late.unreachable, late.untrusted = cause.unreachable, cause.untrusted
                late.hint = cause.hint
            raise late
        yield Sleep(min(pause, max(end - engine.now(), 0)))
        pause = min(pause * 1.5, _LONGEST_POLL)


def reload(engine: Engine, config: wire.ModelServerConfig, timeout: float) -> Flow[None]:
    """Send a configuration to each endpoint."""
    operation = ReloadOperation(target=engine.target, config=config)
    for endpoint in engine.endpoints:
        try:
            yield from engine.attempt(endpoint, operation, engine.deadline(timeout))
        except Failure as failure:
            raise error_of(failure, endpoint, operation) from failure.__cause__
        finally:
            engine.forget()


def _look(engine: Engine, endpoint: Endpoint, target: Target, deadline: float) -> Flow[int | str]:
    """The version of a target that an endpoint serves, or a description of its state."""
    # The status of all versions: that of a version which does not exist yet is an error.
    operation: MetadataOperation | StatusOperation = (
        StatusOperation(target=Target(model=target.model))
        if target.label is None
        else MetadataOperation(target=target)
    )
    try:
        answer = yield from engine.attempt(endpoint, operation, deadline)
    except Failure as failure:
        error = error_of(failure, endpoint, operation)
        other = engine.instead(target, error)
        if other is not None:
            return (yield from _look(engine, endpoint, other, deadline))
        if isinstance(error, ModelNotFound):
            return str(error)
        raise error from failure.__cause__
    if isinstance(answer, Description):
        return _version(answer, endpoint, target)
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
