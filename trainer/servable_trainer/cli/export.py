"""`servable export`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from servable_client.cli.options import Json
from servable_serving.core.imports import collection_paused
from servable_serving.core.lazy_tensorflow import quiet_tensorflow
from servable_trainer.cli.options import (
    RANGES,
    CustomObjects,
    Data,
    Folder,
    SkipCorrupt,
    check_place,
    command_line,
    find_dataset,
    parse_size,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from servable_trainer.data.dataset import Dataset

_RUN = "run.json"
_IMAGES = "Image classifiers"


def export(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="MODEL",
            help="Model: a .keras file, a legacy .h5 file, a SavedModel directory, or the "
            "directory of a run of `servable train`.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="New directory for the candidate.")] = Path(
        "build/candidate"
    ),
    name: Annotated[
        str,
        typer.Option(
            help="Model name in servers and URLs; default: the file's name, or the run's dataset."
        ),
    ] = "",
    examples: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|DIR",
            help="Examples for warm-up and golden requests: an .npz file (images and targets, or "
            "an array per input), or DIR/CLASS/*; default: made up from the signatures.",
        ),
    ] = None,
    custom_objects: CustomObjects = None,
    tuner: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="KerasTuner project whose best trial is exported, in place of MODEL.",
        ),
    ] = None,
    build: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODULE:NAME",
            help="The function build(hp) or the HyperModel that --tuner was run with.",
        ),
    ] = None,
    keep_signatures: Annotated[
        bool,
        typer.Option(
            "--keep-signatures", help="Keep the model's own inputs, also for image classifiers."
        ),
    ] = False,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|A,B,C",
            help="Class names in the order of the outputs: a list, or a file with one per line; "
            "default: the directories of --examples, or numbers.",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    input_range: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(RANGES),
            help="Input range that the model was trained on; default: 0..255 if the model scales "
            "pixels itself, or the best on labelled --examples.",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    logits: Annotated[
        bool,
        typer.Option("--logits", help="Apply softmax or sigmoid.", rich_help_panel=_IMAGES),
    ] = False,
    multi_label: Annotated[
        bool,
        typer.Option(
            "--multi-label", help="Give each class its own sigmoid.", rich_help_panel=_IMAGES
        ),
    ] = False,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW|N",
            help="Image size in pixels, for a model that takes any size.",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    invert: Annotated[
        bool | None,
        typer.Option(
            "--invert/--no-invert",
            help="Invert grey image files with a light border, for a model trained on light on "
            "dark; default: if the --examples are light on dark.",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    data: Data = None,
    folder: Folder = None,
    skip_corrupt: SkipCorrupt = False,
    json: Json = False,
) -> None:
    """Export a model as a SavedModel that servers can load, and `servable push` can publish.

    An image classifier gets signatures that take uint8 images and image files, and that answer
    with probabilities and labels. Any other model keeps its own signatures.
    """
    given = {
        "--examples": examples is not None, "--custom-objects": custom_objects is not None,
        "--keep-signatures": keep_signatures, "--labels": labels is not None,
        "--input-range": input_range is not None, "--logits": logits,
        "--multi-label": multi_label, "--size": size is not None,
        "--invert": invert is not None,
    }  # fmt: skip
    of_runs = {
        "--data": data is not None, "--dataset": folder is not None, "--skip-corrupt": skip_corrupt
    }  # fmt: skip
    if (model is None) == (tuner is None):
        raise typer.BadParameter(
            "give a model, or a KerasTuner project with --tuner", param_hint="MODEL"
        )
    if (tuner is None) != (build is None):
        raise typer.BadParameter(
            "give both: a project, and the function that it was run with",
            param_hint="--tuner and --model",
        )
    if build is not None:
        check_place(build, "--model")
    run = None
    if model is not None and (model / _RUN).is_file():
        from servable_trainer.training.run import load_record

        run = load_record(model)
    if run is not None and run.labels and model is not None:
        if run.model is not None:
            del given["--custom-objects"]
        _refuse(given, "does not apply to a training run, which knows its own")
        _export_run(
            model, output, name, custom_objects,
            lambda: find_dataset(data, folder, skip_corrupt=skip_corrupt, like=model), json=json,
        )  # fmt: skip
        return
    _refuse(of_runs, "applies to training runs on images only; give --examples")
    if input_range is not None and input_range not in RANGES:
        raise typer.BadParameter(
            f"{input_range!r} is not a valid input range ({', '.join(RANGES)})",
            param_hint="--input-range",
        )
    sides = None if size is None else parse_size(size)
    names = None if labels is None else _labels(labels)
    if examples is not None and not examples.exists():
        raise typer.BadParameter(f"{examples} does not exist", param_hint="--examples")
    quiet_tensorflow()
    with collection_paused():
        from servable_serving.exporter.export import export as export_model

    source: Any = model
    about: dict[str, Any] = {}
    if tuner is not None and build is not None:
        source, about = _best_of(tuner, build)
    if run is not None and model is not None:
        from servable_trainer.training.export_run import about_run
        from servable_trainer.training.run import load_run

        run, source = load_run(model, custom_objects=custom_objects)
        about = about_run(run)
    manifest = export_model(
        source,
        output,
        name=name or _name(model or tuner or output),
        about=about,
        labels=names,
        examples=examples,
        input_range=input_range,
        logits=logits,
        multi_label=multi_label,
        size=sides,
        invert=invert,
        keep_signatures=keep_signatures,
        custom_objects=custom_objects,
    )
    _report(manifest, output, json=json)


def _best_of(tuner: Path, build: str) -> tuple[Any, dict[str, Any]]:
    """The best network of a KerasTuner project, and what the manifest should hold about it."""
    from servable_client.cli.console import say
    from servable_trainer.networks.own_network import OwnNetwork
    from servable_trainer.tuning.foreign_project import best_model

    model, trial = best_model(tuner, OwnNetwork.named(build).build)
    say(f"trial {trial.name} is the best: {trial.objective} {trial.score:.5g}")
    metrics = {trial.objective: trial.score}
    return model, {"hyperparameters": trial.hyperparameters, "metrics": {"tuning": metrics}}


def _export_run(
    run: Path,
    output: Path,
    name: str,
    custom_objects: str | None,
    find: Callable[[], Dataset],
    *,
    json: bool,
) -> None:
    quiet_tensorflow()
    with collection_paused():
        from servable_trainer.training.export_run import export_run

    dataset = find()
    manifest = export_run(
        run, output, dataset, name=name or dataset.name, custom_objects=custom_objects
    )
    _report(manifest, output, json=json)


def _report(manifest: Mapping[str, Any], output: Path, *, json: bool) -> None:
    from servable_client.cli.console import print_json, say
    from servable_serving.exporter.export import describe

    if json:
        print_json(manifest)
        return
    say(describe(manifest))
    examples = manifest.get("examples", {})
    if examples.get("made_up"):
        say("warm-up and golden requests are made up; --examples takes real ones")
    if silent := examples.get("signatures_without_answer"):
        say(
            f"no request was found that {', '.join(silent)} answers, which `servable push` will "
            "ask for: give one with --examples"
        )
    say(f"candidate written to {output}; next: {command_line('push', output)}")


def _refuse(given: Mapping[str, bool], why: str) -> None:
    for flag, is_given in given.items():
        if is_given:
            raise typer.BadParameter(why, param_hint=flag)


def _labels(text: str) -> list[str]:
    path = Path(text)
    try:
        is_file = path.is_file()
    except OSError:  # a list may be too long for a path
        is_file = False
    if not is_file:
        if "," not in text:
            raise typer.BadParameter(
                f"{text} does not exist, and is not a list A,B,C", param_hint="--labels"
            )
        return [name.strip() for name in text.split(",")]
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(
            f"{path} is not a text file with a name per line", param_hint="--labels"
        ) from error
    return [line.strip() for line in lines if line.strip()]


def _name(model: Path) -> str:
    """A valid model name from a file's or a folder's; a version's folder is named by a number."""
    path = model.resolve()
    stem = path.stem if path.is_file() else path.name
    if stem.isdecimal():
        stem = path.parent.name
    return re.sub(r"[^A-Za-z0-9_.-]", "_", stem).lstrip(".-")[:128] or "model"
