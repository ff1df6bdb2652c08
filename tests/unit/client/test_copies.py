"""Copies of clients and of what they take and return: by `copy`, pickle and cloudpickle."""

from __future__ import annotations

import copy
import inspect
import os
import pickle
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import cloudpickle
import numpy as np
import pytest

import servable_client as sdk
from servable_client import AsyncClient, Client, InvalidInput, Prediction, Retry, Split

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "s3cr3t"
PROXY = f"http://me:{SECRET}@proxy.example:3128"


def pickled(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def cloudpickled(value: Any) -> Any:
    return pickle.loads(cloudpickle.dumps(value))


_PROTOCOLS = (0, 2, pickle.HIGHEST_PROTOCOL)
KINDS = pytest.mark.parametrize("kind", [Client, AsyncClient])
WAYS = pytest.mark.parametrize(
    "way",
    [
        copy.copy,
        copy.deepcopy,
        cloudpickled,
        *(
            partial(lambda protocol, value: pickle.loads(pickle.dumps(value, protocol)), protocol)
            for protocol in _PROTOCOLS
        ),
    ],
    ids=["copy", "deepcopy", "cloudpickle", *map(str, _PROTOCOLS)],
)
IN_PROCESS = pytest.mark.parametrize("way", [copy.copy, copy.deepcopy])


def a_key() -> str:
    return "key"


def watch(event: object) -> None:
    del event


def user() -> str:
    return "user 17"


# Each argument of the constructor, with a value that is not its default.
ARGUMENTS: dict[str, Any] = {
    "server": ("grpcs://one:8500", "grpcs://two:8500"),
    "model": "shoes",
    "label": "blue",
    "split": Split({"canary": 0.5}, key=user),
    "timeout": 7.0,
    "retry": Retry(attempts=3),
    "tls": sdk.TLS(server_name="models.example"),
    "api_key": a_key,
    "token": partial(os.getenv, "TOKEN"),
    "headers": {"x-tenant": "blue"},
    "plaintext_credentials": True,
    "proxy": "http://me@proxy.example:3128",
    "trust_env": False,
    "on_request": watch,
    "on_response": watch,
    "pickle_secrets": True,
}


def arguments_of(client: Any) -> dict[str, Any]:
    found = dict(client._arguments)
    # The calls that were counted are not arguments.
    found["split"] = found["split"] and {
        k: v for k, v in vars(found["split"]).items() if k not in ("_calls", "_lock")
    }
    # `partial` compares by identity.
    if isinstance(found["token"], partial):
        found["token"] = found["token"].func, found["token"].args
    return found


@KINDS
@WAYS
def test_a_copy_has_the_arguments_of_its_original(kind: Any, way: Callable[[Any], Any]) -> None:
    client = kind(**ARGUMENTS)
    again = way(client)
    assert type(again) is kind
    assert arguments_of(again) == arguments_of(client)
    assert repr(again) == repr(client)


def test_each_argument_is_copied() -> None:
    assert {*ARGUMENTS, "version"} == {*inspect.signature(Client).parameters}
    assert {*Client(model="shoes")._arguments} == {*inspect.signature(Client).parameters}


@WAYS
def test_a_copy_has_state_of_its_own(way: Callable[[Any], Any]) -> None:
    client = Client("grpc://one,grpc://two", model="shoes")
    again = way(client)
    assert again._engine is not client._engine
    assert again._driver is not client._driver


def test_a_list_of_servers_that_changes_later_is_not_copied() -> None:
    servers = ["grpc://one"]
    client = Client(servers, model="shoes")
    servers.append("grpc://two")
    assert copy.copy(client).endpoints == client.endpoints


@WAYS
def test_a_copy_of_a_closed_client_is_open(way: Callable[[Any], Any]) -> None:
    client = Client("grpc://one", model="shoes")
    client.close()
    assert not way(client)._driver._closed


def test_a_client_in_two_places_is_one_after_pickling() -> None:
    client = Client(model="shoes")
    first, second = pickled([client, client])
    assert first is second


class Program:
    """Holds a client that calls a method of its holder."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        self.client = Client(model="shoes", on_response=self.note)

    def note(self, event: object) -> None:
        self.seen.append(event)


@pytest.mark.parametrize("way", [copy.deepcopy, pickled, cloudpickled])
def test_a_client_whose_hook_refers_to_it(way: Callable[[Any], Any]) -> None:
    again = way(Program())
    assert again.client._arguments["on_response"].__self__ is again
    client = way(Program().client)
    assert client._arguments["on_response"].__self__.client is client


# -- secrets ------------------------------------------------------------------------------------


@KINDS
@IN_PROCESS
def test_a_copy_in_the_same_process_has_the_secrets(kind: Any, way: Callable[[Any], Any]) -> None:
    client = kind("grpcs://one", model="shoes", api_key=SECRET, token=SECRET, proxy=PROXY)
    assert dict(way(client)._arguments) == dict(client._arguments)


@KINDS
@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
def test_secrets_are_left_out_of_a_pickle(kind: Any, dumps: Callable[[Any], bytes]) -> None:
    client = kind("grpcs://one", model="shoes", api_key=SECRET, token=SECRET, proxy=PROXY)
    data = dumps(client)
    assert SECRET.encode() not in data
    assert b"proxy.example" in data
    # Nor is a copy of the copy without them used unnoticed.
    assert pickled(pickle.loads(data))._left_out == ("api_key", "token", "proxy")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"api_key": SECRET}, ["api_key"]),
        ({"token": SECRET, "api_key": a_key}, ["token"]),
        ({"proxy": PROXY}, ["proxy"]),
        ({"api_key": SECRET, "proxy": PROXY}, ["api_key", "proxy"]),
    ],
)
def test_a_client_without_its_secret_refuses_calls(
    options: dict[str, Any], named: list[str]
) -> None:
    client = pickled(Client("http://127.0.0.1:1", model="shoes", **options))
    for again in (client, copy.copy(client), copy.deepcopy(client), pickled(client)):
        with pytest.raises(InvalidInput) as caught:
            again.status()
        assert all(f"`{name}`" in caught.value.message for name in named)
        assert caught.value.hint is not None
        assert "pickle_secrets" in caught.value.hint


def test_a_proxy_without_a_password_is_not_a_secret() -> None:
    client = Client("grpcs://one", model="shoes", proxy="http://me@proxy.example:3128")
    assert pickled(client)._left_out == ()


def test_secrets_are_pickled_on_request() -> None:
    client = Client(
        "grpcs://one", model="shoes", api_key=SECRET, token=SECRET, proxy=PROXY, pickle_secrets=True
    )
    again = pickled(pickled(client))
    assert dict(again._arguments) == dict(client._arguments)
    assert again._engine._credentials.fixed == client._engine._credentials.fixed


@WAYS
def test_no_copy_shows_its_secrets(way: Callable[[Any], Any]) -> None:
    client = Client("grpcs://one", model="shoes", api_key=SECRET, proxy=PROXY, pickle_secrets=True)
    assert SECRET not in repr(vars(client))
    assert SECRET not in repr(vars(way(client)))


# -- functions ----------------------------------------------------------------------------------


class Local:
    def __call__(self) -> str:
        return "key"


def local_functions() -> list[Any]:
    class Hidden(Local):
        def method(self) -> str:
            return "key"

    def inner() -> str:
        return "key"

    return [lambda: "key", inner, partial(lambda key: key, "key"), Hidden(), Hidden().method]


@KINDS
@pytest.mark.parametrize("argument", ["api_key", "token", "on_request", "on_response"])
@pytest.mark.parametrize("function", local_functions(), ids=lambda value: type(value).__name__)
def test_pickle_refuses_a_function_that_cannot_be_imported(
    kind: Any, argument: str, function: Any
) -> None:
    client = kind(model="shoes", **{argument: function})
    with pytest.raises(InvalidInput, match=argument):
        pickle.dumps(client)
    assert copy.copy(client)._arguments[argument] is function
    copy.deepcopy(client)


@pytest.mark.parametrize("function", local_functions(), ids=lambda value: type(value).__name__)
def test_cloudpickle_takes_any_function(function: Any) -> None:
    again = cloudpickled(Client(model="shoes", api_key=function))
    assert again._arguments["api_key"]() == "key"


def test_a_split_key_that_cannot_be_imported() -> None:
    split = Split({"canary": 0.5}, key=lambda: "user 17")
    for value in (split, Client(model="shoes", split=split)):
        with pytest.raises(InvalidInput, match="key"):
            pickle.dumps(value)
        copy.copy(value)
        copy.deepcopy(value)
    assert cloudpickled(split).pick() == split.pick()


@pytest.mark.parametrize(
    "function",
    [a_key, Local(), Local().__call__, [].append, os.getenv],
    ids=["function", "callable", "method", "builtin method", "of the library"],
)
def test_pickle_takes_functions_that_can_be_imported(function: Any) -> None:
    pickled(Client(model="shoes", on_request=function))


class Locked:
    """A function that cannot be copied."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self) -> str:
        return "key"


def test_an_argument_that_cannot_be_copied_is_named() -> None:
    client = Client(model="shoes", token=Locked())
    with pytest.raises(InvalidInput, match="token"):
        copy.deepcopy(client)
    copy.copy(client)


# -- subclasses ---------------------------------------------------------------------------------


class Shoes(Client):
    """A client with a constructor, an attribute and a slot of its own."""

    __slots__ = ("size",)

    def __init__(self, color: str) -> None:
        super().__init__("grpc://one", model="shoes", label=color)
        self.color = color
        self.size = [42]


@WAYS
def test_a_subclass_keeps_its_attributes(way: Callable[[Any], Any]) -> None:
    again = way(Shoes("blue"))
    assert type(again) is Shoes
    assert (again.color, again.size) == ("blue", [42])
    assert again._engine.target == Shoes("blue")._engine.target


def test_deepcopy_copies_the_attributes_of_a_subclass() -> None:
    client = Shoes("blue")
    assert copy.copy(client).size is client.size
    assert copy.deepcopy(client).size is not client.size


# -- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [copy.deepcopy, pickled, cloudpickled])
def test_a_copy_of_a_split_goes_on_as_its_original(way: Callable[[Any], Any]) -> None:
    split = Split({"canary": 0.5}, seed=7)
    for _ in range(3):
        split.pick()
    again = way(split)
    assert [again.pick() for _ in range(50)] == [split.pick() for _ in range(50)]
    assert again.shares == split.shares


def test_copies_of_a_split_without_a_seed_differ() -> None:
    split = Split({"canary": 0.5})
    one, two = pickled(split), pickled(split)
    assert [one.pick() for _ in range(200)] != [two.pick() for _ in range(200)]


EVENT = sdk.RequestEvent(
    endpoint="grpc://one:8500", method="Predict", model="m", signature="", attempt=1, timeout=1.0
)
SIGNATURE = sdk.Signature(
    inputs={"x": sdk.TensorSpec(dtype="DT_FLOAT", shape=(-1, 2))}, outputs={}, method="predict"
)
VALUES: list[Any] = [
    Retry(attempts=3),
    sdk.TLS(server_name="models.example"),
    sdk.Score("boot", 0.5, 1),
    sdk.Classification(
        label="boot",
        class_id=0,
        probability=1.0,
        probabilities=np.ones(1, np.float32),
        version=1,
        elapsed=0.1,
        labels=("boot",),
    ),
    sdk.ClassScores(results=[[sdk.Score("boot", 0.5)]], version=2),
    sdk.VersionStatus(version=1, state="AVAILABLE"),
    SIGNATURE,
    EVENT,
    sdk.ResponseEvent(request=EVENT, code="OK", elapsed=0.1),
]


@WAYS
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_copied(value: Any, way: Callable[[Any], Any]) -> None:
    again = way(value)
    assert type(again) is type(value)
    assert again == value
    if isinstance(value, sdk.Classification):
        assert again.top() == value.top()


@WAYS
def test_a_prediction_is_copied_with_outputs_that_were_not_read(
    way: Callable[[Any], Any],
) -> None:
    names = np.array([b"boot", b"shirt"], object)
    answer = Prediction(outputs={"x": np.ones(2), "names": lambda: names}, version=3)
    again = way(answer)
    assert again.version == 3
    assert list(again) == ["x", "names"]
    np.testing.assert_array_equal(again["x"], np.ones(2))
    np.testing.assert_array_equal(again["names"], names)


@WAYS
def test_errors_are_copied(way: Callable[[Any], Any]) -> None:
    for name in sdk.__all__:
        kind = getattr(sdk, name)
        if isinstance(kind, type) and issubclass(kind, sdk.ServableError):
            error = kind("late", hint="wait", code="X", endpoint="e", model="m", retry_after=2.0)
            error.index = 4
            again = cast("Any", way(error))
            assert type(again) is kind
            assert vars(again) == vars(error)
            assert str(again) == "late"
