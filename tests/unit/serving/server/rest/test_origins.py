"""Which web pages may send requests to a server of this machine."""

from __future__ import annotations

import pytest

from servable_serving.server.rest.origins import allows


@pytest.mark.parametrize(
    ("site", "origin", "host", "may"),
    [
        (None, None, "evil.example", True),  # a program, perhaps behind a proxy
        (None, "https://evil.example", "127.0.0.1:8501", True),  # a program that says so
        ("same-origin", "http://localhost:8501", "localhost:8501", True),
        ("same-origin", "http://[::1]:8501", "[::1]:8501", True),
        (None, "http://models.localhost:8501", "models.localhost:8501", True),
        ("same-origin", "https://models.example", "models.example", True),
        ("none", None, "localhost:8501", True),
        ("cross-site", "https://evil.example", "127.0.0.1:8501", False),
        ("cross-site", None, "127.0.0.1:8501", False),
        ("same-site", "http://localhost:3000", "localhost:8501", False),
        (None, "http://evil.example:8501", "evil.example:8501", False),  # DNS rebinding
        (None, "http://localhost.evil.example", "localhost.evil.example", False),
        (None, "http://x", "[", False),
        (None, "http://x", "", False),
    ],
)
def test_pages(site: str | None, origin: str | None, host: str, may: bool) -> None:
    assert allows(site, origin, host, frozenset({"models.example"})) is may
