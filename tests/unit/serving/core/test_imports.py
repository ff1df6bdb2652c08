"""Garbage collection during imports."""

from __future__ import annotations

import gc

import pytest

from servable_serving.core.imports import collection_paused


def test_it_is_paused_and_then_resumed() -> None:
    with collection_paused():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_is_resumed_after_a_failure() -> None:
    with pytest.raises(ImportError), collection_paused():
        raise ImportError
    assert gc.isenabled()


def test_it_stays_off_where_it_was_off() -> None:
    gc.disable()
    try:
        with collection_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
