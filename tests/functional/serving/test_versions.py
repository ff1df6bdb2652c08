"""Versions that come and go, break and return, while requests are answered."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.conftest import NAME, SHIPPED, serving
from tests.functional.serving.calls import eventually

from servable_client import (
    Client,
    ModelNotFound,
    NotReady,
    ServableError,
    ServerFailed,
)
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import to_proto
from servable_serving.repository.local import Repository

if TYPE_CHECKING:
    from pathlib import Path

    from servable_trainer.data.dataset import Dataset


def test_versions_come_and_go_under_load(candidate: Path, dataset: Dataset, tmp_path: Path) -> None:
    repository = Repository(tmp_path / NAME)
    repository.push(SHIPPED)
    failures: list[ServableError] = []
    seen: list[int | None] = []
    stopping = threading.Event()

    def ask(address: str) -> None:
        with Client(address, model=NAME) as client:
            while not stopping.wait(0.02):
                try:
                    seen.append(client.classify(dataset.test.images[0]).version)
                except ServableError as error:
                    failures.append(error)

    with (
        serving(repository.path, tmp_path / "log") as server,
        Client(server.grpc, model=NAME) as client,
    ):
        callers = [
            threading.Thread(target=ask, args=(address,))
            for address in (server.grpc, server.grpc, server.http)
        ]
        for caller in callers:
            caller.start()
        try:
            assert repository.push(candidate) == 2
            assert client.wait_until_available(2) == 2
            # The older one goes once the newer one is there, and never before.
            eventually(lambda: [v.state for v in client.status()] == ["AVAILABLE", "END"])
            shutil.move(repository.path / "2", tmp_path / "2")
            eventually(lambda: [v.state for v in client.status()] == ["END", "AVAILABLE"])
            shutil.move(tmp_path / "2", repository.path / "2")
            eventually(lambda: [v.state for v in client.status()] == ["AVAILABLE", "END"])
        finally:
            stopping.set()
            for caller in callers:
                caller.join()
        assert not failures
        assert {1, 2} <= set(seen)

        # A folder that cannot be listed says nothing; one that is empty says that all is gone.
        repository.path.rename(tmp_path / "away")
        eventually(lambda: "cannot list" in server.log.read_text())
        assert client.classify(dataset.test.images[0]).version == 2
        (tmp_path / "away").rename(repository.path)
        for version in ("1", "2"):
            shutil.rmtree(repository.path / version)
        eventually(lambda: all(v.state == "END" for v in client.status()))
        with pytest.raises(ModelNotFound):
            client.classify(dataset.test.images[0])


def test_a_broken_version_leaves_the_older_one_serving(dataset: Dataset, tmp_path: Path) -> None:
    base = tmp_path / NAME
    shutil.copytree(SHIPPED, base / "1")
    with (
        serving(base, tmp_path / "log", "--max_num_load_retries=0") as server,
        Client(server.grpc, model=NAME) as client,
    ):
        incoming = base / ".incoming-test"
        incoming.mkdir()
        (incoming / "saved_model.pb").write_bytes(b"this is no SavedModel")
        incoming.rename(base / "2")
        with pytest.raises(ServerFailed, match="Can't parse") as caught:
            client.wait_until_available(2)
        assert caught.value.code == "DATA_LOSS"
        assert client.classify(dataset.test.images[0]).version == 1

        # A graph without its weights.
        shutil.copytree(SHIPPED, incoming)
        shutil.rmtree(incoming / "variables")
        incoming.rename(base / "3")
        with pytest.raises(ServerFailed):
            client.wait_until_available(3)

        # A warm-up record that the model refuses, and a file of records that is none.
        for version, spoil in (("4", refused_record), ("5", no_record)):
            shutil.copytree(SHIPPED, incoming)
            reason = spoil(incoming / "assets.extra" / "tf_serving_warmup_requests")
            incoming.rename(base / version)
            with pytest.raises(ServerFailed, match=reason):
                client.wait_until_available(int(version))
        assert client.classify(dataset.test.images[0]).version == 1

        # Taken away and brought back whole, the same number is a new chance.
        shutil.rmtree(base / "5")
        # The latest is then the fourth, which gets another chance too.
        eventually(lambda: server.log.read_text().count("version 4 failed to load") == 2)
        shutil.copytree(SHIPPED, incoming)
        incoming.rename(base / "5")
        eventually(lambda: client.status()[0].state == "AVAILABLE")
        assert client.classify(dataset.test.images[0]).version == 5


def refused_record(path: Path) -> str:
    log = wire.PredictionLog()
    log.predict_log.request.model_spec.name = NAME
    log.predict_log.request.inputs["image"].CopyFrom(to_proto(np.zeros([1, 28, 28], np.float32)))
    write_records(path, [log])
    return "to be uint8 but float is provided"


def no_record(path: Path) -> str:
    path.unlink()
    path.symlink_to("/proc/self/mem")
    return "."


def write_records(path: Path, logs: list[wire.PredictionLog]) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


def test_a_version_that_is_loading_is_not_ready(tmp_path: Path, dataset: Dataset) -> None:
    base = tmp_path / NAME
    shutil.copytree(SHIPPED, base / "1")
    with serving(base, tmp_path / "log") as server:
        # Slow to load: fifteen thousand pictures come before the first.
        slow = base / ".incoming-slow"
        shutil.copytree(SHIPPED, slow)
        log = wire.PredictionLog()
        log.predict_log.request.model_spec.name = NAME
        log.predict_log.request.inputs["image"].CopyFrom(to_proto(dataset.test.images[:500]))
        write_records(slow / "assets.extra" / "tf_serving_warmup_requests", [log] * 30)
        slow.rename(base / "2")
        with (
            Client(server.grpc, model=NAME) as any_version,
            Client(server.grpc, model=NAME, version=2) as client,
        ):
            eventually(lambda: any_version.status()[0].state == "LOADING")
            with pytest.raises(NotReady) as caught:
                client.classify(dataset.test.images[0])
            assert caught.value.code == "NOT_FOUND"
            # Beside the load the older version answers.
            assert any_version.classify(dataset.test.images[0]).version == 1
            assert client.wait_until_available(timeout=120) == 2


def test_what_counts_as_a_version(tmp_path: Path) -> None:
    base = tmp_path / NAME
    shutil.copytree(SHIPPED, base / "0007")
    for name in ("v9", "9.tmp", "\N{SUPERSCRIPT TWO}", "9" * 20, ".incoming-9", "-3"):
        shutil.copytree(SHIPPED, base / name)
    with (
        serving(base, tmp_path / "log", "--max_num_load_retries=0") as server,
        Client(server.grpc, model=NAME) as client,
    ):
        # A negative number is one too, but not the latest.
        assert [v.version for v in client.status()] == [7]
        # And so is a file, which then fails to load.
        (base / "10").write_text("a file")
        eventually(lambda: len(client.status()) == 2)
        with pytest.raises(ServerFailed):
            client.wait_until_available(10)
        assert [(v.version, v.state) for v in client.status()] == [(10, "END"), (7, "AVAILABLE")]
