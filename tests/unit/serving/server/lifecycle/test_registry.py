"""The models of a server: which version a request means, and what a configuration changes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.serving.server.fakes import Registered

from servable_serving.core.errors import ModelError
from servable_serving.server.lifecycle.registry import Spec

if TYPE_CHECKING:
    from pathlib import Path


def found(registered: Registered, name: str = "m", **spec: Any) -> int:
    with registered.models.find(Spec(name=name, **spec)) as (version, _):
        return version


def code_of(registered: Registered, name: str = "m", **spec: Any) -> str | None:
    with pytest.raises(ModelError) as raised:
        found(registered, name, **spec)
    return raised.value.code


def states(registered: Registered, name: str = "m") -> dict[int, str]:
    return {status.version: status.state for status in registered.models.status(Spec(name=name))}


def test_a_configured_model_answers(registered: Registered) -> None:
    registered.configure(registered.settings("m", 1))
    assert found(registered) == 1


def test_models_do_not_mix(registered: Registered) -> None:
    registered.configure(registered.settings("a", 1), registered.settings("b", 2))
    assert (found(registered, "a"), found(registered, "b")) == (1, 2)


def test_a_request_without_a_name_is_invalid(registered: Registered) -> None:
    assert code_of(registered, "") == "INVALID_ARGUMENT"


def test_an_unknown_model_is_not_found(registered: Registered) -> None:
    assert code_of(registered, "nosuch") == "NOT_FOUND"


def test_an_unknown_version_is_not_found(registered: Registered) -> None:
    registered.configure(registered.settings("m", 1))
    assert code_of(registered, version=2) == "NOT_FOUND"


def test_an_unknown_label_is_invalid(registered: Registered) -> None:
    registered.configure(registered.settings("m", 1))
    assert code_of(registered, label="stable") == "INVALID_ARGUMENT"


def test_a_label_of_an_unknown_model_is_invalid(registered: Registered) -> None:
    assert code_of(registered, "nosuch", label="stable") == "INVALID_ARGUMENT"


def test_a_label_stands_for_its_version(registered: Registered) -> None:
    registered.configure(registered.settings("m", 1))
    registered.configure(registered.settings("m", stable=1))
    assert found(registered, label="stable") == 1


def test_a_label_wins_over_a_version(registered: Registered) -> None:
    registered.configure(registered.settings("m", 1))
    registered.configure(registered.settings("m", stable=1))
    assert found(registered, label="stable", version=9) == 1


def test_a_label_of_a_version_that_is_not_available_is_refused(registered: Registered) -> None:
    registered.configure(registered.settings("m", 1))
    with pytest.raises(ModelError) as raised:
        registered.configure(registered.settings("m", stable=2))
    assert raised.value.code == "FAILED_PRECONDITION"


def test_a_label_of_a_new_model_is_refused(registered: Registered) -> None:
    with pytest.raises(ModelError) as raised:
        registered.configure(registered.settings("m", 1, stable=1))
    assert raised.value.code == "FAILED_PRECONDITION"


def test_a_refused_configuration_changes_nothing(registered: Registered) -> None:
    registered.configure(registered.settings("m", 1))
    registered.configure(registered.settings("m", stable=1))
    with pytest.raises(ModelError):
        registered.configure(registered.settings("other", 1), registered.settings("m", stable=9))
    assert found(registered, label="stable") == 1
    assert not registered.models.knows("other")


def test_a_label_may_be_ahead_of_its_version_where_that_is_allowed(tmp_path: Path) -> None:
    registered = Registered(tmp_path, labels_ahead=True)
    registered.configure(registered.settings("m", 1, canary=2))
    assert code_of(registered, label="canary") == "NOT_FOUND"
    registered.configure(registered.settings("m", 2, canary=2))
    assert found(registered, label="canary") == 2


def test_a_label_in_use_does_not_move_ahead(tmp_path: Path) -> None:
    registered = Registered(tmp_path, labels_ahead=True)
    registered.configure(registered.settings("m", 1, stable=1))
    with pytest.raises(ModelError) as raised:
        registered.configure(registered.settings("m", stable=2))
    assert raised.value.code == "FAILED_PRECONDITION"


def test_a_label_that_is_left_out_is_gone(registered: Registered) -> None:
    registered.configure(registered.settings("m", 1))
    registered.configure(registered.settings("m", stable=1))
    registered.configure(registered.settings("m"))
    assert code_of(registered, label="stable") == "INVALID_ARGUMENT"


def test_configuring_names_the_new_models_alone(registered: Registered) -> None:
    assert registered.configure(registered.settings("a", 1)) == ["a"]
    assert registered.configure(registered.settings("a"), registered.settings("b", 1)) == ["b"]


def test_a_model_that_is_left_out_answers_until_it_is_dropped(registered: Registered) -> None:
    registered.configure(registered.settings("m", 1))
    registered.configure()
    assert found(registered) == 1
    registered.calls.elapse()
    assert code_of(registered) == "NOT_FOUND"


def test_a_model_that_is_left_out_keeps_its_status(registered: Registered) -> None:
    registered.configure(registered.settings("m", 1))
    registered.configure()
    registered.calls.elapse()
    assert states(registered) == {1: "END"}
    assert registered.models.knows("m")


def test_a_model_put_back_in_time_is_not_dropped(registered: Registered) -> None:
    registered.configure(registered.settings("m", 1))
    registered.configure()
    assert registered.configure(registered.settings("m")) == ["m"]
    registered.calls.elapse()
    assert found(registered) == 1
    assert len(registered.load.attempts) == 1


def test_a_model_put_back_later_is_loaded_again(registered: Registered) -> None:
    registered.configure(registered.settings("m", 1))
    registered.configure()
    registered.calls.elapse()
    registered.configure(registered.settings("m"))
    assert found(registered) == 1
    assert len(registered.load.attempts) == 2


def test_a_model_put_back_while_it_unloads_is_loaded_again(registered: Registered) -> None:
    registered.configure(registered.settings("m", 1))
    with registered.models.find(Spec(name="m")):
        registered.configure()
        registered.calls.elapse()
        assert states(registered) == {1: "UNLOADING"}
        registered.configure(registered.settings("m"))
    registered.calls.settle()
    assert found(registered) == 1
    assert len(registered.load.attempts) == 2


def test_without_a_look_nothing_is_loaded(registered: Registered) -> None:
    registered.models.configure([registered.settings("m", 1)], look=False)
    registered.calls.settle()
    assert registered.load.attempts == []


def test_a_moved_base_path_is_looked_at(registered: Registered) -> None:
    registered.configure(registered.settings("m", 1))
    moved = registered.settings("elsewhere", 2)
    registered.configure(type(moved)(name="m", base_path=moved.base_path))
    assert found(registered) == 2


def test_the_status_of_an_unknown_model_is_not_found(registered: Registered) -> None:
    with pytest.raises(ModelError) as raised:
        registered.models.status(Spec(name="nosuch"))
    assert raised.value.code == "NOT_FOUND"


def test_the_status_of_an_unknown_version_is_not_found(registered: Registered) -> None:
    registered.configure(registered.settings("m", 1))
    with pytest.raises(ModelError) as raised:
        registered.models.status(Spec(name="m", version=2))
    assert raised.value.code == "NOT_FOUND"


def test_no_model_is_known_before_it_was_configured(registered: Registered) -> None:
    assert not registered.models.knows("m")


def test_waiting_ends_with_an_available_version(registered: Registered) -> None:
    new = registered.configure(registered.settings("m", 1))
    registered.models.wait_for(new, alive=lambda: False)


def test_waiting_for_a_model_that_failed_reports_every_failure(registered: Registered) -> None:
    registered.load.broken[1] = ModelError("DATA_LOSS", "cut short")
    new = registered.configure(registered.settings("a", 1), registered.settings("b", 1))
    with pytest.raises(ModelError) as raised:
        registered.models.wait_for(new, alive=lambda: True)
    assert raised.value.code == "UNKNOWN"
    assert raised.value.message == (
        "2 model(s) did not become available: {{{name: a version: 1} due to error: DATA_LOSS: "
        "cut short}, {{name: b version: 1} due to error: DATA_LOSS: cut short}, }"
    )


def test_waiting_for_a_model_that_was_taken_out_is_aborted(registered: Registered) -> None:
    registered.configure(registered.settings("m"))
    registered.configure()
    with pytest.raises(ModelError) as raised:
        registered.models.wait_for(["m"], alive=lambda: True)
    assert raised.value.code == "ABORTED"


def test_waiting_for_a_model_ends_when_nobody_waits_any_more(registered: Registered) -> None:
    (registered.root / "m").mkdir()
    new = registered.configure(registered.settings("m"))
    registered.models.wait_for(new, alive=lambda: False)


def test_waiting_for_the_first_loads_ends_after_them(registered: Registered) -> None:
    registered.configure(registered.settings("m", 1))
    registered.models.wait_for_first(alive=lambda: True)


def test_a_model_that_is_taken_out_is_logged(
    registered: Registered, caplog: pytest.LogCaptureFixture
) -> None:
    registered.configure(registered.settings("m", 1))
    with caplog.at_level(logging.INFO, "servable.serving"):
        registered.configure()
    (record,) = (r for r in caplog.records if r.__dict__.get("event") == "remove")
    assert record.__dict__["model"] == "m"


def test_closing_unloads_every_model(registered: Registered) -> None:
    registered.configure(registered.settings("a", 1), registered.settings("b", 1))
    registered.models.close(0)
    registered.calls.settle()
    assert all(model.closed for model in registered.load.models)
