"""The embedded server in a notebook or a program: started by one call, stopped by another."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from servable_serving.repository.models_config import ModelsConfig
from servable_serving.server.options import ServerOptions
from servable_serving.server.server import Server, ServerError

if TYPE_CHECKING:
    from types import TracebackType


class Serving:
    """A server that runs in this process; also a context manager.

    Attributes:
        grpc: Its address for gRPC; None if it has none.
        http: Its address for REST; None if it has none.
    """

    def __init__(self, server: Server, options: ServerOptions) -> None:
        self._server, self._web = server, options.web
        self.grpc = f"grpc://{options.host}:{options.port}" if options.port else None
        self.http = (
            f"http://{options.host}:{options.rest_api_port}" if options.rest_api_port else None
        )

    def stop(self) -> None:
        """Refuse new requests, finish those in flight, unload the models."""
        self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        said = "stopped" if self._server.stopping else "running"
        return f"Serving(grpc={self.grpc!r}, http={self.http!r}, {said})"

    def _repr_html_(self) -> str:
        page = f"<a href='{escape(self.http)}/'>web page</a>" if self.http and self._web else ""
        return f"<p>{escape(repr(self))} {page}</p>"


def serve(
    repository: str | Path,
    *,
    model: str | None = None,
    port: int = 8500,
    rest_port: int = 8501,
    web: bool = False,
    **options: Any,
) -> Serving:
    """Serve models from this process, as `servable serve` does; returns once they are loaded.

    Args:
        repository: The folder of a model's versions, or a folder with models.config.
        model: The model's name; the folder's unless given.
        port: gRPC's port; 0 for none.
        rest_port: REST's port; 0 for none.
        web: Whether to serve the web page at "/" of the REST port.
        options: Further fields of `ServerOptions`.

    Returns:
        The running server, to be stopped by its `stop`.

    Raises:
        ServerError: There is no version, a port is in use, or a version failed to load.
    """
    path = Path(repository).resolve()
    if not path.is_dir() or not any(path.iterdir()):
        raise ServerError(
            f"{path} holds no versions of a model", hint="`push` publishes one", code="NOT_FOUND"
        )
    config = ModelsConfig(path)
    which: dict[str, Any] = (
        {"model_config_file": config.path, "model_repository_path": path,
         "model_config_file_poll_wait_seconds": 1,
         "allow_version_labels_for_unavailable_models": True}
        if config.exists
        else {"model_name": model or path.name, "model_base_path": path}
    )  # fmt: skip
    settings = ServerOptions(
        **{**which, "port": port, "rest_api_port": rest_port, "web": web, **options}
    )
    server = Server(settings)
    server.start()
    return Serving(server, settings)
