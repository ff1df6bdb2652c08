"""What `servable gateway-metrics` found of the requests that the gateway mirrors."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from servable_serving.canary.traffic_meter import Tally, fetch_over_http
from servable_serving.mirror.errors import NoMirror
from servable_serving.mirror.outputs import output_in_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from servable_serving.canary.traffic_meter import Fetch
    from servable_serving.repository.shadow import Shadow


def read_mirror(address: str, what: str, fetch: Fetch = fetch_over_http) -> list[dict[str, Any]]:
    """What `servable gateway-metrics` found of mirrored requests.

    Args:
        address: URL of its mirror: http://127.0.0.1:9146.
        what: "comparisons" or "drift".
        fetch: Reads a URL as text.

    Raises:
        NoMirror: It cannot be read.
    """
    url = f"{address.rstrip('/')}/{what}"
    try:
        found = json.loads(fetch(url))
        return [dict(one) for one in found]
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "reason", None) or error
        raise NoMirror(
            f"cannot read the mirrored requests at {url}: {reason}",
            hint="`servable gateway-metrics --upstream HOST` asks them; --mirror sets the URL",
        ) from error


@dataclass(frozen=True)
class MirrorTally(Tally):
    """The mirrored requests of one version.

    Attributes:
        seconds: Percentiles of the latency of successful requests, by share.
    """

    seconds: Mapping[float, float | None] = field(default_factory=dict)

    def percentile(self, share: float) -> float | None:
        """See `Tally`."""
        return self.seconds.get(share)


@dataclass(frozen=True)
class Compared:
    """How two versions answered the same requests.

    Attributes:
        figures: As `mirror/comparison.py:Comparison.as_json` gives them; empty before the first.
    """

    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def requests(self) -> int:
        """How many were asked."""
        return int(self.figures.get("requests", 0))

    @property
    def rows(self) -> int:
        """The rows of those that both versions answered."""
        return int(self.figures.get("rows", 0))

    @property
    def decided(self) -> int:
        """How many of them got a label or a class of both."""
        return int(self.figures.get("decided", 0))

    @property
    def differ(self) -> int:
        """How many of these got two different ones."""
        return int(self.figures.get("differ", 0))

    @property
    def outputs(self) -> Mapping[str, Mapping[str, Any]]:
        """How far all other outputs are apart; see `mirror/outputs.py:Outputs.as_json`."""
        found: Mapping[str, Mapping[str, Any]] = self.figures.get("outputs", {})
        return found

    def __str__(self) -> str:
        """What differs, in words."""
        found = []
        if self.decided or not self.outputs:
            share = f" ({self.differ / self.decided:.1%})" if self.decided else ""
            found.append(f"answers differ in {self.differ} of {self.decided} rows{share}")
        if self.outputs:
            name, worst = max(self.outputs.items(), key=lambda item: item[1]["apart"])
            found.append(
                f"values of {output_in_words(name, worst)} differ by {worst['apart']:.1%} of their "
                f"variance in {worst['rows']} rows"
            )
        return f"{' and '.join(found)} of {self.requests} mirrored requests"

    def tally(self, side: str) -> MirrorTally:
        """The requests of the "version" on trial, or of the one that it is compared "against"."""
        found = self.figures.get(side)
        if not found:
            return MirrorTally()
        shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
        return MirrorTally(
            found["statuses"], {}, {shares[name]: value for name, value in found["seconds"].items()}
        )


class MirrorMeter:
    """Reads the comparison of a trial.

    Args:
        address: URL of the mirror of `servable gateway-metrics`: http://127.0.0.1:9146.
        model: The model's name.
        shadow: What is mirrored of it.
        fetch: Reads a URL as text.

    Attributes:
        compared: What was read last.

    Raises:
        NoMirror: It cannot be read.
    """

    def __init__(
        self, address: str, *, model: str, shadow: Shadow, fetch: Fetch = fetch_over_http
    ) -> None:
        self._address, self._fetch = address, fetch
        self._pair = {
            "model": model,
            "version": shadow.version,
            "name": shadow.name,
            "against": shadow.against,
            "until": shadow.until,
        }
        self.compared = Compared()
        self.look()

    def look(self) -> None:
        """Read it again.

        Raises:
            NoMirror: It cannot be read.
        """
        for found in read_mirror(self._address, "comparisons", self._fetch):
            if found.get("pair") == self._pair:
                self.compared = Compared(found)
