"""Load a version: the graph, then its warm-up, then batching and metrics for real requests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from servable_serving.server.lifecycle.warmup import warm_up
from servable_serving.server.runtime.loaded_model import LoadedModel, LoadOptions

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
        ModelError: It cannot be loaded, or a warm-up record failed.
    """
    # Warm-up requests are neither batched nor counted.
    model = LoadedModel(name, number, folder, replace(options, batcher=None, metrics=None))
    try:
        if options.warm_up:
            model.warmup_records = warm_up(model, folder)
    except BaseException:
        model.close()
        raise
    model.configure(options)
    return model
