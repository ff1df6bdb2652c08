"""Requests that a model of any kind is known to answer, or should."""

from __future__ import annotations

from typing import TYPE_CHECKING

from servable_serving.core.names import PREDICT_METHOD
from servable_serving.model.golden import GoldenRequest, golden_requests, made_up_inputs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from servable_serving.gates.inspected_version import InspectedVersion

_ROWS = 2


def requests_of(version: InspectedVersion) -> list[GoldenRequest]:
    """The golden requests of a version, one for each signature.

    Raises:
        CandidateError: The manifest has others that cannot be read.
    """
    found: dict[str, GoldenRequest] = {}
    for one in golden_requests(version.files.manifest):
        found.setdefault(one.signature, one)
    return list(found.values())


def well_formed_requests(contract: Mapping[str, Any], key: str) -> Iterator[GoldenRequest]:
    """Requests that fit what a signature declares, without expected answers."""
    signature = contract[key]
    if signature["method"] in ("", PREDICT_METHOD):
        for inputs in made_up_inputs(signature["inputs"], rows=_ROWS):
            yield GoldenRequest(signature=key, inputs=inputs, outputs={})
