"""Export, the model repository and the embedded server."""

from typing import TYPE_CHECKING

from servable_client._lazy import lazily

if TYPE_CHECKING:
    from servable_serving._export import ExportError, export
    from servable_serving._folder import FolderError
    from servable_serving._manifest import CandidateError, check_candidate
    from servable_serving._options import ServerOptions
    from servable_serving._repository import Repository
    from servable_serving._saved_model import ModelError, SavedModel
    from servable_serving._server import Server, ServerError

__all__ = [
    "CandidateError",
    "ExportError",
    "FolderError",
    "ModelError",
    "Repository",
    "SavedModel",
    "Server",
    "ServerError",
    "ServerOptions",
    "check_candidate",
    "export",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "CandidateError": "_manifest",
        "ExportError": "_export",
        "FolderError": "_folder",
        "ModelError": "_saved_model",
        "Repository": "_repository",
        "SavedModel": "_saved_model",
        "Server": "_server",
        "ServerOptions": "_options",
        "ServerError": "_server",
        "check_candidate": "_manifest",
        "export": "_export",
    },
)
