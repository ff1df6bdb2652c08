"""Status codes and names that the protocol fixes."""

from __future__ import annotations

# A signature that TensorFlow 2 adds to each model; servers list it, but it cannot be called.
INIT_SIGNATURE = "__saved_model_init_op"
# https://grpc.github.io/grpc/core/md_doc_statuscodes.html
STATUS_CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
    "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
