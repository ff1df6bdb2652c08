"""The tree of errors, and which leaf a status code is."""

from __future__ import annotations

import copy
import pickle
import traceback
from typing import Any

import pytest

import servable_client as sdk
from servable_client._errors import code_of_http_status, error_for

CODES: dict[str, type[sdk.ServableError]] = {
    "INVALID_ARGUMENT": sdk.InvalidInput,
    "OUT_OF_RANGE": sdk.InvalidInput,
    "NOT_FOUND": sdk.ModelNotFound,
    "RESOURCE_EXHAUSTED": sdk.ServerBusy,
    "DEADLINE_EXCEEDED": sdk.DeadlineExceeded,
    "UNAVAILABLE": sdk.ConnectionFailed,
    "PERMISSION_DENIED": sdk.AccessDenied,
    "UNAUTHENTICATED": sdk.AccessDenied,
    "INTERNAL": sdk.ServerFailed,
    "UNIMPLEMENTED": sdk.ServerFailed,
    "FAILED_PRECONDITION": sdk.ServerFailed,
    "UNKNOWN": sdk.ServerFailed,
    "DATA_LOSS": sdk.ServerFailed,
}
PYTHON: list[tuple[type[sdk.ServableError], type[Exception]]] = [
    (sdk.InvalidInput, ValueError),
    (sdk.ModelNotFound, LookupError),
    (sdk.DeadlineExceeded, TimeoutError),
    (sdk.ConnectionFailed, ConnectionError),
    (sdk.AccessDenied, PermissionError),
]


def made(code: str, message: str = "the reason") -> sdk.ServableError:
    return error_for(
        code, message, endpoint="grpc://h:8500", model="m", signature="s", retry_after=2.0
    )


@pytest.mark.parametrize("code", CODES)
def test_each_code_is_a_leaf(code: str) -> None:
    error = made(code)
    assert type(error) is CODES[code]
    assert (error.code, error.message, error.endpoint, error.model, error.retry_after) == (
        code,
        "the reason",
        "grpc://h:8500",
        "m",
        2.0,
    )


@pytest.mark.parametrize("code", CODES)
def test_errors_survive_pickling(code: str) -> None:
    error = made(code)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert vars(again) == vars(error)


@pytest.mark.parametrize(
    "code",
    [
        "NOT_FOUND",
        "UNAVAILABLE",
        "UNIMPLEMENTED",
        "DEADLINE_EXCEEDED",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
    ],
)
def test_errors_that_the_caller_can_act_on_have_a_hint(code: str) -> None:
    assert made(code).hint


@pytest.mark.parametrize(("leaf", "python"), PYTHON)
def test_leaves_are_pythons_own_too(leaf: type[sdk.ServableError], python: type[Exception]) -> None:
    assert issubclass(leaf, python)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("FAILED_PRECONDITION", 'Serving signature key "s" not found.'),
        ("INVALID_ARGUMENT", 'Serving signature name: "s" not found in signature def'),
    ],
)
def test_a_missing_signature_is_not_found_over_both_protocols(code: str, message: str) -> None:
    error = made(code, message)
    assert type(error) is sdk.ModelNotFound
    assert error.missing_signature
    assert error.code == code


def test_an_unknown_label_is_not_found() -> None:
    error = made("INVALID_ARGUMENT", "Unrecognized servable version label: canary")
    assert type(error) is sdk.ModelNotFound
    assert not error.missing_signature
    assert error.unknown_label
    assert not made("NOT_FOUND").unknown_label


def test_the_place_in_the_graph_is_left_out() -> None:
    assert made("INTERNAL", "no shape\n\t [[{{node x}}]]").message == "no shape"


@pytest.mark.parametrize(
    ("status", "code"), [(404, "NOT_FOUND"), (503, "UNAVAILABLE"), (418, "UNKNOWN")]
)
def test_codes_of_http_statuses(status: int, code: str) -> None:
    assert code_of_http_status(status) == code


def test_the_reason_is_the_message_unless_it_is_given() -> None:
    assert sdk.InvalidInput("boot.png is damaged").reason == "boot.png is damaged"
    assert sdk.InvalidInput("boot.png is damaged", reason="is damaged").reason == "is damaged"


def every_attribute(kind: type[sdk.ServableError] = sdk.InvalidInput) -> sdk.ServableError:
    error = kind(
        "broken", hint="mend it", endpoint="grpc://h", model="m", code="INTERNAL", retry_after=1.5,
        reason="because",
    )  # fmt: skip
    error.input, error.attempts, error.request_id, error.index = "image", 3, "abc", 7
    error.unreachable = error.missing_signature = error.unknown_label = True
    error.add_note("a note of the caller")
    return error


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
@pytest.mark.parametrize("kind", [sdk.ServableError, *dict.fromkeys(CODES.values())])
def test_copies_have_every_attribute(kind: type[sdk.ServableError], again: Any) -> None:
    error = every_attribute(kind)
    copied = again(error)
    assert type(copied) is kind
    assert (vars(copied), copied.args, str(copied)) == (vars(error), error.args, str(error))
    copied.hint = "another"
    copied.add_note("more")
    assert error.__notes__ == ["mend it", "a note of the caller"]


def test_errors_of_other_arguments_are_pickled_too() -> None:
    class Refused(sdk.ServableError):
        def __init__(self, code: str, message: str, *, figures: int) -> None:
            super().__init__(message, code=code)
            self.figures = figures

    copied = copy.copy(Refused("INTERNAL", "broken", figures=3))
    assert (copied.code, copied.message, copied.figures) == ("INTERNAL", "broken", 3)


def test_a_traceback_shows_the_hint_once() -> None:
    error = sdk.ServerFailed("broken", hint="mend it")
    error.hint = "mend it"
    assert "".join(traceback.format_exception(error)).count("mend it") == 1


def test_a_hint_that_is_set_later_replaces_the_note() -> None:
    error = sdk.ServerFailed("broken")
    assert not hasattr(error, "__notes__")
    error.hint = "first"
    error.add_note("a note of the caller")
    error.hint = "second"
    assert error.__notes__ == ["a note of the caller", "second"]
    error.hint = None
    assert error.__notes__ == ["a note of the caller"]
    assert error.hint is None


def test_an_error_is_its_message() -> None:
    assert str(sdk.ServerFailed("broken", hint="h")) == "broken"
