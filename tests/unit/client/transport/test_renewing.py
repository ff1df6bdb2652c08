"""What calls share is replaced after a call that nothing answered, and closed when unused."""

from __future__ import annotations

import itertools

from servable_client.transport.renewing import Renewing


def renewing() -> Renewing[int]:
    return Renewing(itertools.count().__next__)


def test_calls_share_what_is_there() -> None:
    shared = renewing()
    first, second = shared.begin(), shared.begin()
    assert first.value == second.value == 0
    assert not shared.end(first)
    assert not shared.end(second)
    assert shared.begin().value == 0


def test_calls_that_begin_later_use_another() -> None:
    shared = renewing()
    silent = shared.begin()
    shared.renew(silent)
    assert shared.begin().value == 1


def test_several_calls_that_nothing_answered_replace_it_once() -> None:
    shared = renewing()
    first, second = shared.begin(), shared.begin()
    shared.renew(first)
    shared.renew(second)
    assert shared.begin().value == 1


def test_it_is_closed_when_the_last_call_ends() -> None:
    shared = renewing()
    first, second = shared.begin(), shared.begin()
    shared.renew(first)
    assert not shared.end(first)
    assert shared.end(second)


def test_nothing_is_opened_after_close() -> None:
    shared = renewing()
    silent = shared.begin()
    assert shared.close() == 0
    shared.renew(silent)
    assert not shared.end(silent)
    assert shared.begin().value == 0
