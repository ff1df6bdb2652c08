"""The server's configuration files: what is read of them, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from servable_serving.core.errors import ModelError
from servable_serving.repository.models_config import VersionPolicy
from servable_serving.server.config import (
    channel_arguments,
    check_local,
    local_path,
    metrics_path,
    model_settings,
    read,
    read_model_config,
)
from servable_serving.server.proto import config_pb2
from servable_serving.server.runtime.batching import Batching

CONFIG = Path(config_pb2.__file__).parent


@pytest.mark.parametrize(("file", "flags"), [("config", ["--include_imports"]), ("platform", [])])
def test_the_generated_files_are_current(file: str, flags: list[str], tmp_path: Path) -> None:
    subprocess.run(
        [
            sys.executable, "-m", "grpc_tools.protoc", f"-I{CONFIG}", *flags,
            f"--descriptor_set_out={tmp_path / file}.binpb", f"--pyi_out={tmp_path}",
            f"{file}.proto",
        ],
        check=True,
    )  # fmt: skip
    for name in (f"{file}.binpb", f"{file}_pb2.pyi"):
        assert (CONFIG / name).read_bytes() == (tmp_path / name).read_bytes(), "run `make proto`"


def written(folder: Path, text: str) -> Path:
    path = folder / "a.config"
    path.write_text(text)
    return path


def test_models_policies_and_labels(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """model_config_list {
          config { name: "a" base_path: "/models/a" model_platform: "tensorflow"
            model_version_policy { latest { num_versions: 2 } }
            version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 } }
          config { name: "b" base_path: "/models/b" model_type: TENSORFLOW
            model_version_policy { specific { versions: 3 versions: 1 } } }
          config { name: "c" base_path: "/models/c" model_platform: "tensorflow"
            model_version_policy { all {} } }
          config { name: "d" base_path: "/models/d" model_platform: "tensorflow" }
        }""",
    )
    a, b, c, d = model_settings(read_model_config(path))
    assert (a.name, a.base_path, dict(a.labels)) == (
        "a", Path("/models/a"), {"stable": 1, "canary": 2},
    )  # fmt: skip
    folders = {number: Path(str(number)) for number in (-3, 1, 2, 3)}
    assert sorted(a.policy.select(folders)) == [2, 3]
    assert sorted(b.policy.select(folders)) == [1, 3]
    assert sorted(c.policy.select(folders)) == [-3, 1, 2, 3]
    assert d.policy == VersionPolicy(latest=1)
    assert d.policy.select({}) == set()


@pytest.mark.parametrize(
    ("models", "words"),
    [
        (
            'config { name: "a" base_path: "models" model_platform: "tensorflow" }',
            "Expected model a to have an absolute path or URI; got base_path()=models",
        ),
        (
            'config { name: "a" base_path: "gs://bucket/a" model_platform: "tensorflow" }',
            "the server reads local folders",
        ),
        (
            r'config { name: "a" base_path: "/a\000b" model_platform: "tensorflow" }',
            "the base path has a NUL character",
        ),
        (
            'config { name: "a" base_path: "/a" model_type: TENSORFLOW model_platform: "t" }',
            "Illegal setting both",
        ),
        ('config { name: "a" base_path: "/a" model_type: OTHER }', "choice 2 not supported"),
        (
            'config { name: "a" base_path: "/a" model_platform: "torch" }',
            "Model a requests unsupported platform torch",
        ),
    ],
)
def test_models_that_cannot_be_served(models: str, words: str, tmp_path: Path) -> None:
    config = read_model_config(written(tmp_path, f"model_config_list {{ {models} }}"))
    with pytest.raises(ModelError) as caught:
        model_settings(config)
    assert caught.value.code == "INVALID_ARGUMENT"
    assert words in caught.value.message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read .*nosuch: No such file"):
        read_model_config(tmp_path / "nosuch")
    with pytest.raises(ModelError, match=r"cannot parse .*a.config: 1:21") as caught:
        read_model_config(written(tmp_path, "model_config_list { model: 1 }"))
    assert caught.value.code == "INVALID_ARGUMENT"


def test_where_the_metrics_are(tmp_path: Path) -> None:
    assert metrics_path(None) is None
    assert metrics_path(written(tmp_path, "prometheus_config {}")) is None
    standard = "/monitoring/prometheus/metrics"
    assert metrics_path(written(tmp_path, "prometheus_config { enable: true }")) == standard
    own = written(tmp_path, 'prometheus_config { enable: true path: "/metrics" }')
    assert metrics_path(own) == "/metrics"


def parameters(folder: Path, text: str) -> Batching:
    return Batching.read(read(written(folder, text), config_pb2.BatchingParameters))


def test_batching_parameters(tmp_path: Path) -> None:
    batching = parameters(
        tmp_path,
        """max_batch_size { value: 32 } batch_timeout_micros { value: 1500 }
        num_batch_threads { value: 3 } max_enqueued_batches { value: 7 }
        allowed_batch_sizes: 8 allowed_batch_sizes: 32 pad_variable_length_inputs: true
        thread_pool_name { value: "batches" }""",
    )
    assert batching == Batching(
        max_batch_size=32,
        timeout=0.0015,
        threads=3,
        max_enqueued_batches=7,
        allowed_sizes=(8, 32),
        pad_variable_length_inputs=True,
    )
    assert batching.max_execution_batch_size is None
    split = parameters(
        tmp_path,
        "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 4 }",
    )
    assert (split.max_batch_size, split.max_execution_batch_size) == (1000, 4)


@pytest.mark.parametrize(
    "text",
    [
        "num_batch_threads { value: 0 }",
        "max_batch_size { value: 0 }",
        "batch_timeout_micros { value: -1 }",
        "max_batch_size { value: 8 } allowed_batch_sizes: 4 allowed_batch_sizes: 2",
        "max_batch_size { value: 8 } allowed_batch_sizes: 4",
    ],
)
def test_batching_parameters_that_make_no_sense(text: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        parameters(tmp_path, text)
    assert caught.value.code == "INVALID_ARGUMENT"


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "models.config")
    with pytest.raises(ModelError, match="it is not a regular file"):
        read_model_config(tmp_path / "models.config")


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", {}),
        ("grpc.max_connection_age_ms=2000", {"grpc.max_connection_age_ms": 2000}),
        ("a=-1,b=x", {"a": -1, "b": "x"}),
        ("a=1,a=2", {"a": 2}),
        ("a=2147483648", {"a": "2147483648"}),
        ("a=1_0", {"a": "1_0"}),
        ("a=b=c", {"a": "b"}),
        ("a=", {"a": ""}),
    ],
)
def test_channel_arguments(text: str, arguments: dict[str, int | str]) -> None:
    assert channel_arguments(text) == arguments


@pytest.mark.parametrize("text", ["nonsense", "a=1,", ",a=1", "=1", "a=1,b"])
def test_channel_arguments_that_are_not_valid(text: str) -> None:
    with pytest.raises(ModelError) as caught:
        channel_arguments(text)
    assert caught.value.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    "text", ["s3://b/m", "gs://b", "hdfs://host:1/m", "S3://b/m", "x+y.z-1://a"]
)
def test_base_paths_elsewhere(text: str) -> None:
    with pytest.raises(ModelError) as caught:
        check_local(Path(text))
    assert text in str(caught.value)


@pytest.mark.parametrize("text", ["/models/a", "models/a", "file:///models/a", "/a/b:/c", "C/d"])
def test_base_paths_of_this_machine(text: str) -> None:
    check_local(Path(text))


def test_a_folder_that_is_named_like_a_scheme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s3:" / "m").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    check_local(Path("s3:/m"))


def test_the_path_of_a_file_url() -> None:
    assert local_path("file:///models/a") == Path("/models/a")
    assert local_path("/models/file:/a") == Path("/models/file:/a")


@pytest.mark.parametrize(
    ("base_path", "folder"),
    [
        ("file:///models/a", "/models/a"),
        ("file://host/models/a", "/models/a"),
        ("/models/file://a", "/models/file:/a"),
    ],
)
def test_a_file_uri_is_a_folder(tmp_path: Path, base_path: str, folder: str) -> None:
    text = f'config {{ name: "a" base_path: "{base_path}" model_platform: "tensorflow" }}'
    (model,) = model_settings(read_model_config(written(tmp_path, f"model_config_list {{{text}}}")))
    assert model.base_path == Path(folder)


@pytest.mark.parametrize(
    ("logging", "kind"), [("", ""), ('log_collector_config { type: "x" }', "x")]
)
def test_request_logging_is_refused(tmp_path: Path, logging: str, kind: str) -> None:
    text = (
        'config { name: "a" base_path: "/a" model_platform: "tensorflow" '
        f"logging_config {{ {logging} }} }}"
    )
    path = written(tmp_path, f"model_config_list {{ {text} }}")
    with pytest.raises(ModelError) as refused:
        model_settings(read_model_config(path))
    assert refused.value.code == "NOT_FOUND"
    assert refused.value.message == f"Cannot find LogCollector::Factory for type: {kind}"
