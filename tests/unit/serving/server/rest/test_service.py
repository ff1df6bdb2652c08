"""The REST API from paths and bodies to statuses and bodies, over fake models."""

from __future__ import annotations

import gzip
import json
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from servable_serving.core.errors import ModelError
from servable_serving.server.limits import Limits
from servable_serving.server.rest.service import RestService
from servable_serving.server.samples import Samples
from servable_serving.server.telemetry import Metrics, RequestLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.serving.server.fakes import FakeModel, Registered

    from servable_client._wire import wire_pb2 as wire

PREDICT = "/v1/models/m:predict"


class Api:
    """The service over a model `m` with versions 1 and 2, and labels for both."""

    def __init__(self, registered: Registered) -> None:
        registered.configure(registered.settings("m", 1))
        registered.configure(registered.settings("m", 1, stable=1))
        self.registered = registered
        self.metrics = Metrics()
        self.requests = RequestLog(registered.models.knows, self.metrics, log_rate=1)
        self.service = RestService(registered.models, self.requests, limits=Limits())

    @property
    def model(self) -> FakeModel:
        return self.registered.load.models[0]

    def ask(self, method: str, path: str, body: Any = b"", **kwargs: Any) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, answer = self.service.answer(method, path, data, **kwargs)
        return status, json.loads(answer) if answer else None

    def post(self, path: str, body: Any, **kwargs: Any) -> tuple[int, Any]:
        return self.ask("POST", path, body, **kwargs)

    def get(self, path: str) -> tuple[int, Any]:
        return self.ask("GET", path)


@pytest.fixture
def api(registered: Registered) -> Api:
    return Api(registered)


@pytest.mark.parametrize(
    "path",
    [
        PREDICT,
        "/v1/models/m/versions/1:predict",
        "/v1/models/m/labels/stable:predict",
        "/V1/MODELS/m/Labels/stable:predict",
        "/v1/models/%6d:predict",
    ],
)
def test_predict_in_rows(api: Api, path: str) -> None:
    assert api.post(path, {"instances": [1.0, 2.5]}) == (200, {"predictions": [2.0, 5.0]})


def test_predict_in_columns(api: Api) -> None:
    assert api.post(PREDICT, {"inputs": {"x": [1.0]}}) == (200, {"outputs": [2.0]})


def test_predict_by_the_name_of_the_signature(api: Api) -> None:
    body = {"signature_name": "serving_default", "instances": [1.0]}
    assert api.post(PREDICT, body)[0] == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        ({}, 400),
        ({"instances": []}, 400),
        ({"instances": ["a"]}, 400),
        ({"inputs": {"z": [1]}}, 400),
        ({"signature_name": "nosuch", "instances": [1.0]}, 400),
        ({"signature_name": 1, "instances": [1.0]}, 400),
    ],
)
def test_a_body_that_does_not_fit_is_a_bad_request(api: Api, body: Any, status: int) -> None:
    found, answer = api.post(PREDICT, body)
    assert found == status
    assert set(answer) == {"error"}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/models/nosuch:predict", 404),
        ("/v1/models/m/versions/9:predict", 404),
        ("/v1/models/m/labels/nosuch:predict", 400),
        ("/v1/models/m/versions/one:predict", 400),
        ("/v1/models/m:explain", 400),
        ("/v1/models/m:Predict", 400),
        ("/v1/models/m", 400),
        ("/v2/models/m:predict", 400),
    ],
)
def test_a_path_that_leads_nowhere(api: Api, path: str, status: int) -> None:
    assert api.post(path, {"instances": [1.0]})[0] == status


def test_a_version_beyond_64_bits_has_an_empty_answer(api: Api) -> None:
    assert api.post(f"/v1/models/m/versions/{1 << 64}:predict", {}) == (400, None)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "PATCH"])
def test_other_methods_are_malformed(api: Api, method: str) -> None:
    assert api.ask(method, "/v1/models/m")[0] == 400


def test_classify(api: Api) -> None:
    status, answer = api.post("/v1/models/m:classify", {
        "signature_name": "classify", "examples": [{"f": 1.0}, {"f": 2.0}],
    })  # fmt: skip
    assert status == 200
    assert answer == {"results": [[["a", 0.75], ["b", 0.25]]] * 2}


def test_regress(api: Api) -> None:
    body = {"signature_name": "regress", "examples": [{"f": 1.0}]}
    assert api.post("/v1/models/m:regress", body) == (200, {"results": [0.5]})


class Kept(Samples):
    """Keeps all requests, in memory."""

    def __init__(self) -> None:
        self.logs: list[wire.PredictionLog | None] = []

    def take(self, model: str, version: int, log: Callable[[], wire.PredictionLog | None]) -> None:
        assert (model, version) == ("m", 1)
        self.logs.append(log())


@pytest.mark.parametrize(
    ("verb", "body", "kind"),
    [
        ("predict", {"instances": [1.0]}, "predict_log"),
        ("classify", {"signature_name": "classify", "examples": [{"f": 1.0}]}, "classify_log"),
        ("regress", {"signature_name": "regress", "examples": [{"f": 1.0}]}, "regress_log"),
    ],
)
def test_requests_are_kept_as_those_over_grpc(api: Api, verb: str, body: Any, kind: str) -> None:
    kept = Kept()
    requests = RequestLog(api.registered.models.knows, api.metrics, samples=kept)
    service = RestService(api.registered.models, requests, limits=Limits())
    status, _ = service.answer("POST", f"/v1/models/m/versions/1:{verb}", json.dumps(body).encode())
    assert status == 200
    (log,) = kept.logs
    assert log is not None
    assert log.WhichOneof("log_type") == kind
    found = getattr(log, kind)
    signature = body.get("signature_name", "serving_default")
    for message in (found.request, found.response):
        assert (message.model_spec.name, message.model_spec.signature_name) == ("m", signature)
    assert found.response.model_spec.version.value == 1
    assert found.request.ByteSize() > found.request.model_spec.ByteSize() + 2
    assert found.response.ByteSize() > found.response.model_spec.ByteSize() + 2


def test_classify_without_examples_is_a_bad_request(api: Api) -> None:
    assert api.post("/v1/models/m:classify", {"signature_name": "classify"})[0] == 400


@pytest.mark.parametrize("method", ["CLASSIFY", "Regress"])
def test_methods_are_matched_by_case(api: Api, method: str) -> None:
    assert api.post(f"/v1/models/m:{method}", {"examples": [{}]})[0] == 400


def test_status(api: Api) -> None:
    status, answer = api.get("/v1/models/m")
    assert status == 200
    assert answer == {
        "model_version_status": [
            {
                "version": "1",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }


def test_the_status_of_one_version(api: Api) -> None:
    assert api.get("/v1/models/m/versions/1")[0] == 200
    assert api.get("/v1/models/m/versions/2")[0] == 404


def test_the_status_passes_over_a_label(api: Api) -> None:
    assert api.get("/v1/models/m/labels/nosuch") == api.get("/v1/models/m")


def test_the_status_without_a_model_is_a_bad_request(api: Api) -> None:
    assert api.get("/v1/models")[0] == 400


def test_metadata(api: Api) -> None:
    status, answer = api.get("/v1/models/m/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "m", "signature_name": "", "version": "1"}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "classify", "regress"}
    assert signatures["serving_default"]["inputs"]["x"]["dtype"] == "DT_FLOAT"


def test_the_metadata_of_an_unknown_model_are_not_found(api: Api) -> None:
    assert api.get("/v1/models/nosuch/metadata")[0] == 404


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("INVALID_ARGUMENT", 400),
        ("FAILED_PRECONDITION", 400),
        ("PERMISSION_DENIED", 403),
        ("NOT_FOUND", 404),
        ("ABORTED", 409),
        ("RESOURCE_EXHAUSTED", 429),
        ("CANCELLED", 499),
        ("UNIMPLEMENTED", 501),
        ("UNAVAILABLE", 503),
        ("DEADLINE_EXCEEDED", 504),
        ("INTERNAL", 500),
        ("DATA_LOSS", 500),
    ],
)
def test_the_status_of_an_error_of_the_graph(api: Api, code: str, status: int) -> None:
    api.model.error = ModelError(code, 'no "luck"')
    assert api.post(PREDICT, {"instances": [1.0]}) == (status, {"error": 'no "luck"'})


def test_an_unexpected_error_is_logged_and_not_told(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    api.model.error = RuntimeError("a secret")
    with caplog.at_level(logging.ERROR, "servable.serving"):
        status, answer = api.post(PREDICT, {"instances": [1.0]})
    assert status == 500
    assert "secret" not in answer["error"]
    assert caplog.records[0].exc_info is not None


def test_a_zipped_body_is_unzipped(api: Api) -> None:
    body = gzip.compress(b'{"instances": [1.0]}')
    assert api.post(PREDICT, body, zipped=True) == (200, {"predictions": [2.0]})


@pytest.mark.parametrize(
    "body",
    [b"not zipped", gzip.compress(b'{"instances": [1]}')[:-9]],
    ids=["not zipped", "cut short"],
)
def test_what_cannot_be_unzipped_is_an_empty_body(api: Api, body: bytes) -> None:
    assert api.post(PREDICT, body, zipped=True) == api.post(PREDICT, b"")


def test_outputs_with_different_numbers_of_rows_are_a_bad_request(api: Api) -> None:
    api.model.answer = {"a": np.zeros(1, np.float32), "b": np.zeros(2, np.float32)}
    assert api.post(PREDICT, {"instances": [1.0]})[0] == 400


def test_without_a_timeout_there_is_no_deadline(api: Api) -> None:
    api.post(PREDICT, {"instances": [1.0]})
    assert api.model.deadlines == [None]


def test_a_run_has_the_deadline_of_the_request(api: Api) -> None:
    api.post(PREDICT, {"instances": [1.0]}, deadline=130.0)
    assert api.model.deadlines == [130.0]


def test_a_request_is_logged_with_its_model_version_and_code(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "servable.requests"):
        api.post(PREDICT, {"instances": [1.0]})
    (record,) = caplog.records
    fields = record.__dict__
    assert (fields["model"], fields["version"], fields["code"]) == ("m", 1, "OK")
    assert (fields["entrypoint"], fields["api"]) == ("REST", "predict")


def test_a_failed_request_is_counted_by_its_code(api: Api) -> None:
    api.post(PREDICT, b"{")
    page = api.metrics.page().decode()
    assert 'request_count{model_name="m",status="INVALID_ARGUMENT"} 1.0' in page


def test_a_status_is_not_counted_as_a_request(api: Api) -> None:
    api.get("/v1/models/m")
    assert "request_count{" not in api.metrics.page().decode()
