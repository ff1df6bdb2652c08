"""How graphs are loaded and run, from flags and from a platform configuration file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from servable_serving.core.errors import ModelError
from servable_serving.server.options import ServerOptions
from servable_serving.server.runtime.session_bundle import session_bundle

if TYPE_CHECKING:
    from pathlib import Path

ADAPTER = "type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig"


@pytest.mark.parametrize(
    ("flags", "threads"),
    [
        ({}, (0, 0)),
        ({"tensorflow_session_parallelism": 3}, (3, 3)),
        ({"tensorflow_intra_op_parallelism": 2}, (2, 0)),
        ({"tensorflow_intra_op_parallelism": 2, "tensorflow_inter_op_parallelism": 4}, (2, 4)),
        ({"tensorflow_intra_op_parallelism": 2, "tensorflow_session_parallelism": 3}, (2, 0)),
        ({"tensorflow_intra_op_parallelism": -2, "tensorflow_session_parallelism": -1}, (0, 0)),
    ],
)
def test_threads(flags: dict[str, int], threads: tuple[int, int]) -> None:
    session = session_bundle(ServerOptions(**flags)).session  # type: ignore[arg-type]
    found = (session.intra_op_parallelism_threads, session.inter_op_parallelism_threads)
    assert found == threads


def test_both_ways_to_set_threads_contradict_each_other() -> None:
    flags: dict[str, Any] = {
        "tensorflow_session_parallelism": 1,
        "tensorflow_intra_op_parallelism": 1,
        "tensorflow_inter_op_parallelism": 1,
    }
    with pytest.raises(ModelError) as caught:
        session_bundle(ServerOptions(**flags))
    assert caught.value.code == "INVALID_ARGUMENT"


def test_flags_override_the_session_file(tmp_path: Path) -> None:
    file = tmp_path / "session"
    file.write_text("intra_op_parallelism_threads: 7 use_per_session_threads: true")
    options = ServerOptions(
        tensorflow_session_config_file=file,
        tensorflow_inter_op_parallelism=2,
        per_process_gpu_memory_fraction=0.25,
    )
    session = session_bundle(options).session
    assert session.use_per_session_threads
    assert session.intra_op_parallelism_threads == 0
    assert session.inter_op_parallelism_threads == 2
    assert session.gpu_options.per_process_gpu_memory_fraction == 0.25


def test_mixed_precision() -> None:
    def mode(text: str) -> int:
        session = session_bundle(ServerOptions(mixed_precision=text)).session
        return int(session.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16)

    assert (mode(""), mode("bfloat16"), mode("float16")) == (0, 1, 0)


@pytest.mark.parametrize(
    ("text", "tags"),
    [("", {"serve"}), ("serve", {"serve"}), ("serve,gpu", {"serve", "gpu"}), ("a, b", {"a", " b"})],
)
def test_tags(text: str, tags: set[str]) -> None:
    assert session_bundle(ServerOptions(saved_model_tags=text)).tags == tags


@pytest.mark.parametrize(("flag", "times"), [(-1, 1), (0, 1), (1, 1), (3, 3)])
def test_iterations_of_the_warm_up(flag: int, times: int) -> None:
    options = ServerOptions(num_request_iterations_for_warmup=flag)
    assert session_bundle(options).warm_up_iterations == times


def platform(tmp_path: Path, text: str, **flags: Any) -> Any:
    file = tmp_path / "platform"
    file.write_text(text)
    return session_bundle(ServerOptions(platform_config_file=file, **flags))


def tensorflow_platform(config: str) -> str:
    return packed_platform(f"[{ADAPTER}] {{ legacy_config {{ {config} }} }}")


def packed_platform(adapter: str) -> str:
    value = f"{{ source_adapter_config {{ {adapter} }} }}"
    return f'platform_configs {{ key: "tensorflow" value {value} }}'


def test_a_platform_file_stands_for_the_flags(tmp_path: Path) -> None:
    text = tensorflow_platform(
        "session_config { intra_op_parallelism_threads: 5 } "
        'saved_model_tags: "a" saved_model_tags: "b" enable_model_warmup: true '
        "model_warmup_options { num_request_iterations { value: 4 } } "
        "batching_parameters { max_batch_size { value: 6 } } mixed_precision: 'bfloat16'"
    )
    found = platform(tmp_path, text, saved_model_tags="c", tensorflow_session_parallelism=9)
    assert found.session.intra_op_parallelism_threads == 5
    assert found.session.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 == 1
    assert found.tags == {"a", "b"}
    assert found.warm_up
    assert found.warm_up_iterations == 4
    assert found.batching.max_batch_size == 6


def test_the_defaults_of_a_platform_file(tmp_path: Path) -> None:
    found = platform(tmp_path, tensorflow_platform(""), enable_batching=True)
    assert found.tags == {"serve"}
    assert not found.warm_up  # proto3's default, and upstream's
    assert found.batching is None


@pytest.mark.parametrize(
    "text",
    [
        "nosuch {",
        "",
        'platform_configs { key: "other" value { } }',
        'platform_configs { key: "tensorflow" value { } }',
        tensorflow_platform("nosuch: 1"),
        tensorflow_platform("batching_parameters { max_batch_size { value: 0 } }"),
        packed_platform(f'type_url: "{ADAPTER}" value: "\\377"'),
        packed_platform('type_url: "type.googleapis.com/tensorflow.serving.BatchingParameters"'),
    ],
)
def test_a_platform_file_that_is_not_valid(tmp_path: Path, text: str) -> None:
    with pytest.raises(ModelError) as caught:
        platform(tmp_path, text)
    assert caught.value.code == "INVALID_ARGUMENT"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for name in ("platform_config_file", "tensorflow_session_config_file"):
        with pytest.raises(ModelError) as caught:
            session_bundle(ServerOptions(**{name: tmp_path / "nosuch"}))  # type: ignore[arg-type]
        assert caught.value.code == "NOT_FOUND"
