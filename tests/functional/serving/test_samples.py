"""`--log_requests_to`: requests with their answers, which can be replayed."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import requests
from tests.conftest import NAME, SHIPPED, only_sentence, serving
from tests.forked import servable

from servable_client import Client
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import from_proto
from servable_serving.server.lifecycle.warmup import read_records

if TYPE_CHECKING:
    from pathlib import Path

    from servable_trainer.data.dataset import Dataset


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    shutil.copytree(SHIPPED, tmp_path / NAME / "1")
    return tmp_path / NAME


def records(folder: Path) -> list[wire.PredictionLog]:
    return [
        wire.PredictionLog.FromString(record)
        for path in sorted(folder.glob(f"{NAME}/*.tfrecord"))
        for record in read_records(path)
    ]


def test_requests_of_both_protocols_are_kept_and_warm_a_version_up(
    repository: Path, dataset: Dataset, tmp_path: Path
) -> None:
    images, kept = dataset.test.images[:8], tmp_path / "kept"
    flags = (f"--log_requests_to={kept}", "--log_requests_share=1")
    monitoring = tmp_path / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    with serving(
        repository, tmp_path / "log", *flags, f"--monitoring_config_file={monitoring}"
    ) as server:
        answers = []
        for address in (server.grpc, server.http):
            with Client(address, model=NAME) as client:
                answers.append(client.predict({"image": images})["probabilities"])
        refused = requests.post(f"{server.http}/v1/models/{NAME}:predict", data="{", timeout=60)
        assert refused.status_code == 400
        metrics = requests.get(f"{server.http}/monitoring/prometheus/metrics", timeout=60).text
        assert 'servable_request_samples_total{outcome="dropped"} 0.0' in metrics
    found = records(kept)
    assert len(found) == 2
    for log, answer in zip(found, answers, strict=True):
        assert (log.log_metadata.model_spec.name, log.log_metadata.model_spec.version.value) == (
            NAME, 1,
        )  # fmt: skip
        request, response = log.predict_log.request, log.predict_log.response
        np.testing.assert_array_equal(from_proto(request.inputs["image"]), images)
        np.testing.assert_allclose(from_proto(response.outputs["probabilities"]), answer, rtol=1e-5)
        assert response.model_spec.version.value == 1
    # As they are, they are warm-up records of the next version.
    (path,) = kept.glob(f"{NAME}/*.tfrecord")
    shutil.copytree(SHIPPED, repository / "2")
    shutil.copy(path, repository / "2" / "assets.extra" / "tf_serving_warmup_requests")
    with serving(repository, tmp_path / "log") as server, Client(server.grpc, model=NAME) as client:
        assert client.predict({"image": images}).version == 2
    assert re.search(r"version 2.*2 warm-up records", (tmp_path / "log").read_text())


def test_versions_are_compared_by_the_requests_that_were_kept(
    repository: Path, tinies: list[Path], dataset: Dataset, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    with (
        serving(
            repository, tmp_path / "log", f"--log_requests_to={kept}", "--log_requests_share=1"
        ) as server,
        Client(server.grpc, model=NAME) as client,
    ):
        for first in range(0, 40, 10):
            client.predict({"image": dataset.test.images[first : first + 10]})
    few = tmp_path / "few.npz"
    np.savez(few, images=dataset.test.images[:10], targets=dataset.test.targets[:10])
    at = ("--repository", repository, "--holdout", few)
    done = servable("diff", "1", tinies[1], *at, "--requests", kept, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["requests"]
    assert (found["requests"], found["rows"], found["failed"]) == (4, 40, [0, 0])
    assert 20 < found["differ"] <= 40  # the other one says the same of every image
    assert len(found["examples"]) == 5
    shown = servable("diff", "1", "1", *at, "--requests", kept).stdout
    assert "answers differ in 0 of 40 rows (0.00%) of 4 requests" in shown
    done = servable("diff", "1", "1", *at, "--requests", tmp_path / "log")
    assert "is not a file of kept requests" in only_sentence(done)


def test_a_folder_that_cannot_be_written_ends_the_start(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = servable(
        "serve", f"--model_base_path={repository}", f"--log_requests_to={tmp_path / 'file'}"
    )
    assert "--log_requests_to" in done.stderr
    assert "cannot write to" in only_sentence(done)
