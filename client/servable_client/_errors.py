"""The error hierarchy.

ServableError
├── InvalidInput(ValueError)          found before sending, or INVALID_ARGUMENT
├── ModelNotFound(LookupError)        no such model, version, label or signature
├── NotReady                          known, but not available yet
├── ServerBusy                        RESOURCE_EXHAUSTED, 429
├── DeadlineExceeded(TimeoutError)
├── ConnectionFailed(ConnectionError)
├── AccessDenied(PermissionError)     401, 403, UNAUTHENTICATED, PERMISSION_DENIED
└── ServerFailed                      any other code of the server

A leaf with a counterpart among the built-in exceptions inherits from it too, so that code which
does not know Servable can still catch `TimeoutError`.
"""

from __future__ import annotations

from typing import Any


class ServableError(Exception):
    """The base class of all errors that Servable raises.

    Attributes:
        message: The error message, one sentence.
        hint: How to fix it, or None; a traceback shows it too, as a note.
        endpoint: The server address, or None if no server was involved.
        model: The model name, or None.
        code: The canonical status code by name, `NOT_FOUND` for example, or None if the
            server sent none.
        retry_after: Seconds after which the server accepts a retry, or None if it did not
            say.
        index: The position of the image in `classify_many`, counted from 0, or None.
        input: The name of the input at fault, or None.
        attempts: How often the request was sent; 0 if it was not, or if there were several.
        request_id: The id under which the server or gateway logged the request, or None if its
            response had no `x-request-id`.
        unreachable: Whether no connection to the server could be made.
        untrusted: Whether the certificate of the server is not valid, or not trusted.
        reason: The message without its subject, an image or a file for example; the whole message
            if it has none.
        missing_signature: Whether the model exists but lacks the requested signature.
        unknown_label: Whether the server does not know the label, so that no version has it.

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
        reason: str | None = None,
    ) -> None:
        # The message alone: OSError, an ancestor of some leaves, would read a second argument
        # as a file's name.
        super().__init__(message)
        self.message = message
        self._hint: str | None = None
        self.hint = hint
        self.endpoint = endpoint
        self.model = model
        self.code = code
        self.retry_after = retry_after
        self.reason: str = message if reason is None else reason
        self.index: int | None = None
        self.input: str | None = None
        self.attempts = 0
        self.request_id: str | None = None
        self.unreachable = False
        self.untrusted = False
        self.missing_signature = False
        self.unknown_label = False

    @property
    def hint(self) -> str | None:
        """How to fix it, or None."""
        return self._hint

    @hint.setter
    def hint(self, hint: str | None) -> None:
        if hint == self._hint:
            return
        notes = [note for note in getattr(self, "__notes__", ()) if note != self._hint]
        if hint:
            notes.append(hint)
        self.__notes__ = notes
        self._hint = hint

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by calling the class, which may take other arguments.
        state = dict(vars(self))
        if "__notes__" in state:
            state["__notes__"] = list(state["__notes__"])
        return _restored, (type(self), self.args, state)


def _restored(
    kind: type[ServableError], args: tuple[object, ...], state: dict[str, Any]
) -> ServableError:
    """An error from a copy or a pickle."""
    error = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(state)
    return error


class InvalidInput(ServableError, ValueError):
    """The request is invalid: found before sending, or INVALID_ARGUMENT."""


class ModelNotFound(ServableError, LookupError):
    """The server does not know the model, version, label or signature."""


class NotReady(ServableError):
    """The server knows the model, but no version of it is available yet."""


class ServerBusy(ServableError):
    """The server is out of capacity: RESOURCE_EXHAUSTED or HTTP 429."""


class DeadlineExceeded(ServableError, TimeoutError):
    """No response before the deadline."""


class ConnectionFailed(ServableError, ConnectionError):
    """The server could not be reached, or closed the connection."""


class AccessDenied(ServableError, PermissionError):
    """The key or token is missing, invalid or insufficient."""


class ServerFailed(ServableError):
    """Any other server error; see `code`."""


# https://grpc.github.io/grpc/core/md_doc_statuscodes.html. TensorFlow Serving reports a missing
# signature as FAILED_PRECONDITION over gRPC, which `error_for` recognises.
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

# The inverse of https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto. 400
# maps to three codes; TensorFlow Serving nearly always means INVALID_ARGUMENT.
_CODE_BY_HTTP_STATUS: dict[int, str] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    412: "FAILED_PRECONDITION",
    413: "INVALID_ARGUMENT",
    416: "OUT_OF_RANGE",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


# How messages of TensorFlow Serving about a missing signature begin, over REST and over gRPC.
_SIGNATURE = ("Serving signature key ", "Serving signature name: ")


def code_of_http_status(status: int) -> str:
    """The canonical status code, by name, of an HTTP status."""
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
    """The error for a status `code` and `message` of a server."""
    kind, hint = _BY_CODE.get(code, ServerFailed), None
    # The messages of TensorFlow Serving 2.20 have to be read here, once, since its codes are
    # ambiguous: a missing signature is FAILED_PRECONDITION over gRPC and 400 over REST, an
    # unknown label INVALID_ARGUMENT.
    # The position in the graph is of no use to the caller.
    message = message.partition("\n\t [[")[0]
    missing_signature = message.startswith(_SIGNATURE)
    unknown_label = "Unrecognized servable version label" in message
    if missing_signature:
        kind, hint = ModelNotFound, f"the model has no signature {signature!r}; see `metadata()`"
    elif unknown_label:
        kind, hint = ModelNotFound, "no version has that label; see `servable status`"
    elif kind is ModelNotFound:
        hint = "check the model name; `servable status` shows what the server has"
    elif kind is ConnectionFailed:
        hint = f"is a server listening at {endpoint}? `servable serve` starts one"
    elif code == "UNIMPLEMENTED":
        hint = f"check that {endpoint} is the gRPC port of TensorFlow Serving, usually 8500"
    elif kind is DeadlineExceeded:
        hint = "use a longer timeout or a smaller batch"
    elif kind is AccessDenied:
        hint = "pass the key or token that this server requires: `api_key=` or `token=`"
    elif kind is ServerBusy:
        hint = "retry later, or use a smaller batch"
    error = kind(
        message, hint=hint, endpoint=endpoint, model=model, code=code, retry_after=retry_after
    )
    error.missing_signature = missing_signature
    error.unknown_label = unknown_label
    return error
