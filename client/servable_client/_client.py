"""The client."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import numpy as np

from servable_client._answers import (
    INIT_SIGNATURE,
    Classification,
    Prediction,
    Signature,
    VersionStatus,
)
from servable_client._errors import (
    ConnectionFailed,
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    NotReady,
    ServableError,
    ServerFailed,
)
from servable_client._pictures import Picture, as_request
from servable_client._transport import Target, Transport

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from numpy.typing import ArrayLike

DEFAULT_TIMEOUT = 5.0
_POLL_SECONDS = 0.1
_MAX_TIMEOUT = 86400.0
_MAX_NAME = 1000
_PORTS = {"grpc": 8500, "grpcs": 8500, "http": 8501, "https": 8501}


class Client:
    """Asks a TensorFlow Serving endpoint, over gRPC or REST, without TensorFlow.

        with Client("grpc://localhost:8500", model="fashion_mnist") as client:
            boot = client.classify("boot.png")
            print(boot.label, boot.probability, boot.version)

    Args:
        server: The address; `grpc`, `grpcs`, `http` or `https` picks the transport, and the
            port is 8500 or 8501 unless given.
        model: The model's name.
        version: The version to ask; the highest available one unless given.
        label: The label of the version to ask, `stable` for example; not with `version`.
        timeout: Seconds that a call may take unless it says otherwise.

    Raises:
        InvalidInput: The address is malformed, or both `version` and `label` are given.
    """

    def __init__(
        self,
        server: str = "grpc://localhost:8500",
        *,
        model: str,
        version: int | None = None,
        label: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        if version is not None and label is not None:
            raise InvalidInput("give a version or a label, not both")
        if version is not None and not 0 < version < 1 << 63:
            raise InvalidInput(f"{version} is no version", hint="versions count from 1")
        for name, what in ((model, "model"), (label, "label")):
            if name is not None and not (name and name.isprintable() and len(name) <= _MAX_NAME):
                raise InvalidInput(f"{name!r:.40} is no {what}'s name")
        _checked_timeout(timeout)
        self._target = Target(model=model, version=version, label=label)
        self._timeout = timeout
        self._transport = transport_for(server)

    @property
    def endpoint(self) -> str:
        """The server's address."""
        return self._transport.endpoint

    def classify(self, picture: Picture, *, timeout: float | None = None) -> Classification:
        """Ask what a picture shows.

        Args:
            picture: A path, the bytes of a file, an open file or a Pillow image of any size, or
                an array uint8 [height, width] or [height, width, 1] of the model's size, white
                on black.
            timeout: Seconds; the client's own unless given.

        Raises:
            InvalidInput: It is no picture, or not one that the model takes.
            ServableError: Any other leaf of its tree; see there.
        """
        began = time.monotonic()
        signature, inputs = as_request(picture)
        prediction = self.predict(inputs, signature=signature, timeout=timeout)
        try:
            label = prediction.outputs["label"][0]
            class_id = int(prediction.outputs["class_id"][0])
            probabilities = prediction.outputs["probabilities"][0]
        except (KeyError, IndexError):
            raise ServerFailed(
                f"{self._target.model} answers {sorted(prediction.outputs)}, and a classifier "
                "answers label, class_id and probabilities",
                hint="`predict` serves models of any other kind",
                endpoint=self.endpoint,
                model=self._target.model,
            ) from None
        return Classification(
            label=label.decode(),
            class_id=class_id,
            probability=float(probabilities[class_id]),
            probabilities=probabilities,
            version=prediction.version,
            elapsed=time.monotonic() - began,
        )

    def predict(
        self,
        inputs: Mapping[str, ArrayLike],
        *,
        signature: str = "serving_default",
        timeout: float | None = None,
    ) -> Prediction:
        """Run a signature of any model.

        Args:
            inputs: Arrays by the names that the signature gives them.
            signature: Its name.
            timeout: Seconds; the client's own unless given.

        Raises:
            ServableError: Any leaf of its tree; see there.
        """
        try:
            arrays = {name: np.asarray(value) for name, value in inputs.items()}
        except ValueError as error:
            raise InvalidInput(f"an input is no array: {error}") from error
        timeout = self._timeout if timeout is None else _checked_timeout(timeout)
        try:
            return self._transport.predict(self._target, signature, arrays, timeout)
        except ModelNotFound as error:
            raise self._if_loading(error, timeout) from error

    def status(self, *, timeout: float | None = None) -> list[VersionStatus]:
        """The model's versions that the server knows, highest first.

        Raises:
            ModelNotFound: It knows none.
            ServableError: Any other leaf of its tree; see there.
        """
        return self._transport.status(
            self._target, self._timeout if timeout is None else _checked_timeout(timeout)
        )

    def metadata(self, *, timeout: float | None = None) -> dict[str, Signature]:
        """The model's signatures, by name.

        Raises:
            ServableError: Any leaf of its tree; see there.
        """
        signatures = self._transport.metadata(
            self._target, self._timeout if timeout is None else _checked_timeout(timeout)
        )
        return {name: value for name, value in signatures.items() if name != INIT_SIGNATURE}

    def wait_until_available(self, version: int | None = None, *, timeout: float = 60) -> int:
        """Wait until the server serves a version of the model.

        Args:
            version: The version; the client's own unless given, any where it has none. Labels
                are not looked at.
            timeout: Seconds to wait in all.

        Returns:
            The version, the highest where any will do.

        Raises:
            ServerFailed: The version failed to load; `message` holds the server's reason.
            DeadlineExceeded: It is not available yet.
        """
        end = time.monotonic() + timeout
        # Of all versions: the one to wait for need not be the one that this client asks.
        target = Target(model=self._target.model)
        wanted = self._target.version if version is None else version
        seen = "the server did not answer"
        while True:
            try:
                versions = self._transport.status(
                    target, min(self._timeout, max(end - time.monotonic(), 1))
                )
            except (ConnectionFailed, DeadlineExceeded, ModelNotFound) as error:
                seen = str(error)
            else:
                versions = [v for v in versions if wanted in (None, v.version)]
                for status in versions:
                    if status.state == "AVAILABLE":
                        return status.version
                failed = [v for v in versions if v.state == "END" and v.error_code != "OK"]
                if failed and len(failed) == len(versions):
                    raise ServerFailed(
                        f"version {failed[0].version} failed to load: {failed[0].error_message}",
                        endpoint=self.endpoint,
                        model=self._target.model,
                        code=failed[0].error_code,
                    )
                seen = ", ".join(f"{v.version} {v.state}" for v in versions)
            if time.monotonic() >= end:
                raise DeadlineExceeded(
                    f"{self._target.model} was not available at {self.endpoint} within "
                    f"{timeout:g} s: {seen}",
                    endpoint=self.endpoint,
                    model=self._target.model,
                    code="DEADLINE_EXCEEDED",
                )
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _if_loading(self, error: ModelNotFound, timeout: float) -> ServableError:
        """TensorFlow Serving says NOT_FOUND of a model that it is about to have."""
        if error.code != "NOT_FOUND":
            return error  # the model is there, and has no such signature or label
        try:
            states = {v.state for v in self._transport.status(self._target, timeout)}
        except ServableError:
            return error
        if "AVAILABLE" in states or not states & {"START", "LOADING"}:
            return error
        return NotReady(
            f"{self._target.model} is loading",
            hint="`wait_until_available` waits for it",
            endpoint=self.endpoint,
            model=self._target.model,
            code=error.code,
        )


def _checked_timeout(timeout: float) -> float:
    if not 0 < timeout <= _MAX_TIMEOUT:
        raise InvalidInput(
            f"{timeout:g} s is no timeout", hint=f"give a number above 0 and up to {_MAX_TIMEOUT:g}"
        )
    return timeout


def transport_for(server: str) -> Transport:
    """The transport that an address asks for.

    Raises:
        InvalidInput: It is no address.
    """
    hint = "write it as grpc://host:8500 or http://host:8501"
    try:
        parts = urlsplit(server)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidInput(f"{server!r} is no server's address: {error}", hint=hint) from None
    if (
        parts.scheme not in _PORTS
        or not host
        or port == 0
        or parts.username is not None
        or parts.path.strip("/")
        or parts.query
    ):
        raise InvalidInput(f"{server!r} is no server's address", hint=hint)
    host = f"[{host}]" if ":" in host else host
    address = f"{host}:{_PORTS[parts.scheme] if port is None else port}"
    secure = parts.scheme in ("grpcs", "https")
    # Either transport alone is enough for a program: the other's library is not imported.
    if parts.scheme.startswith("grpc"):
        from servable_client._grpc import GrpcTransport

        return GrpcTransport(address, secure=secure)
    from servable_client._rest import RestTransport

    return RestTransport(address, secure=secure)
