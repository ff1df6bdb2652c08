"""The traffic split of models.traffic, for nginx."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from servable_serving.repository.traffic import Route, TrafficError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

Traffic = dict[str, list[Route]]

# Names that nginx's configuration and paths can contain unescaped.
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_WHOLE = 10_000  # hundredths of a percent, nginx's precision


@dataclass(frozen=True)
class Split:
    """How the requests of a model that name no version are split.

    Attributes:
        model: Its name.
        parts: nginx's percentage and the label, which is empty for requests left as they are.
    """

    model: str
    parts: tuple[tuple[str, str], ...]


def check(traffic: Mapping[str, Sequence[Route]]) -> None:
    """Refuse traffic that nginx cannot split.

    Raises:
        TrafficError: A name or a share is invalid, or a model's come to more than 100 percent.
    """
    for model, routes in traffic.items():
        for name in (model, *(route.label for route in routes)):
            if not _NAME.fullmatch(name):
                raise TrafficError(f"{name!r} is not a valid name in models.traffic")
        for route in routes:
            if route.version < 0 or not 0 <= route.percent <= 100:
                raise TrafficError(
                    f"{model} {route.label} {route.version} {route.percent:g} is not a valid line"
                    " of models.traffic"
                )
        if sum(map(_hundredths, routes)) > _WHOLE:
            raise TrafficError(f"the shares of {model} come to more than 100 percent")


def splits(traffic: Mapping[str, Sequence[Route]], ended: Collection[str] = ()) -> list[Split]:
    """The split for nginx's configuration.

    Args:
        traffic: The routes of each model.
        ended: Models whose canary has run out of time: the largest share takes all.
    """
    found = []
    for model, routes in traffic.items():
        taken = [route for route in routes if _hundredths(route) > 0]
        if not taken:
            continue
        if model in ended:
            parts = [("*", largest(taken).label)]
        else:
            parts = [(_percentage(route), route.label) for route in taken]
            if sum(map(_hundredths, taken)) == _WHOLE:
                # The last gets the rest, so that rounding leaves no remainder.
                parts[-1] = ("*", taken[-1].label)
            else:
                parts.append(("*", ""))
        found.append(Split(model, tuple(parts)))
    return found


def largest(routes: Sequence[Route]) -> Route:
    """The route with the largest share, the first of several."""
    return max(routes, key=_hundredths)


def lines(traffic: Mapping[str, Sequence[Route]]) -> list[str]:
    """The lines of models.traffic."""
    return [
        f"{model} {route.label} {route.version} {route.percent:g}"
        for model, routes in traffic.items()
        for route in routes
    ]


def _hundredths(route: Route) -> int:
    return round(route.percent * 100)


def _percentage(route: Route) -> str:
    whole, rest = divmod(_hundredths(route), 100)
    return f"{whole}.{rest:02d}%"
