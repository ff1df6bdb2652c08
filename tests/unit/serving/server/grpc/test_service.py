"""The gRPC methods from messages to messages, over fake models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pytest
from google.protobuf import text_format

from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import from_proto, to_proto
from servable_serving.core.errors import ModelError
from servable_serving.core.names import CLASSIFY_METHOD, REGRESS_METHOD
from servable_serving.server.grpc.service import Call, GrpcService
from servable_serving.server.limits import Limits
from servable_serving.server.telemetry import RequestRecord

if TYPE_CHECKING:
    from tests.unit.serving.server.fakes import FakeModel, Registered


class Api:
    """The service over a model `m` with the version 1, labelled stable."""

    def __init__(self, registered: Registered) -> None:
        registered.configure(registered.settings("m", 1))
        registered.configure(registered.settings("m", 1, stable=1))
        self.registered = registered
        self.service = GrpcService(registered.models, Limits())
        self.record = RequestRecord(entrypoint="GRPC")

    @property
    def model(self) -> FakeModel:
        return self.registered.load.models[0]

    def call(self, method: str, request: Any, call: Call | None = None) -> Any:
        called = getattr(self.service, method)
        return called(request, self.record, call or Call())

    def refused(self, method: str, request: Any) -> str | None:
        with pytest.raises(ModelError) as raised:
            self.call(method, request)
        return raised.value.code


@pytest.fixture
def api(registered: Registered) -> Api:
    return Api(registered)


def spec(name: str = "m", version: int | None = None, label: str = "", signature: str = "") -> Any:
    made = wire.ModelSpec(name=name, signature_name=signature)
    if version is not None:
        made.version.value = version
    if label:
        made.version_label = label
    return made


def predict(*values: float, **kwargs: Any) -> wire.PredictRequest:
    x = to_proto(np.array(values, np.float32))
    return wire.PredictRequest(model_spec=spec(**kwargs), inputs={"x": x})


def examples(count: int = 1) -> wire.Input:
    return wire.Input(example_list=wire.ExampleList(examples=[wire.Example()] * count))


def test_predict(api: Api) -> None:
    response = api.call("predict", predict(1, 2.5))
    assert from_proto(response.outputs["y"]).tolist() == [2, 5]


def test_predict_names_the_model_the_version_and_the_signature(api: Api) -> None:
    response = api.call("predict", predict(1))
    assert response.model_spec == spec(version=1, signature="serving_default")


@pytest.mark.parametrize("which", [{"version": 1}, {"label": "stable"}])
def test_predict_by_version_or_label(api: Api, which: dict[str, Any]) -> None:
    assert api.call("predict", predict(1, **which)).model_spec.version.value == 1


def test_predict_gives_the_outputs_asked_for(api: Api) -> None:
    request = predict(1)
    request.output_filter.append("y")
    assert set(api.call("predict", request).outputs) == {"y"}


@pytest.mark.parametrize(
    ("which", "code"),
    [
        ({"name": ""}, "INVALID_ARGUMENT"),
        ({"name": "nosuch"}, "NOT_FOUND"),
        ({"version": 2}, "NOT_FOUND"),
        ({"label": "nosuch"}, "INVALID_ARGUMENT"),
        ({"signature": "nosuch"}, "FAILED_PRECONDITION"),
    ],
)
def test_predict_of_what_is_not_there(api: Api, which: dict[str, Any], code: str) -> None:
    assert api.refused("predict", predict(1, **which)) == code


def test_a_missing_input_is_invalid(api: Api) -> None:
    assert api.refused("predict", wire.PredictRequest(model_spec=spec())) == "INVALID_ARGUMENT"


def test_an_input_of_another_name_is_invalid(api: Api) -> None:
    request = wire.PredictRequest(model_spec=spec(), inputs={"z": to_proto(np.zeros(1))})
    assert api.refused("predict", request) == "INVALID_ARGUMENT"


def test_an_unknown_output_is_invalid(api: Api) -> None:
    request = predict(1)
    request.output_filter.append("nosuch")
    assert api.refused("predict", request) == "INVALID_ARGUMENT"


def test_an_output_asked_for_twice_is_invalid(api: Api) -> None:
    request = predict(1)
    request.output_filter.extend(["y", "y"])
    assert api.refused("predict", request) == "INVALID_ARGUMENT"


def test_a_tensor_whose_shape_is_not_that_of_its_values_is_invalid(api: Api) -> None:
    request = predict(1)
    request.inputs["x"].tensor_shape.dim[0].size = 1 << 40
    assert api.refused("predict", request) == "INVALID_ARGUMENT"


def test_the_record_learns_the_model_and_the_version(api: Api) -> None:
    api.call("predict", predict(1))
    assert (api.record.model, api.record.version) == ("m", 1)


def test_the_record_of_an_unknown_model_has_its_name(api: Api) -> None:
    api.refused("predict", predict(1, name="nosuch"))
    assert (api.record.model, api.record.version) == ("nosuch", None)


def test_the_callers_deadline_is_the_models(api: Api) -> None:
    api.call("predict", predict(1), Call(deadline=107.0))
    assert api.model.deadlines == [107.0]


def test_a_caller_without_a_deadline_waits_for_ever(api: Api) -> None:
    api.call("predict", predict(1))
    assert api.model.deadlines == [None]


def test_classify(api: Api) -> None:
    request = wire.ClassificationRequest(model_spec=spec(signature="classify"), input=examples(2))
    response = api.call("classify", request)
    found = [[(c.label, c.score) for c in row.classes] for row in response.result.classifications]
    assert found == [[("a", 0.75), ("b", 0.25)]] * 2
    assert response.model_spec == spec(version=1, signature="classify")


def test_regress(api: Api) -> None:
    request = wire.RegressionRequest(model_spec=spec(signature="regress"), input=examples(2))
    response = api.call("regress", request)
    assert [regression.value for regression in response.result.regressions] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("method", "request_type"),
    [("classify", wire.ClassificationRequest), ("regress", wire.RegressionRequest)],
)
def test_no_examples_are_invalid(api: Api, method: str, request_type: Any) -> None:
    assert api.refused(method, request_type(model_spec=spec(signature=method))) == (
        "INVALID_ARGUMENT"
    )


def tasks(*pairs: tuple[str, str], name: str = "m") -> wire.MultiInferenceRequest:
    return wire.MultiInferenceRequest(
        tasks=[
            wire.InferenceTask(model_spec=spec(name, signature=signature), method_name=method)
            for signature, method in pairs
        ],
        input=examples(),
    )


def test_multi_inference_runs_the_graph_once(api: Api) -> None:
    request = tasks(("classify", CLASSIFY_METHOD), ("regress", REGRESS_METHOD))
    response = api.call("multi_inference", request)
    assert [result.WhichOneof("result") for result in response.results] == [
        "classification_result", "regression_result",
    ]  # fmt: skip
    assert api.model.ran == ["MultiInference"]


def test_each_result_of_multi_inference_names_its_signature(api: Api) -> None:
    response = api.call("multi_inference", tasks(("regress", REGRESS_METHOD)))
    assert response.results[0].model_spec == spec(version=1, signature="regress")


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (wire.MultiInferenceRequest(), "INVALID_ARGUMENT"),
        (tasks(("classify", CLASSIFY_METHOD), ("classify", CLASSIFY_METHOD)), "INVALID_ARGUMENT"),
        (tasks(("nosuch", CLASSIFY_METHOD)), "INVALID_ARGUMENT"),
        (tasks(("classify", "another/method")), "UNIMPLEMENTED"),
        (tasks(("classify", CLASSIFY_METHOD), name="nosuch"), "NOT_FOUND"),
    ],
)
def test_multi_inference_refuses(api: Api, request_: wire.MultiInferenceRequest, code: str) -> None:
    assert api.refused("multi_inference", request_) == code


def test_multi_inference_is_of_one_model(api: Api) -> None:
    request = tasks(("classify", CLASSIFY_METHOD), ("regress", REGRESS_METHOD))
    request.tasks[1].model_spec.name = "other"
    assert api.refused("multi_inference", request) == "INVALID_ARGUMENT"


def test_metadata_hold_the_signatures(api: Api) -> None:
    request = wire.GetModelMetadataRequest(model_spec=spec(), metadata_field=["signature_def"])
    response = api.call("get_model_metadata", request)
    packed = response.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    assert set(wire.SignatureDefMap.FromString(packed.value).signature_def) == {
        "serving_default", "classify", "regress",
    }  # fmt: skip


@pytest.mark.parametrize(
    "request_",
    [
        wire.GetModelMetadataRequest(metadata_field=["signature_def"]),
        wire.GetModelMetadataRequest(model_spec=spec()),
        wire.GetModelMetadataRequest(model_spec=spec(), metadata_field=["nosuch"]),
    ],
)
def test_metadata_requests_that_are_incomplete(
    api: Api, request_: wire.GetModelMetadataRequest
) -> None:
    assert api.refused("get_model_metadata", request_) == "INVALID_ARGUMENT"


def test_status(api: Api) -> None:
    response = api.call("get_model_status", wire.GetModelStatusRequest(model_spec=spec()))
    (status,) = response.model_version_status
    assert (status.version, status.state) == (1, wire.ModelVersionStatus.AVAILABLE)


def test_the_status_of_a_failed_version_has_its_error(api: Api) -> None:
    api.registered.load.broken[2] = ModelError("DATA_LOSS", "cut short")
    api.registered.configure(api.registered.settings("m", 2))
    response = api.call("get_model_status", wire.GetModelStatusRequest(model_spec=spec()))
    failed = response.model_version_status[0]
    assert (failed.version, failed.status.error_code) == (2, 15)
    assert failed.status.error_message == b"cut short"


def test_a_status_request_without_a_model_is_invalid(api: Api) -> None:
    assert api.refused("get_model_status", wire.GetModelStatusRequest()) == "INVALID_ARGUMENT"


def reload(text: str) -> wire.ReloadConfigRequest:
    return text_format.Parse(text, wire.ReloadConfigRequest())


def model_config(name: str, path: Path) -> str:
    return f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" }}'


def test_a_reload_replaces_the_models(api: Api, tmp_path: Path) -> None:
    entry = model_config("other", tmp_path / "other")
    request = reload(f"config {{ model_config_list {{ {entry} }} }}")
    response = api.call("handle_reload_config_request", request, Call(active=False))
    assert response.HasField("status")
    assert api.registered.models.knows("other")
    api.registered.calls.elapse()
    assert api.refused("predict", predict(1)) == "NOT_FOUND"


@pytest.mark.parametrize("text", ["", "config {}", "config { custom_model_config {} }"])
def test_a_reload_without_a_list_of_models_is_invalid(api: Api, text: str) -> None:
    assert api.refused("handle_reload_config_request", reload(text)) == "INVALID_ARGUMENT"


def test_a_reload_reads_base_paths_of_containers_in_the_repository(
    registered: Registered,
) -> None:
    api = Api(registered)
    registered.settings("other", 3)
    service = GrpcService(registered.models, Limits(), registered.root)
    entry = model_config("other", Path("/models/other"))
    request = reload(f"config {{ model_config_list {{ {entry} }} }}")
    service.handle_reload_config_request(request, api.record, Call(active=False))
    registered.calls.settle()
    assert registered.load.models[-1].folder == registered.root / "other" / "3"


def with_default(api: Api) -> wire.SignatureDef:
    """A signature of the model with two inputs, of which `bias` has a default."""
    definition = wire.SignatureDef()
    definition.CopyFrom(api.model.signatures["serving_default"])
    definition.inputs["bias"].CopyFrom(definition.inputs["x"])
    definition.inputs["bias"].name = "bias:0"
    definition.defaults["bias"].CopyFrom(to_proto(np.array([100], np.float32)))
    api.model.signatures["defaults"] = definition
    return definition


def test_a_missing_input_has_the_default_of_the_signature(api: Api) -> None:
    with_default(api)
    with patch.object(api.model, "run", return_value={}) as run:
        api.call("predict", predict(1, signature="defaults"))
    _, given, _ = run.call_args.args
    assert {name: array.tolist() for name, array in given.items()} == {"x": [1], "bias": [100]}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["bias"],
            (
                "Signature input alias: x(feed name: x:0) not found in request and no default "
                "value provided. Inputs expected to be in the request {bias}, or default input "
                "alias set: bias"
            ),
        ),
        (
            ["x", "other"],
            "Inputs contains invalid name. Used request inputs: x, request input: other,x",
        ),
        (
            ["x", "bias", "other"],
            (
                "input size does not match signature: 3!=2 len({bias,other,x}) != len({bias,x}). "
                "Sent extra: {other}. Missing but required: {}."
            ),
        ),
    ],
)
def test_inputs_of_a_signature_with_defaults(api: Api, names: list[str], message: str) -> None:
    with_default(api)
    x = to_proto(np.zeros(1, np.float32))
    request = wire.PredictRequest(
        model_spec=spec(signature="defaults"), inputs=dict.fromkeys(names, x)
    )
    with pytest.raises(ModelError) as raised:
        api.call("predict", request)
    assert (raised.value.code, raised.value.message) == ("INVALID_ARGUMENT", message)


def test_a_resource_handle_is_refused_by_its_name(api: Api) -> None:
    handle = wire.ResourceHandleProto(hash_code=7, name="n", maybe_type_name="t")
    tensor = wire.TensorProto(dtype=wire.DT_RESOURCE, resource_handle_val=[handle])
    with pytest.raises(ModelError, match=r"hash code: 7\(name: n type: t\)"):
        api.call("predict", wire.PredictRequest(model_spec=spec(), inputs={"x": tensor}))


def test_numbers_are_in_the_typed_field_or_in_tensor_content(api: Api) -> None:
    typed = api.call("predict", predict(1)).outputs["y"]
    assert (list(typed.float_val), typed.tensor_content) == ([2], b"")
    api.service = GrpcService(api.registered.models, Limits(), tensor_content=True)
    content = api.call("predict", predict(1)).outputs["y"]
    assert (list(content.float_val), len(content.tensor_content)) == ([], 4)
