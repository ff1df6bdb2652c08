"""How graphs are loaded and run, from the flags or from a platform configuration file.

Upstream's SessionBundleConfig; the rules are those of server.cc and saved_model_bundle_factory.cc.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import config_pb2 as session_pb2
from tensorflow.core.protobuf import rewriter_config_pb2

from servable_serving.core.errors import invalid
from servable_serving.server.config import PLATFORM, read
from servable_serving.server.proto import config_pb2, platform_pb2
from servable_serving.server.runtime.batching import Batching

if TYPE_CHECKING:
    from pathlib import Path

    from servable_serving.server.options import ServerOptions

_log = logging.getLogger("servable.serving")

SERVE_TAGS = frozenset({"serve"})
# Of a version that has its own; in its folder.
BATCHING_PARAMETERS = "batching_params.pbtxt"
_BFLOAT16 = "bfloat16"


@dataclass(frozen=True, kw_only=True)
class SessionBundle:
    """How graphs are loaded and run.

    Args:
        session: A tensorflow.ConfigProto.
        tags: The tags of the graph to load.
        warm_up: Whether to replay the warm-up records.
        warm_up_iterations: How often each is replayed.
        batching: How requests are batched; None where batching was not asked for.
        per_version_batching: Whether only those versions are batched that say how.
    """

    session: Any
    tags: frozenset[str] = SERVE_TAGS
    warm_up: bool = True
    warm_up_iterations: int = 1
    batching: Batching | None = None
    per_version_batching: bool = False


def session_bundle(options: ServerOptions) -> SessionBundle:
    """The configuration that the options of a server ask for.

    Raises:
        ModelError: A file cannot be read or parsed, or options contradict each other.
    """
    if options.platform_config_file is not None:
        return read_platform(options.platform_config_file)
    return SessionBundle(
        session=_session(options),
        tags=_tags(options.saved_model_tags.split(",") if options.saved_model_tags else ()),
        warm_up=options.enable_model_warmup,
        warm_up_iterations=max(options.num_request_iterations_for_warmup, 1),
        batching=_batching(options),
        per_version_batching=options.enable_per_model_batching_parameters,
    )


def read_platform(path: Path) -> SessionBundle:
    """The configuration of the platform `tensorflow` in a PlatformConfigMap.

    Raises:
        ModelError: The file cannot be read or parsed, or has no such platform.
    """
    platforms = read(path, platform_pb2.PlatformConfigMap)
    if PLATFORM not in platforms.platform_configs:
        raise invalid(f"{path} has no platform {PLATFORM!r}, which all models are for")
    adapter = platform_pb2.SavedModelBundleSourceAdapterConfig()
    packed = platforms.platform_configs[PLATFORM].source_adapter_config
    try:
        if not packed.Unpack(adapter):
            raise invalid(
                f"{path}: the platform {PLATFORM!r} needs a source_adapter_config that is a "
                f"{adapter.DESCRIPTOR.full_name}, not {packed.type_url!r}"
            )
    except DecodeError:
        raise invalid(f"{path}: the value of {packed.type_url} cannot be parsed") from None
    config = adapter.legacy_config
    session = session_pb2.ConfigProto.FromString(config.session_config.SerializeToString())
    _set_mixed_precision(session, config.mixed_precision)
    iterations = config.model_warmup_options.num_request_iterations.value
    batching = None
    if config.HasField("batching_parameters"):
        parameters = config.batching_parameters.SerializeToString()
        batching = Batching.read(config_pb2.BatchingParameters.FromString(parameters))
    return SessionBundle(
        session=session,
        tags=_tags(config.saved_model_tags),
        warm_up=config.enable_model_warmup,
        warm_up_iterations=max(iterations, 1),
        batching=batching,
        per_version_batching=config.enable_per_model_batching_params,
    )


def _tags(tags: Any) -> frozenset[str]:
    return frozenset(tags) or SERVE_TAGS


def _session(options: ServerOptions) -> Any:
    path = options.tensorflow_session_config_file
    session = session_pb2.ConfigProto() if path is None else read(path, session_pb2.ConfigProto)
    session.gpu_options.per_process_gpu_memory_fraction = options.per_process_gpu_memory_fraction
    intra = max(options.tensorflow_intra_op_parallelism, 0)
    inter = max(options.tensorflow_inter_op_parallelism, 0)
    both = max(options.tensorflow_session_parallelism, 0)
    if intra and inter and both:
        raise invalid(
            "--tensorflow_session_parallelism cannot be set together with both "
            "--tensorflow_intra_op_parallelism and --tensorflow_inter_op_parallelism"
        )
    if not intra and not inter:
        intra = inter = both
    session.intra_op_parallelism_threads = intra
    session.inter_op_parallelism_threads = inter
    _set_mixed_precision(session, options.mixed_precision)
    return session


def _set_mixed_precision(session: Any, mode: str) -> None:
    if mode == _BFLOAT16:
        rewrites = session.graph_options.rewrite_options
        rewrites.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.ON
    elif mode:
        _log.warning("mixed precision %r is not supported; only %r is", mode, _BFLOAT16)


def _batching(options: ServerOptions) -> Batching | None:
    path = options.batching_parameters_file
    if not options.enable_batching:
        if path is not None:
            raise invalid("--batching_parameters_file is set without --enable_batching")
        return None
    return Batching() if path is None else Batching.read(read(path, config_pb2.BatchingParameters))
