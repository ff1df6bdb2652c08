"""Warm-up records: what is replayed, and what fails a load."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.unit.serving.server.fakes import FakeModel

from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import to_proto
from servable_serving.core.errors import ModelError
from servable_serving.core.names import CLASSIFY_METHOD, WARMUP
from servable_serving.server.lifecycle.warmup import MAX_RECORDS, warm_up

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = wire.Input(example_list=wire.ExampleList(examples=[wire.Example()]))
PREDICT = wire.PredictionLog(
    predict_log=wire.PredictLog(
        request=wire.PredictRequest(
            model_spec=wire.ModelSpec(name="m"),
            inputs={"x": to_proto(np.zeros(1, np.float32))},
        )
    )
)
CLASSIFY = wire.PredictionLog(
    classify_log=wire.ClassifyLog(
        request=wire.ClassificationRequest(
            model_spec=wire.ModelSpec(signature_name="classify"), input=EXAMPLES
        )
    )
)
REGRESS = wire.PredictionLog(
    regress_log=wire.RegressLog(
        request=wire.RegressionRequest(
            model_spec=wire.ModelSpec(signature_name="regress"), input=EXAMPLES
        )
    )
)
MULTI_INFERENCE = wire.PredictionLog(
    multi_inference_log=wire.MultiInferenceLog(
        request=wire.MultiInferenceRequest(
            tasks=[
                wire.InferenceTask(
                    model_spec=wire.ModelSpec(name="m", signature_name="classify"),
                    method_name=CLASSIFY_METHOD,
                )
            ],
            input=EXAMPLES,
        )
    )
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A version's folder with a file of records."""
    (tmp_path / WARMUP).parent.mkdir(parents=True)
    (tmp_path / WARMUP).write_bytes(b"")
    return tmp_path


def replay(folder: Path, *records: wire.PredictionLog | bytes) -> FakeModel:
    model = FakeModel()
    data = [r if isinstance(r, bytes) else r.SerializeToString() for r in records]
    assert warm_up(model, folder, read=lambda _: data) == len(records)
    return model


def refused(folder: Path, *records: wire.PredictionLog | bytes) -> ModelError:
    with pytest.raises(ModelError) as raised:
        replay(folder, *records)
    return raised.value


def test_a_version_without_records_is_not_warmed_up(tmp_path: Path) -> None:
    assert warm_up(FakeModel(), tmp_path) == 0


@pytest.mark.parametrize(
    ("record", "api"),
    [
        (PREDICT, "Predict"),
        (CLASSIFY, "Classify"),
        (REGRESS, "Regress"),
        (MULTI_INFERENCE, "MultiInference"),
    ],
    ids=["predict", "classify", "regress", "multi_inference"],
)
def test_a_record_is_replayed(folder: Path, record: wire.PredictionLog, api: str) -> None:
    assert replay(folder, record).ran == [api]


def test_records_are_replayed_in_their_order(folder: Path) -> None:
    assert replay(folder, REGRESS, PREDICT, CLASSIFY).ran == ["Regress", "Predict", "Classify"]


def test_an_empty_record_is_passed_over(folder: Path) -> None:
    assert replay(folder, b"").ran == []


@pytest.mark.parametrize(
    ("record", "number"),
    [
        (wire.PredictionLog(session_run_log=wire.SessionRunLog()), "5"),
        (wire.PredictionLog(predict_streamed_log=wire.PredictStreamedLog()), "7"),
    ],
    ids=["session_run", "predict_streamed"],
)
def test_a_record_of_another_kind_fails_the_load(
    folder: Path, record: wire.PredictionLog, number: str
) -> None:
    error = refused(folder, record)
    assert error.code == "UNIMPLEMENTED"
    assert error.message.endswith(number)


def test_a_record_that_is_no_message_is_named_by_its_bytes(folder: Path) -> None:
    error = refused(folder, PREDICT, b"\xffa\xc3\xa9")
    assert error.code == "INVALID_ARGUMENT"
    assert error.message == f"Failed to parse warmup record:  aé from {folder / WARMUP}"


def test_as_many_records_as_the_limit_are_replayed(folder: Path) -> None:
    replay(folder, *[b""] * MAX_RECORDS)


def test_more_records_than_the_limit_fail_the_load(folder: Path) -> None:
    assert refused(folder, *[b""] * (MAX_RECORDS + 1)).code == "INVALID_ARGUMENT"


def test_a_record_that_the_model_refuses_fails_the_load(folder: Path) -> None:
    model = FakeModel()
    model.error = ModelError("RESOURCE_EXHAUSTED", "out of memory")
    with pytest.raises(ModelError) as raised:
        warm_up(model, folder, read=lambda _: [PREDICT.SerializeToString()])
    assert raised.value.code == "RESOURCE_EXHAUSTED"
