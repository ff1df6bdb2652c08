"""Models that people bring: from their files to served answers, and through the gates."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import keras
import numpy as np
import pytest
from tests.conftest import serving
from tests.functional.serving.calls import config_of
from tests.functional.serving.your_models import KINDS

from servable_client import Client
from servable_serving.exporter.export import export
from servable_serving.gates.run import inspect
from servable_serving.gates.trial.adversarial_requests import adversarial_requests
from servable_serving.gates.trial.trial import _TrialClient
from servable_serving.model.contract import contract_of
from servable_serving.model.saved_model import SavedModel
from servable_serving.repository.candidate import check_candidate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import RunningServer

NAMES = [kind.__name__ for kind in KINDS]
CLASSIFIERS = NAMES[: NAMES.index("two_and_two")]
# Answers over REST are decimal numbers, and kernels add in another order for other batches.
CLOSE = 2e-5


class Exported(NamedTuple):
    """The repository of exported models, and what each should answer."""

    root: Path
    requests: dict[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    root = tmp_path_factory.mktemp("exported")
    requests = {}
    for kind in KINDS:
        name = kind.__name__
        keras.utils.set_random_seed(1)
        (root / f"of_{name}").mkdir()
        brought = kind(root / f"of_{name}")
        export(brought.path, root / name / "1", name=name, **brought.options)
        requests[name] = (brought.inputs, brought.outputs)
    return Exported(root, requests)


@pytest.fixture(scope="module")
def server(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("server")
    config = folder / "models.config"
    config.write_text(config_of({name: exported.root / name for name in NAMES}))
    flag = f"--model_config_file={config}"
    with serving(None, folder / "log", flag, model=NAMES[-1]) as running:
        yield running


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize("name", NAMES)
def test_served_answers_are_kerass(
    server: RunningServer, exported: Exported, name: str, protocol: str
) -> None:
    inputs, expected = exported.requests[name]
    with Client(getattr(server, protocol), model=name, timeout=60) as client:
        answers = client.predict(inputs)
    for key, values in expected.items():
        np.testing.assert_allclose(np.asarray(answers[key]), values, atol=CLOSE, err_msg=key)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_takes_files_and_knows_its_labels(
    server: RunningServer, exported: Exported, name: str
) -> None:
    inputs, expected = exported.requests[name]
    labels = check_candidate(exported.root / name / "1")["labels"]
    assert labels == (["cat", "dog"] if name == "binary" else list(map(str, range(len(labels)))))
    with Client(server.grpc, model=name, timeout=60) as client:
        answer = client.classify(inputs["image"][0])
        assert answer.label == labels[int(expected["probabilities"][0].argmax())]
        np.testing.assert_allclose(answer.probabilities, expected["probabilities"][0], atol=CLOSE)
        assert answer.top(1)[0].label == answer.label


@pytest.mark.parametrize("name", NAMES)
def test_no_hostile_request_ends_the_server(
    server: RunningServer, exported: Exported, name: str
) -> None:
    contract = contract_of(exported.root / name / "1")

    class Alive:
        grpc_port, rest_port = server.port, server.rest_port
        exit_status = property(lambda _: server.process.poll())

        def died(self, *, within: float) -> bool:
            del within
            return server.process.poll() is not None

        def how_it_ended(self) -> str:
            return f"it ended with {server.process.poll()}"

        def exceeded(self) -> float | None:
            return None

    with _TrialClient(Alive(), name) as client:
        outcomes = [client.send(request) for request in adversarial_requests(name, contract)]
        assert outcomes.count("refused") > len(outcomes) / 2
        # And it still answers.
        inputs, _ = exported.requests[name]
        with Client(server.grpc, model=name, timeout=60) as asked:
            assert asked.predict(inputs)


@pytest.mark.parametrize("name", ["cnn", "lookup", "tensorflow1", "sequence"])
def test_the_gates_let_it_pass(exported: Exported, name: str) -> None:
    findings = {
        one.gate: one for one in inspect(exported.root / name / "1", served=None, holdout=None)
    }
    assert findings["structure"].outcome == findings["operations"].outcome == "passed"
    assert findings["trial"].figures["golden"] > 0
    assert findings["latency"].outcome == "passed"


@pytest.mark.parametrize("name", ["lookup", "tensorflow1", "module", "text"])
def test_inputs_of_another_rank_are_refused_in_the_graph(exported: Exported, name: str) -> None:
    inputs, _ = exported.requests[name]
    model = SavedModel(exported.root / name / "1")
    try:
        for field, array in inputs.items():
            for other in (array[None], array[..., None], array[None, ..., None]):
                with pytest.raises(Exception, match=r"(?i)shape|rank") as caught:
                    model.run("serving_default", {**inputs, field: other})
                assert getattr(caught.value, "code", "") == "INVALID_ARGUMENT"
    finally:
        model.close()


def test_assets_travel_along(exported: Exported, server: RunningServer) -> None:
    files = {path.name for path in (exported.root / "module" / "1" / "assets").iterdir()}
    assert files == {"words.txt"}
    with Client(server.grpc, model="module", timeout=60) as client:
        words = np.array([b"green", b"nothing"], object)
        assert client.predict({"word": words}, signature="look_up")["id"].tolist() == [1, -1]
