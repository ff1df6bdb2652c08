"""Classification of one image or a chunk of images."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from tests.unit.client.harness import (
    CLASSIFIER,
    Runner,
    engine,
    grpc_classes,
    grpc_metadata,
    grpc_prediction,
    in_turn,
    method_of,
)

from servable_client import (
    Classification,
    ConnectionFailed,
    InvalidInput,
    Retry,
    ServableError,
    ServerFailed,
)
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.tensors import from_proto
from servable_client.codec.grpc import GrpcRequest
from servable_client.engine.classify import Classifier
from servable_client.types.operations import Failure

if TYPE_CHECKING:
    from tests.unit.client.harness import Request

PIXELS = np.zeros([2, 2], np.uint8)
WITH_NAMES = {
    **CLASSIFIER,
    "classify": (
        {"examples": ("DT_STRING", (-1,))},
        {"classes": ("DT_STRING", (-1, -1)), "scores": ("DT_FLOAT", (-1, -1))},
    ),
}


def png(side: int = 2, level: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (side, side), level).save(buffer, "PNG")
    return buffer.getvalue()


class Server:
    """Answers as a classifier of three classes does; some of its parts can be made to fail."""

    def __init__(self, version: int = 1, signatures: Any = CLASSIFIER) -> None:
        self.version = version
        self.signatures = signatures
        self.poison: bytes | None = None
        self.sizes: list[int] = []

    def __call__(self, request: Request) -> bytes | Failure:
        if method_of(request) == "GetModelMetadata":
            return grpc_metadata(self.version, self.signatures)
        assert isinstance(request, GrpcRequest)
        sent = wire.PredictRequest.FromString(request.body)
        if sent.model_spec.signature_name == "classify":
            return self.names(len(next(iter(sent.inputs.values())).string_val))
        if self.poison is not None and self.poison in request.body:
            return Failure("INVALID_ARGUMENT", "cannot decode")
        count = from_proto(next(iter(sent.inputs.values()))).shape[0]
        self.sizes.append(count)
        if sent.model_spec.version.value and count == 8:
            return self.numbered(count)
        return grpc_classes(self.version, count, best=1)

    def names(self, count: int) -> bytes:
        return grpc_prediction(
            self.version,
            classes=np.array([[b"boot", b"bag", b"coat"]] * count, object),
            scores=np.array([[0.6, 0.3, 0.1]] * count, np.float32),
        )

    def numbered(self, count: int) -> bytes:
        return grpc_prediction(
            self.version,
            probabilities=np.array([[0.3, 0.6, 0.1]] * count, np.float32),
            class_id=np.full(count, 1, np.int64),
            label=np.array([b"boot"] * count, object),
        )


def one(server: Any, picture: Any = PIXELS, runner: Runner | None = None, **options: Any) -> Any:
    runner = Runner(server) if runner is None else runner
    found = engine(clock=runner.clock, retry=Retry(attempts=1), **options)
    return runner.run(Classifier(found).one(picture, target=found.target, timeout=None))


def chunk(server: Any, pictures: list[Any], runner: Runner | None = None, **options: Any) -> Any:
    runner = Runner(server) if runner is None else runner
    found = engine(clock=runner.clock, retry=Retry(attempts=1), **options)
    return runner.run(Classifier(found).chunk(pictures, target=found.target, timeout=None))


def test_an_array_goes_to_the_signature_for_pixels() -> None:
    runner = Runner(Server())
    answer = one(None, runner=runner)
    assert (answer.label, answer.class_id, answer.version) == ("class 1", 1, 1)
    assert answer.probability == pytest.approx(0.8)
    sent = wire.PredictRequest.FromString(runner.requests[1].body or b"")
    assert sent.model_spec.signature_name == "serving_default"


def test_a_file_goes_to_the_signature_for_bytes() -> None:
    runner = Runner(Server())
    one(None, png(), runner=runner)
    sent = wire.PredictRequest.FromString(runner.requests[1].body or b"")
    assert sent.model_spec.signature_name == "serving_bytes"
    assert sent.inputs["image_bytes"].string_val == [png()]


def test_the_metadata_is_read_once() -> None:
    runner = Runner(Server())
    found = engine(clock=runner.clock)
    classifier = Classifier(found)
    for _ in range(3):
        runner.run(classifier.one(PIXELS, target=found.target, timeout=None))
    assert runner.methods == ["GetModelMetadata", *["Predict"] * 3]


def test_elapsed_is_the_time_of_the_whole_call() -> None:
    server = Server()

    def slowly(request: Request) -> bytes | Failure:
        runner.clock.advance(0.25)
        return server(request)

    runner = Runner(slowly)
    assert one(None, runner=runner).elapsed == pytest.approx(0.5)


def test_a_size_that_the_model_does_not_take_is_refused_after_a_second_look() -> None:
    runner = Runner(Server())
    with pytest.raises(InvalidInput):
        one(None, np.zeros([5, 5], np.uint8), runner=runner)
    assert runner.methods == ["GetModelMetadata"] * 2


def test_a_new_version_may_take_another_size() -> None:
    server = Server()
    runner = Runner(server)
    found = engine(clock=runner.clock)
    classifier = Classifier(found)
    runner.run(classifier.one(PIXELS, target=found.target, timeout=None))
    inputs, outputs = CLASSIFIER["serving_default"]
    server.version = 2
    server.signatures = {
        **CLASSIFIER,
        "serving_default": ({"image": ("DT_UINT8", (-1, 5, 5))}, outputs),
    }
    answer = runner.run(
        classifier.one(np.zeros([5, 5], np.uint8), target=found.target, timeout=None)
    )
    assert answer.version == 2
    assert inputs != server.signatures["serving_default"][0]


def test_an_image_that_cannot_be_read_is_refused_before_anything_is_sent() -> None:
    runner = Runner(in_turn())
    with pytest.raises(InvalidInput):
        one(None, b"text", runner=runner)
    assert runner.requests == []


@pytest.mark.parametrize(
    "outputs",
    [
        {"y": np.array([1], np.float32)},
        {
            "probabilities": np.zeros([1, 3], np.float32),
            "class_id": np.array([1, 2]),
            "label": np.array([b"a"], object),
        },
        {
            "probabilities": np.zeros([1, 3], np.float32),
            "class_id": np.array([7]),
            "label": np.array([b"a"], object),
        },
        {
            "probabilities": np.zeros([1, 3], np.float32),
            "class_id": np.array([1]),
            "label": np.array([1.5]),
        },
    ],
    ids=["other outputs", "other count", "class out of range", "label is a number"],
)
def test_a_model_that_is_not_a_classifier_is_an_error(outputs: dict[str, Any]) -> None:
    runner = Runner(in_turn(grpc_metadata(1), grpc_prediction(1, **outputs)))
    with pytest.raises(ServerFailed) as caught:
        one(None, runner=runner)
    assert caught.value.hint


def test_a_split_falls_back_to_the_clients_label() -> None:
    unknown = Failure("INVALID_ARGUMENT", "Unrecognized servable version label: canary")
    runner = Runner(in_turn(unknown, grpc_metadata(1), grpc_classes(1)))
    assert one(None, runner=runner, split={"canary": 1}).version == 1


# -- names of all classes -----------------------------------------------------------------------


def test_the_names_of_all_classes_are_read_once_for_a_version() -> None:
    runner = Runner(Server(signatures=WITH_NAMES))
    found = engine(clock=runner.clock)
    classifier = Classifier(found)
    answers = [
        runner.run(classifier.one(PIXELS, target=found.target, timeout=None)) for _ in range(3)
    ]
    assert answers[0].labels == ("bag", "boot", "coat")
    assert answers[2].labels == answers[0].labels
    assert len(runner.requests) == 1 + 3 + 2


def test_a_model_without_names_gives_numbers() -> None:
    assert one(Server()).labels == ("0", "class 1", "2")


def test_names_that_cannot_be_read_do_not_fail_the_call() -> None:
    class Nameless(Server):
        def names(self, count: int) -> bytes | Failure:  # type: ignore[override]
            return Failure("INTERNAL", f"no names for {count}")

    assert one(Nameless(signatures=WITH_NAMES)).labels == ("0", "class 1", "2")


def test_names_are_asked_for_three_times_at_most() -> None:
    asked: list[int] = []

    class Nameless(Server):
        def names(self, count: int) -> bytes | Failure:  # type: ignore[override]
            asked.append(count)
            return Failure("INTERNAL", "no names")

    runner = Runner(Nameless(signatures=WITH_NAMES))
    found = engine(clock=runner.clock)
    classifier = Classifier(found)
    for _ in range(6):
        runner.run(classifier.one(PIXELS, target=found.target, timeout=None))
    assert len(asked) == 3


def test_names_in_another_form_do_not_fail_the_call() -> None:
    class Odd(Server):
        def names(self, count: int) -> bytes:
            return grpc_prediction(self.version, other=np.zeros(count, np.float32))

    assert one(Odd(signatures=WITH_NAMES)).label == "class 1"


# -- chunks -------------------------------------------------------------------------------------


def test_a_chunk_is_one_request() -> None:
    server = Server()
    answers = chunk(server, [PIXELS] * 5)
    assert [answer.class_id for answer in answers] == [1] * 5
    assert server.sizes == [5]


def test_files_and_arrays_of_a_chunk_are_separate_requests() -> None:
    server = Server()
    answers = chunk(server, [PIXELS, png(), PIXELS])
    assert all(isinstance(answer, Classification) for answer in answers)
    assert sorted(server.sizes) == [1, 2]


def test_an_unreadable_image_of_a_chunk_is_an_error_in_its_place() -> None:
    answers = chunk(Server(), [png(), b"text", png()])
    assert [isinstance(answer, InvalidInput) for answer in answers] == [False, True, False]


def test_an_array_that_does_not_fit_is_an_error_in_its_place() -> None:
    large = np.zeros([5, 5], np.uint8)
    runner = Runner(Server())
    answers = chunk(None, [large, PIXELS, large], runner=runner)
    assert [isinstance(answer, InvalidInput) for answer in answers] == [True, False, True]
    assert runner.methods.count("GetModelMetadata") == 2


def test_an_image_that_the_server_refuses_is_found_by_halves() -> None:
    server = Server()
    bad = png(level=77)
    server.poison = bad
    answers = chunk(server, [png(), png(), bad, png(), png()])
    assert [isinstance(answer, InvalidInput) for answer in answers] == [
        False,
        False,
        True,
        False,
        False,
    ]


def test_any_other_error_is_that_of_every_image() -> None:
    down = Failure("UNAVAILABLE", "down")
    runner = Runner(in_turn(grpc_metadata(1), down))
    answers = chunk(None, [PIXELS] * 3, runner=runner)
    assert [type(answer) for answer in answers] == [ConnectionFailed] * 3


def test_metadata_that_cannot_be_read_is_the_error_of_every_image() -> None:
    runner = Runner(in_turn(Failure("UNAVAILABLE", "down")))
    answers = chunk(None, [PIXELS] * 2, runner=runner)
    assert [type(answer) for answer in answers] == [ConnectionFailed] * 2


def test_a_chunk_without_a_readable_image_sends_nothing() -> None:
    runner = Runner(in_turn())
    answers = chunk(None, [b"text", b"more"], runner=runner)
    assert all(isinstance(answer, InvalidInput) for answer in answers)
    assert runner.requests == []


def test_a_chunk_of_a_split_falls_back_as_a_whole() -> None:
    unknown = Failure("INVALID_ARGUMENT", "Unrecognized servable version label: canary")
    runner = Runner(in_turn(unknown, grpc_metadata(1), grpc_classes(1, 2)))
    answers = chunk(None, [PIXELS] * 2, runner=runner, split={"canary": 1})
    assert not any(isinstance(answer, ServableError) for answer in answers)


def test_without_labels_a_chunk_goes_to_the_highest_version() -> None:
    unknown = Failure("INVALID_ARGUMENT", "Unrecognized servable version label: canary")
    runner = Runner(in_turn(unknown, unknown, grpc_metadata(1), grpc_classes(1, 2)))
    answers = chunk(None, [PIXELS] * 2, runner=runner, split={"canary": 1})
    assert not any(isinstance(answer, ServableError) for answer in answers)
