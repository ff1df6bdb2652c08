"""The traffic meter, over pages of metrics as the gateway's companion writes them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest

from servable_serving.canary.traffic_meter import NoMetrics, Tally, TrafficMeter

PAGE = "http://gateway:9145/metrics"


def requests(
    count: int,
    *,
    version: int = 2,
    status: str = "OK",
    method: str = "predict",
    model: str = "m",
) -> str:
    return (
        f'servable_gateway_requests_total{{model="{model}",version="{version}",method="{method}",'
        f'status="{status}"}} {count}\n'
    )


def bucket(le: str, count: int, *, version: int = 2) -> str:
    return (
        f'servable_gateway_request_seconds_bucket{{model="m",version="{version}",method="predict",'
        f'le="{le}"}} {count}\n'
    )


@dataclass
class Pages:
    """One page after another; an exception stands for one that cannot be read."""

    pages: list[str | Exception]
    addresses: list[str] = field(default_factory=list)

    def __call__(self, address: str) -> str:
        self.addresses.append(address)
        page = self.pages.pop(0)
        if isinstance(page, Exception):
            raise page
        return page


def meter(*pages: str | Exception) -> TrafficMeter:
    """A meter that has looked at all pages."""
    found = TrafficMeter(PAGE, model="m", fetch=Pages(list(pages)))
    for _ in pages[1:]:
        found.look()
    return found


def test_the_page_that_is_named_is_read() -> None:
    pages = Pages([""])
    TrafficMeter(PAGE, model="m", fetch=pages)
    assert pages.addresses == [PAGE]


def test_what_was_counted_before_does_not_count() -> None:
    assert meter(requests(50)).tally(2).requests == 0


def test_what_is_added_counts() -> None:
    assert meter(requests(50), requests(53)).tally(2).requests == 3


def test_several_looks_add_up() -> None:
    assert meter(requests(1), requests(4), requests(4), requests(10)).tally(2).requests == 9


def test_a_series_that_appears_counts_whole() -> None:
    assert meter("", requests(7)).tally(2).requests == 7


def test_a_restarted_companion_loses_no_requests_before_it() -> None:
    assert meter(requests(50), requests(60), requests(4)).tally(2).requests == 14


def test_versions_are_counted_apart() -> None:
    found = meter("", requests(3, version=1) + requests(5, version=2))
    assert [found.tally(version).requests for version in (1, 2, 3)] == [3, 5, 0]


def test_statuses_are_counted_apart() -> None:
    found = meter("", requests(3) + requests(2, status="INTERNAL"))
    assert found.tally(2).statuses == {"OK": 3, "INTERNAL": 2}


@pytest.mark.parametrize("method", ["predict", "classify"])
def test_predictions_are_counted(method: str) -> None:
    assert meter("", requests(3, method=method)).tally(2).requests == 3


@pytest.mark.parametrize("method", ["status", "metadata", "reload"])
def test_other_methods_are_not_counted(method: str) -> None:
    assert meter("", requests(3, method=method)).tally(2).requests == 0


def test_other_models_are_not_counted() -> None:
    assert meter("", requests(3, model="other")).tally(2).requests == 0


@pytest.mark.parametrize(
    "status", ["UNAUTHENTICATED", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "CANCELLED"]
)
def test_what_the_gateway_refuses_is_not_the_versions(status: str) -> None:
    assert meter("", requests(3, status=status)).tally(2).requests == 0


def test_buckets_are_added_by_their_bound() -> None:
    found = meter(bucket("0.1", 1), bucket("0.1", 4) + bucket("+Inf", 5))
    assert found.tally(2).buckets == {0.1: 3, math.inf: 5}


def test_the_share_in_force_is_read() -> None:
    page = (
        'servable_model_label_share{model="m",label="canary"} 0.25\n'
        'servable_model_label_share{model="other",label="canary"} 0.5\n'
    )
    assert TrafficMeter(PAGE, model="m", fetch=Pages(["", page])).share("canary") == 0.25


def test_a_share_that_is_not_reported_is_unknown() -> None:
    assert TrafficMeter(PAGE, model="m", fetch=Pages(["", ""])).share("canary") is None


@pytest.mark.parametrize(
    "failure", [OSError("refused"), ValueError("unknown url type"), "no { metrics", TimeoutError()]
)
def test_a_page_that_cannot_be_read_is_an_error(failure: str | Exception) -> None:
    with pytest.raises(NoMetrics) as caught:
        meter(failure)
    assert PAGE in caught.value.message
    assert caught.value.hint is not None


def test_a_page_that_is_missing_for_a_look_loses_nothing() -> None:
    found = TrafficMeter(PAGE, model="m", fetch=Pages([requests(1), OSError(), requests(5)]))
    with pytest.raises(NoMetrics):
        found.look()
    found.look()
    assert found.tally(2).requests == 4


def test_the_error_ratio_is_that_of_all_requests() -> None:
    tally = Tally({"OK": 6, "INTERNAL": 1, "NOT_FOUND": 1})
    assert (tally.requests, tally.errors, tally.error_ratio) == (8, 2, 0.25)


def test_no_requests_have_no_errors() -> None:
    assert Tally().error_ratio == 0.0


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.5, 0.1), (0.25, 0.05), (0.75, 0.2), (1.0, 0.3)],
)
def test_percentiles_are_linear_within_a_bucket(share: float, expected: float) -> None:
    tally = Tally({}, {0.1: 50, 0.3: 100, math.inf: 100})
    assert tally.percentile(share) == pytest.approx(expected)


def test_a_percentile_beyond_the_last_bound_is_that_bound() -> None:
    assert Tally({}, {0.1: 50, math.inf: 100}).percentile(0.95) == 0.1


def test_a_percentile_of_nothing_is_unknown() -> None:
    assert Tally({}, {0.1: 0, math.inf: 0}).percentile(0.95) is None


def test_the_figures_as_json() -> None:
    figures = Tally({"OK": 3, "INTERNAL": 1}, {0.1: 3, math.inf: 3}).as_json()
    assert figures["seconds"].keys() == {"p50", "p95", "p99"}
    assert list(figures["statuses"]) == ["INTERNAL", "OK"]
    assert (figures["requests"], figures["errors"], figures["error_ratio"]) == (4, 1, 0.25)
