"""Export, the gates, the model repository and the embedded server."""

from typing import TYPE_CHECKING

from servable_client._lazy import lazily

if TYPE_CHECKING:
    from servable_serving.core.errors import FolderError, ModelError, UserCodeError
    from servable_serving.exporter.errors import ExportError
    from servable_serving.exporter.export import export
    from servable_serving.gates.holdout import Holdout, HoldoutError, find_holdout
    from servable_serving.gates.run import inspect
    from servable_serving.gates.verdict import Finding, GateError, Tolerances
    from servable_serving.model.saved_model import SavedModel
    from servable_serving.release.functions import (
        Release,
        Versions,
        history,
        promote,
        push,
        rollback,
        versions,
    )
    from servable_serving.repository.candidate import check_candidate
    from servable_serving.repository.local import Repository
    from servable_serving.repository.manifest import CandidateError
    from servable_serving.server.options import ServerOptions
    from servable_serving.server.serve import Serving, serve
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
    "Release",
    "Repository",
    "SavedModel",
    "Server",
    "ServerError",
    "ServerOptions",
    "Serving",
    "Tolerances",
    "UserCodeError",
    "Versions",
    "check_candidate",
    "export",
    "find_holdout",
    "history",
    "inspect",
    "promote",
    "push",
    "rollback",
    "serve",
    "versions",
]

# Type checkers would take any name for one that `__getattr__` knows.
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            "CandidateError": "repository.manifest",
            "ExportError": "exporter.errors",
            "Finding": "gates.verdict",
            "FolderError": "core.errors",
            "GateError": "gates.verdict",
            "Holdout": "gates.holdout",
            "HoldoutError": "gates.holdout",
            "ModelError": "core.errors",
            "Repository": "repository.local",
            "Serving": "server.serve",
            "serve": "server.serve",
            "versions": "release.functions",
            "rollback": "release.functions",
            "push": "release.functions",
            "promote": "release.functions",
            "Versions": "release.functions",
            "Release": "release.functions",
            "SavedModel": "model.saved_model",
            "Server": "server.server",
            "ServerError": "server.server",
            "ServerOptions": "server.options",
            "Tolerances": "gates.verdict",
            "UserCodeError": "core.errors",
            "check_candidate": "repository.candidate",
            "export": "exporter.export",
            "find_holdout": "gates.holdout",
            "history": "release.functions",
            "inspect": "gates.run",
        },
    )
