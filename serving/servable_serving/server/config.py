"""The server's configuration files: protobuf's text format, as tensorflow_model_server reads it.

https://www.tensorflow.org/tfx/serving/serving_config
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf import text_format

from servable_client._wire import wire_pb2 as wire
from servable_serving.core.errors import ModelError, invalid
from servable_serving.core.files import regular
from servable_serving.core.names import CONTAINER_ROOT
from servable_serving.repository.models_config import VersionPolicy
from servable_serving.server.proto import config_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

_M = TypeVar("_M", bound="Message")

DEFAULT_METRICS_PATH = "/monitoring/prometheus/metrics"
PLATFORM = "tensorflow"
_FILE = "file"
# io::ParseURI in tensorflow/core/platform/path.cc; a Path has one slash after the scheme.
_FILE_URI = re.compile(r"file:(?://[^/]*)?(?P<path>/.*)", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """One model of the configuration."""

    name: str
    base_path: Path
    policy: VersionPolicy = field(default_factory=VersionPolicy)
    labels: Mapping[str, int] = field(default_factory=dict)


def read(path: Path, message: type[_M]) -> _M:
    """A file in protobuf's text format.

    Raises:
        ModelError: It cannot be read (NOT_FOUND) or cannot be parsed (INVALID_ARGUMENT).
    """
    try:
        text = regular(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelError("NOT_FOUND", f"cannot read {path}: {reason}") from None
    try:
        # The pool has the types that a google.protobuf.Any may hold.
        pool: Any = message.DESCRIPTOR.file.pool
        return text_format.Parse(text, message(), descriptor_pool=pool)
    except text_format.ParseError as error:
        raise invalid(f"cannot parse {path}: {error}") from None


def model_settings(
    config: wire.ModelServerConfig, *, repository_path: Path | None = None
) -> tuple[ModelSettings, ...]:
    """The models of a ModelServerConfig, checked as TensorFlow Serving checks them.

    Args:
        config: A tensorflow.serving.ModelServerConfig with a `model_config_list`.
        repository_path: Where base paths under /models are read instead, None for there.

    Raises:
        ModelError: `code` is INVALID_ARGUMENT; the words are TensorFlow Serving's.
    """
    models = config.model_config_list.config
    seen: set[str] = set()
    for model in models:
        if model.name in seen:
            raise invalid(f"Illegal to list model {model.name} multiple times in config list")
        seen.add(model.name)
    for model in models:
        path = model.base_path
        if remote_scheme(path) is None and not local_path(path).is_absolute():
            raise invalid(
                f"Expected model {model.name} to have an absolute path or URI; "
                f"got base_path()={path}"
            )
    for model in models:
        _check_platform(model)
        _check_logging(model)
        if (scheme := remote_scheme(model.base_path)) is not None:
            raise _remote(model.base_path, scheme)
        if "\0" in model.base_path:
            raise invalid(f"model {model.name}: the base path has a NUL character")
    return tuple(
        ModelSettings(
            name=model.name,
            base_path=_moved(local_path(model.base_path), repository_path),
            policy=VersionPolicy.read(model.model_version_policy),
            labels=dict(model.version_labels),
        )
        for model in models
    )


def remote_scheme(base_path: str) -> str | None:
    """The scheme of a base path that is not a folder of this machine; None if it is one."""
    # A Path has one slash, and not two, after the scheme.
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):/", base_path)
    if found is None or found[1].lower() == _FILE or os.path.lexists(base_path):
        return None
    return found[1]


def check_local(base_path: Path) -> None:
    """Refuse the base path of a store.

    Raises:
        ModelError: It is one; `code` is INVALID_ARGUMENT.
    """
    text = str(base_path)
    if (scheme := remote_scheme(text)) is not None:
        raise _remote(re.sub(":/+", "://", text, count=1), scheme)


def local_path(base_path: str) -> Path:
    """A base path without the scheme `file`, and the host, which is ignored."""
    found = _FILE_URI.fullmatch(base_path)
    return Path(found["path"] if found else base_path)


def _remote(base_path: str, scheme: str) -> ModelError:
    return invalid(
        f"{base_path}: the server reads local folders, not {scheme}://; `servable sync` keeps a "
        "local copy of a repository that is elsewhere"
    )


def channel_arguments(text: str) -> dict[str, int | str]:
    """The arguments of gRPC's core in "name=value,name=value"; a value is a number if it can be.

    Raises:
        ModelError: A part has no value; `code` is INVALID_ARGUMENT.
    """
    arguments: dict[str, int | str] = {}
    for part in text.split(",") if text else ():
        name, *values = part.split("=")
        if not name or not values:
            raise invalid(f"--grpc_channel_arguments: {part!r} is not name=value")
        value = values[0]
        number = int(value) if re.fullmatch(r"\s*[+-]?[0-9]+\s*", value) else None
        in_range = number is not None and -(2**31) <= number < 2**31
        arguments[name] = number if number is not None and in_range else value
    return arguments


def _moved(base_path: Path, repository_path: Path | None) -> Path:
    if repository_path is None or not base_path.is_relative_to(CONTAINER_ROOT):
        return base_path
    return repository_path / base_path.relative_to(CONTAINER_ROOT)


def _check_platform(model: wire.ModelConfig) -> None:
    platform = model.model_platform
    if model.model_type:
        if platform:
            raise invalid(
                "Illegal setting both ModelServerConfig::model_type (deprecated) and "
                f"ModelServerConfig::model_platform, model name is {model.name}"
            )
        if model.model_type != wire.TENSORFLOW:
            raise invalid(f"ModelServerConfig::model_type choice {model.model_type} not supported.")
        platform = PLATFORM
    if not platform:
        raise invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {model.name}"
        )
    if platform != PLATFORM:
        raise invalid(f"Model {model.name} requests unsupported platform {platform}")


def _check_logging(model: wire.ModelConfig) -> None:
    """Refuse to log requests, for which TensorFlow Serving has no collector of its own.

    Raises:
        ModelError: The model has a `logging_config`; `code` is NOT_FOUND.
    """
    if model.HasField("logging_config"):
        kind = model.logging_config.log_collector_config.type
        raise ModelError("NOT_FOUND", f"Cannot find LogCollector::Factory for type: {kind}")


def read_model_config(path: Path) -> wire.ModelServerConfig:
    """A ModelServerConfig from a file.

    Raises:
        ModelError: As `read`.
    """
    return read(path, wire.ModelServerConfig)


def metrics_path(path: Path | None) -> str | None:
    """The path at which the monitoring configuration exposes metrics; None for no metrics.

    Raises:
        ModelError: As `read`.
    """
    if path is None:
        return None
    prometheus = read(path, config_pb2.MonitoringConfig).prometheus_config
    return (prometheus.path or DEFAULT_METRICS_PATH) if prometheus.enable else None
