"""Ways to the gRPC side: health, reflection, TLS, a UNIX socket."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
import tensorflow as tf
import trustme
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from tests.conftest import only_sentence, serving
from tests.forked import servable
from tests.functional.serving.calls import METHODS, MODEL, PREDICTION, call, linear

from servable_client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import RunningServer


def answers(channel: grpc.Channel) -> bool:
    """Whether a question over it is answered rightly."""
    answer = call(channel, f"{PREDICTION}Predict", linear([[1, 2, 3]]), timeout=120)
    return bool(tf.make_ndarray(answer.outputs["y"]).tolist() == [[6, 11, 16]])


def test_the_health_service(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", "PredictionService", "ModelService"):
        reply = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=120)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING, name
    # TensorFlow Serving does not know its services by their full names.
    for name in ("nosuch", PREDICTION.strip("/"), MODEL.strip("/")):
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=120)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_there_is_no_health_service_unasked(server: RunningServer) -> None:
    with (
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=120)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_reflection_knows_every_service_and_method(channel: grpc.Channel) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    (reply,) = stub.ServerReflectionInfo(iter([question]), timeout=120)
    listed = {service.name for service in reply.list_services_response.service}
    assert listed == {
        PREDICTION.strip("/"),
        MODEL.strip("/"),
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    # As grpcurl does: from the name of a method to the messages that it takes and gives.
    pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    found = {
        f"/{service}/{method.name}": (method.input_type.full_name, method.output_type.full_name)
        for service in (PREDICTION.strip("/"), MODEL.strip("/"))
        for method in pool.FindServiceByName(service).methods
    }
    expected = {
        method: (request.DESCRIPTOR.full_name, response.DESCRIPTOR.full_name)
        for method, (request, response) in METHODS.items()
    }
    assert {method: found.get(method) for method in expected} == expected
    message = pool.FindMessageTypeByName("tensorflow.serving.PredictRequest")
    assert {"model_spec", "inputs", "output_filter"} <= set(message.fields_by_name)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def pem(blob: trustme.Blob) -> str:
    return blob.bytes().decode()


def as_text(value: str) -> str:
    """A string in protobuf's text format, on lines of its own."""
    return "".join(f'"{line}\\n"\n' for line in value.splitlines())


@pytest.mark.parametrize("both_ways", [False, True], ids=["tls", "mtls"])
def test_tls(both_ways: bool, authority: trustme.CA, fixtures: Path, tmp_path: Path) -> None:
    own = authority.issue_cert("localhost", "127.0.0.1")
    key, chain = pem(own.private_key_pem), "".join(map(pem, own.cert_chain_pems))
    config = tmp_path / "ssl.config"
    text = f"server_key: {as_text(key)} server_cert: {as_text(chain)}"
    if both_ways:
        text += f"custom_ca: {as_text(pem(authority.cert_pem))} client_verify: true"
    config.write_text(text)
    root = authority.cert_pem.bytes()
    visitor = authority.issue_cert("visitor@example.org")
    stranger = trustme.CA().issue_cert("visitor@example.org")

    def credentials(
        root: bytes | None, known: trustme.LeafCert | None = None
    ) -> grpc.ChannelCredentials:
        if known is None:
            return grpc.ssl_channel_credentials(root)
        return grpc.ssl_channel_credentials(
            root, known.private_key_pem.bytes(), known.cert_chain_pems[0].bytes()
        )

    with serving(
        fixtures / "linear", tmp_path / "log", f"--ssl_config_file={config}", model="linear"
    ) as server:
        address = f"127.0.0.1:{server.port}"
        with grpc.secure_channel(address, credentials(root, visitor)) as channel:
            assert answers(channel)
        # Not in the clear, nor under another authority, nor unknown where names are asked for.
        refused = [
            grpc.insecure_channel(address),
            grpc.secure_channel(address, credentials(trustme.CA().cert_pem.bytes(), visitor)),
        ]
        if both_ways:
            refused.append(grpc.secure_channel(address, credentials(root)))
            refused.append(grpc.secure_channel(address, credentials(root, stranger)))
        else:
            with grpc.secure_channel(address, credentials(root)) as channel:
                assert answers(channel)
        for channel in refused:
            with channel, pytest.raises(grpc.RpcError) as caught:
                answers(channel)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        # REST is not part of it, as in TensorFlow Serving.
        with Client(server.http, model="linear") as client:
            assert client.status()[0].state == "AVAILABLE"


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose name leaves room for a socket's, which may have 107 letters in all."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def test_a_unix_socket(fixtures: Path, short_path: Path) -> None:
    path = short_path / "socket"
    with serving(
        fixtures / "linear", short_path / "log", f"--grpc_socket_path={path}", model="linear"
    ) as server:
        for target in (f"unix:{path}", f"127.0.0.1:{server.port}"):
            with grpc.insecure_channel(target) as channel:
                assert answers(channel)
        # Another server does not take it away.
        done = servable(
            "serve", f"--model_base_path={fixtures / 'linear'}", "--port=0",
            f"--grpc_socket_path={path}",
        )  # fmt: skip
        assert "Address already in use" in only_sentence(done)
        with grpc.insecure_channel(f"unix:{path}") as channel:
            assert answers(channel)
