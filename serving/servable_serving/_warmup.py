"""Warm-up records: requests that a model answers before it is available.

https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from servable_client._tensors import from_proto
from servable_client._wire import wire_pb2 as wire
from servable_serving._predict import run, signature_of
from servable_serving._saved_model import ModelError, SavedModel

# Where a version keeps them.
WARMUP = Path("assets.extra/tf_serving_warmup_requests")
MAX_RECORDS = 1000


def warm_up(model: SavedModel, folder: Path) -> int:
    """Replay the records of a version.

    Returns:
        How many there were.

    Raises:
        ModelError: One failed, or the file is damaged or too long: the load fails with it.
    """
    path = folder / WARMUP
    if not path.is_file():
        return 0
    count = 0
    try:
        for data in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            count += 1
            if count > MAX_RECORDS:
                raise ModelError(
                    "INVALID_ARGUMENT",
                    f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}",
                )
            _replay(model, wire.PredictionLog.FromString(data))
    except tf.errors.DataLossError as error:
        raise ModelError("DATA_LOSS", f"{error.message} Please verify your data.") from error
    except DecodeError as error:
        raise ModelError(
            "INVALID_ARGUMENT", f"Failed to parse warmup record: {count} from {path}"
        ) from error
    return count


def _replay(model: SavedModel, log: wire.PredictionLog) -> None:
    if log.HasField("predict_log"):
        request = log.predict_log.request
        signature = request.model_spec.signature_name
        inputs = {name: from_proto(tensor) for name, tensor in request.inputs.items()}
    elif log.HasField("classify_log"):
        classify = log.classify_log.request
        signature = classify.model_spec.signature_name
        examples = classify.input.example_list.examples
        serialized = np.array([example.SerializeToString() for example in examples], object)
        inputs = dict.fromkeys(signature_of(model, signature)[1].inputs, serialized)
    else:
        raise ModelError("UNIMPLEMENTED", "Unsupported log_type for warmup: REGRESS_LOG")
    run(model, signature_of(model, signature)[0], inputs)
