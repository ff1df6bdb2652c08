"""A release into a repository behind a URL: servers follow it by `servable sync`."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servable_client import InvalidInput, ServableError
from servable_serving.core.names import CANARY, STABLE
from servable_serving.release.server_group import ReleaseError
from servable_serving.repository import history

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from servable_serving.release.push import Plan
    from servable_serving.release.steps import Steps
    from servable_serving.repository.candidate import Candidate
    from servable_serving.repository.remote import Remote


@dataclass(frozen=True)
class RemoteTarget:
    """A `Target` for a model in a repository behind a URL.

    Args:
        remote: The repository.
        model: The model's name.
    """

    remote: Remote
    model: str

    @property
    def location(self) -> str:
        """The repository's URL."""
        return self.remote.url

    def describe(self, version: int) -> str:
        """A version and its location, for messages."""
        return f"version {version} of {self.model} at {self.location}"

    def labels(self) -> dict[str, int]:
        """The version of each label."""
        return self.remote.labels(self.model)

    def check(self, plan: Plan) -> None:
        """Make sure that models.config can be read, and the repository written.

        Raises:
            InvalidInput: The plan names a version, and the repository gives the numbers.
            StoreError: The repository cannot be reached.
            ModelsConfigError: models.config is not valid.
        """
        if plan.version is not None:
            raise InvalidInput("a repository behind a URL gives the version its number")
        self.labels()
        if not plan.dry_run:
            self.remote.check_writable()

    @contextmanager
    def served(self, steps: Steps) -> Iterator[Path | None]:
        """A temporary copy of the `stable` version."""
        stable = self.labels().get(STABLE)
        if stable is None:
            yield None
            return
        with tempfile.TemporaryDirectory() as folder:
            with steps.step("fetch") as step:
                self.remote.fetch(self.model, stable, Path(folder))
                step.said = f"version {stable}, which is stable, to compare with"
            yield Path(folder)

    @contextmanager
    def publishing(self, steps: Steps) -> Iterator[None]:  # noqa: ARG002
        """No lock is needed: each push claims its own number."""
        yield

    def publish(
        self,
        candidate: Candidate,
        steps: Steps,
        *,
        version: int | None,  # noqa: ARG002
        about: Mapping[str, Any],
    ) -> int:
        """Upload a candidate as the next version.

        Raises:
            CandidateError: A file has changed since the gates.
            StoreError: The repository cannot be reached or written.
        """
        with steps.step("upload") as step:
            published = self.remote.publish(candidate, about=about)
            step.said = f"published version {published} at {self.location}"
        return published

    def bring_up(self, version: int, candidate: Candidate, steps: Steps) -> None:
        """Nothing to wait for: servers load it after their next `servable sync`."""

    def quarantine(self, version: int, steps: Steps, error: BaseException) -> None:
        """Nothing to undo: no server loads a version that models.config does not name."""

    def label(self, version: int, steps: Steps, *, promote: bool) -> None:
        """Give a version its label: `stable` if it is the first or is promoted, else `canary`.

        By one change of models.config, which servers apply when the version is loaded.

        Raises:
            StoreError: models.config cannot be written.
        """
        with steps.step("label") as step:
            label = STABLE if promote or STABLE not in self.labels() else CANARY
            self._move("push", label, version)
            step.said = f"{label} is version {version}"

    def promote(self, version: int, steps: Steps, *, why: str | None = None) -> None:  # noqa: ARG002
        """Move `stable` to a version.

        Raises:
            StoreError: The version is incomplete there, or models.config cannot be written.
            ModelsConfigError: models.config is not valid.
        """
        self._move("promote", STABLE, version, why)

    def roll_back(self, steps: Steps, *, to: int | None, why: str | None = None) -> int:  # noqa: ARG002
        """Move `stable` back, to what was promoted before or to a version; returns that.

        Raises:
            ReleaseError: Nothing was promoted before.
            StoreError: The version is incomplete there, or models.config cannot be written.
            ModelsConfigError: models.config is not valid.
        """
        version = to
        if version is None:
            now = self.labels().get(STABLE)
            version = history.before(self.remote.history(self.model), now)
        if version is None:
            raise ReleaseError(
                f"nothing is known to have been promoted before version {now}",
                hint="`servable history` shows what is known; --to names a version",
            )
        self._move("rollback", STABLE, version, why)
        return version

    def _move(self, what: str, label: str, version: int, why: str | None = None) -> None:
        before = self.labels().get(label)
        self.remote.label(self.model, version, label)
        # A share of `canary` was meant for its previous version. The label has moved already: an
        # error in the gateway's file must not fail that.
        with suppress(ServableError):
            self.remote.reset_shares(self.model)
        if before != version:
            self.remote.note(self.model, history.moved(what, label, version, before, why))
