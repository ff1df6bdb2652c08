"""A SavedModel as TensorFlow Serving sees it: a graph, a session and signatures.

Through TensorFlow 1's session and not `tf.saved_model.load`, since that is the way TensorFlow
Serving goes: tensors are fed and fetched by the names in the signature, no shape is enforced
that the graph does not enforce itself, and errors have the same words.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tensorflow.core.protobuf import config_pb2, saved_model_pb2
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.client.session import Session
from tensorflow.python.framework import constant_op, dtypes
from tensorflow.python.framework.errors import OpError
from tensorflow.python.framework.ops import Graph
from tensorflow.python.saved_model.loader_impl import SavedModelLoader

from servable_client._wire import wire_pb2 as wire
from servable_client._wire.status import STATUS_CODES
from servable_client._wire.tensors import numpy_dtype
from servable_serving.core.errors import ModelError, invalid
from servable_serving.core.files import regular
from servable_serving.core.lazy_tensorflow import is_quiet

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

_TAG = "serve"
_INLINE_ROWS = 4
_SLOW_SECONDS = 0.05


def read_meta_graph(folder: Path) -> Any:
    """The MetaGraphDef in a SavedModel that is served, without loading it.

    Raises:
        ModelError: There is no SavedModel, or it is damaged.
    """
    path = folder / "saved_model.pb"
    try:
        data = regular(path).read_bytes()
    except OSError:
        raise ModelError(
            "NOT_FOUND",
            "Specified file path does not appear to contain a SavedModel bundle (should have a "
            f"file called `saved_model.pb`)\nSpecified file path: {folder}",
        ) from None
    try:
        saved = saved_model_pb2.SavedModel.FromString(data)
    except Exception as error:  # the class depends on protobuf's implementation
        raise ModelError("DATA_LOSS", f"Can't parse {path} as binary proto") from error
    for meta_graph in saved.meta_graphs:
        if _TAG in meta_graph.meta_info_def.tags:
            return meta_graph
    raise ModelError(
        "NOT_FOUND", f"Could not find meta graph def matching supplied tags: {{ {_TAG} }}"
    )


def signatures_of(meta_graph: Any) -> dict[str, wire.SignatureDef]:
    """The signatures in a MetaGraphDef, by name."""
    return {
        name: wire.SignatureDef.FromString(signature.SerializeToString())
        for name, signature in meta_graph.signature_def.items()
    }


class SavedModel:
    """A loaded SavedModel; safe to run from several threads.

    Args:
        folder: The version's folder.
        meta_graph: The result of `read_meta_graph`, if that has been called already.
        intra_op_threads: Threads within an op; 0 lets TensorFlow choose.
        inter_op_threads: Threads for ops in parallel; 0 lets TensorFlow choose.

    Raises:
        ModelError: It cannot be loaded.
    """

    def __init__(
        self,
        folder: Path,
        *,
        meta_graph: Any = None,
        intra_op_threads: int = 0,
        inter_op_threads: int = 0,
    ) -> None:
        self.signatures = signatures_of(
            read_meta_graph(folder) if meta_graph is None else meta_graph
        )
        if is_quiet():
            _quiet_first_session()
        self._graph = Graph()
        self._session = Session(
            graph=self._graph,
            config=config_pb2.ConfigProto(
                intra_op_parallelism_threads=intra_op_threads,
                inter_op_parallelism_threads=inter_op_threads,
            ),
        )
        # The places in the graph of each set of feeds and fetches that has been run.
        self._places: dict[tuple[str, ...], tuple[list[Any], list[Any]]] = {}
        # With more than one inter-op thread configured, ops must be able to run in parallel.
        self._inline_rows = _INLINE_ROWS if inter_op_threads <= 1 else 0
        self._slow: set[tuple[str, ...]] = set()
        try:
            with self._graph.as_default():
                SavedModelLoader(str(folder)).load(self._session, [_TAG])
        except OpError as error:
            self.close()
            raise _as_model_error(error) from error
        except Exception as error:
            # A damaged graph ends in many kinds of error, none of them ours to list.
            self.close()
            raise invalid(f"cannot load {folder}: {error}") from error

    def run(
        self,
        signature: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str] | None = None,
        *,
        timeout: float | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run a signature.

        Args:
            signature: Its name; it exists.
            inputs: Arrays by name; exactly those of the signature.
            outputs: The outputs to give; all unless given.
            timeout: Seconds; see `run_tensors`.

        Raises:
            ModelError: The inputs do not fit, or the graph refused them.
        """
        definition = self.signatures[signature]
        names = sorted(outputs or definition.outputs)
        feeds = {}
        for index, (name, info) in enumerate(sorted(definition.inputs.items())):
            expected = numpy_dtype(info.dtype)
            if inputs[name].dtype != expected:
                raise invalid(
                    f"Expects arg[{index}] to be {_type_name(expected)} "
                    f"but {_type_name(inputs[name].dtype)} is provided",
                )
            feeds[info.name] = inputs[name]
        values = self.run_tensors(
            feeds, [definition.outputs[name].name for name in names], timeout=timeout
        )
        return dict(zip(names, values, strict=True))

    def run_tensors(
        self,
        feeds: Mapping[str, NDArray[Any]],
        fetches: Sequence[str],
        *,
        timeout: float | None = None,
    ) -> list[NDArray[Any]]:
        """Run the graph by the names of its tensors.

        Args:
            feeds: What goes in, of the tensors' dtypes.
            fetches: What comes out.
            timeout: Seconds after which a slow run is aborted; none unless given.

        Raises:
            ModelError: The graph refused it, or took longer (DEADLINE_EXCEEDED).
        """
        what = (*feeds, "", *fetches)
        rows = max((len(array) if array.ndim else 1 for array in feeds.values()), default=1)
        few = rows <= self._inline_rows
        # A few rows of a fast graph cost a third less if the calling thread runs the ops
        # itself. It then cannot be cancelled, so a graph that was slow runs the other way.
        inline = few and what not in self._slow
        milliseconds = 0 if timeout is None or inline else max(round(timeout * 1000), 1)
        known = self._places.get(what)
        places = known or (
            [self._place(name, "FeedInputs: unable to find feed output {}") for name in feeds],
            [self._place(name, "FetchOutputs node {}: not found") for name in fetches],
        )
        given = dict(zip(places[0], feeds.values(), strict=True))
        options = _run_options(-1 if inline else 0, milliseconds)
        # `Session.run` would check inputs against the placeholders' shapes, as TensorFlow Serving
        # does not, and silently convert dtypes. This is what it calls in the end. A callable would
        # be optimized again for each timeout and each pool of threads.
        began = time.monotonic()
        try:
            values = self._session._call_tf_sessionrun(options, given, places[1], [], None)  # noqa: SLF001
        except OpError as error:
            raise _as_model_error(error) from error
        except UnicodeDecodeError as error:
            # TensorFlow's message quotes bytes of the caller, and its binding cannot make text of
            # them: the message is what it could not decode, and the code is lost.
            raise invalid(_message(error.object.decode(errors="replace"))) from error
        finally:
            # In the first run TensorFlow optimizes the graph: its duration is not representative.
            self._places[what] = places
            if known and few:
                if time.monotonic() - began > _SLOW_SECONDS:
                    self._slow.add(what)
                else:
                    self._slow.discard(what)
        # A string that stands alone comes as bytes.
        return [np.array(v, object) if isinstance(v, bytes) else v for v in values]

    def close(self) -> None:
        """Release the memory; the model cannot be run any more."""
        self._session.close()

    def _place(self, name: str, missing: str) -> Any:
        """A tensor of the graph as TensorFlow's own C interface has it."""
        try:
            tensor = self._graph.get_tensor_by_name(name if ":" in name else f"{name}:0")
        except (KeyError, ValueError):
            raise ModelError("NOT_FOUND", missing.format(name)) from None
        return tensor._as_tf_output()  # noqa: SLF001


def _type_name(dtype: Any) -> str:
    if dtype.kind == "O":
        return "string"
    return str(dtypes.as_dtype(dtype).name).replace("float32", "float")


def _as_model_error(error: OpError) -> ModelError:
    return ModelError(STATUS_CODES[error.error_code], _message(error.message))


def _message(text: str) -> str:
    # Python adds the place in the code that made the op, which the server has not got.
    message = text.partition("\n\nOriginal stack trace")[0]
    return message.partition("\n\nErrors may have originated")[0].strip("\n")


@cache
def _run_options(pool: int, milliseconds: int) -> Any:
    """The options of a run, serialized for TensorFlow's C API."""
    options = config_pb2.RunOptions(inter_op_thread_pool=pool, timeout_in_ms=milliseconds)
    return pywrap_tf_session.TF_NewBufferFromString(options.SerializeToString())


@cache
def _quiet_first_session() -> None:
    """Open a session while standard error is redirected; for the process of a command alone.

    In a process's first session TensorFlow writes that an optimization pass is not enabled, at
    any log level.
    """
    with _stderr_discarded(), Graph().as_default(), Session() as session:
        session.run(constant_op.constant(0))


@contextmanager
def _stderr_discarded() -> Iterator[None]:
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
