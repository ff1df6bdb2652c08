"""Export, the gates, the model repository and the embedded server."""

from typing import TYPE_CHECKING

from servable_client._lazy import lazily

if TYPE_CHECKING:
    from servable_serving.core.errors import FolderError, ModelError
    from servable_serving.export.export import ExportError, export
    from servable_serving.gates.holdout import Holdout, HoldoutError, find_holdout
    from servable_serving.gates.run import inspect
    from servable_serving.gates.verdict import Finding, GateError, Tolerances
    from servable_serving.model.saved_model import SavedModel
    from servable_serving.repository.candidate import check_candidate
    from servable_serving.repository.local import Repository
    from servable_serving.repository.manifest import CandidateError
    from servable_serving.server.options import ServerOptions
    from servable_serving.server.server import Server, ServerError

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
        "CandidateError": "repository.manifest",
        "ExportError": "export.export",
        "Finding": "gates.verdict",
        "FolderError": "core.errors",
        "GateError": "gates.verdict",
        "Holdout": "gates.holdout",
        "HoldoutError": "gates.holdout",
        "ModelError": "core.errors",
        "Repository": "repository.local",
        "SavedModel": "model.saved_model",
        "Server": "server.server",
        "ServerError": "server.server",
        "ServerOptions": "server.options",
        "Tolerances": "gates.verdict",
        "check_candidate": "repository.candidate",
        "export": "export.export",
        "find_holdout": "gates.holdout",
        "inspect": "gates.run",
    },
)
