"""The gRPC methods, from messages to messages."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from servable_client._wire import wire_pb2 as wire
from servable_client._wire.status import STATUS_CODES
from servable_client._wire.tensors import fill_proto
from servable_serving.core.errors import invalid
from servable_serving.core.names import DEFAULT_SIGNATURE
from servable_serving.server.api.classify_regress import classify, multi_inference, regress
from servable_serving.server.api.predict import predict
from servable_serving.server.config import model_settings
from servable_serving.server.lifecycle.registry import Models, Spec
from servable_serving.server.samples import prediction_log

if TYPE_CHECKING:
    from pathlib import Path

    from servable_serving.server.limits import Limits
    from servable_serving.server.telemetry import RequestRecord

_SIGNATURES = "signature_def"
_SIGNATURES_TYPE = "type.googleapis.com/tensorflow.serving.SignatureDefMap"


@dataclass(kw_only=True)
class Call:
    """What a method must know of a call besides its request.

    Attributes:
        deadline: Until when, by time.monotonic; None if it has none.
        active: Whether its caller still waits.
    """

    deadline: float | None = None
    active: bool = True

    def is_active(self) -> bool:
        """Whether its caller still waits."""
        return self.active


class GrpcService:
    """Answers gRPC calls from `models`.

    Each method takes the request, the record to fill in, and the call.

    Args:
        models: The models.
        repository_path: Where a reload's base paths under /models are read instead.
        tensor_content: Whether Predict answers with `tensor_content`, and not with the typed field
            of each dtype.
    """

    def __init__(
        self,
        models: Models,
        limits: Limits,
        repository_path: Path | None = None,
        *,
        tensor_content: bool = False,
    ) -> None:
        self._models, self._limits = models, limits
        self._typed = not tensor_content
        self._repository_path = repository_path

    def predict(
        self, request: wire.PredictRequest, record: RequestRecord, call: Call
    ) -> wire.PredictResponse:
        """Run a signature."""
        spec = request.model_spec
        with self._models.find(_spec(spec, record)) as (record.version, model):
            name, outputs = predict(model, request, deadline=call.deadline)
        self._limits.check_response(outputs)
        response = wire.PredictResponse()
        for key, array in outputs.items():
            fill_proto(response.outputs[key], array, typed=self._typed)
        _fill(response.model_spec, record, name)
        record.log = partial(prediction_log, "predict_log", request, response)
        return response

    def classify(
        self,
        request: wire.ClassificationRequest,
        record: RequestRecord,
        call: Call,
    ) -> wire.ClassificationResponse:
        """Classify examples."""
        spec = request.model_spec
        response = wire.ClassificationResponse()
        with self._models.find(_spec(spec, record)) as (record.version, model):
            result = classify(model, spec.signature_name, request.input, deadline=call.deadline)
        response.result.CopyFrom(result)
        _fill(response.model_spec, record, spec.signature_name or DEFAULT_SIGNATURE)
        record.log = partial(prediction_log, "classify_log", request, response)
        return response

    def regress(
        self, request: wire.RegressionRequest, record: RequestRecord, call: Call
    ) -> wire.RegressionResponse:
        """Regress examples."""
        spec = request.model_spec
        response = wire.RegressionResponse()
        with self._models.find(_spec(spec, record)) as (record.version, model):
            result = regress(model, spec.signature_name, request.input, deadline=call.deadline)
        response.result.CopyFrom(result)
        _fill(response.model_spec, record, spec.signature_name or DEFAULT_SIGNATURE)
        record.log = partial(prediction_log, "regress_log", request, response)
        return response

    def multi_inference(
        self,
        request: wire.MultiInferenceRequest,
        record: RequestRecord,
        call: Call,
    ) -> wire.MultiInferenceResponse:
        """Several signatures for the same examples."""
        spec = request.tasks[0].model_spec if request.tasks else wire.ModelSpec()
        with self._models.find(_spec(spec, record)) as (record.version, model):
            response = multi_inference(model, request.tasks, request.input, deadline=call.deadline)
        record.log = partial(prediction_log, "multi_inference_log", request, response)
        return response

    def get_model_metadata(
        self, request: wire.GetModelMetadataRequest, record: RequestRecord, _: Call
    ) -> wire.GetModelMetadataResponse:
        """The signatures of a model."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid(
                "GetModelMetadataRequest must specify at least one metadata_field",
            )
        for field in request.metadata_field:
            if field != _SIGNATURES:
                raise invalid(f"Metadata field {field} is not supported")
        with self._models.find(_spec(request.model_spec, record)) as (record.version, model):
            signatures = wire.SignatureDefMap(signature_def=model.signatures)
        response = wire.GetModelMetadataResponse()
        _fill(response.model_spec, record)
        # Not Pack: it would write the name of our private message type.
        response.metadata[_SIGNATURES].type_url = _SIGNATURES_TYPE
        response.metadata[_SIGNATURES].value = signatures.SerializeToString()
        return response

    def get_model_status(
        self, request: wire.GetModelStatusRequest, record: RequestRecord, _: Call
    ) -> wire.GetModelStatusResponse:
        """The versions of a model."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        response = wire.GetModelStatusResponse()
        for status in self._models.status(_spec(request.model_spec, record)):
            response.model_version_status.add(
                version=status.version,
                state=wire.ModelVersionStatus.State.Value(status.state),
                status=wire.StatusProto(
                    error_code=STATUS_CODES.index(status.error_code),
                    error_message=status.error_message.encode(errors="replace"),
                ),
            )
        return response

    def handle_reload_config_request(
        self, request: wire.ReloadConfigRequest, _: RequestRecord, call: Call
    ) -> wire.ReloadConfigResponse:
        """Replace the models that are served; returns once new ones are available."""
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported",
            )
        with self._models.reloading:
            new = self._models.configure(
                model_settings(request.config, repository_path=self._repository_path)
            )
        self._models.wait_for(new, alive=call.is_active)
        response = wire.ReloadConfigResponse()
        response.status.SetInParent()
        return response


def _spec(spec: Any, record: RequestRecord) -> Spec:
    record.model = spec.name
    return Spec(
        name=spec.name,
        version=spec.version.value if spec.HasField("version") else None,
        label=spec.version_label if spec.HasField("version_label") else None,
    )


def _fill(spec: Any, record: RequestRecord, signature: str = "") -> None:
    spec.name, spec.signature_name = record.model, signature
    spec.version.value = record.version
