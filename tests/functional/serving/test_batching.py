"""Batches across the requests of 16 callers of one server."""

from __future__ import annotations

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import tensorflow as tf
from tests.conftest import serving
from tests.functional.serving.calls import PREDICTION, call, config_of, post, slow

from servable_serving.repository.manifest import MANIFEST

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from tests.conftest import RunningServer

    Answer = Future[dict[str, NDArray[Any]]]


def test_sixteen_callers_share_runs_and_get_their_own_answers(
    slow_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "batching").write_text(
        "max_batch_size { value: 64 } batch_timeout_micros { value: 2000 } "
        "num_batch_threads { value: 1 } max_enqueued_batches { value: 100 }"
    )
    with serving(
        slow_model, tmp_path / "log",
        "--enable_batching", f"--batching_parameters_file={tmp_path / 'batching'}", model="slow",
    ) as server:  # fmt: skip
        assert runs_of(server, callers=1, each=20) == 20
        assert runs_of(server, callers=16, each=20) < 16 * 20 / 2


def test_without_the_flag_only_models_known_to_be_fit_for_it_share_runs(
    slow_model: Path, tmp_path: Path
) -> None:
    for name in ("slow", "known"):
        shutil.copytree(slow_model, tmp_path / name)
    # The mark of what Servable exported, whose rows are independent of each other.
    (tmp_path / "known/1/assets.extra").mkdir()
    (tmp_path / "known/1" / MANIFEST).write_text("{}")
    config = tmp_path / "models.config"
    config.write_text(config_of({"slow": tmp_path / "slow", "known": tmp_path / "known"}))
    with serving(None, tmp_path / "log", f"--model_config_file={config}", model="known") as server:
        assert runs_of(server, callers=16, each=10, model="known") < 16 * 10
        assert runs_of(server, callers=16, each=10) == 16 * 10


def runs_of(server: RunningServer, *, callers: int, each: int, model: str = "slow") -> int:
    """Ask, hold each answer against its question, and count the runs that it took."""

    def ask(caller: int) -> float:
        runs = 0.0
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            for number in range(each):
                # Two callers in three say what gRPC is for, and the third REST.
                mine = [5 + caller % 3, number % 3]
                if caller % 3:
                    answer = call(channel, f"{PREDICTION}Predict", slow(mine, model=model))
                    steps = tf.make_ndarray(answer.outputs["steps"]).tolist()
                    rows = tf.make_ndarray(answer.outputs["rows"]).tolist()
                else:
                    reply = post(server, {"inputs": mine}, f"{model}:predict")
                    steps, rows = (reply.json()["outputs"][key] for key in ("steps", "rows"))
                assert steps == mine
                assert rows[0] == rows[1] >= 2
                # Its own share of the run that it was part of.
                runs += 2 / rows[0]
        return runs

    with ThreadPoolExecutor(callers) as executor:
        return round(sum(executor.map(ask, range(callers))))
