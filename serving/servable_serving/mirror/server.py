"""The HTTP side of the mirror: requests in from the gateway, comparisons out as JSON."""

from __future__ import annotations

import re
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Self

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from servable_serving.core.sockets import bind
from servable_serving.mirror.ask import GRPC_PREDICT, LARGEST_JSON
from servable_serving.mirror.comparison import Pair
from servable_serving.mirror.worker import Waiting

if TYPE_CHECKING:
    from starlette.requests import Request

    from servable_serving.mirror.drift import Drift
    from servable_serving.mirror.worker import Mirror

# Larger requests over gRPC are not mirrored.
_LARGEST = 16 << 20
_PAIR = re.compile(
    r"(?P<model>[A-Za-z0-9._-]+) (?P<version>[0-9]{1,19}) (?P<name>[A-Za-z0-9._-]+) "
    r"(?P<against>[0-9]{1,19}) "
    r"(?P<until>[0-9]{1,12})"
)
_VERSION = re.compile(r"[0-9]{1,19}")
# Headers of the gateway: the versions to compare, whether to count the answer, the client's path,
# and the version that the request was sent to.
PAIR_HEADER, OBSERVE_HEADER = "x-servable-shadow", "x-servable-observe"
PATH_HEADER, VERSION_HEADER = "x-servable-path", "x-servable-version"


class MirrorServer:
    """Listens for the duration of a `with` block.

    Args:
        mirror: Asks the requests again.
        drift: Counts the answers of observed requests; None if there are none.
        host: The address to bind.
        port: The TCP port; 0 for any free one.

    Raises:
        ServableError: The port is not available.
    """

    def __init__(self, mirror: Mirror, drift: Drift | None = None, *, host: str, port: int) -> None:
        self._mirror, self._drift = mirror, drift
        self._socket = bind(host, port, "--mirror-port")
        self._socket.listen(128)
        self._server = uvicorn.Server(
            uvicorn.Config(
                Starlette(
                    routes=[
                        Route("/mirror", self._take, methods=["POST"]),
                        Route("/comparisons", self._comparisons, methods=["GET"]),
                        Route("/drift", self._windows, methods=["GET"]),
                    ]
                ),
                log_config=None,
                log_level="error",
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="mirror", daemon=True
        )

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self._socket.getsockname()[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
        self._mirror.close()

    async def _take(self, request: Request) -> Response:
        headers = request.headers
        pairs = _pairs_in(headers.get(PAIR_HEADER, ""))
        observed = headers.get(OBSERVE_HEADER) == "1"
        if not (pairs or observed):
            return Response(status_code=400)
        path = headers.get(PATH_HEADER, "").partition("?")[0]
        largest = _LARGEST if path == GRPC_PREDICT else LARGEST_JSON
        pieces, size = [], 0
        async for piece in request.stream():
            size += len(piece)
            if size > largest:
                self._mirror.drop(pairs)
                return Response(status_code=413)
            pieces.append(piece)
        version = headers.get(VERSION_HEADER, "")
        self._mirror.take(
            Waiting(
                path=path,
                body=b"".join(pieces),
                name=headers.get("x-request-id", ""),
                pairs=pairs,
                observed=observed,
                version=int(version) if _VERSION.fullmatch(version) else None,
            )
        )
        return Response(status_code=204)

    async def _windows(self, _: Request) -> Response:
        return JSONResponse([] if self._drift is None else self._drift.as_json())

    async def _comparisons(self, _: Request) -> Response:
        return JSONResponse(
            [
                {"pair": asdict(pair), **self._mirror.comparison(pair).as_json()}
                for pair in self._mirror.pairs()
            ]
        )


def _pairs_in(header: str) -> list[Pair]:
    """The versions of each model that a request may be for."""
    return [
        Pair(
            model=found["model"],
            version=int(found["version"]),
            name=found["name"],
            against=int(found["against"]),
            until=int(found["until"]),
        )
        for found in map(_PAIR.fullmatch, header.split(","))
        if found is not None
    ]
