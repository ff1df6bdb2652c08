"""The companion that keeps a folder as a remote repository is: the process itself."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import requests
from s3fs import S3FileSystem
from tests.conftest import NAME, SHIPPED, free_port, serving
from tests.functional.serving.calls import eventually
from tests.functional.serving.candidates import sign
from tests.functional.serving.releases import FLAGS
from tests.functional.serving.stores import CREDENTIALS, new_bucket

from servable_client import Client
from servable_serving.repository.remote import Remote
from servable_serving.repository.sync import Mirror

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import pytest


@contextmanager
def companion(arguments: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`servable sync` in a process of its own."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "servable_client", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(60)


def often(url: str, models: Path, *flags: str) -> list[str]:
    """The command that looks all the time."""
    return ["sync", url, str(models), "--every", "100ms", *flags]


def until(condition: Callable[[], object], process: subprocess.Popen[bytes], log: Path) -> None:
    while not condition():
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)


def failed_looks(port: int) -> float:
    """How many looks have failed, as Prometheus is told."""
    text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
    found = re.search(r'^servable_sync_looks_total\{outcome="failed"\} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def stop(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(120)


def test_it_follows_and_ends_at_sigterm(tmp_path: Path) -> None:
    url, models, log = f"file://{tmp_path}/remote", tmp_path / "models", tmp_path / "log"
    port = free_port()
    remote = Remote(url)
    remote.label(NAME, remote.push(SHIPPED), "stable")
    config = models / "models.config"
    with companion(often(url, models, "--delete", f"--metrics-port={port}"), log) as process:
        until(config.exists, process, log)
        for version in (2, 3):
            remote.push(SHIPPED)
            for label in ("canary", "stable"):
                remote.label(NAME, version, label)
                until(lambda: config.read_text() == remote.config(), process, log)
                assert (models / NAME / str(version)).is_dir()
        until(lambda: not (models / NAME / "1").exists(), process, log)
        assert requests.get(f"http://127.0.0.1:{port}/healthz", timeout=60).status_code == 200
        metrics = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
        assert stop(process) == 0
    said = log.read_text()
    for line in (
        f"pulled version 1 of {NAME}", f"applied models.config: {NAME} stable 1",
        f"applied models.config: {NAME} stable 3", f"deleted version 1 of {NAME}",
    ):  # fmt: skip
        assert said.count(line) == 1, said
    # A line for each change, and none for the looks that found none.
    assert len(said.splitlines()) == 9, said
    pulled, success = (
        re.search(rf"^{name} (\S+)$", metrics, re.MULTILINE)
        for name in (
            r'servable_sync_versions_total\{change="pulled"\}',
            "servable_sync_last_success_timestamp_seconds",
        )
    )
    assert pulled is not None
    assert float(pulled[1]) >= 2  # the last look may not have ended
    assert success is not None
    assert abs(time.time() - float(success[1])) < 3600


def test_a_bucket_that_is_away_is_told_once_and_harms_nothing(s3: str, tmp_path: Path) -> None:
    models, log, metrics = tmp_path / "models", tmp_path / "log", free_port()
    bucket = new_bucket(s3)
    url = f"s3://{bucket}/models"
    remote = Remote(url)
    remote.label(NAME, remote.push(SHIPPED), "stable")
    with companion(often(url, models, f"--metrics-port={metrics}"), log) as process:
        until((models / "models.config").exists, process, log)
        before = (models / "models.config").read_text()
        S3FileSystem.clear_instance_cache()
        S3FileSystem().rm(bucket, recursive=True)
        until(lambda: failed_looks(metrics) >= 3, process, log)
        assert log.read_text().count("bucket does not exist") == 1
        assert (models / "models.config").read_text() == before
        assert (models / NAME / "1").is_dir()
        assert requests.put(f"{s3}/{bucket}", timeout=60).status_code == 200
        remote = Remote(url)
        remote.label(NAME, remote.push(SHIPPED), "stable")
        remote.label(NAME, remote.push(SHIPPED), "stable")
        until((models / NAME / "2").is_dir, process, log)
        until(lambda: f"syncing from {url} again" in log.read_text(), process, log)
        assert stop(process) == 0


def test_a_store_that_is_down_and_one_that_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is told of, and SIGTERM is heeded while the second is waited for."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with socket.socket() as store:
        store.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{store.getsockname()[1]}")
        log = tmp_path / "log"
        with companion(often("s3://kept/models", tmp_path / "models"), log) as process:
            until(lambda: "cannot reach s3://kept/models" in log.read_text(), process, log)
            store.listen()
            asked, _ = store.accept()
            with asked:
                assert stop(process) == 0
    assert "Traceback" not in log.read_text()


def test_it_needs_no_tensorflow(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/remote"
    remote = Remote(url)
    remote.label(NAME, remote.push(SHIPPED), "stable")
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['servable', 'sync', {url!r}, {str(tmp_path / 'models')!r}]\n"
        "try: runpy.run_module('servable_client', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(sorted({'tensorflow', 'keras'} & {n.partition('.')[0] for n in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr
    assert (tmp_path / "models" / NAME / "1").is_dir()


def test_callers_of_stable_feel_nothing(tinies: list[Path], tmp_path: Path) -> None:
    """From the bucket to the answers: pushes, promotions and deletions under callers.

    At first the companion asks no server whether a version is loaded, then it asks the one that
    reads its folder.
    """
    url, models = f"file://{tmp_path}/remote", tmp_path / "models"
    remote = Remote(url)
    remote.label("tiny", remote.push(tinies[0]), "stable")
    Mirror(url, models).sync()
    metrics = free_port()
    failed: list[Exception] = []
    seen: set[tuple[int | None, str]] = set()
    ended = threading.Event()
    picture = np.zeros([28, 28], np.uint8)

    def ask(address: str) -> None:
        try:
            with Client(address, model="tiny", label="stable", timeout=60) as client:
                while not ended.wait(0.01):
                    answer = client.classify(picture)
                    seen.add((answer.version, answer.label))
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    @contextmanager
    def synced(log: Path, *flags: str) -> Iterator[Callable[[int, Path | None], None]]:
        """A companion; gives what pushes a version and waits until callers get its answers."""
        with companion(often(url, models, "--delete", *flags), log) as process:

            def release(version: int, candidate: Path | None) -> None:
                # Listed and labelled in one change of the remote models.config.
                number = version if candidate is None else remote.push(candidate)
                assert number == version
                remote.label("tiny", number, "stable")
                # A caller's failure ends the wait as well.
                until(lambda: failed or admin.resolve(label="stable") == version, process, log)
                until(lambda: failed or version in {v for v, _ in list(seen)}, process, log)
                assert failed == []

            yield release
            assert stop(process) == 0

    with (
        serving(
            None, tmp_path / "server", f"--model_config_file={models / 'models.config'}",
            f"--model_repository_path={models}", *FLAGS, model="tiny",
        ) as server,
        Client(server.grpc, model="tiny") as admin,
    ):  # fmt: skip
        callers = [
            threading.Thread(target=ask, args=[address]) for address in (server.grpc, server.http)
        ]
        for caller in callers:
            caller.start()
        try:
            with synced(tmp_path / "log of the first") as release:
                release(2, tinies[1])
            log = tmp_path / "log"
            flags = ("--server", server.grpc, f"--metrics-port={metrics}")
            with synced(log, *flags) as release:
                release(3, tinies[2])
                eventually(lambda: not (models / "tiny" / "1").exists())
                # One that cannot be loaded: labels stay, and are told to.
                broken = with_broken_graph(tinies[0], tmp_path / "broken")
                remote.label("tiny", remote.push(broken), "stable")
                eventually(lambda: "version 4 failed to load" in log.read_text())
                # Also at the looks after that, at which it is listed already.
                start = failed_looks(metrics)
                eventually(lambda: failed_looks(metrics) > start + 2)
                assert admin.resolve(label="stable") == 3
                release(2, None)
        finally:
            ended.set()
            for caller in callers:
                caller.join()
        assert failed == []
    # Each version says another class, and each answer is its version's.
    assert {version for version, _ in seen} == {1, 2, 3}
    assert len(seen) == 3


def with_broken_graph(candidate: Path, folder: Path) -> Path:
    """A candidate whose graph is none, by its own manifest."""
    shutil.copytree(candidate, folder)
    (folder / "saved_model.pb").write_bytes(b"no graph")
    sign(folder)
    return folder
