"""Memory given back to the system."""

from __future__ import annotations

import sys

import pytest

from servable_serving.server.memory import MemoryTrimmer


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_given_back_once_it_has_grown() -> None:
    trimmer = MemoryTrimmer()
    assert not trimmer.step()
    grown = b"x" * (150 << 20)
    assert trimmer.step()
    del grown


def test_memory_in_use_is_tried_again_at_doubling_intervals() -> None:
    used, garbage = 500 << 20, 0
    trimmer = MemoryTrimmer(lambda: used + garbage, lambda: None)
    assert not any(trimmer.step() for _ in range(5))
    garbage = 200 << 20  # as a message in flight is not, at first
    assert [trimmer.step() for _ in range(16)] == [n in (0, 1, 3, 7, 15) for n in range(16)]
    garbage = 300 << 20
    assert [trimmer.step() for _ in range(3)] == [True, True, False]


MIB = 1 << 20


@pytest.mark.parametrize(
    ("before", "first", "second"),
    [
        pytest.param((500, 0), (700, 0), (500, 200), id="it was in use"),
        pytest.param((500, 0), (700, 100), (500, 200), id="part of it was in use"),
        pytest.param((700, 0), (500, 300), (500, 190), id="it grows anew between two looks"),
    ],
)
def test_garbage_is_given_back_at_the_second_look(
    before: tuple[int, int], first: tuple[int, int], second: tuple[int, int]
) -> None:
    used, garbage = before

    def release() -> None:
        nonlocal garbage
        garbage = 0

    trimmer = MemoryTrimmer(lambda: (used + garbage) * MIB, release)
    for used, garbage in (first, second):  # noqa: B007 - read by the trimmer
        assert trimmer.step()
    assert (used, garbage) == (500, 0)
