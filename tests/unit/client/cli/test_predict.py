"""`servable predict`: inputs from files, outputs as a table, JSON or a file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from servable_client import Prediction, Signature, TensorSpec
from servable_client.cli import predict as module

if TYPE_CHECKING:
    from pathlib import Path

OUTPUTS = {
    "price": np.array([[1.5], [2.0]], np.float32),
    "name": np.array([b"boot", b"\xff\xfe"], object),
}


class FakeClient:
    """Notes what it is asked; its model takes one input, or two."""

    def __init__(self, *names: str) -> None:
        self.names = names or ("image",)
        self.inputs: dict[str, Any] = {}
        self.asked = ""

    def signature(self, name: str) -> Signature:
        del name
        spec = TensorSpec(dtype="DT_FLOAT", shape=None)
        return Signature(inputs=dict.fromkeys(self.names, spec), outputs={}, method="")

    def predict(self, inputs: dict[str, Any], *, signature: str) -> Prediction:
        self.inputs, self.asked = inputs, signature
        return Prediction(outputs=OUTPUTS, version=3)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    client = FakeClient()
    monkeypatch.setattr(module, "make_client", lambda *_, **__: client)
    return client


def run(*arguments: object, text: str | None = None) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(module.predict)
    done = CliRunner().invoke(app, list(map(str, arguments)), input=text, env={"COLUMNS": "200"})
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"inputs": {"a": [[1]], "b": ["x"]}}, {"a": [[1]], "b": ["x"]}),
        ({"a": [1.5]}, {"a": [1.5]}),
        ({"instances": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]}, {"a": [1, 3], "b": [2, 4]}),
        ({"instances": [[1, 2], [3, 4]]}, {"image": [[1, 2], [3, 4]]}),
        ([[1, 2]], {"image": [[1, 2]]}),
        ({"inputs": [1]}, {"image": [1]}),
        ({"inputs": {"a": [{"b64": "/w=="}]}}, {"a": [b"\xff"]}),
        ({"instances": [{"b64": "YQ=="}]}, {"image": [b"a"]}),
        ({"instances": [{"a": {"b64": "YQ=="}}]}, {"a": [b"a"]}),
    ],
)
def test_json_is_as_in_the_rest_api(
    fake: FakeClient, tmp_path: Path, body: object, expected: dict[str, Any]
) -> None:
    (tmp_path / "body.json").write_text(json.dumps(body))
    status, _ = run("--input", tmp_path / "body.json", "--signature", "score")
    assert (status, fake.inputs, fake.asked) == (0, expected, "score")
    status, _ = run("--input", "-", text=json.dumps(body))
    assert (status, fake.inputs, fake.asked) == (0, expected, "serving_default")


def test_arrays_come_from_numpys_files(fake: FakeClient, tmp_path: Path) -> None:
    array = np.arange(4, dtype=np.uint8).reshape(2, 2)
    np.savez(tmp_path / "a.npz", one=array, two=array + 1)
    np.save(tmp_path / "a.npy", array)
    assert run("--input", tmp_path / "a.npz")[0] == 0
    assert fake.inputs["two"].tolist() == [[1, 2], [3, 4]]
    assert fake.inputs["two"].dtype == np.uint8
    assert run("--input", tmp_path / "a.npy")[0] == 0
    assert fake.inputs["image"].tolist() == array.tolist()


def test_outputs_are_a_table_or_json_or_a_file(fake: FakeClient, tmp_path: Path) -> None:
    del fake
    status, text = run("--input", "-", text="[1]")
    assert status == 0
    assert "float32" in text
    assert "1.5, 2" in text
    status, text = run("--input", "-", "--json", text="[1]")
    assert json.loads(text) == {
        "version": 3,
        "outputs": {"price": [[1.5], [2.0]], "name": ["boot", {"b64": "//4="}]},
    }
    assert run("--input", "-", "--output", tmp_path / "out.npz", text="[1]")[0] == 0
    with np.load(tmp_path / "out.npz") as written:
        assert written["price"].tolist() == [[1.5], [2.0]]
        assert written["name"].tolist() == [b"boot", b"\xff\xfe"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("absent.npz", None),
        ("a.npz", b"PK\3\4half"),
        ("a.npy", b"text"),
        ("a.json", b"{"),
        ("a.json", b"[" * 100_000),
        ("a.json", b'{"inputs": {"a": {"b64": "***"}}}'),
        ("a.json", b'{"instances": [{"a": 1}, {"b": 1}]}'),
        ("a.json", b'{"instances": [{"a": 1}, 2]}'),
    ],
)
def test_a_file_that_cannot_be_read_is_a_usage_error(
    fake: FakeClient, tmp_path: Path, name: str, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    status, text = run("--input", tmp_path / name)
    assert status == 2
    assert "--input" in text
    assert fake.inputs == {}


def test_values_without_a_name_need_a_single_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "make_client", lambda *_, **__: FakeClient("age", "income"))
    status, text = run("--input", "-", text="[1]")
    assert status == 2
    assert "age, income" in " ".join(text.split())


def test_dtypes_that_numpy_lacks_are_written_as_its_own(
    fake: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ml_dtypes

    outputs = {
        "brain": np.array([1.5], ml_dtypes.bfloat16),
        "eight": np.array([1.5], ml_dtypes.float8_e5m2),
        "four": np.array([-3], ml_dtypes.int4),
        "bare": np.array([3], ml_dtypes.uint4),
        "quantized": np.array([(7,)], [("qint8", "i1")]),
    }
    monkeypatch.setattr(fake, "predict", lambda *_, **__: Prediction(outputs=outputs, version=1))
    (tmp_path / "in.json").write_text("[1]")
    status, shown = run("--input", tmp_path / "in.json", "--output", tmp_path / "out.npz")
    assert status == 0, shown
    for name in ("bfloat16", "float8_e5m2", "int4", "uint4", "qint8"):
        assert name in shown
    with np.load(tmp_path / "out.npz") as file:
        written = dict(file)
    assert {name: (written[name].dtype.name, written[name].tolist()) for name in outputs} == {
        "brain": ("float32", [1.5]),
        "eight": ("float32", [1.5]),
        "four": ("int8", [-3]),
        "bare": ("uint8", [3]),
        "quantized": ("int8", [7]),
    }
    _, listed = run("--input", tmp_path / "in.json", "--json")
    assert json.loads(listed)["outputs"]["quantized"] == [7]
