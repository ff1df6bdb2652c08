"""The role of a process in a distributed search."""

from __future__ import annotations

import os
import socket

import pytest

from servable_trainer.tuning.distributed.roles import Role, role_from
from servable_trainer.tuning.trials import TuneError

VARIABLES = {
    "KERASTUNER_TUNER_ID": "chief",
    "KERASTUNER_ORACLE_IP": "192.0.2.7",
    "KERASTUNER_ORACLE_PORT": "8000",
}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def role(*given: str | None) -> Role:
    found = role_from(*given)
    assert found is not None
    return found


def test_no_role_is_a_search_in_one_process() -> None:
    assert role_from() is None


@pytest.mark.usefixtures("variables")
def test_keras_tuners_variables_make_a_chief() -> None:
    found = role()
    assert (found.chief, found.address) == (True, "192.0.2.7:8000")


def test_keras_tuners_variables_make_a_worker(variables: pytest.MonkeyPatch) -> None:
    variables.setenv("KERASTUNER_TUNER_ID", "tuner1")
    found = role()
    assert (found.chief, found.name) == (False, "tuner1")


def test_an_ipv6_address_is_bracketed(variables: pytest.MonkeyPatch) -> None:
    variables.setenv("KERASTUNER_ORACLE_IP", "2001:db8::7")
    assert role().address == "[2001:db8::7]:8000"


@pytest.mark.parametrize("missing", list(VARIABLES))
def test_a_missing_variable_is_named(variables: pytest.MonkeyPatch, missing: str) -> None:
    variables.delenv(missing)
    with pytest.raises(TuneError, match=missing):
        role_from()


def test_an_empty_variable_is_a_missing_one(variables: pytest.MonkeyPatch) -> None:
    variables.setenv("KERASTUNER_ORACLE_PORT", "")
    with pytest.raises(TuneError, match="KERASTUNER_ORACLE_PORT"):
        role_from()


@pytest.mark.usefixtures("variables")
def test_options_override_the_variables() -> None:
    found = role("worker", "[::1]:9", "two")
    assert found == Role(chief=False, address="[::1]:9", name="two")


@pytest.mark.usefixtures("variables")
def test_the_address_of_the_variables_completes_a_role() -> None:
    assert role("worker").address == "192.0.2.7:8000"


def test_a_worker_is_named_after_its_process() -> None:
    assert role("worker", "h:1").name == f"{socket.gethostname()}-{os.getpid()}"


@pytest.mark.parametrize(("name", "address"), [("worker", None), (None, "127.0.0.1:1")])
def test_a_role_needs_an_address_and_the_reverse(name: str | None, address: str | None) -> None:
    with pytest.raises(TuneError) as caught:
        role_from(name, address)
    assert "--chief HOST:PORT" in str(caught.value.hint)


@pytest.mark.parametrize("address", ["nowhere", ":8000", "host:", "host:0", "host:65536", "h:x"])
def test_invalid_addresses(address: str) -> None:
    with pytest.raises(TuneError, match=address):
        role_from("chief", address)


@pytest.mark.parametrize("name", ["a b", "x" * 65, "ü", "a/b"])
def test_invalid_worker_names(name: str) -> None:
    with pytest.raises(TuneError) as caught:
        role_from("worker", "h:1", name)
    assert "--worker" in str(caught.value.hint)
