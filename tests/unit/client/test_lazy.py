"""Public names that are imported when they are first used."""

from __future__ import annotations

import pytest

import servable_client
from servable_client._lazy import lazily


@pytest.mark.parametrize("name", servable_client.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(servable_client, name) is not None


def test_dir_lists_the_public_names() -> None:
    assert set(servable_client.__all__) <= set(dir(servable_client))


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        _ = servable_client.NoSuchName  # type: ignore[attr-defined]


def test_places_are_modules_of_the_package() -> None:
    get, names = lazily("servable_client", {"Retry": "engine.retry"})
    assert get("Retry") is servable_client.Retry
    assert names() == ["Retry"]
