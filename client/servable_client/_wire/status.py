"""Status codes and names that are fixed on the wire."""

from __future__ import annotations

# What TensorFlow 2 writes beside a model's own signatures; servers show it, and none can call it.
INIT_SIGNATURE = "__saved_model_init_op"
# https://grpc.github.io/grpc/core/md_doc_statuscodes.html
STATUS_CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
    "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
