"""What the trials of a version have in common: what is tried, for how long, and who began it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, Self

from servable_serving.canary.traffic_meter import NoMetrics
from servable_serving.core.names import STABLE
from servable_serving.mirror.errors import NoMirror
from servable_serving.release.server_group import ReleaseError
from servable_serving.repository import history

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servable_serving.canary.mirror_meter import Compared
    from servable_serving.canary.rules import PromotionRules
    from servable_serving.canary.site import Site
    from servable_serving.core.clock import Clock

INTERRUPTED = "interrupted"
# A trial whose process was killed is ended by the gateway, this long after its planned end.
GRACE_SECONDS = 120.0
# How many looks in a row may fail: `gateway-metrics` may be restarted during the trial.
_BLIND_LOOKS = 15


class Mirror(Protocol):
    """Reads how two versions answer the requests that the gateway mirrors."""

    @property
    def compared(self) -> Compared:
        """What was read last."""

    def look(self) -> None:
        """Read it again.

        Raises:
            NoMirror: It cannot be read.
        """
        ...


@dataclass(kw_only=True)
class Trial:
    """A trial and its result.

    Attributes:
        outcome: One word, "interrupted" until there is another.
        reason: Why, a sentence.
        seconds: How long it ran.
        answers: How both versions answered the same requests, mirrored by the gateway; empty if
            unknown.
        report: The page that was written about it; empty before.
    """

    model: str
    version: int
    against: int
    rules: PromotionRules
    began: str
    who: str
    outcome: str = INTERRUPTED
    reason: str = ""
    seconds: float = 0.0
    answers: dict[str, Any] = field(default_factory=dict)
    report: str = ""

    @classmethod
    def plan(cls, version: int, site: Site, rules: PromotionRules) -> Self:
        """Prepare a trial; nothing changes yet.

        Raises:
            ReleaseError: The version does not exist, or there is nothing to compare it with.
        """
        return cls(
            model=site.model,
            version=version,
            against=_version_to_beat(version, site),
            rules=rules,
            began=datetime.now(UTC).isoformat(timespec="seconds"),
            who=history.who(),
        )

    def interrupted(self, error: BaseException) -> None:
        """Take down what ended it before its time."""
        said = "Ctrl-C" if isinstance(error, KeyboardInterrupt) else str(error)
        self.reason = f"interrupted: {said or type(error).__name__}"

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def _version_to_beat(version: int, site: Site) -> int:
    """The version in service, which another is compared with."""
    if not site.has(version):
        raise ReleaseError(
            f"there is no version {version} in {site.location}",
            hint="`servable versions` lists the versions; `servable push` publishes one",
        )
    against = site.labels().get(STABLE)
    if against is None or against == version:
        raise ReleaseError(
            f"no version of {site.model} is stable, so there is nothing to compare with"
            if against is None
            else f"version {version} of {site.model} is stable already",
            hint="`servable versions` shows the versions and their labels",
        )
    return against


def looks(
    rules: PromotionRules, read: Callable[[], None], clock: Clock = time
) -> Iterator[tuple[float, bool]]:
    """Read the figures of a trial at intervals until its time is up.

    Args:
        rules: Its duration and interval.
        read: Reads them.
        clock: The time.

    Yields:
        After each successful reading, the seconds left, and whether it was the last one.

    Raises:
        NoMetrics: There were none for several looks, or at the end.
        NoMirror: As `NoMetrics`, of the mirrored requests.
    """
    end = clock.monotonic() + rules.seconds
    blind, over = 0, False
    while not over:
        left = end - clock.monotonic()
        clock.sleep(max(min(rules.every, left), 0.0))
        try:
            read()
        except (NoMetrics, NoMirror):
            blind += 1
            if blind >= _BLIND_LOOKS or left <= 0:
                raise
            continue
        blind, left = 0, max(end - clock.monotonic(), 0.0)
        over = not left
        yield left, over


def left_in_words(seconds: float) -> str:
    """The time that is left: "1:05 left"."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} left"
