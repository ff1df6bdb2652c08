"""Models of any kind: every dtype, other sizes, several versions and labels."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.conftest import NAME, RunningServer, serving
from tests.forked import servable
from tests.functional.client.conftest import KINDS, labelled

import servable_client as sdk
from servable_client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DTYPES = [
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16",
    "uint32", "uint64", "bool", "string",
]  # fmt: skip


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A model that echoes its inputs: one signature for each dtype, and two more."""
    import tensorflow as tf

    class Echo(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.echoes = {
                dtype: tf.function(
                    lambda x: {"x": tf.identity(x)},
                    input_signature=[tf.TensorSpec(None, dtype, name="x")],
                )
                for dtype in DTYPES
            }
            self.sizes = tf.function(
                lambda image: {
                    "probabilities": tf.one_hot(tf.shape(image)[1] % 3 + 0 * tf.cast(
                        image[:, 0, 0], tf.int32), 3),
                    "class_id": tf.cast(0 * tf.cast(image[:, 0, 0], tf.int32)
                                        + tf.shape(image)[1] % 3, tf.int64),
                    "label": tf.strings.as_string(0 * tf.cast(image[:, 0, 0], tf.int32)
                                                  + tf.shape(image)[1] % 3),
                },
                input_signature=[tf.TensorSpec([None, 10, 12], tf.uint8, name="pixels")],
            )  # fmt: skip

    folder = tmp_path_factory.mktemp("echo")
    module = Echo()
    tf.saved_model.save(
        module,
        str(folder / NAME / "1"),
        {**module.echoes, "serving_default": module.sizes},
    )
    with serving(folder / NAME, folder / "log") as running:
        yield running


def values(dtype: str) -> Iterator[np.ndarray]:
    if dtype == "string":
        raw = b"\xff\x00 no text"
        yield np.array([b"a", raw, "ü".encode(), b""], object)
        yield np.array([[b"a"], [b"b"]], object)
        yield np.array(raw, object)
    elif dtype == "bool":
        yield np.array([[True, False]])
    elif dtype.startswith("float"):
        yield np.array([[0.1, -1e-3, 3, np.inf, -np.inf, np.nan]], dtype)
        yield np.array(2.5, dtype)
    else:
        info = np.iinfo(dtype)
        yield np.array([[info.min, 0, info.max]], dtype)
        yield np.array(7, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_survives_the_round_trip(
    make: Callable[..., Any], echo: RunningServer, scheme: str, dtype: str
) -> None:
    with make(echo.address(scheme), model=NAME) as client:
        if scheme == "http" and dtype in ("float16", "uint16"):
            # The REST API of TensorFlow Serving does not accept these.
            with pytest.raises(sdk.ServerFailed, match="Conversion") as caught:
                client.predict({"x": np.ones(1, dtype)}, signature=dtype)
            assert caught.value.code == "UNIMPLEMENTED"
            return
        for value in values(dtype):
            answer = client.predict({"x": value}, signature=dtype)
            assert answer["x"].shape == value.shape
            assert answer["x"].dtype == value.dtype
            np.testing.assert_array_equal(answer["x"], value)
            assert answer.version == 1
            assert list(answer) == ["x"]


def test_responses_about_as_long_as_the_http2_window(
    make: Callable[..., Any], echo: RunningServer, scheme: str
) -> None:
    """64 KiB: a longer response than the last few needs a larger window while it arrives."""
    rng = np.random.default_rng(5)
    sizes = [10, 10, 60_000, 65_450, 65_500, 65_536, 66_000, 131_072, 300_000, 1 << 20]
    with make(echo.address(scheme), model=NAME) as client:
        for size in rng.permutation(np.repeat(sizes, 4)).tolist():
            sent = rng.integers(0, 256, size).astype(np.uint8)
            answer = client.predict({"x": sent}, signature="uint8")
            np.testing.assert_array_equal(answer["x"], sent)


def test_python_values_are_arrays(
    make: Callable[..., Any], echo: RunningServer, scheme: str
) -> None:
    with make(echo.address(scheme), model=NAME) as other:
        assert other.predict({"x": ["text"]}, signature="string")["x"].tolist() == [b"text"]
        # NumPy strings would lose the zeros.
        answer = other.predict({"x": [b"a\0\0"]}, signature="string")
        assert answer["x"].tolist() == [b"a\0\0"]
        assert other.predict({"x": [[1.5]]}, signature="float64")["x"].tolist() == [[1.5]]


def test_an_output_filter(client: Any, boot: np.ndarray) -> None:
    answer = client.predict({"image": boot[np.newaxis]}, output_filter=["class_id"])
    assert set(answer) == {"class_id"}
    with pytest.raises(sdk.InvalidInput):
        client.predict({"image": boot[np.newaxis]}, output_filter="class_id")


def test_complex_numbers_are_refused_over_rest(
    make: Callable[..., Any], echo: RunningServer
) -> None:
    with make(echo.http, model=NAME) as client, pytest.raises(sdk.InvalidInput, match="complex"):
        client.predict({"x": np.zeros(1, np.complex64)}, signature="nosuch")


def test_a_model_of_another_size_without_class_names(
    make: Callable[..., Any], echo: RunningServer, scheme: str
) -> None:
    with make(echo.address(scheme), model=NAME) as client:
        for form in ([10, 12], [10, 12, 1], [1, 10, 12]):
            answer = client.classify(np.zeros(form, np.uint8))
            assert (answer.label, answer.class_id) == ("1", 1)
        assert [score.label for score in answer.top(3)] == ["1", "0", "2"]
        with pytest.raises(sdk.InvalidInput, match=r"\[10, 12\].*\[28, 28\]"):
            client.classify(np.zeros([28, 28], np.uint8))
        with pytest.raises(sdk.InvalidInput, match="serving_bytes"):
            client.classify(png())


def png() -> bytes:
    from tests.functional.client.conftest import as_file

    return as_file(np.zeros([10, 12], np.uint8))


def test_examples(client: Any, boot: np.ndarray) -> None:
    from tests.functional.client.conftest import as_file

    answer = client.classify_examples([{"image/encoded": as_file(boot)}] * 2)
    assert len(answer) == 2
    assert answer[0][0].label == "Ankle boot"
    assert answer[0][0].score == client.classify(as_file(boot)).probability
    assert len(answer[1]) == 10
    assert answer.version == 1
    wrong: list[Any] = [[{"image/encoded": {}}], [3], {"image/encoded": b""}]
    for examples in wrong:
        with pytest.raises(sdk.InvalidInput):
            client.classify_examples(examples)


def test_examples_with_a_context(client: Any, boot: np.ndarray) -> None:
    from tests.functional.client.conftest import as_file

    answer = client.classify_examples([{}, {}], context={"image/encoded": as_file(boot)})
    assert [row[0].label for row in answer] == ["Ankle boot"] * 2


def test_versions_and_labels(tmp_path: Path, boot: np.ndarray) -> None:
    with labelled(tmp_path) as (server, config), Client(server.grpc, model=NAME) as admin:
        path = tmp_path / "models.config"
        path.write_text(config(stable=1, canary=2))
        admin.reload_config(path)
        assert admin.resolve(label="stable") == 1
        for kind in KINDS.values():
            for scheme in ("grpc", "http"):
                with kind(server.address(scheme), model=NAME, label="stable") as client:
                    assert client.classify(boot).version == 1
                    assert client.classify(boot, label="canary").version == 2
                    assert client.classify(boot, version=2).version == 2
                    assert client.predict({"image": boot[None]}).version == 1
                    assert client.wait_until_available() == 1
                    assert client.wait_until_available(label="canary") == 2
                    assert client.ready()
                    assert not client.ready(label="nosuch")
                    # A label that moves is followed: at once over gRPC, after a while over REST.
                    admin.reload_config(config(stable=2, canary=2))
                    end = time.monotonic() + (60 if scheme == "http" else 0)
                    while (version := client.classify(boot).version) != 2:
                        if time.monotonic() >= end:
                            break
                        time.sleep(0.05)
                    assert version == 2
                    admin.reload_config(config(stable=1, canary=2))
        done = servable("status", "--server", server.grpc, "--json", "--label", "nightly")
        assert json.loads(done.stdout)["labels"] == {"stable": 1, "canary": 2, "nightly": None}
        admin.reload_config(config(stable=1, blue=2))
        path.write_text(config(stable=2, blue=2, green=2))
        done = servable("status", "--server", server.http, "--json", "--config", path)
        # What the server reports, not what the file says.
        assert json.loads(done.stdout)["labels"] == {"stable": 1, "blue": 2, "green": None}
        done = servable("status", "--server", server.grpc, "--config", path)
        assert "no version has the label green" in done.stderr
        with pytest.raises(sdk.ServableError) as caught:
            admin.reload_config(config(stable=7))
        assert type(caught.value) in (sdk.ServerFailed, sdk.InvalidInput)
        for text in ("model_config_list { nonsense: 3 }", "{"):
            with pytest.raises(sdk.InvalidInput, match="not a valid ModelServerConfig"):
                admin.reload_config(text)
        with (
            Client(server.http, model=NAME) as rest,
            pytest.raises(sdk.InvalidInput, match="over gRPC only"),
        ):
            rest.reload_config(config())
