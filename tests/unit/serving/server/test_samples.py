"""Requests that are kept with their answers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from servable_client._wire import wire_pb2 as wire
from servable_serving.server import samples as module
from servable_serving.server.samples import Samples

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Lines:
    """Writes each record as a line of hexadecimal digits."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w")

    def write(self, record: bytes) -> None:
        self._file.write(record.hex() + "\n")

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> list[wire.PredictionLog]:
    return [wire.PredictionLog.FromString(bytes.fromhex(s)) for s in path.read_text().split()]


def log(text: str = "", size: int = 0) -> Callable[[], wire.PredictionLog]:
    def make() -> wire.PredictionLog:
        found = wire.PredictionLog()
        request = found.predict_log.request
        request.model_spec.signature_name = text
        request.inputs["x"].tensor_content = bytes(size)
        return found

    return make


def keeping(folder: Path, **options: Any) -> Samples:
    given = {"share": 1.0, "keep_bytes": 1 << 30, "open_writer": Lines, **options}
    return Samples(folder, **given)


def test_each_version_has_a_file_of_its_own(tmp_path: Path) -> None:
    kept = keeping(tmp_path / "new" / "folder")
    kept.take("shoes", 1, log("a"))
    kept.take("shoes", 2, log("b"))
    kept.take("shoes", 1, log("c"))
    kept.close()
    one, two = sorted((tmp_path / "new" / "folder" / "shoes").iterdir())
    assert (one.name[:2], two.name[:2], one.suffix) == ("1-", "2-", ".tfrecord")
    names = [record.predict_log.request.model_spec.signature_name for record in read(one)]
    assert names == ["a", "c"]
    (record,) = read(two)
    assert record.log_metadata.model_spec.name == "shoes"
    assert record.log_metadata.model_spec.version.value == 2
    assert record.log_metadata.sampling_config.sampling_rate == 1
    assert dict(kept.counts) == {"kept": 3}


def test_files_are_their_owners_alone(tmp_path: Path) -> None:
    kept = keeping(tmp_path)
    kept.take("shoes", 1, log())
    kept.close()
    (path,) = (tmp_path / "shoes").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_share_is_kept(tmp_path: Path) -> None:
    kept = keeping(tmp_path, share=0.25)
    made = 0

    def make() -> wire.PredictionLog:
        nonlocal made
        made += 1
        return wire.PredictionLog()

    for _ in range(2000):
        kept.take("shoes", 1, make)
    kept.close()
    assert 350 < made < 650
    assert sum(kept.counts.values()) == made
    none = keeping(tmp_path / "none", share=0)
    none.take("shoes", 1, log())
    none.close()
    assert not list((tmp_path / "none").iterdir())


@pytest.mark.parametrize("model", ["../up", "..", ".", "a/b", "", "ä b"])
def test_no_name_of_a_model_leaves_the_folder(tmp_path: Path, model: str) -> None:
    kept = keeping(tmp_path / "in")
    kept.take(model, 1, log())
    kept.close()
    assert len(list((tmp_path / "in").glob("*/*.tfrecord"))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_the_oldest_files_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FILE_BYTES", 1)
    kept = keeping(tmp_path, keep_bytes=3000)
    for number in range(10):
        kept.take("shoes", 1, log(str(number), size=500))
    kept.close()
    found = [read(path)[0] for path in (tmp_path / "shoes").iterdir()]
    left = sorted(one.predict_log.request.model_spec.signature_name for one in found)
    assert left == ["8", "9"]
    assert sum(path.stat().st_size for path in (tmp_path / "shoes").iterdir()) <= 3000


def test_a_file_is_visible_when_it_is_whole(tmp_path: Path) -> None:
    seconds = [1000.0]
    written = threading.Event()

    class Told(Lines):
        def flush(self) -> None:
            super().flush()
            written.set()

    kept = keeping(tmp_path, open_writer=Told, clock=lambda: seconds[0])
    kept.take("shoes", 1, log("first"))
    assert written.wait(60)
    assert [path.name[:10] for path in (tmp_path / "shoes").iterdir()] == [".incoming-"]
    seconds[0] += 601
    written.clear()
    kept.take("shoes", 1, log("second"))
    assert written.wait(60)
    (whole,) = (tmp_path / "shoes").glob("1-*.tfrecord")
    assert len(read(whole)) == 1
    kept.close()
    assert len(list((tmp_path / "shoes").glob("1-*.tfrecord"))) == 2


def test_a_disk_that_is_full_costs_records_and_no_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full = True

    class Full(Lines):
        def write(self, record: bytes) -> None:
            if full:
                raise OSError(28, "No space left on device")
            super().write(record)

    kept = keeping(tmp_path, open_writer=Full)
    for _ in range(3):
        kept.take("shoes", 1, log())
    while kept.counts["dropped"] < 3:
        os.sched_yield()
    full = False
    kept.take("shoes", 1, log("after"))
    kept.close()
    assert dict(kept.counts) == {"dropped": 3, "kept": 1}
    assert len(list((tmp_path / "shoes").iterdir())) == 1
    (warning,) = (record for record in caplog.records if record.name == "servable.samples")
    assert "No space left" in warning.getMessage()


def test_what_does_not_fit_into_memory_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_WAITING_BYTES", 1000)
    kept = keeping(tmp_path)
    kept.take("shoes", 1, log(size=2000))
    kept.close()
    assert dict(kept.counts) == {"dropped": 1}


def test_what_is_too_large_is_not_kept(tmp_path: Path) -> None:
    kept = keeping(tmp_path)
    kept.take("shoes", 1, lambda: None)
    kept.close()
    assert dict(kept.counts) == {"dropped": 1}


def test_files_of_a_process_that_was_killed_become_visible(tmp_path: Path) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    host = socket.gethostname()
    (tmp_path / "m").mkdir()
    for name in (f"1-a-{host}-{dead}.1", f"1-b-{host}-{os.getppid()}.1", f"1-c-elsewhere-{dead}.1"):
        (tmp_path / "m" / f".incoming-{name}.tfrecord").write_text("")
    keeping(tmp_path).close()
    shown = [path.name for path in (tmp_path / "m").iterdir() if path.name[0] != "."]
    assert shown == [f"1-a-{host}-{dead}.1.tfrecord"]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        keeping(tmp_path / "file")
