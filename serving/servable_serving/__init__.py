"""Export, the gates, the model repository and the embedded server."""

from typing import TYPE_CHECKING

from servable_client._lazy import lazily

if TYPE_CHECKING:
    from servable_serving._export import ExportError, export
    from servable_serving._findings import Finding, GateError
    from servable_serving._gates import inspect
    from servable_serving._holdout import Holdout, HoldoutError, find_holdout
    from servable_serving._manifest import CandidateError, check_candidate
    from servable_serving._options import ServerOptions
    from servable_serving._repository import Repository
    from servable_serving._saved_model import SavedModel
    from servable_serving._server import Server, ServerError
    from servable_serving._tolerances import Tolerances
    from servable_serving.core.errors import FolderError, ModelError

__all__ = [
    "CandidateError",
    "ExportError",
    "Finding",
    "FolderError",
    "GateError",
    "Holdout",
    "HoldoutError",
    "ModelError",
    "Repository",
    "SavedModel",
    "Server",
    "ServerError",
    "ServerOptions",
    "Tolerances",
    "check_candidate",
    "export",
    "find_holdout",
    "inspect",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "CandidateError": "_manifest",
        "ExportError": "_export",
        "Finding": "_findings",
        "FolderError": "core.errors",
        "GateError": "_findings",
        "Holdout": "_holdout",
        "HoldoutError": "_holdout",
        "ModelError": "core.errors",
        "Repository": "_repository",
        "SavedModel": "_saved_model",
        "Server": "_server",
        "ServerError": "_server",
        "ServerOptions": "_options",
        "Tolerances": "_tolerances",
        "check_candidate": "_manifest",
        "export": "_export",
        "find_holdout": "_holdout",
        "inspect": "_gates",
    },
)
