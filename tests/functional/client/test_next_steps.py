"""What each kind of error tells a user of the command to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.conftest import NAME, SHIPPED, free_port, only_sentence
from tests.functional.client.gateways import Refusal
from tests.in_process import command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import RunningServer


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("UNAUTHENTICATED", "--api-key or --token"),
        ("PERMISSION_DENIED", "--api-key or --token"),
        ("NOT_FOUND", "`servable status`"),
        ("RESOURCE_EXHAUSTED", "retry later"),
        ("DEADLINE_EXCEEDED", "timeout"),
    ],
)
@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_refusal(gateway: Callable[..., Any], scheme: str, code: str, hint: str) -> None:
    at = gateway(scheme, lambda *_: Refusal(code, "no")).address
    done = command("status", "--server", at, "--timeout", "2")
    only_sentence(done)
    assert hint in done.stderr


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("status", "--model", "nosuch"), "check the model name"),
        (("wait", "--label", "nosuch", "--timeout", "0"), "servable status"),
        (("predict", "--input", "JSON", "--signature", "nosuch"), "`servable status` shows"),
        (("classify", "JSON"), "PNG"),
    ],
    ids=["status", "wait", "predict", "classify"],
)
def test_a_question_that_the_server_cannot_answer(
    server: RunningServer, tmp_path: Path, arguments: tuple[str, ...], hint: str
) -> None:
    (tmp_path / "input.json").write_text('{"inputs": {"image": [[1]]}}')
    words = [str(tmp_path / "input.json") if word == "JSON" else word for word in arguments]
    done = command(*words, "--server", server.grpc)
    only_sentence(done)
    assert hint in done.stderr


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("status",), "`servable serve` starts one"),
        (("wait", "--timeout", "0"), "`servable serve` starts one"),
        (("push", SHIPPED, "--repository", "NEW"), "--no-wait"),
        (("push", SHIPPED, "--repository", "NEW", "--no-wait", "--holdout", "NEW"), "np.savez"),
        (("push", "NEW", "--repository", "NEW"), "servable export"),
        (("evaluate", "NEW"), "`servable train` writes a run"),
        (("export", "NEW"), ".keras"),
        (("sync", "file:///nonexistent", "NEW"), "servable push --repository URL"),
        (("up", "--embedded", "--models", "NEW"), "--models"),
    ],
    ids=["status", "wait", "push", "holdout", "candidate", "evaluate", "export", "sync", "up"],
)
def test_something_that_is_not_there(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[object, ...],
    hint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SERVABLE_SERVER", f"grpc://127.0.0.1:{free_port()}")
    monkeypatch.setenv("SERVABLE_MODEL", NAME)
    new = tmp_path / "new"
    done = command(*(new if word == "NEW" else word for word in arguments))
    only_sentence(done)
    assert hint in done.stderr
