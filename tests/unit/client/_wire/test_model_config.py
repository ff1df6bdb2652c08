"""models.config as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from servable_client import InvalidInput
from servable_client._wire.model_config import config_of

if TYPE_CHECKING:
    from pathlib import Path

TEXT = 'model_config_list { config { name: "m" base_path: "/models/m" } }'


def test_text_is_parsed() -> None:
    assert config_of(TEXT).model_config_list.config[0].name == "m"


def test_a_file_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    path.write_text(TEXT)
    assert config_of(path) == config_of(TEXT)


def test_the_parsers_reason_is_an_attribute() -> None:
    with pytest.raises(InvalidInput) as caught:
        config_of("model_config_list {\n  nosuch: 1\n}")
    error = caught.value
    assert error.reason.startswith("2:3")
    assert error.reason in error.message
    assert error.hint


def test_a_missing_file_is_invalid_input(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        config_of(tmp_path / "models.config")
    assert str(tmp_path) in caught.value.message


def test_a_file_that_is_not_text_is_invalid_input(tmp_path: Path) -> None:
    path = tmp_path / "models.config"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput):
        config_of(path)
