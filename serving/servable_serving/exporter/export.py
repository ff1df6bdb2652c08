"""Export: a model becomes a candidate for the model repository.

An image classifier gets the whole model contract, whatever its inputs and answers were in the
notebook. Its graph is made for inference: batch normalization is folded, weights are constants, and
there is nothing left to train or to restore. Any other model keeps its own signatures.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
from datetime import UTC, datetime
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from servable_serving.core.files import check_absent, new_folder
from servable_serving.core.json_text import parse_json
from servable_serving.core.names import DEFAULT_SIGNATURE
from servable_serving.exporter.again import classifier_again, examples_again, facts_again
from servable_serving.exporter.any_model import Examples, write_any
from servable_serving.exporter.contract_model import WARMUP_BATCHES, encode_png, write_classifier
from servable_serving.exporter.errors import ExportError
from servable_serving.exporter.example_files import read_file
from servable_serving.exporter.image_examples import are_light_on_dark, as_images
from servable_serving.exporter.image_network import (
    ImageClassifier,
    ImageNetwork,
    ImageOptions,
    classifier_of,
    image_shape,
    keras_network,
    noise,
)
from servable_serving.exporter.input_range import range_of, told
from servable_serving.exporter.keras_file import SUFFIXES, load_keras
from servable_serving.exporter.keras_source import check_backend, constant, folded_or_none
from servable_serving.exporter.saved_model_source import meta_graph_of, saved_model_network
from servable_serving.exporter.subclassed import with_inputs
from servable_serving.mirror.profile import Profile
from servable_serving.mirror.references import REFERENCE
from servable_serving.model.contract import contract_of
from servable_serving.model.image_folder import read_folder
from servable_serving.model.image_limits import limits_of
from servable_serving.repository.manifest import (
    ANY_MODEL,
    IMAGE_CLASSIFIER,
    MANIFEST,
    check_name,
    checksums,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["WARMUP_BATCHES", "ExportError", "encode_png", "export"]

# What folding may change in a probability; Keras' own answers differ as much between machines.
_FOLD_TOLERANCE = 1e-5
_COMPARED = 8
# Of a folder: enough to measure an accuracy by, and read in seconds.
_EXAMPLES = 1000
# Fewer say too little of what to expect.
_LEAST_REFERENCE, _BATCH = 200, 256
# Grey images have three axes: N, height and width.
_IMAGES_RANK = 3


class Manifest(dict[str, Any]):
    """The manifest of a candidate; a notebook shows what was exported."""

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(key)}</td><td>{escape(what)}</td><td>{escape(name)}</td>"
            f"<td>{escape(info['dtype'])}</td><td>{escape(str(info['shape']))}</td></tr>"
            for key, signature in self["signatures"].items()
            for what, tensors in (("input", "inputs"), ("output", "outputs"))
            for name, info in signature[tensors].items()
        )
        caption = f"{escape(self['name'])}: {escape(describe(self))}"
        return f"<table><caption>{caption}</caption>{rows}</table>"


class _Images(NamedTuple):
    """Example images with their classes, if these are known."""

    pixels: NDArray[np.uint8]
    targets: NDArray[np.int64] | None = None
    made: bool = False
    # Names of the classes, where examples come from folders that are named after them.
    classes: Sequence[str] = ()


def export(
    model: Any,
    target: str | Path,
    *,
    name: str,
    labels: Sequence[str] | None = None,
    examples: str | Path | ArrayLike | Mapping[str, ArrayLike] | None = None,
    targets: ArrayLike | None = None,
    reference: NDArray[np.uint8] | None = None,
    input_range: str | None = None,
    logits: bool = False,
    multi_label: bool = False,
    size: tuple[int, int] | None = None,
    invert: bool | None = None,
    keep_signatures: bool = False,
    custom_objects: str | Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
) -> Manifest:
    """Write a candidate: a SavedModel with signatures, warm-up records and a manifest.

    An image classifier has one input, [N, height, width], [N, height, width, 1] or [N, height,
    width, 3] of any float dtype or uint8, and one output [N, C]. It is given the signatures of the
    model contract, which take uint8 images and image files. Any other model keeps its signatures.

    Args:
        model: A keras.Model, a KerasTuner tuner, whose best model is taken, the path of a `.keras`
            or `.h5` file, or the folder of a SavedModel. A version that an earlier export wrote
            gets the graph that is written now, and keeps what its manifest says.
        target: A new folder: of a candidate to push or, of a first version, MODEL/1.
        name: The name that it will be served under.
        labels: The name of each of the C classes; of a single sigmoid unit, of 0 and of 1.
            Default: the names of the examples' folders, or the classes' numbers.
        examples: For warm-up records and golden requests, and not from the test set: images, uint8
            or as the network takes them, or arrays by the name of the input; or the path of an
            .npz file (`images` and `targets`, or arrays by the name of the input), of an .npy file,
            or of a folder of images, CLASS/*. Made up if not given.
        targets: The class number of each example image, int64 [N]: where `input_range` is not
            given, the range with the best accuracy is used.
        reference: Images of an image classifier whose answers are what to expect, uint8 [N, height,
            width] or [N, height, width, 3], such as those that it was validated on; `servable
            drift` compares others with them. Default: the examples, if there are 200 or more.
        input_range: How the network's inputs are computed from pixels: "0..1", "-1..1", "0..255",
            "caffe" or "torch" (the modes of keras.applications' preprocess_input). Not needed if it
            takes uint8 or scales pixels by layers of its own.
        logits: Whether the network's answers are logits.
        multi_label: Whether each class has a sigmoid of its own.
        size: Height and width of the images, if the network takes any.
        invert: Whether a grey image file whose border is light is inverted, for a network that was
            trained on light on dark, as MNIST is. Default: if nearly all examples are so.
        keep_signatures: Treat an image classifier as any other model.
        custom_objects: The classes and functions of your own in a Keras file, by name, or the name
            of the module that defines them.
        about: What else the manifest should hold: seed, hyperparameters, metrics.

    Returns:
        The manifest, a dict.

    Raises:
        CandidateError: `name` cannot be a model's name.
        ExportError: The model cannot be read or exported, or something must be told about it.
        FolderError: `target` exists or cannot be written, or the examples' folder cannot be read.
    """
    check_name(name)
    if input_range is not None:
        range_of(input_range)
    target = Path(target)
    check_absent(target)
    options = ImageOptions(
        input_range=input_range, logits=logits, multi_label=multi_label, size=size
    )
    said = labels is not None or options != ImageOptions()
    if not said and not keep_signatures and (manifest := _exported(model)) is not None:
        return _export_again(Path(model), manifest, target, name=name, about=about or {})
    source = _source(model, custom_objects, examples)
    network = None if keep_signatures else _network(source, said=said)
    if network is not None:
        return _export_classifier(
            source, network, options, target,
            name=name, labels=labels, examples=examples, targets=targets, reference=reference,
            invert=invert, about=about or {},
        )  # fmt: skip
    if said:
        raise ExportError(
            f"labels and options of images do not apply: {_why_not(source, keep_signatures)}",
            hint="leave them out, and the model is exported with its own signatures",
        )
    with new_folder(target) as incoming:
        found = write_any(source, incoming, name=name, examples=_by_name(examples))
        kind = {"kind": ANY_MODEL, "labels": [], **found}
        return _write_manifest(incoming, name=name, facts={**kind, **(about or {})})


def _exported(model: Any) -> Mapping[str, Any] | None:
    """The manifest of an image classifier that `export` wrote; None if it is something else."""
    if not isinstance(model, str | Path):
        return None
    try:
        manifest = parse_json((Path(model) / MANIFEST).read_text())
        kind, labels = manifest.get("kind", IMAGE_CLASSIFIER), manifest["labels"]
        image = manifest["signatures"][DEFAULT_SIGNATURE]["inputs"]["image"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return manifest if kind == IMAGE_CLASSIFIER and labels and image else None


def _export_again(
    version: Path, manifest: Mapping[str, Any], target: Path, *, name: str, about: Mapping[str, Any]
) -> Manifest:
    """Export a version that was exported before, with all that its manifest says of it."""
    classifier = classifier_again(version, manifest)
    examples = examples_again(version, classifier.shape)
    made_up = examples is None
    pixels = noise(classifier.shape, max(WARMUP_BATCHES)) if examples is None else examples
    count = len(pixels)
    pixels = pixels[np.arange(max(WARMUP_BATCHES)) % count]
    labels = [str(label) for label in manifest["labels"]]
    grey = len(classifier.shape) == 2
    inverts = bool(manifest.get("inverts_light_borders", grey))
    return _write_classifier(
        classifier, target, name=name, labels=labels, pixels=pixels, invert=inverts,
        facts={
            **facts_again(manifest), "examples": {"count": count, "made_up": made_up}, **about
        },
    )  # fmt: skip


def _source(
    model: Any, custom_objects: str | Mapping[str, Any] | None, examples: Any = None
) -> Any:
    """A Keras model that knows its inputs, or the folder of a SavedModel."""
    opened = _opened(model, custom_objects)
    if isinstance(opened, Path) or getattr(opened, "inputs", None):
        return opened
    return with_inputs(opened, _dtypes(examples))


def _dtypes(examples: Any) -> dict[str, str]:
    """The dtypes that examples show: integers and strings, but not of images."""
    if isinstance(examples, str | Path) and Path(examples).is_dir():
        return {}
    found = {}
    for name, array in _by_name(examples).items():
        if array.dtype.kind in "OSU":
            found[name] = "string"
        elif array.ndim < _IMAGES_RANK and array.dtype.kind in "iu":
            found[name] = str(array.dtype)
    return found


def _opened(model: Any, custom_objects: str | Mapping[str, Any] | None) -> Any:
    if not isinstance(model, str | Path):
        import keras

        if hasattr(model, "get_best_models"):  # a KerasTuner tuner, which is not imported here
            model = model.get_best_models()[0]
        if not isinstance(model, keras.Model):
            raise ExportError(
                f"{type(model).__name__} is neither a keras.Model nor a path",
                hint="write a tf.Module with tf.saved_model.save, and give that folder",
            )
        check_backend()
        return model
    path = Path(model)
    if not path.exists():
        raise ExportError(
            f"{path} does not exist", hint="give a .keras or .h5 file, or a SavedModel's directory"
        )
    if path.is_dir():
        meta_graph_of(path)
        return path
    if path.name == "saved_model.pb":
        raise ExportError(f"{path} is a part of a SavedModel", hint=f"give {path.parent}")
    if path.suffix.lower() not in SUFFIXES:
        raise ExportError(
            f"{path} is neither a .keras file, a .h5 file nor the directory of a SavedModel",
            hint="model.save('model.keras') writes a file that can be exported",
        )
    check_backend()
    return load_keras(path, custom_objects=custom_objects)


def _network(source: Any, *, said: bool) -> ImageNetwork | None:
    if isinstance(source, Path):
        return saved_model_network(source, grey_without_channel=said)
    return keras_network(source)


def _why_not(source: Any, keep_signatures: bool) -> str:
    if keep_signatures:
        return "the model keeps its signatures"
    if isinstance(source, Path):
        return "it is not an image classifier with one input and one output"
    taken = [list(tensor.shape) for tensor in source.inputs]
    given = [list(tensor.shape) for tensor in source.outputs]
    return (
        f"the model takes {_listed(taken)} and gives {_listed(given)}, and an image classifier "
        "takes [None, height, width], with 1 or 3 channels behind it, and gives [None, classes]"
    )


def _listed(shapes: list[list[Any]]) -> str:
    return " and ".join(map(str, shapes))


def _export_classifier(
    source: Any,
    network: ImageNetwork,
    options: ImageOptions,
    target: Path,
    *,
    name: str,
    labels: Sequence[str] | None,
    examples: Any,
    targets: ArrayLike | None,
    reference: NDArray[np.uint8] | None,
    invert: bool | None,
    about: Mapping[str, Any],
) -> Manifest:
    if labels is not None:
        _labels(labels, max(network.units, 2))
    images, options = _images(network, options, examples, targets, labels)
    known = None if images.made else images.pixels
    classifier = classifier_of(network, options, images=known, targets=images.targets)
    names = _labels(labels or images.classes or None, classifier.classes)
    if images.made:
        images = images._replace(pixels=noise(classifier.shape, max(WARMUP_BATCHES)))
    if not isinstance(source, Path):
        options = dataclasses.replace(options, input_range=classifier.input_range)
        classifier = _folded(source, network, options, classifier, images.pixels[:_COMPARED])
    if invert is None:
        invert = not images.made and are_light_on_dark(images.pixels)
    pixels = images.pixels[np.arange(max(WARMUP_BATCHES)) % len(images.pixels)]
    measured = {"accuracies": classifier.accuracies} if classifier.accuracies else {}
    if reference is None and not images.made and len(images.pixels) >= _LEAST_REFERENCE:
        reference = images.pixels
    expected = (
        {} if reference is None else {REFERENCE: _expected(classifier, names, reference).as_json()}
    )
    return _write_classifier(
        classifier, target, name=name, labels=names, pixels=pixels, invert=invert,
        facts={
            "multi_label": options.multi_label,
            "examples": {"count": len(images.pixels), "made_up": images.made, **measured},
            **expected,
            **about,
        },
    )  # fmt: skip


def _expected(
    classifier: ImageClassifier, labels: Sequence[str], images: NDArray[np.uint8]
) -> Profile:
    """The distribution of the answers to images, and of the images."""
    profile = Profile()
    for first in range(0, len(images), _BATCH):
        batch = images[first : first + _BATCH]
        likely = classifier.probabilities(tf.constant(batch)).numpy()
        named = np.array(labels, object)[likely.argmax(axis=1)]
        profile.add({"image": batch}, {"label": named, "probabilities": likely})
    return profile


def _write_classifier(
    classifier: ImageClassifier,
    target: Path,
    *,
    name: str,
    labels: Sequence[str],
    pixels: NDArray[np.uint8],
    invert: bool,
    facts: Mapping[str, Any],
) -> Manifest:
    with new_folder(target) as incoming:
        golden = write_classifier(
            incoming, classifier, name=name, labels=labels, examples=pixels, invert=invert
        )
        own = {
            "kind": IMAGE_CLASSIFIER,
            "labels": list(labels),
            "input_range": classifier.input_range,
            "inverts_light_borders": invert and len(classifier.shape) == 2,
            "limits": limits_of(classifier.shape),
        }
        return _write_manifest(incoming, name=name, facts={**facts, **own, "golden": golden})


def _images(
    network: ImageNetwork,
    options: ImageOptions,
    examples: Any,
    targets: ArrayLike | None,
    labels: Sequence[str] | None,
) -> tuple[_Images, ImageOptions]:
    """The examples as pixels; and the options with the range that they are in, if they tell."""
    if examples is None:
        return _Images(np.zeros([0], np.uint8), made=True), options
    if isinstance(examples, str | Path):
        path = Path(examples)
        if path.is_dir():
            return _from_folder(path, image_shape(network, options), network, labels), options
        file = read_file(path)
        examples = file.arrays.get("") if file.images is None else file.images
        targets = file.targets if targets is None else targets
        if examples is None:
            raise ExportError(
                f"{path} has no array 'images': it has {', '.join(file.arrays) or 'none'}",
                hint="np.savez(FILE, images=..., targets=...) writes one",
            )
    if hasattr(examples, "keys"):
        raise ExportError(
            "examples by the name of the input are for models that keep their signatures",
            hint="give the images as one array",
        )
    pixels, range_ = as_images(examples, channels=network.channels, input_range=options.input_range)
    asks = options.input_range is None and network.dtype != tf.uint8 and not network.scaling
    if asks and range_ is not None:
        options = dataclasses.replace(options, input_range=range_)
    return _Images(pixels, _class_numbers(targets, len(pixels), network.units)), options


def _from_folder(
    folder: Path, shape: tuple[int, ...], network: ImageNetwork, labels: Sequence[str] | None
) -> _Images:
    found = read_folder(folder, shape, part="train", most=_EXAMPLES)
    if not found.classes:
        return _Images(found.images)
    if labels is not None:
        unknown = sorted(set(found.classes) - set(labels))
        if unknown:
            raise ExportError(
                f"{folder} has folders that are not labels: {', '.join(unknown)}",
                hint="name each folder after a label, or leave out --labels",
            )
        numbers = np.array([list(labels).index(name) for name in found.classes], np.int64)
        return _Images(found.images, numbers[found.targets])
    targets = _class_numbers(found.targets, len(found.images), network.units)
    return _Images(found.images, targets, classes=found.classes)


def _class_numbers(targets: ArrayLike | None, count: int, units: int) -> NDArray[np.int64] | None:
    if targets is None:
        return None
    array = np.asarray(targets)
    if array.ndim == 2 and array.shape[1] == units and units > 1:
        array = array.argmax(axis=1)  # one-hot, as Keras' to_categorical gives it
    array = array.reshape([-1]) if array.ndim == 2 and array.shape[1] == 1 else array
    whole = array.dtype.kind in "iub" or (
        array.dtype.kind == "f" and (array == array.round()).all()
    )
    if array.shape != (count,) or not whole:
        raise ExportError(
            f"the examples' targets are {array.dtype} {list(array.shape)}, and must be class "
            f"numbers [{count}], or one-hot [{count}, {units}]"
        )
    numbers = array.astype(np.int64)
    if numbers.min(initial=0) < 0 or numbers.max(initial=0) >= max(units, 2):
        raise ExportError(
            f"the examples' class numbers go from {numbers.min()} to {numbers.max()}, and the "
            f"model has {max(units, 2)} classes"
        )
    return numbers


def _labels(labels: Sequence[str] | None, classes: int) -> list[str]:
    if labels is None:
        return [str(number) for number in range(classes)]
    names = [str(label) for label in labels]
    if len(names) != classes:
        raise ExportError(f"the model knows {classes} classes, and there are {len(names)} labels")
    if len(set(names)) != len(names):
        twice = sorted({one for one in names if names.count(one) > 1})
        raise ExportError(f"several classes have the label {', '.join(twice)}")
    return names


def _folded(
    model: Any,
    network: ImageNetwork,
    options: ImageOptions,
    classifier: ImageClassifier,
    images: NDArray[np.uint8],
) -> ImageClassifier:
    """The classifier with its batch normalizations folded, if its answers stay the same."""
    smaller = folded_or_none(model)
    if smaller is None:
        return classifier
    faster = classifier_of(
        dataclasses.replace(network, call=constant(smaller)), options, images=images, targets=None
    )
    given = [one.probabilities(tf.constant(images)).numpy() for one in (classifier, faster)]
    same = np.abs(given[0] - given[1]).max() <= _FOLD_TOLERANCE
    return (
        dataclasses.replace(classifier, probabilities=faster.probabilities) if same else classifier
    )


def _by_name(examples: Any) -> Examples:
    """Examples for a model of any kind: arrays by input, or one array for its only input."""
    if examples is None:
        return {}
    if isinstance(examples, str | Path):
        path = Path(examples)
        if path.is_dir():
            raise ExportError(
                f"{path} is a folder, and the model is not an image classifier",
                hint="give an .npz file with an array for each input, by its name",
            )
        return read_file(path).arrays
    if hasattr(examples, "keys"):
        return {str(key): np.asarray(examples[key]) for key in examples}
    return {"": np.asarray(examples)}


def _write_manifest(incoming: Path, *, name: str, facts: Mapping[str, Any]) -> Manifest:
    manifest = Manifest(_manifest(incoming, name=name, facts=facts))
    (incoming / MANIFEST).parent.mkdir(exist_ok=True)
    (incoming / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    return manifest


def _manifest(incoming: Path, *, name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_revision": _git_revision(),
        "signatures": contract_of(incoming),
        **facts,
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,  # its distribution has several names
            **{p: version(p) for p in ("servable", "keras", "numpy")},
        },
        "sha256": checksums(incoming),
    }


def describe(manifest: Mapping[str, Any]) -> str:
    """What was exported, in one sentence."""
    signatures = manifest["signatures"]
    if manifest.get("kind") != IMAGE_CLASSIFIER:
        return f"signatures as they were: {', '.join(signatures)}"
    shape = signatures["serving_default"]["inputs"]["image"]["shape"][1:]
    said = (
        f"classifier of {shape[0]} x {shape[1]} {'colour' if len(shape) == 3 else 'grey'} images, "
        f"{len(manifest['labels'])} classes, input range {manifest['input_range']}"
    )
    measured = manifest.get("examples", {}).get("accuracies")
    return f"{said} (accuracy by range: {told(measured)})" if measured else said


def _git_revision() -> str | None:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError:
        return None  # git is not installed
    return done.stdout.strip() or None
