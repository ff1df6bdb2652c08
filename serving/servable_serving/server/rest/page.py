"""The web page: static files, served with the REST API that the page uses."""

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

# Only these file types are served; the folder also contains notes for developers.
_SUFFIXES = frozenset({".html", ".css", ".js", ".svg", ".png"})

# Also in a <meta>, for other servers; but a <meta> cannot forbid framing.
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
    # Revalidated each time, and answered with 304: a new release takes effect at once.
    "Cache-Control": "no-cache",
}


class Page:
    """An ASGI application that serves the page's files, and passes all other requests on.

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
        """Handle a request."""
        ours = scope["path"] in self._paths and scope["method"] in {"GET", "HEAD"}
        await (self._files if ours else self._rest)(scope, receive, send)


class _Files(StaticFiles):
    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """A file, with the security headers of the page."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(HEADERS)
        return response
