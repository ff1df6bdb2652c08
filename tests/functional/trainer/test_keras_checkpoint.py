"""Checkpoints: what is kept of a training, and when it resumes. Its weights are Keras'."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import pytest

from servable_serving.core.errors import FolderError
from servable_trainer.training import checkpoint
from servable_trainer.training.calibration import apply_temperature, find_temperature
from servable_trainer.training.checkpoint import Checkpoints, FitClock, checkpoints
from servable_trainer.training.run import RunError

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS: dict[str, Any] = {"epochs": 3, "hyperparameters": {"width": 8}, "size": (8, 8)}


class Clock:
    """Time and processor time that only move when they are told to."""

    def __init__(self) -> None:
        self.now, self.cpu = 100.0, 50.0

    def monotonic(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.cpu


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(checkpoint, "time", fake)
    return fake


@pytest.fixture
def model() -> keras.Model:
    layers = [keras.Input((2,)), keras.layers.Dense(2, activation="softmax")]
    made = keras.Sequential(layers)
    made.compile(optimizer="adam", loss="categorical_crossentropy")
    made.optimizer.build(made.trainable_variables)
    return made


def begun(folder: Path, **changes: Any) -> Checkpoints:
    kept = Checkpoints(folder)
    kept.begin({**SETTINGS, **changes}, restart=False)
    return kept


def save(kept: Checkpoints, model: keras.Model, *losses: float) -> None:
    for loss in losses:
        kept.save(model, [*kept.epochs, {"val_loss": loss}], FitClock(kept))


def test_a_new_training_holds_nothing(tmp_path: Path) -> None:
    assert begun(tmp_path).holds_nothing


def test_an_interrupted_training_resumes_with_its_epochs(
    tmp_path: Path, model: keras.Model
) -> None:
    save(begun(tmp_path), model, 0.5, 0.4)
    assert begun(tmp_path).epochs == [{"val_loss": 0.5}, {"val_loss": 0.4}]


@pytest.mark.parametrize("changes", [{"epochs": 4}, {"hyperparameters": {}}, {"new": 1}])
def test_other_settings_are_named_and_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    begun(tmp_path)
    with pytest.raises(RunError, match=next(iter(changes))) as caught:
        begun(tmp_path, **changes)
    assert "--restart" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["settings.json", "state.json"])
def test_damaged_files_are_refused(tmp_path: Path, name: str, model: keras.Model) -> None:
    save(begun(tmp_path), model, 0.5)
    (tmp_path / name).write_text("{")
    with pytest.raises(RunError):
        begun(tmp_path)


def test_a_restart_discards_what_is_there(tmp_path: Path, model: keras.Model) -> None:
    save(begun(tmp_path), model, 0.5)
    kept = Checkpoints(tmp_path)
    kept.begin({**SETTINGS, "epochs": 9}, restart=True)
    assert kept.holds_nothing


def test_weights_and_the_optimizers_state_come_back(tmp_path: Path, model: keras.Model) -> None:
    save(begun(tmp_path), model, 0.5)
    variables = [*model.variables, *model.optimizer.variables]
    before = [keras.ops.convert_to_numpy(one) for one in variables]
    for variable in variables:
        variable.assign(variable + 1)
    begun(tmp_path).load(model)
    after = [keras.ops.convert_to_numpy(one) for one in variables]
    assert all((a == b).all() for a, b in zip(after, before, strict=True))


def test_damaged_weights_are_refused(tmp_path: Path, model: keras.Model) -> None:
    save(begun(tmp_path), model, 0.5)
    (tmp_path / "epoch-1.npz").write_bytes(b"damaged")
    with pytest.raises(RunError):
        begun(tmp_path).load(model)


def test_only_the_last_and_the_best_weights_are_kept(tmp_path: Path, model: keras.Model) -> None:
    save(begun(tmp_path), model, 0.5, 0.4, 0.6)
    assert sorted(p.name for p in tmp_path.glob("*.npz")) == ["best.npz", "epoch-3.npz"]


def test_the_best_weights_are_those_of_the_lowest_loss(tmp_path: Path, model: keras.Model) -> None:
    kept = begun(tmp_path)
    save(kept, model, 0.4)
    best = [np.array(one) for one in model.get_weights()]
    model.set_weights([one + 1 for one in best])
    save(kept, model, 0.6)
    kept.load_best(model)
    assert all((a == b).all() for a, b in zip(model.get_weights(), best, strict=True))


@pytest.mark.parametrize(
    ("losses", "patience", "over"),
    [
        ((0.5, 0.6), 2, False),
        ((0.5, 0.6, 0.7), 2, False),
        ((0.5, 0.6, 0.7, 0.8), 2, True),
        ((0.5, 0.6, 0.7, 0.8), None, False),
        ((0.5, 0.4, 0.3, 0.2), 1, False),
    ],
)
def test_patience(tmp_path: Path, losses: tuple[float, ...], patience: int, over: bool) -> None:
    kept = Checkpoints(tmp_path)
    kept.epochs = [{"val_loss": loss} for loss in losses]
    assert kept.out_of_patience(patience) is over


def test_the_times_of_resumed_parts_add_up(
    tmp_path: Path, model: keras.Model, clock: Clock
) -> None:
    for _ in range(2):
        kept = begun(tmp_path)
        timer = FitClock(kept)
        clock.now, clock.cpu = clock.now + 10, clock.cpu + 30
        kept.save(model, [*kept.epochs, {"loss": 1.0}], timer)
    assert (kept.seconds, kept.cpu_seconds) == (20, 60)


def test_time_between_the_parts_does_not_count(
    tmp_path: Path, model: keras.Model, clock: Clock
) -> None:
    save(begun(tmp_path), model, 0.5)
    clock.now += 1000
    save(begun(tmp_path), model, 0.5)
    assert begun(tmp_path).seconds == 0


def test_a_checkpoint_of_an_earlier_version_has_no_processor_time(
    tmp_path: Path, model: keras.Model
) -> None:
    save(begun(tmp_path), model, 0.5)
    state = json.loads((tmp_path / "state.json").read_text())
    del state["cpu_seconds"]
    (tmp_path / "state.json").write_text(json.dumps(state))
    kept = begun(tmp_path)
    assert kept.cpu_seconds is None
    assert FitClock(kept).read()[1] is None


def test_checkpoints_are_deleted_at_the_end(tmp_path: Path, model: keras.Model) -> None:
    with checkpoints(tmp_path / "run") as kept:
        kept.begin(SETTINGS, restart=False)
        save(kept, model, 0.5)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("epochs", [0, 1])
def test_after_an_error_only_finished_epochs_are_kept(
    tmp_path: Path, model: keras.Model, epochs: int
) -> None:
    def fail() -> None:
        with checkpoints(tmp_path / "run") as kept:
            kept.begin(SETTINGS, restart=False)
            save(kept, model, *([0.5] * epochs))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert len(list(tmp_path.iterdir())) == epochs


def test_one_process_trains_at_a_time(tmp_path: Path) -> None:
    with (
        checkpoints(tmp_path / "run"),
        pytest.raises(RunError, match="another process"),
        checkpoints(tmp_path / "run"),
    ):
        pass


@pytest.mark.parametrize("path", ["", "file/run"])
def test_a_target_that_exists_or_cannot_be_written(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FolderError), checkpoints(tmp_path / path):
        pass


def test_a_temperature_divides_the_logits(model: keras.Model) -> None:
    inputs = np.array([[1.0, -2.0]], np.float32)
    before = np.log(model.predict(inputs, verbose=0))
    apply_temperature(model, 2.0)
    after = np.log(model.predict(inputs, verbose=0))
    assert after[0, 0] - after[0, 1] == pytest.approx((before[0, 0] - before[0, 1]) / 2, abs=1e-5)


def test_the_inverse_of_a_temperature_undoes_it(model: keras.Model) -> None:
    before = model.get_weights()
    apply_temperature(model, 4.0)
    apply_temperature(model, 0.25)
    assert all((a == b).all() for a, b in zip(model.get_weights(), before, strict=True))


def test_without_validation_images_no_temperature_is_fitted(model: keras.Model) -> None:
    assert find_temperature(model, None) is None
