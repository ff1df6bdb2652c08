"""Bad candidates, each refused at the gate that is there for it, with its reason; and good ones."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from tests.conftest import NAME, ROOT, SHIPPED
from tests.functional.serving.candidates import HandMade, edit_graph, hand_made, sign
from tests.functional.serving.fixture_models import Garments, add_warmup

from servable_client import InvalidInput
from servable_serving.core.errors import FolderError
from servable_serving.exporter.export import encode_png, export
from servable_serving.gates.holdout import HoldoutError, find_holdout
from servable_serving.gates.run import GATES, Finding, GateError, Holdout, Tolerances, inspect
from servable_serving.model import saved_model
from servable_serving.model.contract import contract_of
from servable_serving.release.deployment import Deployment
from servable_serving.release.folder_target import FolderTarget
from servable_serving.release.push import Plan, push
from servable_serving.release.steps import Steps
from servable_serving.repository import candidate, manifest
from servable_serving.repository.candidate import check_candidate
from servable_serving.repository.local import Repository
from servable_serving.repository.manifest import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from servable_trainer.data.dataset import Dataset

# What a case is not about, and takes long.
NO_SERVER = {"trial": "this test is about another gate"}


def copy_shipped(folder: Path) -> Path:
    shutil.copytree(SHIPPED, folder)
    return folder


def edit_manifest(folder: Path, **values: Any) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# Structure


def no_graph(folder: Path) -> None:
    (copy_shipped(folder) / "saved_model.pb").unlink()


def no_variable_file(folder: Path) -> None:
    (hand_made(folder) / "variables" / "variables.data-00000-of-00001").unlink()


def no_variable_file_and_none_missed(folder: Path) -> None:
    no_variable_file(folder)
    sign(folder)


def no_variables_at_all(folder: Path) -> None:
    shutil.rmtree(hand_made(folder) / "variables")
    sign(folder)


def a_changed_file(folder: Path) -> None:
    path = copy_shipped(folder) / "saved_model.pb"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def an_extra_file(folder: Path) -> None:
    (copy_shipped(folder) / "extra.sh").write_text("echo")


def no_manifest(folder: Path) -> None:
    (copy_shipped(folder) / MANIFEST).unlink()


def a_name_that_is_none(folder: Path) -> None:
    edit_manifest(copy_shipped(folder), name="../elsewhere")


def labels_of_another_number(folder: Path) -> None:
    edit_manifest(copy_shipped(folder), labels=["one", "two"])


def signatures_of_another_manifest(folder: Path) -> None:
    edit_manifest(copy_shipped(folder), signatures={})


class FloatImage(HandMade):
    @tf.function(input_signature=[tf.TensorSpec([None, 28, 28], tf.float32, name="image")])
    def serve(self, image: Any) -> dict[str, Any]:
        return super().serve(tf.cast(image, tf.uint8))  # type: ignore[no-any-return]


class NoLabel(HandMade):
    @tf.function(input_signature=[tf.TensorSpec([None, 28, 28], tf.uint8, name="image")])
    def serve(self, image: Any) -> dict[str, Any]:
        answer = super().serve(image)
        return {key: answer[key] for key in ("probabilities", "class_id")}


class OtherName(HandMade):
    def signatures(self) -> dict[str, Any]:
        return {"predict": self.serve}


def nan_in_a_variable(folder: Path) -> None:
    module = HandMade()
    module.dense.assign(np.where(np.eye(8, 10) > 0, np.nan, module.dense.numpy()))
    hand_made(folder, module)


def nan_in_a_constant(folder: Path) -> None:
    def change(meta: Any) -> None:
        for function in meta.graph_def.library.function:
            for node in function.node_def:
                tensor = node.attr["value"].tensor
                if node.op == "Const" and len(tensor.tensor_content) > 1000:
                    value = tf.make_ndarray(tensor).copy()
                    value.flat[5] = np.inf
                    tensor.tensor_content = value.tobytes()
                    return

    edit_graph(copy_shipped(folder), change)


# Operations


def inside(run: Callable[[Any], Any]) -> Callable[[Path], object]:
    """A candidate whose signature runs something on the pictures, float32 [N, 28, 28, 1]."""
    return lambda folder: hand_made(folder, HandMade(inside=run))


def made(kind: type[HandMade]) -> Callable[[Path], object]:
    return lambda folder: hand_made(folder, kind())


def and_back(x: Any, operation: Any) -> Any:
    with tf.control_dependencies([operation]):
        return tf.identity(x)


def a_file_is_read(x: Any) -> Any:
    return x + tf.cast(tf.strings.length(tf.io.read_file("/etc/passwd")), tf.float32) * 0.0


def deep_inside(x: Any) -> Any:
    """In the function of a branch, in that of a loop."""
    body = lambda i, y: (i + 1, tf.cond(i > 0, lambda: a_file_is_read(y), lambda: y))  # noqa: E731
    return tf.while_loop(lambda i, _: i < 2, body, (0, x), shape_invariants=(None, x.shape))[1]


class Assigning(HandMade):
    """Each request changes the weights."""

    def __init__(self) -> None:
        super().__init__(inside=lambda x: and_back(x, self.kernel.assign_add(self.kernel)))


class Restoring(HandMade):
    """Each request reads a file of the graph's choice."""

    def __init__(self) -> None:
        super().__init__(
            inside=lambda x: x + tf.raw_ops.RestoreV2(
                prefix="/tmp/other", tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]
            )[0]
        )  # fmt: skip


def an_unknown_operation(folder: Path) -> None:
    def change(meta: Any) -> None:
        for function in meta.graph_def.library.function:
            for node in function.node_def:
                if node.op == "Relu":
                    node.op = "TheirOwnRelu"

    edit_graph(copy_shipped(folder), change)


def saver_of_another_file(folder: Path) -> None:
    """The loader's own restoring is turned to a file of the graph's choice."""

    def change(meta: Any) -> None:
        graph = meta.graph_def
        call = next(node for node in graph.node if node.name == meta.saver_def.restore_op_name)
        other = graph.node.add(name="other", op="Const")
        other.attr["dtype"].type = tf.string.as_datatype_enum
        other.attr["value"].tensor.CopyFrom(tf.make_tensor_proto("/tmp/other"))
        call.input[0] = "other"

    hand_made(folder)
    edit_graph(folder, change)


def restoring_that_writes(folder: Path) -> None:
    """Loading calls the saver's saving function."""

    def change(meta: Any) -> None:
        meta.saver_def.restore_op_name = meta.saver_def.save_tensor_name.partition(":")[0]

    hand_made(folder)
    edit_graph(folder, change)


# Trial


def a_warm_up_that_fails(folder: Path) -> None:
    add_warmup(hand_made(folder), "garments", np.zeros([1, 3], np.float32))
    sign(folder)


def another_golden_answer(folder: Path) -> None:
    copy_shipped(folder)
    golden = json.loads((folder / MANIFEST).read_text())["golden"]
    golden[1]["probabilities"][0] -= 0.01
    edit_manifest(folder, golden=golden)


class Case(NamedTuple):
    make: Callable[[Path], object]
    gate: str
    words: str  # a pattern, of the reason
    served: bool = False
    skip: dict[str, str] = NO_SERVER


STRUCTURE = [
    Case(no_graph, "structure", "holds no SavedModel"),
    Case(no_variable_file, "structure", r"variables\.data-00000-of-00001 is missing"),
    Case(no_variable_file_and_none_missed, "structure", "the variables cannot be read"),
    Case(no_variables_at_all, "structure", r"variables/variables\.index"),
    Case(a_changed_file, "structure", r"saved_model\.pb is not as it was exported"),
    Case(an_extra_file, "structure", r"extra\.sh is not in the manifest"),
    Case(no_manifest, "structure", "no readable manifest"),
    Case(a_name_that_is_none, "structure", "cannot be a model's name"),
    Case(labels_of_another_number, "structure", r"probabilities float \[-1, 10\], and it must"),
    Case(signatures_of_another_manifest, "structure", "not those in the manifest"),
    Case(made(FloatImage), "structure", "image float .* must be image uint8"),
    Case(made(NoLabel), "structure", "gives no label"),
    Case(made(OtherName), "structure", "no signature serving_default"),
    Case(hand_made, "structure", "the served version has a signature classify", served=True),
    Case(nan_in_a_variable, "structure", "the weights dense contain NaN"),
    Case(nan_in_a_constant, "structure", r"the weights \w+ contain infinite values"),
]  # fmt: skip
OPERATIONS = [
    Case(inside(a_file_is_read), "operations", "ReadFile, which reads files, .* a request runs it"),
    Case(inside(deep_inside), "operations", "ReadFile, .* in the function"),
    Case(
        inside(lambda x: and_back(x, tf.io.write_file("/tmp/x", "y"))),
        "operations", "WriteFile, which writes files",
    ),
    Case(
        inside(lambda x: and_back(x, tf.io.matching_files("/*"))),
        "operations", "MatchingFiles, which reads files",
    ),
    Case(
        inside(lambda x: and_back(x, tf.raw_ops.PrintV2(input="a", output_stream="file:///tmp/x"))),
        "operations", "PrintV2",
    ),
    Case(
        inside(lambda x: tf.ensure_shape(tf.py_function(lambda y: y, [x], tf.float32), x.shape)),
        "operations", "EagerPyFunc, which runs Python",
    ),
    Case(
        inside(lambda x: tf.ensure_shape(tf.numpy_function(lambda y: y, [x], tf.float32), x.shape)),
        "operations", "PyFunc, which runs Python",
    ),
    Case(made(Assigning), "operations", "AssignAddVariableOp"),
    Case(made(Restoring), "operations", "RestoreV2, .* a request runs it"),
    Case(an_unknown_operation, "operations", "TheirOwnRelu is not on the list"),
    Case(saver_of_another_file, "operations", "RestoreV2, which reads files"),
    # Functions have no order: which of its operations is met first differs from run to run.
    Case(
        restoring_that_writes, "operations", "(MergeV2Checkpoints|SaveV2|ShardedFilename|RestoreV2)"
    ),
]  # fmt: skip
TRIAL = [
    Case(a_warm_up_that_fails, "trial", "does not load: .*(warm|x)", skip={}),
    Case(another_golden_answer, "trial", r"golden request 2 of 4 .* 0\.01 apart", skip={}),
]


def name_of(case: Case) -> str:
    made = getattr(case.make, "__name__", "")
    return f"{case.gate}-{made if made.isidentifier() else case.words[:30]}"


@pytest.mark.parametrize("case", [*STRUCTURE, *OPERATIONS, *TRIAL], ids=name_of)
def test_a_bad_candidate_is_refused_at_its_gate(case: Case, tmp_path: Path) -> None:
    folder = tmp_path / "candidate"
    case.make(folder)
    told: list[Finding] = []
    with pytest.raises(GateError, match=case.words) as caught:
        inspect(
            folder,
            served=SHIPPED if case.served else None,
            holdout=None,
            skip=case.skip,
            tell=told.append,
        )
    finding = caught.value.finding
    assert (finding.gate, finding.outcome) == (case.gate, "failed")
    # It was told of what came before, and of this at last.
    assert [one.gate for one in told] == list(GATES[: GATES.index(case.gate) + 1])
    assert told[-1] is finding
    json.dumps(finding.figures)


def test_a_graph_without_the_contract_ends_the_trial_server_and_no_other(tmp_path: Path) -> None:
    folder = hand_made(tmp_path / "candidate")
    told: list[Finding] = []
    with pytest.raises(GateError) as caught:
        inspect(folder, served=None, holdout=None, tell=told.append)
    assert [one.outcome for one in told] == ["passed", "passed", "failed"]
    error, finding = caught.value, caught.value.finding
    assert finding.gate == "trial"
    assert "the trial server was ended by SIGABRT (Check failed: " in error.message
    assert "by one request: a tensor of shape [2, 2] for image" in error.message
    assert error.hint is not None
    assert "tf.ensure_shape" in error.hint
    assert finding.figures["exit_status"] == -6


class Hungry(tf.Module):
    """A table of numbers; for no rows it makes 200 MB of them."""

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def __call__(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        count = tf.where(tf.shape(x)[0] == 0, 50_000_000, 1)
        return {"y": tf.reduce_sum(x) + tf.reduce_sum(tf.ones([count]))}


def test_a_request_that_takes_much_memory_is_noticed(tmp_path: Path) -> None:
    hungry = Hungry()
    tf.saved_model.save(hungry, tmp_path / "model", signatures=hungry.__call__)
    export(tmp_path / "model", tmp_path / "candidate", name="hungry")
    with pytest.raises(GateError, match=r"one request takes \d+ MiB of memory: .*0") as caught:
        inspect(
            tmp_path / "candidate", served=None, holdout=None, tolerances=Tolerances(memory=100)
        )
    finding = caught.value.finding
    assert finding.gate == "trial"
    assert 100 < finding.figures["added_mebibytes"] < 600
    assert "--trial-memory" in (caught.value.hint or "")
    findings = inspect(
        tmp_path / "candidate", served=None, holdout=None, tolerances=Tolerances(memory=1000)
    )
    assert findings[2].outcome == "passed"


def test_a_picture_without_a_limit_is_noticed(tmp_path: Path) -> None:
    folder = hand_made(tmp_path / "candidate", Garments())
    with pytest.raises(GateError, match=r"answers what it must refuse: a .* 5000 x 5000") as caught:
        inspect(folder, served=None, holdout=None)
    assert caught.value.finding.gate == "trial"


def test_a_folder_of_images_is_a_held_out_set(holdout: Holdout, tmp_path: Path) -> None:
    count = 40
    for index, (image, target) in enumerate(
        zip(holdout.images[:count], holdout.targets[:count], strict=True)
    ):
        folder = tmp_path / "test" / holdout.labels[target].replace("/", "_")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index:02d}.png").write_bytes(encode_png(image))
    manifest = json.loads((SHIPPED / MANIFEST).read_text())
    found = find_holdout(NAME, file=tmp_path, manifest=manifest)
    with pytest.raises(GateError, match=r"classes that .* does not know: T-shirt_top"):
        inspect(SHIPPED, served=None, holdout=found, skip=NO_SERVER)
    (tmp_path / "test" / "T-shirt_top").rename(tmp_path / "kept")
    found = find_holdout(NAME, file=tmp_path, manifest=manifest)
    assert found is not None
    left = holdout.targets[:count] != holdout.labels.index("T-shirt/top")
    assert len(found.images) == left.sum()
    # They are as a server reads them: as they were.
    for image in found.images:
        assert (holdout.images[:count][left] == image).all(axis=(1, 2)).any()
    findings = inspect(SHIPPED, served=None, holdout=found, skip=NO_SERVER)
    assert findings[3].figures["accuracy"] > 0.7
    with pytest.raises(HoldoutError, match="without their classes"):
        find_holdout(NAME, file=tmp_path / "kept", manifest=manifest)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FolderError, match="holds no images"):
        find_holdout(NAME, file=tmp_path / "empty", manifest=manifest)


@pytest.fixture(scope="module")
def holdout(dataset: Dataset) -> Holdout:
    test = dataset.test.first(500)
    return Holdout(
        source="500 pictures", images=test.images, targets=test.targets, labels=dataset.labels
    )


def test_the_shipped_model_passes_every_gate(holdout: Holdout) -> None:
    told: list[Finding] = []
    findings = inspect(SHIPPED, served=SHIPPED, holdout=holdout, tell=told.append)
    assert findings == told
    assert [(one.gate, one.outcome) for one in findings] == [(gate, "passed") for gate in GATES]
    figures = {one.gate: one.figures for one in findings}
    assert figures["trial"]["golden"] == 4
    assert figures["trial"]["hostile"] > 100
    assert figures["trial"]["refused"] > figures["trial"]["answered"] > 0
    assert figures["accuracy"]["difference"] == 0
    assert figures["accuracy"]["count"] == 500
    assert figures["size"]["ratio"] == 1
    assert "no held-out set" not in findings[3].said
    json.dumps([one.figures for one in findings])


@pytest.mark.parametrize("pushes", [1, 2])
def test_a_push_hashes_parses_and_loads_each_version_once(
    holdout: Holdout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pushes: int
) -> None:
    counted: Counter[tuple[str, Path]] = Counter()

    def count(module: Any, name: str, what: str) -> None:
        original = getattr(module, name)

        def call(path: Path, *args: Any, **kwargs: Any) -> Any:
            counted[what, path] += 1
            return original(path, *args, **kwargs)

        monkeypatch.setattr(module, name, call)

    repository = Repository(tmp_path / "models" / NAME)
    target = FolderTarget(Deployment(model=NAME, repository=repository))
    plan = Plan(skip=NO_SERVER, holdout=lambda: holdout, tolerances=Tolerances(latency=99))
    for _ in range(pushes - 1):
        push(SHIPPED, target, Steps(None), plan)
    count(manifest, "_sha256", "hashed")
    count(candidate, "_copy", "copied")
    count(saved_model, "read_meta_graph", "parsed")
    count(saved_model, "SavedModel", "loaded")
    push(SHIPPED, target, Steps(None), plan)
    files = [p for p in SHIPPED.rglob("*") if p.is_file() and p.name != "manifest.json"]
    expected = {("hashed", path): 1 for path in files} | {("copied", path): 1 for path in files}
    expected |= {("parsed", SHIPPED): 1, ("loaded", SHIPPED): 1}
    if pushes > 1:  # what it is compared with
        served = repository.path / "1"
        expected |= {("parsed", served): 1, ("loaded", served): 1}
    assert counted == expected
    assert check_candidate(repository.path / str(pushes))["sha256"]


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hand-made candidate, with variables, that keeps the contract."""
    return hand_made(tmp_path_factory.mktemp("made") / "candidate", HandMade(checked=True))


def test_an_evaluated_candidate_is_compared(variables: Path, tmp_path: Path) -> None:
    evaluated = shutil.copytree(variables, tmp_path / "candidate")
    sign(
        evaluated,
        dataset={"name": "pictures"},
        metrics={"validation": {"accuracy": 0.33}, "test": None},
    )
    skip = {**NO_SERVER, "latency": "a test of accuracy"}
    with pytest.raises(GateError, match="evaluated on pictures") as caught:
        inspect(evaluated, served=variables, holdout=None, skip=skip)
    assert caught.value.finding.gate == "accuracy"
    assert "--holdout" in str(caught.value.hint)
    # Nothing is served that could be better, or nobody has said that it was evaluated.
    for folder, served in ((evaluated, None), (variables, evaluated)):
        findings = inspect(folder, served=served, holdout=None, skip=skip)
        assert (findings[3].gate, findings[3].outcome) == ("accuracy", "skipped")
    findings = inspect(
        evaluated, served=variables, holdout=None, skip={**skip, "accuracy": "cleaned labels"}
    )
    assert findings[3].said == "cleaned labels"


def test_variables_are_welcome(variables: Path) -> None:
    findings = inspect(variables, served=None, holdout=None)
    outcomes = ["passed", "passed", "passed", "skipped", "passed", "passed"]
    assert [one.outcome for one in findings] == outcomes
    assert "no golden requests" in findings[2].said
    assert "--holdout" in findings[3].said
    assert "no served version" in findings[4].said


def test_a_worse_candidate_is_refused(variables: Path, holdout: Holdout, tmp_path: Path) -> None:
    better = tmp_path / "served"
    copy_shipped(better)
    # Only what both have is compared: the hand-made one has one signature.
    edit_graph(
        better, lambda meta: [meta.signature_def.pop(k) for k in ("classify", "serving_bytes")]
    )
    edit_manifest(better, signatures=contract_of(better))
    with pytest.raises(GateError, match=r"of 500 held-out images .*McNemar") as caught:
        inspect(variables, served=better, holdout=holdout, skip=NO_SERVER)
    figures = caught.value.finding.figures
    assert caught.value.finding.gate == "accuracy"
    assert figures["accuracy"] < 0.5 < 0.9 < figures["served_accuracy"]
    low, high = figures["difference_interval"]
    assert low < figures["difference"] < high < 0
    assert figures["p"] < 1e-6
    # The other way round it is welcome.
    findings = inspect(
        better, served=variables, holdout=holdout,
        skip={**NO_SERVER, "size": "it is larger", "latency": "it does more"},
    )  # fmt: skip
    assert findings[3].figures["difference"] == -figures["difference"]


@pytest.mark.parametrize(
    ("labels", "side", "words"),
    [
        (("spoon",), 28, "has classes that .* does not know: spoon"),
        ((), 20, r"has images of \[20, 20\], and .* takes \[28, 28\]"),
    ],
)
def test_pictures_of_something_else_are_refused(
    variables: Path, labels: tuple[str, ...], side: int, words: str
) -> None:
    other = Holdout(
        source="other.npz", images=np.zeros([3, side, side], np.uint8),
        targets=np.zeros(3, np.int64), labels=labels,
    )  # fmt: skip
    with pytest.raises(GateError, match=words) as caught:
        inspect(variables, served=None, holdout=other, skip=NO_SERVER)
    assert caught.value.finding.gate == "accuracy"


def test_a_slower_candidate_is_refused(variables: Path, tmp_path: Path) -> None:
    def idle(x: Any) -> Any:
        square = tf.fill([600, 600], tf.reduce_max(x))
        for _ in range(4):
            square = tf.sin(square @ square)
        return x + tf.reduce_max(square) * 0.0

    slow = hand_made(tmp_path / "slow", HandMade(checked=True, inside=idle))
    with pytest.raises(GateError, match=r"ms at batch 1, .* times the served") as caught:
        inspect(slow, served=variables, holdout=None, skip=NO_SERVER)
    figures = caught.value.finding.figures
    assert caught.value.finding.gate == "latency"
    assert figures["milliseconds"]["1"] > 1.5 * figures["served_milliseconds"]["1"]


def test_a_larger_candidate_is_refused(variables: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal([1000, 1000]).astype(np.float32)
    module = HandMade(checked=True)
    module.ballast = tf.Variable(noise)
    large = hand_made(tmp_path / "large", module)
    skip = {**NO_SERVER, "latency": "it is about size"}
    with pytest.raises(GateError, match=r"4\.0\d MB, .* the maximum is 2 times") as caught:
        inspect(large, served=variables, holdout=None, skip=skip)
    assert caught.value.finding.gate == "size"
    findings = inspect(
        large, served=variables, holdout=None, skip=skip, tolerances=Tolerances(size=1000)
    )
    assert findings[-1].outcome == "passed"


def test_a_gate_is_skipped_with_its_reason_and_not_otherwise(variables: Path) -> None:
    skip = {gate: "because" for gate in GATES if gate != "structure"}
    findings = inspect(variables, served=None, holdout=None, skip=skip)
    assert [one.outcome for one in findings] == ["passed", *["skipped"] * 5]
    assert findings[1].figures == {"why": "because"}
    for wrong, words in (
        ({"structure": "x"}, "cannot be skipped"),
        ({"nosuch": "x"}, "no gate 'nosuch'"),
        ({"trial": " "}, "without a reason"),
    ):
        with pytest.raises(InvalidInput, match=words):
            inspect(variables, served=None, holdout=None, skip=wrong)


def test_a_program_that_is_none_is_one_sentence(variables: Path, tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"cannot start .*nosuch"):
        inspect(variables, served=None, holdout=None, server=tmp_path / "nosuch")


def test_the_manifest_of_the_page_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "gates.md").read_text()
    code = re.search(r"^```python\n(import hashlib.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert code is not None
    folder = hand_made(tmp_path / "build" / "candidate")
    (folder / MANIFEST).unlink()
    monkeypatch.chdir(tmp_path)
    exec(code[1], {})
    assert check_candidate(folder)["name"] == "garments"
