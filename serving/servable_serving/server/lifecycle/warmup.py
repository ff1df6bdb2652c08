"""Warm-up records: requests that a model answers before it is available.

https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from servable_client._wire import wire_pb2 as wire
from servable_serving.core.errors import ModelError, invalid
from servable_serving.core.names import WARMUP
from servable_serving.server.api.classify_regress import classify, multi_inference, regress
from servable_serving.server.api.predict import predict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from servable_serving.server.runtime.model import Model

MAX_RECORDS = 1000
_ESCAPED = re.compile("[\udc80-\udcff]")


def read_records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file.

    Raises:
        ModelError: It is damaged; `code` is DATA_LOSS.
    """
    from tensorflow.python.framework.errors import DataLossError
    from tensorflow.python.lib.io._pywrap_record_io import RecordIterator

    try:
        yield from RecordIterator(str(path), "")
    except DataLossError as error:
        raise ModelError(
            "DATA_LOSS",
            f"{error.message}. Please verify your warmup data is in TFRecord format.",
        ) from error


def record_writer(path: Path) -> Any:
    """A writer of a new TFRecord file, with `write`, `flush` and `close`."""
    from tensorflow.python.lib.io._pywrap_record_io import RecordWriter, RecordWriterOptions

    return RecordWriter(str(path), RecordWriterOptions(""))


def warm_up(
    model: Model,
    folder: Path,
    *,
    times: int = 1,
    read: Callable[[Path], Iterable[bytes]] = read_records,
) -> int:
    """Replay the records of a version.

    Args:
        model: The version.
        folder: Its folder.
        times: How often each record is replayed.
        read: Reads a file of records.

    Returns:
        How many there were.

    Raises:
        ModelError: One failed, or the file is damaged or too long: the load fails with it.
    """
    path = folder / WARMUP
    if not path.is_file():
        return 0
    count, data = 0, b""
    try:
        for data in read(path):
            count += 1
            if count > MAX_RECORDS:
                raise invalid(
                    f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}",
                )
            log = wire.PredictionLog.FromString(data)
            for _ in range(times):
                _replay(model, log)
    except DecodeError as error:
        # As the status API writes bytes that are not valid UTF-8.
        text = _ESCAPED.sub(" ", data.decode(errors="surrogateescape"))
        raise invalid(f"Failed to parse warmup record: {text} from {path}") from error
    return count


def _replay(model: Model, log: wire.PredictionLog) -> None:
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        predict(model, log.predict_log.request)
    elif kind == "classify_log":
        classified = log.classify_log.request
        classify(model, classified.model_spec.signature_name, classified.input)
    elif kind == "regress_log":
        regressed = log.regress_log.request
        regress(model, regressed.model_spec.signature_name, regressed.input)
    elif kind == "multi_inference_log":
        several = log.multi_inference_log.request
        multi_inference(model, several.tasks, several.input)
    elif kind is not None:
        number = log.DESCRIPTOR.fields_by_name[kind].number
        raise ModelError("UNIMPLEMENTED", f"Unsupported log_type for warmup: {number}")
