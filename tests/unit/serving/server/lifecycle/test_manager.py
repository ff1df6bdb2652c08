"""The states of a model's versions, and what moves them from one to the next."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.unit.serving.server.fakes import FakeModel, Managed

from servable_serving.core.errors import ModelError
from servable_serving.repository.models_config import VersionPolicy

if TYPE_CHECKING:
    from pathlib import Path


def available(managed: Managed, *numbers: int) -> None:
    """Put versions there, and load what the policy takes of them."""
    managed.put(*numbers)
    managed.look()


def aspire(managed: Managed, policy: VersionPolicy) -> None:
    managed.manager.settings = replace(managed.manager.settings, policy=policy)


def served(managed: Managed, number: int | None = None) -> int:
    with managed.manager.model(number) as (version, _):
        return version


def test_a_model_without_versions_has_no_status(managed: Managed) -> None:
    managed.base.mkdir()
    managed.look()
    with pytest.raises(ModelError) as raised:
        managed.manager.status()
    assert raised.value.code == "NOT_FOUND"


def test_a_version_is_loading_until_the_loader_has_ended(managed: Managed) -> None:
    managed.put(1)
    managed.manager.look()
    assert managed.states == {1: "LOADING"}
    managed.calls.step()
    assert managed.states == {1: "AVAILABLE"}


def test_a_version_that_loads_answers_no_request(managed: Managed) -> None:
    managed.put(1)
    managed.manager.look()
    with pytest.raises(ModelError) as raised:
        served(managed)
    assert raised.value.code == "NOT_FOUND"


def test_an_available_version_answers(managed: Managed) -> None:
    available(managed, 1)
    with managed.manager.model() as (number, model):
        assert number == 1
        assert model is managed.load.models[0]


def test_a_loader_is_given_the_folder_of_the_version(managed: Managed) -> None:
    available(managed, 7)
    assert managed.load.models[0].folder == managed.base / "7"


def test_the_newest_version_replaces_the_old_one(managed: Managed) -> None:
    available(managed, 1)
    available(managed, 2)
    assert managed.states == {2: "AVAILABLE", 1: "END"}
    assert served(managed) == 2


def test_the_old_version_serves_while_the_new_one_loads(managed: Managed) -> None:
    available(managed, 1)
    managed.put(2)
    managed.manager.look()
    assert managed.states == {2: "LOADING", 1: "AVAILABLE"}
    assert served(managed) == 1


def test_an_unloaded_version_releases_its_memory(managed: Managed) -> None:
    available(managed, 1)
    available(managed, 2)
    assert [model.closed for model in managed.load.models] == [True, False]


def test_a_version_in_use_is_unloaded_after_its_last_request(managed: Managed) -> None:
    available(managed, 1)
    with managed.manager.model() as (number, model):
        available(managed, 2)
        assert number == 1
        assert managed.states[1] == "UNLOADING"
        assert not managed.load.models[0].closed
        assert model is managed.load.models[0]
    managed.calls.settle()
    assert managed.states[1] == "END"
    assert managed.load.models[0].closed


def test_each_of_several_requests_keeps_an_unloading_version(managed: Managed) -> None:
    available(managed, 1)
    with managed.manager.model():
        with managed.manager.model():
            available(managed, 2)
        managed.calls.settle()
        assert managed.states[1] == "UNLOADING"
    managed.calls.settle()
    assert managed.states[1] == "END"


def test_an_unloading_version_takes_no_new_request(managed: Managed) -> None:
    available(managed, 1)
    with managed.manager.model():
        available(managed, 2)
        with pytest.raises(ModelError) as raised:
            served(managed, 1)
    assert raised.value.code == "NOT_FOUND"


def test_a_request_that_raises_releases_its_version(managed: Managed) -> None:
    available(managed, 1)
    with pytest.raises(ZeroDivisionError), managed.manager.model():
        raise ZeroDivisionError
    available(managed, 2)
    assert managed.states[1] == "END"


def test_a_broken_version_keeps_the_old_one_serving(managed: Managed) -> None:
    available(managed, 1)
    managed.load.broken[2] = ModelError("DATA_LOSS", "cut short")
    available(managed, 2)
    assert managed.states == {2: "END", 1: "AVAILABLE"}
    assert served(managed) == 1


def test_the_status_says_why_a_version_failed(managed: Managed) -> None:
    managed.load.broken[1] = ModelError("DATA_LOSS", "cut short")
    available(managed, 1)
    (status,) = managed.manager.status()
    assert (status.error_code, status.error_message) == ("DATA_LOSS", "cut short")


def test_the_status_of_a_version_that_serves_is_ok(managed: Managed) -> None:
    available(managed, 1)
    (status,) = managed.manager.status()
    assert (status.error_code, status.error_message) == ("OK", "")


def test_an_error_of_any_class_ends_the_load_alone(managed: Managed) -> None:
    managed.load.broken[1] = RuntimeError("out of luck")
    available(managed, 1)
    (status,) = managed.manager.status()
    assert status.error_code == "UNKNOWN"
    assert status.error_message == "RuntimeError: out of luck"


def test_an_error_without_a_code_is_unknown(managed: Managed) -> None:
    managed.load.broken[1] = ModelError("", "no code")
    available(managed, 1)
    assert managed.manager.status()[0].error_code == "UNKNOWN"


def test_a_failed_version_is_not_loaded_again_by_the_next_look(managed: Managed) -> None:
    managed.load.broken[1] = ModelError("DATA_LOSS", "cut short")
    available(managed, 1)
    managed.look()
    assert managed.load.attempts == [("m", 1)]


def test_a_failed_version_is_loaded_again_once_it_went_and_came_back(managed: Managed) -> None:
    managed.load.broken[1] = ModelError("DATA_LOSS", "cut short")
    available(managed, 1)
    shutil.rmtree(managed.base / "1")
    managed.look()
    del managed.load.broken[1]
    available(managed, 1)
    assert managed.states == {1: "AVAILABLE"}


def test_beside_an_older_one_a_failed_version_that_came_back_is_not_loaded(
    managed: Managed,
) -> None:
    # Without the failed one the older version is aspired to again, which must wait until it is
    # gone; meanwhile the failed one stays aspired to. So does TensorFlow Serving.
    available(managed, 1)
    managed.load.broken[2] = ModelError("DATA_LOSS", "cut short")
    available(managed, 2)
    shutil.rmtree(managed.base / "2")
    managed.look()
    del managed.load.broken[2]
    available(managed, 2)
    assert managed.states == {2: "END", 1: "AVAILABLE"}
    available(managed, 3)
    assert managed.states == {3: "AVAILABLE", 2: "END", 1: "END"}


def test_a_load_is_retried_after_the_interval(tmp_path: Path) -> None:
    managed = Managed(tmp_path / "m", max_load_retries=1, load_retry_seconds=30)
    managed.load.broken[1] = ModelError("DATA_LOSS", "cut short")
    available(managed, 1)
    assert [timer.seconds for timer in managed.calls.timers] == [30]
    assert managed.states == {1: "LOADING"}


def test_a_retry_that_works_makes_the_version_available(tmp_path: Path) -> None:
    managed = Managed(tmp_path / "m", max_load_retries=1)
    managed.load.broken[1] = ModelError("DATA_LOSS", "cut short")
    available(managed, 1)
    del managed.load.broken[1]
    managed.calls.elapse()
    (status,) = managed.manager.status()
    assert (status.state, status.error_code) == ("AVAILABLE", "OK")


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_load_is_given_up_after_the_last_retry(tmp_path: Path, retries: int) -> None:
    managed = Managed(tmp_path / "m", max_load_retries=retries)
    managed.load.broken[1] = ModelError("DATA_LOSS", "cut short")
    available(managed, 1)
    for _ in range(retries + 2):
        managed.calls.elapse()
    assert len(managed.load.attempts) == retries + 1
    assert managed.states == {1: "END"}


def test_a_version_that_is_gone_is_not_retried(tmp_path: Path) -> None:
    managed = Managed(tmp_path / "m", max_load_retries=5)
    managed.load.broken[1] = ModelError("DATA_LOSS", "cut short")
    available(managed, 1)
    (timer,) = managed.calls.timers
    shutil.rmtree(managed.base / "1")
    managed.look()
    assert timer.cancelled
    assert managed.states == {1: "END"}


def test_a_timer_that_ran_out_as_it_was_cancelled_loads_nothing(tmp_path: Path) -> None:
    managed = Managed(tmp_path / "m", max_load_retries=5)
    managed.load.broken[1] = ModelError("DATA_LOSS", "cut short")
    available(managed, 1)
    (timer,) = managed.calls.timers
    shutil.rmtree(managed.base / "1")
    managed.look()
    timer.call()
    managed.calls.settle()
    assert len(managed.load.attempts) == 1


def test_a_version_that_goes_before_its_turn_is_not_loaded(managed: Managed) -> None:
    managed.put(1)
    managed.manager.look()
    shutil.rmtree(managed.base / "1")
    managed.look()
    assert managed.load.attempts == []
    assert managed.states == {1: "END"}


def test_a_version_that_goes_while_it_loads_is_unloaded(managed: Managed) -> None:
    managed.put(1)

    def load(name: str, number: int, folder: Path, /) -> FakeModel:
        shutil.rmtree(folder)
        managed.manager.look()
        return managed.load(name, number, folder)

    managed.manager._load_model = load
    managed.look()
    assert managed.states == {1: "END"}
    assert managed.load.models[0].closed


def test_without_an_aspired_version_all_are_unloaded(managed: Managed) -> None:
    available(managed, 1)
    shutil.rmtree(managed.base / "1")
    managed.look()
    assert managed.states == {1: "END"}


def test_of_several_old_versions_the_highest_serves_until_the_new_one_is_there(
    managed: Managed,
) -> None:
    aspire(managed, VersionPolicy(latest=2))
    available(managed, 1, 2)
    managed.load.broken[3] = managed.load.broken[4] = ModelError("DATA_LOSS", "cut short")
    available(managed, 3, 4)
    assert managed.states == {4: "END", 3: "END", 2: "AVAILABLE", 1: "END"}


def test_the_highest_version_is_loaded_first(managed: Managed) -> None:
    aspire(managed, VersionPolicy(latest=None, all=True))
    available(managed, 3, 1, 2)
    assert [number for _, number in managed.load.attempts] == [3, 2, 1]


def test_a_request_without_a_version_is_for_the_highest(managed: Managed) -> None:
    aspire(managed, VersionPolicy(latest=3))
    available(managed, 9, 10, 2)
    assert served(managed) == 10


def test_a_request_may_name_any_available_version(managed: Managed) -> None:
    aspire(managed, VersionPolicy(latest=2))
    available(managed, 1, 2)
    assert served(managed, 1) == 1


def test_a_request_for_a_missing_version_names_it(managed: Managed) -> None:
    available(managed, 1)
    with pytest.raises(ModelError) as raised:
        served(managed, 5)
    assert raised.value.message == "Servable not found for request: Specific(m, 5)"


def test_a_changed_policy_is_applied_by_the_next_look(managed: Managed) -> None:
    available(managed, 1, 2)
    aspire(managed, VersionPolicy(latest=None, specific=frozenset({1})))
    managed.look()
    assert managed.states == {2: "END", 1: "AVAILABLE"}


def test_the_status_of_one_version(managed: Managed) -> None:
    aspire(managed, VersionPolicy(latest=2))
    available(managed, 1, 2)
    assert [status.version for status in managed.manager.status(1)] == [1]


def test_the_status_lists_the_highest_version_first(managed: Managed) -> None:
    aspire(managed, VersionPolicy(latest=None, all=True))
    available(managed, 2, 10, 1)
    assert [status.version for status in managed.manager.status()] == [10, 2, 1]


def test_the_older_version_is_loaded_again_when_the_newer_one_goes(managed: Managed) -> None:
    available(managed, 1)
    available(managed, 2)
    shutil.rmtree(managed.base / "2")
    managed.look()
    assert managed.states == {2: "END", 1: "AVAILABLE"}


def test_a_version_wanted_again_while_it_unloads_is_loaded_anew(managed: Managed) -> None:
    available(managed, 1)
    with managed.manager.model():
        available(managed, 2)
        shutil.rmtree(managed.base / "2")
        managed.look()
        assert managed.states[1] == "UNLOADING"
    managed.calls.settle()
    assert managed.states == {2: "END", 1: "AVAILABLE"}
    assert [number for _, number in managed.load.attempts] == [1, 2, 1]


def test_a_folder_that_cannot_be_listed_changes_nothing(
    managed: Managed, monkeypatch: pytest.MonkeyPatch
) -> None:
    available(managed, 1)

    def fail(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("servable_serving.server.lifecycle.manager.version_folders", fail)
    managed.look()
    assert managed.states == {1: "AVAILABLE"}


@pytest.mark.parametrize("specific", [None, 9])
def test_what_is_missing_is_logged_once(
    managed: Managed, caplog: pytest.LogCaptureFixture, specific: int | None
) -> None:
    managed.base.mkdir()
    if specific is not None:
        aspire(managed, VersionPolicy(latest=None, specific=frozenset({specific})))
    with caplog.at_level(logging.WARNING, "servable.serving"):
        managed.look()
        managed.look()
    assert len(caplog.records) == 1
    assert caplog.records[0].__dict__["model"] == "m"


def test_a_failure_is_logged_with_its_code_and_attempt(
    managed: Managed, caplog: pytest.LogCaptureFixture
) -> None:
    managed.load.broken[1] = ModelError("DATA_LOSS", "cut short")
    with caplog.at_level(logging.ERROR, "servable.serving"):
        available(managed, 1)
    (record,) = caplog.records
    fields = record.__dict__
    assert (fields["event"], fields["code"], fields["attempt"]) == ("load_failed", "DATA_LOSS", 1)


def test_a_removed_model_unloads_its_versions(managed: Managed) -> None:
    available(managed, 1)
    managed.manager.remove()
    managed.calls.settle()
    assert managed.states == {1: "END"}


def test_a_removed_model_does_not_load_what_a_look_finds(managed: Managed) -> None:
    managed.put(1)
    managed.manager.remove()
    managed.look()
    assert managed.load.attempts == []


def test_a_model_that_was_added_again_loads_its_versions(managed: Managed) -> None:
    available(managed, 1)
    managed.manager.remove()
    managed.calls.settle()
    managed.manager.add(managed.manager.settings)
    managed.look()
    assert managed.states == {1: "AVAILABLE"}


def test_closing_unloads_everything_and_ends_the_manager(managed: Managed) -> None:
    available(managed, 1)
    managed.manager.close(0)
    managed.calls.settle()
    managed.put(2)
    managed.look()
    assert managed.states == {1: "END"}
    assert managed.manager.is_empty()


def test_a_load_that_ends_after_the_close_is_released(managed: Managed) -> None:
    managed.put(1)

    def load(name: str, number: int, folder: Path, /) -> FakeModel:
        managed.manager._closed = True
        return managed.load(name, number, folder)

    managed.manager._load_model = load
    managed.look()
    assert managed.load.models[0].closed
    assert managed.states == {1: "END"}


def test_a_version_that_loads_for_the_first_time_is_a_beginning(managed: Managed) -> None:
    managed.put(1)
    managed.manager.look()
    assert managed.manager.is_beginning()
    managed.calls.settle()
    assert not managed.manager.is_beginning()


def test_a_version_that_waits_for_its_retry_is_no_beginning(tmp_path: Path) -> None:
    managed = Managed(tmp_path / "m", max_load_retries=1)
    managed.load.broken[1] = ModelError("DATA_LOSS", "cut short")
    available(managed, 1)
    assert not managed.manager.is_beginning()


def test_the_outcome_is_that_of_the_highest_settled_version(managed: Managed) -> None:
    aspire(managed, VersionPolicy(latest=2))
    managed.load.broken[2] = ModelError("DATA_LOSS", "cut short")
    available(managed, 1, 2)
    outcome = managed.manager.outcome()
    assert outcome is not None
    assert (outcome.number, outcome.state) == (2, "END")


def test_there_is_no_outcome_before_a_load_has_ended(managed: Managed) -> None:
    managed.put(1)
    managed.manager.look()
    assert managed.manager.outcome() is None


def test_availability_of_any_and_of_one_version(managed: Managed) -> None:
    assert not managed.manager.is_available()
    available(managed, 1)
    assert managed.manager.is_available()
    assert managed.manager.is_available(1)
    assert not managed.manager.is_available(2)
