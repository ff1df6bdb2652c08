"""Load a version: the graph, then its warm-up, then batching and metrics for real requests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

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
    # Warm-up requests are neither batched nor counted.
    model = LoadedModel(name, number, folder, replace(options, batcher=None, metrics=None))
    try:
        if options.bundle.warm_up:
            times = options.bundle.warm_up_iterations
            model.warmup_records = warm_up(model, folder, times=times)
        options = _batched(options, folder)
    except BaseException:
        model.close()
        raise
    model.configure(options)
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
