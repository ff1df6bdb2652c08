"""The web page: static files beside the REST API, for a browser to ask it with."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

FOLDER = Path(str(files("servable_serving"))) / "web"

# What a browser is served; the notes beside it are for people.
_SUFFIXES = frozenset({".html", ".css", ".js", ".svg", ".png"})

# Said in a <meta> too, where it holds under any server; but no <meta> can forbid framing.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Asked for again each time, and answered with 304: a new release is seen at once.
    "Cache-Control": "no-cache",
}


class Page:
    """Answers for the page's own files, and hands every other request on, as an ASGI application.

    Args:
        rest: What answers all else.
        reserved: A path that is never the page's.
    """

    def __init__(self, rest: ASGIApp, *, reserved: str | None = None) -> None:
        self._rest = rest
        self._files = GZipMiddleware(_Files(directory=FOLDER, html=True))
        paths = (path for path in FOLDER.rglob("*") if path.suffix in _SUFFIXES)
        self._paths = {f"/{path.relative_to(FOLDER).as_posix()}" for path in paths} | {"/"}
        self._paths -= {reserved}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        ours = scope["path"] in self._paths and scope["method"] in {"GET", "HEAD"}
        await (self._files if ours else self._rest)(scope, receive, send)


class _Files(StaticFiles):
    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """A file, with the headers that tell a browser what the page may do."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(HEADERS)
        return response
