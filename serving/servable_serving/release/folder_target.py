"""A release into a folder, and at the servers that read it."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from servable_client import ServableError
from servable_serving.core.names import CANARY, STABLE
from servable_serving.release.promote import promote, roll_back
from servable_serving.release.server_group import ReleaseError
from servable_serving.release.smoke import bring_up

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from servable_serving.release.deployment import Deployment
    from servable_serving.release.push import Plan
    from servable_serving.release.steps import Steps
    from servable_serving.repository.candidate import Candidate


@dataclass(frozen=True)
class FolderTarget:
    """A `Target` for a model's folder and the servers that read it.

    Args:
        deployment: The model there.
    """

    deployment: Deployment

    @property
    def location(self) -> str:
        """The path of the model's folder."""
        return str(self.deployment.repository.path)

    def describe(self, version: int) -> str:
        """A version and its location, for messages."""
        return f"version {version} of {self.deployment.model} in {self.location}"

    def labels(self) -> dict[str, int]:
        """The version of each label."""
        return self.deployment.labels()

    def check(self, plan: Plan) -> None:
        """Make sure that models.config can be read and, if it is needed, that a server answers.

        Raises:
            ModelsConfigError: Servers cannot apply models.config.
            FolderError: This user cannot write to the repository.
            NoAnswer: No server answers.
            ReleaseError: `stable` would move without waiting for the version.
        """
        deployment = self.deployment
        deployment.check()
        if plan.dry_run:
            return
        deployment.repository.check_writable()
        if deployment.servers is not None:
            deployment.servers.check()
        elif plan.promote and deployment.labels().get(STABLE) is not None:
            raise ReleaseError(
                "stable moves only to a version that is served, and no server is waited for",
                hint="push without --promote, and `servable promote` it when a server answers",
            )

    @contextmanager
    def served(self, steps: Steps) -> Iterator[Path | None]:  # noqa: ARG002
        """The folder of the served version."""
        version = self.deployment.served()
        yield None if version is None else self.deployment.repository.folders()[version]

    @contextmanager
    def publishing(self, steps: Steps) -> Iterator[None]:
        """Hold the repository's lock, and unload unlabelled versions before and after.

        Before, since a killed push leaves versions loaded, and the new one needs memory beside the
        served one.
        """
        with self.deployment.repository.locked(
            waiting=lambda: steps.say("another push is running; waiting for it")
        ):
            self.deployment.unload_unlabelled()
            yield
            self.deployment.unload_unlabelled()

    def publish(
        self, candidate: Candidate, steps: Steps, *, version: int | None, about: Mapping[str, Any]
    ) -> int:
        """Copy a candidate into the folder.

        Raises:
            CandidateError: A file has changed since the gates.
            FolderError: The repository cannot be written, or there is or was such a version.
        """
        about = {
            "name": candidate.name, "candidate": str(candidate.folder.resolve()), **about,
        }  # fmt: skip
        repository = self.deployment.repository
        with steps.step("stage") as step:
            published = repository.publish(candidate, version=version, about=about)
            step.said = f"published version {published} in {repository.path}"
        return published

    def bring_up(self, version: int, candidate: Candidate, steps: Steps) -> None:
        """Wait until a version is served, and smoke-test it there; other versions stay.

        Raises:
            ReleaseError: It fails to load or to answer.
        """
        if STABLE not in self.labels() and (current := self._served_before(version)) is not None:
            self.deployment.adopt_current_as_stable(current)
        bring_up(version, self.deployment, steps, candidate.manifest)

    def quarantine(self, version: int, steps: Steps, error: BaseException) -> None:
        """Unload and quarantine a version that failed or whose push was interrupted."""
        deployment = self.deployment
        reason = {
            "reason": error.message if isinstance(error, ServableError) else "push interrupted",
            "code": error.code if isinstance(error, ServableError) else None,
            "step": steps.taken[-1].name if steps.taken else None,
        }
        with steps.step("reject") as step:
            # From the file first: a server that starts must not look for a missing folder.
            try:
                deployment.unload(version)
            finally:
                where = deployment.repository.reject(version, reason)
            step.said = f"version {version} quarantined in {where}"

    def label(self, version: int, steps: Steps, *, promote: bool) -> None:
        """Give a version its label: `stable` if it is the first or is promoted, else `canary`.

        Raises:
            ReleaseError: The servers did not apply it; the version is unloaded.
        """
        deployment, labels = self.deployment, self.labels()
        label = STABLE if promote or STABLE not in labels else CANARY
        with steps.step("label") as step:
            if deployment.servers is None and labels.get(label) not in (None, version):
                # Servers refuse the whole file if it moves a label in use to a version that is
                # not loaded yet, and would never load it.
                step.outcome = "skipped"
                step.said = f"{label} stays at version {labels[label]}: no server was waited for"
                return
            try:
                step.said = deployment.set_label(label, version, what="push")
            except ReleaseError as error:
                with suppress(ServableError):
                    deployment.unload(version)
                raise ReleaseError(
                    error.message,
                    hint=f"version {version} is in the repository, and is not served; "
                    f"`servable promote {version}` tries again",
                ) from error
            if label == STABLE and not promote:
                step.said += ": it is the first"

    def promote(self, version: int, steps: Steps, *, why: str | None = None) -> None:
        """Move `stable` to a version, once it is loaded and passes the smoke test."""
        promote(version, self.deployment, steps, why=why)

    def roll_back(self, steps: Steps, *, to: int | None, why: str | None = None) -> int:
        """Move `stable` back, to what was promoted before or to a version; returns that."""
        return roll_back(self.deployment, steps, to=to, why=why)

    def _served_before(self, version: int) -> int | None:
        """The highest version below `version` that exists and, with servers, is available."""
        there = {v for v in self.deployment.repository.versions() if v < version}
        if self.deployment.servers is not None:
            there &= self.deployment.servers.available()
        return max(there, default=None)
