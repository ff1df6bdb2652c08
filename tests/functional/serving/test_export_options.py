"""What `export` must be told, what it refuses; and its ways: function, command, first page."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tests.conftest import ROOT, free_port, serving
from tests.forked import servable
from tests.functional.serving.your_models import COLOUR, GREY

import servable_serving
from servable_client import Client
from servable_serving.exporter.errors import ExportError
from servable_serving.exporter.export import export
from servable_serving.gates.run import GateError, inspect
from servable_serving.mirror.profile import Profile
from servable_serving.model.saved_model import SavedModel

if TYPE_CHECKING:
    from pathlib import Path

SAMPLE = ROOT / "serving" / "servable_serving" / "web" / "samples" / "ankle-boot-0.png"
# Answers over REST are decimal numbers, and kernels add in another order for other batches.
CLOSE = 2e-5


# What must be told


def cnn(*, activation: str | None = "softmax", units: int = 3, **options: Any) -> keras.Model:
    network = [layers.Flatten(), layers.Dense(units, activation=activation, **options)]
    return keras.Sequential([keras.Input((28, 28, 1)), *network])


@pytest.mark.parametrize(
    ("model", "options", "hint"),
    [
        (cnn(), {}, "--input-range"),
        (cnn(), {"input_range": "0..1", "logits": True}, "leave out --logits"),
        (cnn(activation=None), {"input_range": "0..1"}, "--logits"),
        (cnn(activation="sigmoid"), {"input_range": "0..1"}, "--multi-label"),
        (cnn(activation="sigmoid", units=1), {"input_range": "0..1", "multi_label": True},
         "one unit"),
        (cnn(activation=None, units=1), {"input_range": "0..1"}, "--keep-signatures"),
        (cnn(), {"input_range": "0..1", "labels": ["a", "b"]}, None),
        (cnn(), {"input_range": "0..1", "labels": ["a", "b", "a"]}, None),
        (cnn(), {"input_range": "torch"}, None),
        (cnn(), {"input_range": "0..2"}, "-1..1"),
        (cnn(), {"input_range": "0..1", "size": (32, 32)}, "--size"),
        (cnn(), {"input_range": "0..1", "examples": COLOUR}, None),
        (cnn(), {"input_range": "0..1", "examples": GREY / 100}, "uint8"),
        (cnn(), {"input_range": "0..1", "examples": GREY, "targets": [0, 1]}, None),
        (cnn(), {"input_range": "0..1", "examples": GREY, "targets": [0, 1, 2, 3]}, None),
        (cnn(), {"keep_signatures": True, "labels": ["a", "b", "c"]}, "leave them out"),
        (keras.Sequential([keras.Input((4,)), layers.Dense(2)]), {"logits": True},
         "leave them out"),
        (
            keras.Sequential([keras.Input((None, None, 3)), layers.GlobalMaxPooling2D(),
                              layers.Dense(2, activation="softmax")]),
            {"input_range": "0..1"}, "--size",
        ),
        ("a model", {}, "SavedModel"),
        (object(), {}, "tf.saved_model.save"),
    ],
)  # fmt: skip
def test_what_is_missing_or_wrong_is_said(
    model: Any, options: dict[str, Any], hint: str | None, tmp_path: Path
) -> None:
    with pytest.raises(ExportError) as caught:
        export(model, tmp_path / "candidate", name="garments", **options)
    assert hint is None or hint in (caught.value.hint or "")
    assert not list(tmp_path.iterdir())


def test_labelled_examples_show_the_input_range(tmp_path: Path) -> None:
    """A network that finds the brighter half of an image only if pixels are of -1 to 1."""
    kernel = np.zeros([28, 28, 2], np.float32)
    kernel[:14, :, 0], kernel[14:, :, 0] = 1, 1
    model = cnn(units=2, activation="softmax")
    # Class 0 for images darker than mid-grey in the mean, which only -1..1 puts at zero.
    model.set_weights([kernel.reshape(784, 2) * -0.05, np.zeros(2, np.float32)])
    random = np.random.default_rng(0)
    dark = random.integers(0, 120, [40, 28, 28], np.uint8)
    images = np.concatenate([dark, 255 - dark])
    targets = np.repeat([0, 1], 40)
    manifest = export(
        model, tmp_path / "c", name="half", examples=images, targets=np.eye(2)[targets]
    )
    assert manifest["input_range"] == "-1..1"
    measured = manifest["examples"]["accuracies"]
    assert measured["-1..1"] == 1.0
    assert measured["0..1"] == measured["0..255"] == 0.5
    with pytest.raises(ExportError) as caught:
        export(model, tmp_path / "d", name="half", examples=images, targets=1 - targets)
    assert "--input-range" in (caught.value.hint or "")


@pytest.mark.parametrize(("count", "given"), [(200, False), (199, False), (4, True)])
def test_many_images_are_a_reference(count: int, given: bool, tmp_path: Path) -> None:
    images = np.resize(GREY, (count, *GREY.shape[1:]))
    manifest = export(
        cnn(),
        tmp_path / "c",
        name="n",
        input_range="0..1",
        examples=GREY if given else images,
        reference=images if given else None,
    )
    found = Profile.read(manifest.get("reference"))
    if count == 199:
        assert found is None
        return
    assert found is not None
    assert (found.rows, sum(found.confidences), sum(found.brightness)) == (count, count, count)


@pytest.mark.parametrize(
    ("scaled", "range_"),
    [(GREY / 255, "0..1"), ((GREY / np.float32(127.5)) - 1, "-1..1"), (GREY[..., None], None)],
)
def test_scaled_examples_tell_their_range(
    scaled: np.ndarray, range_: str | None, tmp_path: Path
) -> None:
    told = None if range_ else "0..1"
    manifest = export(cnn(), tmp_path / "c", name="n", examples=scaled, input_range=told)
    assert manifest["input_range"] == (range_ or "0..1")
    assert manifest["examples"] == {"count": 4, "made_up": False}


@pytest.mark.parametrize(("ground", "inverts"), [(0, True), (255, False)])
def test_files_are_inverted_for_a_model_of_light_on_dark(
    ground: int, inverts: bool, tmp_path: Path
) -> None:
    images = np.full([4, 28, 28], ground, np.uint8)
    images[:, 10:18, 10:18] = 255 - ground
    manifest = export(cnn(), tmp_path / "c", name="n", input_range="0..1", examples=images)
    assert manifest["inverts_light_borders"] is inverts
    model = SavedModel(tmp_path / "c")
    try:
        from servable_serving.exporter.export import encode_png

        files = np.array([encode_png(images[0]), encode_png(255 - images[0])], object)
        pixels = model.run("serving_default", {"image": np.stack([images[0], 255 - images[0]])})
        sent = model.run("serving_bytes", {"image_bytes": files})["probabilities"]
    finally:
        model.close()
    expected = pixels["probabilities"]
    np.testing.assert_allclose(sent[0], expected[0], atol=1e-6)
    np.testing.assert_allclose(sent[1], expected[0 if inverts else 1], atol=1e-6)


# Files that are refused


class Doubled(layers.Layer):
    def call(self, x: Any) -> Any:
        return 2 * x


def saved(folder: Path, layer: Any, suffix: str) -> Path:
    model = keras.Sequential(
        [keras.Input((28, 28, 1)), layer, layers.Flatten(), layers.Dense(2, activation="softmax")]
    )
    model.save(folder / f"model{suffix}")
    return folder / f"model{suffix}"


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_code_in_a_file_is_not_run(suffix: str, tmp_path: Path) -> None:
    path = saved(tmp_path, layers.Lambda(lambda x: x / 255, name="scaled"), suffix)
    with pytest.raises(ExportError, match="scaled") as caught:
        export(path, tmp_path / "c", name="n")
    assert "--custom-objects" in (caught.value.hint or "")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_class_of_ones_own_must_be_named(suffix: str, tmp_path: Path) -> None:
    path = saved(tmp_path, Doubled(), suffix)
    with pytest.raises(ExportError, match="Doubled") as caught:
        export(path, tmp_path / "c", name="n", input_range="0..1")
    assert "--custom-objects" in (caught.value.hint or "")
    assert not (tmp_path / "c").exists()
    manifest = export(
        path, tmp_path / "c", name="n", input_range="0..1", custom_objects={"Doubled": Doubled}
    )
    assert manifest["kind"] == "image_classifier"


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "model.keras"),
        (b"PK\3\4half", "model.keras"),
        (b"text", "model.h5"),
        (b"x", "model.pt"),
    ],
)
def test_what_is_no_model_is_refused(content: bytes, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ExportError) as caught:
        export(path, tmp_path / "c", name="n")
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == [path]


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    cnn().save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(ExportError) as caught:
        export(tmp_path / "model.weights.h5", tmp_path / "c", name="n")
    assert "model.save(" in (caught.value.hint or "")


# Models that are defined by classes, and graphs that Keras builds wrongly


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.flat, self.dense = layers.Flatten(), layers.Dense(3, activation="softmax")

    def call(self, x: Any) -> Any:
        return self.dense(self.flat(x))


def test_a_model_that_is_a_class_must_have_been_called(tmp_path: Path) -> None:
    model = Subclassed()
    with pytest.raises(ExportError) as caught:
        export(model, tmp_path / "c", name="n", input_range="0..1")
    assert "call it once" in (caught.value.hint or "")
    expected = model(GREY[..., None] / np.float32(255)).numpy()
    manifest = export(model, tmp_path / "c", name="n", input_range="0..1", labels=["a", "b", "c"])
    assert manifest["kind"] == "image_classifier"
    exported = SavedModel(tmp_path / "c")
    try:
        answer = exported.run("serving_default", {"image": GREY})
    finally:
        exported.close()
    np.testing.assert_allclose(answer["probabilities"], expected, atol=CLOSE)


def test_a_graph_that_answers_something_else_is_not_exported(tmp_path: Path) -> None:
    """Keras 3.15 takes the batch's size for the length, where that is free."""
    model = keras.Sequential([keras.Input((None, 4)), layers.TimeDistributed(layers.Dense(2))])
    with pytest.raises(ExportError, match="output_0") as caught:
        export(model, tmp_path / "c", name="n")
    assert "TimeDistributed" in (caught.value.hint or "")
    fixed = keras.Sequential([keras.Input((5, 4)), layers.TimeDistributed(layers.Dense(2))])
    assert export(fixed, tmp_path / "c", name="n")["kind"] == "any"


# Candidates that nothing can be asked of


class Undeclared(tf.Module):
    """Takes what its signature does not say: only strings of digits."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="digits")])
    def serve(self, digits: Any) -> dict[str, Any]:
        return {"number": tf.strings.to_number(digits)}


def test_a_signature_must_answer_something(tmp_path: Path) -> None:
    module = Undeclared()
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"serving_default": module.serve})
    manifest = export(tmp_path / "m", tmp_path / "silent", name="digits")
    assert manifest["examples"]["signatures_without_answer"] == ["serving_default"]
    with pytest.raises(GateError, match="serving_default") as caught:
        inspect(tmp_path / "silent", served=None, holdout=None)
    assert caught.value.finding.gate == "trial"
    assert "--examples" in (caught.value.hint or "")
    with pytest.raises(ExportError, match="digits"):
        export(tmp_path / "m", tmp_path / "c", name="digits", examples={"number": np.zeros(2)})
    digits = np.array([b"12", b"3"], object)
    manifest = export(tmp_path / "m", tmp_path / "c", name="digits", examples={"digits": digits})
    assert manifest["golden"][0]["outputs"]["number"]["values"] == [12.0, 3.0]
    inspect(tmp_path / "c", served=None, holdout=None)


# The command


def test_the_command_exports_with_two_flags(tmp_path: Path) -> None:
    cnn(units=2).save(tmp_path / "garments.keras")
    (tmp_path / "names.txt").write_text("shirt\nboot\n")
    np.savez(tmp_path / "some.npz", images=GREY, targets=[0, 1, 0, 1])
    done = servable(
        "export", "garments.keras", "--output", "out", "--input-range", "0..1",
        "--labels", "names.txt", "--examples", "some.npz", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    manifest = json.loads(done.stdout)
    assert (manifest["name"], manifest["labels"]) == ("garments", ["shirt", "boot"])
    done = servable("push", "out", "--no-wait", "--repository", "models/garments", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "models" / "garments" / "1" / "saved_model.pb").is_file()


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    cnn().save(tmp_path / "model.keras")
    done = servable("export", "model.keras", cwd=tmp_path)
    assert done.returncode == 1
    assert "input range" in done.stderr.splitlines()[0]
    assert "--input-range 0..1" in done.stderr
    assert not (tmp_path / "build").exists()


# From Python alone


def test_a_notebook_needs_no_command(tmp_path: Path) -> None:
    """Export, push, serve, promote and roll back by functions, with a live model."""
    model = cnn(units=2)
    options: dict[str, Any] = {
        "name": "garments",
        "input_range": "0..1",
        "labels": ["shirt", "boot"],
    }
    root = tmp_path / "models" / "garments"
    skip = {"trial": "tried in other tests"}
    for number in (1, 2):
        manifest = servable_serving.export(model, tmp_path / f"c{number}", **options)
        assert "garments" in manifest._repr_html_()
        pushed = servable_serving.push(
            tmp_path / f"c{number}", repository=root, server=None, skip=skip, progress=False
        )
        assert pushed.version == number
        assert {step.name for step in pushed.steps} > {"structure", "operations", "latency"}
    assert pushed.labels == {"stable": 1, "canary": 2}
    with pytest.raises(GateError):
        servable_serving.push(broken(tmp_path / "c1"), repository=root, server=None, progress=False)
    with servable_serving.serve(tmp_path / "models", port=free_port(), rest_port=0) as server:
        assert server.grpc is not None
        with Client(server.grpc, model="garments", label="stable", timeout=60) as client:
            answer = client.classify(GREY[0])
            assert answer.version == 1
            expected = model.predict(GREY[:1, ..., None] / 255, verbose=0)
            np.testing.assert_allclose(answer.probabilities, expected[0], atol=CLOSE)
        moved = servable_serving.promote(
            2, model="garments", repository=root, server=server.grpc, progress=False
        )
        assert moved.labels["stable"] == 2
        assert "version 2" in str(moved)
        back = servable_serving.rollback(
            model="garments", repository=root, server=server.grpc, progress=False
        )
        assert (back.version, back.labels["stable"]) == (1, 1)
        listed = servable_serving.versions("garments", repository=root, server=server.grpc)
        assert [entry.version for entry in listed] == [2, 1]
        for shown in (back, listed, server):
            assert "<" in shown._repr_html_()
    with pytest.raises(servable_serving.ServerError):
        servable_serving.serve(tmp_path / "nowhere")
    with pytest.raises(servable_serving.FolderError):
        servable_serving.promote(1, model="nosuch", repository=tmp_path / "no", server=None)


def broken(folder: Path) -> Path:
    (folder / "saved_model.pb").write_bytes(b"")
    return folder


# The first page


def test_readme_goes_from_a_file_to_an_answer_in_two_commands(tmp_path: Path) -> None:
    page = (ROOT / "README.md").read_text()
    block = page.partition("\n    servable export")[2].partition("\n`export`")[0]
    first, second, third = (
        shlex.split(line, comments=True)
        for line in f"servable export{block}".splitlines()
        if line.strip()
    )
    cnn(units=2).save(tmp_path / "garments.keras")
    done = servable(*first[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--examples" in done.stderr  # it says that golden requests are made up
    # Its ports may be in use.
    flags = [flag for flag in second[2:] if not re.match(r"--(rest_api_)?port=", flag)]
    flags = [flag.replace("=models/", f"={tmp_path}/models/") for flag in flags]
    shutil.copy(SAMPLE, tmp_path / "boot.png")
    with serving(None, tmp_path / "log", *flags, model="garments") as running:
        at = ("--server", running.grpc, "--json")
        done = servable(*third[1:], *at, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        (answer,) = json.loads(done.stdout)
    assert answer["label"] in {"0", "1"}
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-6)
