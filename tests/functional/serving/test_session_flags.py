"""What the flags of tags, batching, warm-up and mixed precision make of a loaded version."""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.conftest import SHIPPED
from tests.functional.serving.candidates import edit_graph
from tests.functional.serving.fixture_models import Linear, save

from servable_serving.core.errors import ModelError
from servable_serving.server.lifecycle.loader import load_version
from servable_serving.server.options import ServerOptions
from servable_serving.server.runtime import loaded_model
from servable_serving.server.runtime.batching import Batcher, Batching
from servable_serving.server.runtime.loaded_model import LoadedModel, LoadOptions
from servable_serving.server.runtime.session_bundle import BATCHING_PARAMETERS, session_bundle

if TYPE_CHECKING:
    from pathlib import Path

ROWS = np.ones((3, 3), np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A version of a linear model, to be written to."""
    save(Linear(2), tmp_path / "1")
    return tmp_path / "1"


def load(folder: Path, *, check_method_names: bool = False, **flags: Any) -> LoadedModel:
    bundle = session_bundle(ServerOptions(**flags))
    options = LoadOptions(
        bundle=bundle,
        batcher=Batcher(bundle.batching or Batching()),
        batch_all=bundle.batching is not None,
        check_method_names=check_method_names,
    )
    return load_version(options, "linear", 1, folder)


def refusal(model: LoadedModel, api: str = "Predict") -> ModelError:
    with pytest.raises(ModelError) as caught:
        model.run("serving_default", {"x": ROWS}, api=api)
    return caught.value


def set_tags(folder: Path, *tags: str) -> None:
    def edit(meta_graph: Any) -> None:
        meta_graph.meta_info_def.tags[:] = tags

    edit_graph(folder, edit)


@pytest.mark.parametrize(
    ("tags", "flag"), [(["serve", "gpu"], "gpu,serve"), (["a"], "a"), (["serve"], "")]
)
def test_the_graph_of_the_tags_is_loaded(folder: Path, tags: list[str], flag: str) -> None:
    set_tags(folder, *tags)
    with closing(load(folder, saved_model_tags=flag)) as model:
        assert (model.run("serving_default", {"x": ROWS})["y"] == 3).all()


@pytest.mark.parametrize("flag", ["serve", "gpu", "serve,gpu,more"])
def test_no_graph_has_exactly_these_tags(folder: Path, flag: str) -> None:
    set_tags(folder, "serve", "gpu")
    with pytest.raises(ModelError) as caught:
        load(folder, saved_model_tags=flag)
    assert caught.value.code == "NOT_FOUND"


@pytest.mark.parametrize(
    ("flags", "heavy", "in_pieces"),
    [
        ({}, 1.0, True),
        ({}, 0.0, False),  # any run takes longer
        ({"tensorflow_intra_op_parallelism": 1}, 0.0, True),
        ({"tensorflow_intra_op_parallelism": 2}, 1.0, False),
        ({"tensorflow_inter_op_parallelism": 2}, 1.0, False),
        ({"enable_model_warmup": False}, 1.0, False),  # nothing is measured
    ],
)
def test_a_light_model_is_run_on_one_thread(
    flags: dict[str, Any], heavy: float, in_pieces: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_OVERRIDE_GLOBAL_THREADPOOL", "1")
    monkeypatch.setattr(loaded_model, "_HEAVY_SECONDS", heavy)
    images = np.random.default_rng(0).integers(0, 256, (150, 28, 28), np.uint8)
    with closing(load(SHIPPED, **flags)) as model:
        assert model.in_pieces == in_pieces
        found = model.run("serving_default", {"image": images})["class_id"]
        one = [model.run("serving_default", {"image": images[n : n + 1]}) for n in (0, 77, 149)]
    assert [answer["class_id"][0] for answer in one] == [found[n] for n in (0, 77, 149)]


def test_models_of_others_have_threads_on_all_cores(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_OVERRIDE_GLOBAL_THREADPOOL", "1")
    with closing(load(folder)) as model:
        assert not model.in_pieces


def test_a_version_says_how_it_is_batched(folder: Path) -> None:
    flags = {"enable_batching": True, "enable_per_model_batching_parameters": True}
    parameters = folder / BATCHING_PARAMETERS
    parameters.write_text("max_batch_size { value: 2 }")
    with closing(load(folder, **flags)) as model:
        assert refusal(model).code == "INVALID_ARGUMENT"  # three rows
    with closing(load(folder, enable_batching=True)) as model:
        assert len(model.run("serving_default", {"x": ROWS})["y"]) == 3
    parameters.write_text("max_batch_size { value: 0 }")
    with pytest.raises(ModelError):
        load(folder, **flags)
    parameters.unlink()
    with closing(load(folder, **flags)) as model:
        # Not batched: the inputs' rows may differ.
        inputs = {"a": np.ones(1, np.float32), "b": np.ones(4, np.float32)}
        assert len(model.run("two_inputs", inputs)["sum"]) == 4


def test_method_names_are_checked_where_that_is_configured(folder: Path) -> None:
    def rename(meta_graph: Any) -> None:
        meta_graph.signature_def["serving_default"].method_name = "nosuch"

    with closing(load(folder, check_method_names=True)) as model:
        assert len(model.run("serving_default", {"x": ROWS})["y"]) == 3
        assert refusal(model, "Classify").code == "INVALID_ARGUMENT"
        assert refusal(model, "Regress").code == "INVALID_ARGUMENT"
    edit_graph(folder, rename)
    with closing(load(folder, check_method_names=True)) as model:
        assert refusal(model).code == "INTERNAL"
    with closing(load(folder)) as model:
        assert len(model.run("serving_default", {"x": ROWS})["y"]) == 3


@pytest.mark.parametrize(("flag", "times"), [(0, 1), (1, 1), (3, 3)])
def test_warm_up_records_are_replayed_as_often(
    fixtures: Path, tmp_path: Path, flag: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(fixtures / "warm" / "1", tmp_path / "1")
    ran: list[str] = []
    run = LoadedModel.run

    def counted(self: LoadedModel, signature: str, *args: Any, **kwargs: Any) -> Any:
        ran.append(signature)
        return run(self, signature, *args, **kwargs)

    monkeypatch.setattr(LoadedModel, "run", counted)
    with closing(load(tmp_path / "1", num_request_iterations_for_warmup=flag)) as model:
        assert model.warmup_records
        assert len(ran) == model.warmup_records * times


def test_a_graph_runs_in_mixed_precision(folder: Path) -> None:
    with closing(load(folder, mixed_precision="bfloat16")) as model:
        assert np.allclose(model.run("serving_default", {"x": ROWS})["y"], 3, rtol=0.01)
