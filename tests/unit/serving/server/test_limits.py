"""The memory that requests share."""

from __future__ import annotations

from servable_serving.server.limits import Budget

MIB = 1 << 20


def test_small_requests_are_free() -> None:
    budget = Budget(0)
    assert all(budget.share().grow_to(MIB) for _ in range(100))


def test_what_one_holds_is_not_there_for_another() -> None:
    budget = Budget(10 * MIB)
    first, second = budget.share(), budget.share()
    assert first.grow_to(8 * MIB)
    assert not second.grow_to(5 * MIB)
    assert second.grow_to(4 * MIB)
    first.release()
    assert second.grow_to(10 * MIB)


def test_a_share_grows_and_never_counts_twice() -> None:
    budget = Budget(10 * MIB)
    share = budget.share()
    for size in (2, 5, 3, 11):
        assert share.grow_to(size * MIB)
    assert not share.grow_to(12 * MIB)
    share.release()
    share.release()
    assert budget.share().grow_to(11 * MIB)
    assert not budget.share().grow_to(2 * MIB)
