"""Which models are served: set anew by gRPC, by the configuration file, and after failures."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import model_management_pb2
from tests.conftest import serving
from tests.functional.serving.calls import (
    MODEL,
    PREDICTION,
    call,
    config_of,
    eventually,
    linear,
    post,
)

from servable_client import Client

if TYPE_CHECKING:
    from pathlib import Path


def reload(channel: grpc.Channel, config: str) -> None:
    """Have the server take a configuration."""
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(config, request.config)
    response = call(channel, f"{MODEL}HandleReloadConfigRequest", request)
    assert response.status.error_code == 0


def slope(channel: grpc.Channel, **spec: Any) -> float:
    """What the version that is meant multiplies with."""
    answer = call(channel, f"{PREDICTION}Predict", linear([[1, 0, 0]], **spec))
    return float(tf.make_ndarray(answer.outputs["y"])[0, 0]) - 1


def refusal(channel: grpc.Channel, config: str) -> tuple[grpc.StatusCode, str]:
    """What a configuration is refused with."""
    with pytest.raises(grpc.RpcError) as caught:
        reload(channel, config)
    details = caught.value.details()
    assert details is not None
    return caught.value.code(), details


def test_a_reload_by_grpc_replaces_everything(fixtures: Path, tmp_path: Path) -> None:
    only = {"linear": fixtures / "linear"}
    both = {**only, "types": fixtures / "types"}
    config = tmp_path / "models.config"
    config.write_text(config_of(only))
    with (
        serving(
            None, tmp_path / "log", f"--model_config_file={config}", "--max_num_load_retries=0",
            model="linear",
        ) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):  # fmt: skip
        assert slope(channel) == 5
        assert post(server, {"instances": [1.5]}, "types:predict").status_code == 404
        # When the call returns, the new model answers and the labels stand.
        reload(channel, config_of(both, labels={"stable": 1, "canary": 4}))
        assert post(server, {"instances": [1.5]}, "types:predict").json() == {"predictions": [1.5]}
        assert slope(channel, version_label="stable") == 2
        assert slope(channel, version_label="canary") == 5
        by_label = "linear/labels/stable:predict"
        assert post(server, {"instances": [[1, 2, 3]]}, by_label).json()["predictions"] == [
            [3.0, 5.0, 7.0]
        ]
        # A label that is left out is gone.
        reload(channel, config_of(both, labels={"stable": 3}))
        assert slope(channel, version_label="stable") == 4
        with pytest.raises(grpc.RpcError) as caught:
            slope(channel, version_label="canary")
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT

        # What is refused changes nothing, neither labels nor models.
        code, details = refusal(channel, config_of(only, labels={"stable": 9}))
        assert code == grpc.StatusCode.FAILED_PRECONDITION
        assert "version 9 of model linear" in details
        twice = config_of(both).replace('"types"', '"linear"')
        code, details = refusal(channel, twice)
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert "Illegal to list model linear multiple times" in details
        assert slope(channel, version_label="stable") == 4
        assert post(server, {"instances": [1.5]}, "types:predict").status_code == 200

        # A new model that cannot be loaded fails the call; the others go on.
        shutil.copytree(fixtures / "broken" / "2", tmp_path / "broken" / "2")
        code, details = refusal(
            channel, config_of({**both, "broken": tmp_path / "broken"}, labels={"stable": 3})
        )
        assert code == grpc.StatusCode.UNKNOWN
        assert "1 model(s) did not become available: {{{name: broken version: 2}" in details
        assert slope(channel, version_label="stable") == 4
        assert post(server, {"instances": [1.5]}, "types:predict").status_code == 200

        # A model that is left out is unloaded.
        reload(channel, config_of(only, labels={"stable": 3}))
        eventually(lambda: post(server, {"instances": [1.5]}, "types:predict").status_code == 404)
        with Client(server.grpc, model="types") as types:
            eventually(lambda: [v.state for v in types.status()] == ["END"])
        # And another policy is applied at once.
        reload(channel, config_of(only, policy="specific { versions: 2 }"))
        eventually(lambda: slope(channel) == 3)
        with Client(server.grpc, model="linear") as client:
            eventually(lambda: [v.state == "AVAILABLE" for v in client.status()].count(True) == 1)
        assert "Traceback" not in server.log.read_text()


def test_a_template_is_served_until_there_is_the_file(fixtures: Path, tmp_path: Path) -> None:
    template, config = tmp_path / "models.config.template", tmp_path / "models.config"
    template.write_text(config_of({"linear": fixtures / "linear"}, labels={"stable": 1}))
    with (
        serving(
            None, tmp_path / "log", f"--model_config_file={config}",
            "--model_config_file_poll_wait_seconds=1",
            "--allow_version_labels_for_unavailable_models", model="linear",
        ) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):  # fmt: skip
        assert slope(channel, version_label="stable") == 2
        # The server itself makes no file: it may have no right to.
        assert not config.exists()
        config.write_text(config_of({"linear": fixtures / "linear"}, labels={"stable": 2}))
        eventually(lambda: slope(channel, version_label="stable") == 3)
        # Once there is the file, its template does not count any more.
        config.unlink()
        eventually(lambda: "is not applied" in server.log.read_text())
        assert slope(channel, version_label="stable") == 3


def test_the_configuration_file_is_followed(fixtures: Path, tmp_path: Path) -> None:
    models = {"linear": fixtures / "linear"}
    config = tmp_path / "models.config"

    def write(text: str) -> None:
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").rename(config)

    write(config_of(models))
    with (
        serving(
            None, tmp_path / "log", f"--model_config_file={config}",
            "--model_config_file_poll_wait_seconds=1", model="linear",
        ) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):  # fmt: skip

        def refusals() -> int:
            return server.log.read_text().count("is not applied")

        def labelled(label: str) -> float | None:
            try:
                return slope(channel, version_label=label)
            except grpc.RpcError:
                return None

        write(config_of(models, labels={"stable": 2}))
        eventually(lambda: labelled("stable") == 3)

        # What cannot be read is logged once and changes nothing, however often it is read.
        write("model_config_list { config { name: ")
        eventually(lambda: refusals() == 1)
        time.sleep(3)  # nothing to wait for: what must not come is a second line
        assert refusals() == 1
        assert labelled("stable") == 3
        # Something else is wrong now, so another line.
        config.unlink()
        eventually(lambda: refusals() == 2)
        config.mkdir()
        eventually(lambda: refusals() == 3)
        config.rmdir()
        assert labelled("stable") == 3
        # A good one is taken; that it was broken is over.
        write(config_of({**models, "types": fixtures / "types"}, labels={"stable": 4}))
        eventually(lambda: labelled("stable") == 5)
        eventually(lambda: post(server, {"instances": [1.5]}, "types:predict").status_code == 200)
        # A label ahead of its version is refused whole; the models stay too.
        write(config_of(models, labels={"stable": 9}))
        eventually(lambda: "version 9 of model linear" in server.log.read_text())
        assert labelled("stable") == 5
        assert post(server, {"instances": [1.5]}, "types:predict").status_code == 200
        # The file wins over what was said by gRPC.
        write(config_of(models, labels={"stable": 1}))
        eventually(lambda: labelled("stable") == 2)
        reload(channel, config_of(models, labels={"stable": 4}))
        eventually(lambda: labelled("stable") == 2)
        assert "Traceback" not in server.log.read_text()


def test_a_load_that_failed_is_tried_again(fixtures: Path, tmp_path: Path) -> None:
    base = tmp_path / "linear"
    shutil.copytree(fixtures / "linear" / "1", base / "1")
    with (
        serving(
            base, tmp_path / "log",
            "--max_num_load_retries=1", "--load_retry_interval_micros=4000000", model="linear",
        ) as server,
        Client(server.grpc, model="linear") as client,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):  # fmt: skip
        shutil.copytree(fixtures / "linear" / "2", base / ".2")
        (base / ".2" / "saved_model.pb").rename(tmp_path / "kept")
        (base / ".2").rename(base / "2")
        again = "version 2 failed to load; retrying in 4 s"
        eventually(lambda: again in server.log.read_text())
        assert [v.state for v in client.status()] == ["LOADING", "AVAILABLE"]
        assert slope(channel) == 2
        # Mended meanwhile, it is loaded.
        (tmp_path / "kept").rename(base / "2" / "saved_model.pb")
        eventually(lambda: [v.state for v in client.status()] == ["AVAILABLE", "END"])
        assert slope(channel) == 3

        # One that stays broken is given up after that, and the other goes on.
        (base / "3").mkdir()
        eventually(lambda: client.status()[0].state == "END")
        log = server.log.read_text()
        assert log.count("version 3 failed to load; retrying") == 1
        assert log.count("version 3 failed to load:") == 1
        assert "saved_model.pb" in client.status()[0].error_message
        assert slope(channel) == 3
