"""The servers of a repository: their versions and labels of a model, and waiting for changes."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from servable_client import (
    TLS,
    Client,
    ConnectionFailed,
    DeadlineExceeded,
    ModelNotFound,
    NotReady,
    Retry,
    ServableError,
)
from servable_serving.release.replicas import SERVER_NUMBER, Replicas

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from servable_client import VersionStatus

_T = TypeVar("_T")
_U = TypeVar("_U")

_ASK_SECONDS = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5
_RELOAD_SECONDS = 2.0
# A server may report an old failure for this long after a version was listed again: two polls of
# its file and its folders.
_STALE_SECONDS = 5.0


class ReleaseError(ServableError):
    """A step of a release failed; the servers serve what they served before."""


class NoAnswer(ReleaseError):
    """No server answers."""


class ReleaseClient(Protocol):
    """What a release needs of `servable_client.Client`."""

    @property
    def endpoint(self) -> str:
        """The server's address."""

    def status(self) -> list[VersionStatus]:
        """The model's versions."""

    def resolve(self, *, label: str) -> int:
        """The version of a label."""

    def reload_config(self, config: str, *, timeout: float) -> None:
        """Have the server apply a configuration."""

    def metadata(self, *, version: int) -> Mapping[str, Any]:
        """A version's signatures by name."""

    def predict(
        self, inputs: Mapping[str, Any], *, signature: str, version: int, timeout: float
    ) -> Any:
        """Run a signature."""

    def classify(self, image: bytes, /, *, version: int, timeout: float) -> Any:
        """Classify an image."""

    def close(self) -> None:
        """Close all connections."""


class Servers(Protocol):
    """What a release needs of the servers; see `ServerGroup`."""

    @property
    def address(self) -> str:
        """Their addresses, for messages."""

    @property
    def clients(self) -> Sequence[ReleaseClient]:
        """A client for each; they may come and go."""

    def check(self) -> None:
        """Make sure that a server answers."""

    def states(self) -> list[dict[int, VersionStatus]]:
        """The model's versions at each server that answers."""

    def available(self) -> set[int]:
        """The versions that some server serves."""

    def watches_config(self, labels: Mapping[str, int]) -> bool | None:
        """Whether the servers read models.config."""

    def request_reload(self, text: str) -> None:
        """Make the servers apply models.config now."""

    def wait_for(
        self, version: int, *, timeout: float, before: list[dict[int, VersionStatus]]
    ) -> None:
        """Wait until every server that answers serves a version."""

    def wait_for_label(
        self, label: str, version: int, *, timeout: float, reload: Callable[[], None]
    ) -> None:
        """Wait until a label points to a version at every server that answers."""


class ServerGroup:
    """The servers at an address, as a release sees them; to be used as a context manager.

    Args:
        address: Their addresses, separated by commas.
        model: The model's name.
        api_key: The API key.
        token: The bearer token.
        tls: The CA bundle and the client certificate.

    Raises:
        InvalidInput: An address is not valid.
    """

    def __init__(
        self,
        address: str,
        *,
        model: str,
        api_key: str | None = None,
        token: str | None = None,
        tls: TLS | None = None,
    ) -> None:
        self.address = address

        def connect(
            address: str, *, name: str | None = None, number: int | None = None
        ) -> ReleaseClient:
            # Without retries, except of what a busy server or a gateway's rate limit refused: the
            # waits here poll anyway, and all else must fail fast.
            made = _ServerClient(
                address, model=model, api_key=api_key, token=token, timeout=_ASK_SECONDS,
                tls=tls if name is None else replace(tls or TLS(), server_name=name),
                headers=None if number is None else {SERVER_NUMBER: str(number)},
                retry=Retry(budget=0),
            )  # fmt: skip
            made.number = number
            return made

        # A client for each: a release must reach all of them, and not the first that answers.
        self.replicas = Replicas(address, connect=connect)

    @property
    def clients(self) -> Sequence[ReleaseClient]:
        """A client for each server that is there now."""
        return self.replicas.find()

    def check(self) -> None:
        """Make sure that a server answers, even if with an error.

        Raises:
            NoAnswer: None does.
            ServableError: One refuses the request, for the API key for example.
        """
        self.states()

    def states(self) -> list[dict[int, VersionStatus]]:
        """The model's versions at each server that answers, by version.

        Raises:
            NoAnswer: None answers.
        """
        return [states for _, states in self._states()]

    def _states(self) -> list[tuple[str, dict[int, VersionStatus]]]:
        found, trouble = self._each(
            lambda client: {status.version: status for status in client.status()}, {}
        )
        if trouble is not None and not found:
            if trouble.untrusted:
                raise trouble
            raise NoAnswer(
                f"no server answers at {self.address}: {trouble}",
                hint="start one with `servable serve`, name another with --server, or publish "
                "without waiting for a server with --no-wait",
            )
        return found

    def available(self) -> set[int]:
        """The versions that some server serves."""
        return {
            version
            for states in self.states()
            for version, status in states.items()
            if status.state == "AVAILABLE"
        }

    def watches_config(self, labels: Mapping[str, int]) -> bool | None:
        """Whether the servers read models.config: they know the labels in it.

        None if there is no label to look up.
        """
        known = None
        for label in labels:
            if any(found is not None for _, found in self._resolved(label)):
                return True
            known = False
        return known

    def request_reload(self, text: str) -> None:
        """Make the servers that allow it apply models.config now, not at their next poll.

        Args:
            text: The content of the file: any other would be undone at the next poll.
        """
        for client in self.clients:
            try:
                client.reload_config(text, timeout=_ASK_SECONDS)
            except ServableError:
                # Over REST, behind a gateway that blocks it, or refused since a version is still
                # loading: the server polls the file anyway.
                continue

    def wait_for(
        self, version: int, *, timeout: float, before: list[dict[int, VersionStatus]]
    ) -> None:
        """Wait until every server that answers serves a version.

        Args:
            version: The version.
            timeout: Seconds.
            before: What the servers reported before it was listed.

        Raises:
            ReleaseError: It failed to load, or is not available in time.
        """
        began = time.monotonic()
        stale = [s[version] for s in before if version in s]

        def missing() -> str:
            lacking = []
            for server, states in self._states():
                status = states.get(version)
                if status is None:
                    lacking.append(f"{server} does not know it")
                elif status.state == "AVAILABLE":
                    continue
                elif status.error_code != "OK" and (
                    status not in stale or time.monotonic() > began + _STALE_SECONDS
                ):
                    # LOADING as well: the server retries, but one failure is enough to refuse it.
                    raise ReleaseError(
                        f"version {version} failed to load at {server}: {status.error_message}",
                        hint=f"the code is {status.error_code}; the server's log may say more",
                    )
                else:
                    lacking.append(f"it is {status.state} at {server}")
            return ", ".join(lacking)

        lacking = _wait(missing, timeout)
        if lacking:
            raise ReleaseError(
                f"version {version} was not available at {self.address} within {timeout:g} s: "
                f"{lacking}",
                hint="check that the server reads this repository and its models.config; its log "
                "says why it does not apply it; --timeout waits longer",
            )

    def wait_for_label(
        self, label: str, version: int, *, timeout: float, reload: Callable[[], None]
    ) -> None:
        """Wait until a label points to a version at every server that answers.

        Args:
            label: The label.
            version: The version to wait for.
            timeout: Seconds.
            reload: Called every two seconds.

        Raises:
            ReleaseError: It does not in time.
        """
        reloaded = time.monotonic()

        def missing() -> str:
            nonlocal reloaded
            lacking = [
                f"it is {'not known' if found is None else found} at {server}"
                for server, found in self._resolved(label)
                if found != version
            ]
            if lacking and time.monotonic() > reloaded + _RELOAD_SECONDS:
                reload()
                reloaded = time.monotonic()
            return ", ".join(lacking)

        lacking = _wait(missing, timeout)
        if lacking:
            raise ReleaseError(
                f"{label} did not come to version {version} at {self.address} within "
                f"{timeout:g} s: {lacking}",
                hint="start the server with --model_config_file=.../models.config and "
                "--model_config_file_poll_wait_seconds=1; its log says why it does not apply it",
            )

    def _resolved(self, label: str) -> list[tuple[str, int | None]]:
        """The version of a label at each server that answers."""
        found, trouble = self._each(lambda client: client.resolve(label=label), None)
        if not found:
            raise NoAnswer(f"no server answers at {self.address}: {trouble}")
        return found

    def _each(
        self, ask: Callable[[ReleaseClient], _T], missing: _U
    ) -> tuple[list[tuple[str, _T | _U]], ServableError | None]:
        """The servers that answer and their replies, and why the others do not."""
        found: list[tuple[str, _T | _U]] = []
        trouble: ServableError | None = None
        for client in self.clients:
            try:
                found.append((client.endpoint, ask(client)))
            except (ModelNotFound, NotReady):
                found.append((client.endpoint, missing))
            except (ConnectionFailed, DeadlineExceeded) as error:
                trouble = trouble or error
        return found, trouble

    def close(self) -> None:
        """Close all connections."""
        self.replicas.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _ServerClient(Client):
    """A client of one server, behind a gateway perhaps."""

    number: int | None = None

    @property
    def endpoint(self) -> str:
        """Its address, and its number behind the gateway there."""
        address = super().endpoint
        return f"server {self.number} behind {address}" if self.number else address


def _wait(lacking: Callable[[], str], timeout: float) -> str:
    """Poll until nothing is missing, or until the timeout; returns what is missing then."""
    end = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while True:
        try:
            found = lacking()
        except NoAnswer as error:  # the server may be restarting
            found = str(error)
        if not found or time.monotonic() >= end:
            return found
        time.sleep(min(pause, max(end - time.monotonic(), 0)))
        pause = min(pause * 1.5, _LONGEST_PAUSE)
