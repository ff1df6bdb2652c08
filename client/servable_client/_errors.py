"""What can go wrong, as a tree.

ServableError
├── InvalidInput(ValueError)          before anything is sent, or INVALID_ARGUMENT
├── ModelNotFound(LookupError)        no such model, version, label or signature
├── NotReady                          known, but not available yet
├── ServerBusy                        RESOURCE_EXHAUSTED, 429
├── DeadlineExceeded(TimeoutError)
├── ConnectionFailed(ConnectionError)
├── AccessDenied(PermissionError)     401, 403, UNAUTHENTICATED, PERMISSION_DENIED
└── ServerFailed                      everything else, with the server's code

Each leaf that has a counterpart in Python's own tree inherits from it too, so that code which
knows nothing of Servable can still say `except TimeoutError`.
"""

from __future__ import annotations


class ServableError(Exception):
    """The root of everything that Servable raises on purpose.

    Attributes:
        message: What went wrong, one sentence.
        hint: What to do about it, or None.
        endpoint: The server's address, or None where no server was involved.
        model: The model's name, or None.
        code: The canonical status code by name, `NOT_FOUND` for example, or None where
            the server gave none.
        retry_after: Seconds after which the server wants to be asked again, or None where it
            did not say.
        index: Which picture of `classify_many` it was, counted from 0, or None.

    Example:
        >>> error = ModelNotFound("no model shoes", code="NOT_FOUND", hint="`servable status`")
        >>> isinstance(error, LookupError), error.code, error.hint
        (True, 'NOT_FOUND', '`servable status`')
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        endpoint: str | None = None,
        model: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        # The message alone: OSError, an ancestor of some leaves, would read a second argument
        # as a file's name.
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.endpoint = endpoint
        self.model = model
        self.code = code
        self.retry_after = retry_after
        self.index: int | None = None
        # Set by `error_for`: the model is there, and lacks the signature asked for.
        self.missing_signature = False

    def __str__(self) -> str:
        return self.message


class InvalidInput(ServableError, ValueError):
    """What was asked is malformed: found before sending, or INVALID_ARGUMENT."""


class ModelNotFound(ServableError, LookupError):
    """The server knows no such model, version, label or signature."""


class NotReady(ServableError):
    """The server knows the model, but no version of it is available yet."""


class ServerBusy(ServableError):
    """The server refused for want of capacity: RESOURCE_EXHAUSTED or HTTP 429."""


class DeadlineExceeded(ServableError, TimeoutError):
    """No answer within the time allowed."""


class ConnectionFailed(ServableError, ConnectionError):
    """The server could not be reached, or hung up."""


class AccessDenied(ServableError, PermissionError):
    """The key or token is missing, wrong or not enough."""


class ServerFailed(ServableError):
    """The server failed in another way; `code` holds what it called it."""


# https://grpc.github.io/grpc/core/md_doc_statuscodes.html; TensorFlow Serving maps a missing
# signature to FAILED_PRECONDITION over gRPC, which the transport tells apart by the method.
_BY_CODE: dict[str, type[ServableError]] = {
    "INVALID_ARGUMENT": InvalidInput,
    "OUT_OF_RANGE": InvalidInput,
    "NOT_FOUND": ModelNotFound,
    "RESOURCE_EXHAUSTED": ServerBusy,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "UNAVAILABLE": ConnectionFailed,
    "PERMISSION_DENIED": AccessDenied,
    "UNAUTHENTICATED": AccessDenied,
}

# https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto, backwards. 400
# stands for three codes; TensorFlow Serving means INVALID_ARGUMENT nearly always.
_CODE_BY_HTTP_STATUS: dict[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


# How TensorFlow Serving begins when a model lacks a signature, over REST and over gRPC.
_SIGNATURE = ("Serving signature key ", "Serving signature name: ")


def code_of_http_status(status: int) -> str:
    """The canonical status code, by name, that an HTTP status stands for."""
    return _CODE_BY_HTTP_STATUS.get(status, "UNKNOWN")


def error_for(
    code: str,
    message: str,
    *,
    endpoint: str,
    model: str | None,
    signature: str = "",
    retry_after: float | None = None,
) -> ServableError:
    """The leaf of the tree for a server's status `code` and `message`."""
    kind, hint = _BY_CODE.get(code, ServerFailed), None
    # What follows reads the wording of TensorFlow Serving 2.20, since its codes differ between
    # gRPC and REST: a missing signature is FAILED_PRECONDITION here and 400 there, an unknown
    # label INVALID_ARGUMENT.
    # The place in the graph is for those who made it.
    message = message.partition("\n\t [[")[0]
    missing_signature = message.startswith(_SIGNATURE)
    if missing_signature:
        kind, hint = ModelNotFound, f"the model has no signature {signature!r}; see `metadata()`"
    elif "Unrecognized servable version label" in message:
        kind, hint = ModelNotFound, "no version carries that label; `servable status` lists them"
    elif kind is ModelNotFound:
        hint = "`servable status` shows what the server has; check the model's name"
    elif kind is ConnectionFailed:
        hint = f"is a server listening at {endpoint}? `servable serve` starts one"
    elif code == "UNIMPLEMENTED":
        hint = f"is {endpoint} TensorFlow Serving's gRPC port, 8500 mostly?"
    elif kind is DeadlineExceeded:
        hint = "give a longer timeout, or ask for less at once"
    elif kind is AccessDenied:
        hint = "give the key or token that this server wants: `api_key=` or `token=`"
    elif kind is ServerBusy:
        hint = "ask again later, or for less at once"
    error = kind(
        message, hint=hint, endpoint=endpoint, model=model, code=code, retry_after=retry_after
    )
    error.missing_signature = missing_signature
    return error
