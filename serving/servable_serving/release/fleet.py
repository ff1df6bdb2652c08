"""The servers that watch a repository: what they have of a model, and waiting for more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self, TypeVar

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

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from servable_client import VersionStatus

_T = TypeVar("_T")
_U = TypeVar("_U")

_ASK_SECONDS = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5
_HURRY_SECONDS = 2.0
# How long what a server said of a version before may stand after it was asked for again: two
# looks of a server at its file and its folders.
_STALE_SECONDS = 5.0


class ReleaseError(ServableError):
    """A step of a release failed; what was served before is served."""


class NoAnswer(ReleaseError):
    """No server answers."""


class Live:
    """The servers at an address, as a release asks them.

    Args:
        server: Their addresses, with commas.
        model: The model's name.
        api_key: Sent along.
        ca: A PEM file of the authority to trust.

    Raises:
        InvalidInput: An address is malformed.
    """

    def __init__(
        self, server: str, *, model: str, api_key: str | None = None, ca: str | None = None
    ) -> None:
        self.server = server
        tls = None if ca is None else TLS(ca=ca)

        def client(address: str) -> Client:
            # Not tried again: what waits here asks again anyway, and a person waits for the rest.
            return Client(
                address, model=model, api_key=api_key, tls=tls, timeout=_ASK_SECONDS,
                retry=Retry(attempts=1),
            )  # fmt: skip

        with client(server) as all_of_them:
            addresses = all_of_them.endpoints
        # One for each: a release is to reach all of them, and not the first that answers.
        self.clients = [client(address) for address in addresses]

    def check(self) -> None:
        """Make sure that a server answers, whatever it says.

        Raises:
            NoAnswer: None does.
            ServableError: One refuses: the key is wrong, say.
        """
        self.states()

    def states(self) -> list[dict[int, VersionStatus]]:
        """The model's versions at each server that answers, by version.

        Raises:
            NoAnswer: None answers.
        """
        found, trouble = self._each(
            lambda client: {status.version: status for status in client.status()}, {}
        )
        if not found:
            raise NoAnswer(
                f"no server answers at {self.server}: {trouble}",
                hint="start one with `servable serve`, name another with --server, or publish "
                "without waiting for one with --no-wait",
            )
        return found

    def available(self) -> set[int]:
        """The versions that some server answers with."""
        return {
            version
            for states in self.states()
            for version, status in states.items()
            if status.state == "AVAILABLE"
        }

    def follows(self, labels: Mapping[str, int]) -> bool | None:
        """Whether the servers know the labels that models.config gives the model.

        None where there is none to tell by.
        """
        known = None
        for label in labels:
            if any(found is not None for found in self._resolved(label)):
                return True
            known = False
        return known

    def hurry(self, text: str) -> None:
        """Have servers that take it apply models.config now, and not at their next look.

        Args:
            text: What is in the file: any other content would be undone at the next look.
        """
        for client in self.clients:
            try:
                client.reload_config(text, timeout=_ASK_SECONDS)
            except ServableError:
                # Over REST, behind a gateway that lets it not pass, or refused since a version is
                # still loading: the server looks at the file itself.
                continue

    def wait_for(
        self, version: int, *, timeout: float, before: list[dict[int, VersionStatus]]
    ) -> None:
        """Wait until every server that answers serves a version.

        Args:
            version: The version.
            timeout: Seconds.
            before: What the servers said before it was asked for.

        Raises:
            ReleaseError: It failed to load, or is not available in time.
        """
        began = time.monotonic()
        stale = [s[version] for s in before if version in s]

        def there() -> str:
            lacking = ""
            for states in self.states():
                status = states.get(version)
                if status is None:
                    lacking = "the server does not know of it"
                elif status.state == "AVAILABLE":
                    continue
                elif status.error_code != "OK" and (
                    status not in stale or time.monotonic() > began + _STALE_SECONDS
                ):
                    # LOADING as well: it is tried again, but what fails once is not to go out.
                    raise ReleaseError(
                        f"version {version} failed to load: {status.error_message}",
                        hint=f"the code is {status.error_code}; the server's log may say more",
                    )
                else:
                    lacking = f"it is {status.state} there"
            return lacking

        lacking = _wait(there, timeout)
        if lacking:
            raise ReleaseError(
                f"version {version} was not available at {self.server} within {timeout:g} s: "
                f"{lacking}",
                hint="does the server read this repository, and its models.config where it was "
                "started with one? its log says why it does not apply it; --timeout waits longer",
            )

    def wait_for_label(
        self, label: str, version: int, *, timeout: float, hurry: Callable[[], None]
    ) -> None:
        """Wait until a label stands for a version at every server that answers.

        Args:
            label: The label.
            version: What it is to stand for.
            timeout: Seconds.
            hurry: Called every now and then.

        Raises:
            ReleaseError: It does not in time.
        """
        hurried = time.monotonic()

        def there() -> str:
            nonlocal hurried
            lacking = ""
            for found in self._resolved(label):
                if found != version:
                    lacking = f"it is {'not known' if found is None else found} there"
            if lacking and time.monotonic() > hurried + _HURRY_SECONDS:
                hurry()
                hurried = time.monotonic()
            return lacking

        lacking = _wait(there, timeout)
        if lacking:
            raise ReleaseError(
                f"{label} did not come to version {version} at {self.server} within {timeout:g} s: "
                f"{lacking}",
                hint="was the server started with --model_config_file=.../models.config and "
                "--model_config_file_poll_wait_seconds=1? its log says why it does not apply it",
            )

    def _resolved(self, label: str) -> list[int | None]:
        """What a label stands for at each server that answers."""
        found, trouble = self._each(lambda client: client.resolve(label=label), None)
        if not found:
            raise NoAnswer(f"no server answers at {self.server} any more: {trouble}")
        return found

    def _each(self, ask: Callable[[Client], _T], missing: _U) -> tuple[list[_T | _U], str]:
        """What each server that answers says, and why the others do not."""
        found: list[_T | _U] = []
        trouble = ""
        for client in self.clients:
            try:
                found.append(ask(client))
            except (ModelNotFound, NotReady):
                found.append(missing)
            except (ConnectionFailed, DeadlineExceeded) as error:
                trouble = trouble or str(error)
        return found, trouble

    def close(self) -> None:
        """Hang up."""
        for client in self.clients:
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _wait(lacking: Callable[[], str], timeout: float) -> str:
    """Ask until nothing is lacking any more, or the time is over; what still is then."""
    end = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while True:
        try:
            found = lacking()
        except NoAnswer as error:  # perhaps it is just being started again
            found = str(error)
        if not found or time.monotonic() >= end:
            return found
        time.sleep(min(pause, max(end - time.monotonic(), 0)))
        pause = min(pause * 1.5, _LONGEST_PAUSE)
