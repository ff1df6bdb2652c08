"""Load a version: the graph, then its warm-up, then batching and metrics for real requests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from servable_serving.core.names import WARMUP
from servable_serving.server.config import read
from servable_serving.server.lifecycle.warmup import warm_up
from servable_serving.server.proto import config_pb2
from servable_serving.server.runtime.batching import Batcher, Batching
from servable_serving.server.runtime.loaded_model import LoadedModel, LoadOptions
from servable_serving.server.runtime.session_bundle import BATCHING_PARAMETERS

if TYPE_CHECKING:
    from pathlib import Path


def load_version(options: LoadOptions, name: str, number: int, folder: Path) -> LoadedModel:
    """Load a version and replay its warm-up records.

    Args:
        options: How to load and run it.
        name: The model's name.
        number: The version.
        folder: The version's folder.

    Raises:
        ModelError: It cannot be loaded, a warm-up record failed, or its batching parameters are not
            valid.
    """
    measured = options.bundle.warm_up and (folder / WARMUP).is_file()
    model = _warm(options, name, number, folder, spread=not measured)
    if model.is_heavy:
        model.close()
        model = _warm(options, name, number, folder, spread=True)
    try:
        model.configure(_batched(options, folder))
    except BaseException:
        model.close()
        raise
    return model


def _warm(
    options: LoadOptions, name: str, number: int, folder: Path, *, spread: bool
) -> LoadedModel:
    # Warm-up requests are neither batched nor counted.
    apart = replace(options, batcher=None, metrics=None)
    model = LoadedModel(name, number, folder, apart, spread=spread)
    try:
        if options.bundle.warm_up:
            times = options.bundle.warm_up_iterations
            model.warmup_records = warm_up(model, folder, times=times)
            if model.is_heavy:  # perhaps each run was a first one, which tells nothing
                warm_up(model, folder)
    except BaseException:
        model.close()
        raise
    return model


def _batched(options: LoadOptions, folder: Path) -> LoadOptions:
    """The options of a version that may say itself how its requests are batched."""
    if not options.batch_all or not options.bundle.per_version_batching:
        return options
    path = folder / BATCHING_PARAMETERS
    if not path.exists():
        return replace(options, batcher=None)
    parameters = read(path, config_pb2.BatchingParameters)
    return replace(options, batcher=Batcher(Batching.read(parameters)))
