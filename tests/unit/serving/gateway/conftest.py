"""What the gateway's unit tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from servable_serving.gateway.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


class MakeSettings(Protocol):
    """Settings whose folders are a test's own."""

    def __call__(self, **variables: str) -> Settings:
        """With these variables, without their prefix."""


@pytest.fixture
def make(tmp_path: Path) -> MakeSettings:
    for name in ("run", "models"):
        (tmp_path / name).mkdir()

    def make(**variables: str) -> Settings:
        variables = {
            "RUN": str(tmp_path / "run"),
            "CERTS": str(tmp_path / "certs"),
            "MODELS_ROOT": str(tmp_path / "models"),
            **variables,
        }
        return Settings.from_environment(
            {f"SERVABLE_{name}": value for name, value in variables.items()},
            contained=False,
            cores=2,
        )

    return make
