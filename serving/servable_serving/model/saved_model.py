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

from google.protobuf import text_format
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, saved_model_pb2
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.client.session import Session
from tensorflow.python.framework import constant_op
from tensorflow.python.framework.errors import OpError
from tensorflow.python.framework.ops import Graph
from tensorflow.python.saved_model.constants import ASSETS_KEY
from tensorflow.python.saved_model.loader_impl import SavedModelLoader

from servable_client._wire import wire_pb2 as wire
from servable_client._wire.status import STATUS_CODES
from servable_serving.core.errors import ModelError, invalid
from servable_serving.core.files import regular
from servable_serving.core.lazy_tensorflow import is_quiet
from servable_serving.model.places import Places, check_dtypes, find_places, to_array

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

# The tags of the meta graph that is served by default.
SERVED_TAGS = ("serve",)
_INLINE_ROWS = 4
_SLOW_SECONDS = 0.05


def read_meta_graph(folder: Path, tags: Collection[str] = SERVED_TAGS) -> Any:
    """The MetaGraphDef in a SavedModel whose tags are exactly these, without loading it.

    Args:
        folder: The version's folder, with `saved_model.pb` or, in text, `saved_model.pbtxt`.
        tags: The tags.

    Raises:
        ModelError: There is no SavedModel, or it is damaged.
    """
    for meta_graph in _read_saved_model(folder).meta_graphs:
        if set(meta_graph.meta_info_def.tags) == set(tags):
            return meta_graph
    raise ModelError(
        "NOT_FOUND",
        f"Could not find meta graph def matching supplied tags: {{ {' '.join(sorted(tags))} }}. To "
        "inspect available tag-sets in the SavedModel, please use the SavedModel CLI: "
        "`saved_model_cli`",
    )


def _read_saved_model(folder: Path) -> Any:
    binary, text = folder / "saved_model.pb", folder / "saved_model.pbtxt"
    try:
        if binary.exists() or not text.exists():
            data = regular(binary).read_bytes()
        else:
            return text_format.Parse(regular(text).read_bytes(), saved_model_pb2.SavedModel())
    except OSError:
        raise ModelError(
            "NOT_FOUND",
            "Specified file path does not appear to contain a SavedModel bundle (should have a "
            f"file called `saved_model.pb`)\nSpecified file path: {folder}",
        ) from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ModelError("DATA_LOSS", f"Can't parse {text} as text proto") from error
    try:
        return saved_model_pb2.SavedModel.FromString(data)
    except Exception as error:  # the class depends on protobuf's implementation
        raise ModelError("DATA_LOSS", f"Can't parse {binary} as binary proto") from error


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
        meta_graph: The result of `read_meta_graph` for these tags, if that has been called already.
        tags: The tags of the meta graph.
        session: A tensorflow.ConfigProto.
        inline_rows: Up to how many rows the calling thread runs the ops itself.

    Attributes:
        seconds_per_row: Of the fastest run so far, first runs aside; None before.

    Raises:
        ModelError: It cannot be loaded.
    """

    def __init__(
        self,
        folder: Path,
        *,
        meta_graph: Any = None,
        tags: Collection[str] = SERVED_TAGS,
        session: Any = None,
        inline_rows: int = _INLINE_ROWS,
    ) -> None:
        if meta_graph is None:
            meta_graph = read_meta_graph(folder, tags)
        self.signatures = signatures_of(meta_graph)
        _check_assets(meta_graph)
        if is_quiet():
            _quiet_first_session()
        self._graph = Graph()
        config = session or config_pb2.ConfigProto()
        self._session = Session(graph=self._graph, config=config)
        # The places in the graph of each set of feeds and fetches that has been run.
        self._places: dict[tuple[str, ...], Places] = {}
        # With more than one inter-op thread configured, ops must be able to run in parallel.
        self._inline_rows = inline_rows if config.inter_op_parallelism_threads <= 1 else 0
        self._slow: set[tuple[str, ...]] = set()
        self.seconds_per_row: float | None = None
        try:
            with self._graph.as_default():
                SavedModelLoader(str(folder)).load(self._session, list(tags))
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
        feeds: dict[str, NDArray[Any]] = {}
        for name, info in sorted(definition.inputs.items()):
            if info.name in feeds:
                raise invalid(f'Endpoint "{info.name}" fed more than once.')
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
            feeds: What goes in.
            fetches: What comes out.
            timeout: Seconds after which a slow run is aborted; none unless given.

        Raises:
            ModelError: A tensor does not exist, a dtype is not that of the graph, the graph
                refused the run, or it took longer (DEADLINE_EXCEEDED).
        """
        what = (*feeds, "", *fetches)
        rows = max((len(array) if array.ndim else 1 for array in feeds.values()), default=1)
        few = rows <= self._inline_rows
        # A few rows of a fast graph cost a third less if the calling thread runs the ops
        # itself. It then cannot be cancelled, so a graph that was slow runs the other way.
        inline = few and what not in self._slow
        milliseconds = 0 if timeout is None or inline else max(round(timeout * 1000), 1)
        known = self._places.get(what)
        places = known or find_places(self._graph, list(feeds), fetches)
        check_dtypes(places, feeds)
        given = dict(zip(places.feeds, feeds.values(), strict=True))
        options = _run_options(-1 if inline else 0, milliseconds)
        # `Session.run` would check inputs against the placeholders' shapes, as TensorFlow Serving
        # does not, and silently convert dtypes. This is what it calls in the end. A callable would
        # be optimized again for each timeout and each pool of threads.
        began = time.monotonic()
        try:
            values = self._session._call_tf_sessionrun(options, given, places.fetches, [], None)  # noqa: SLF001
        except OpError as error:
            raise _as_model_error(error) from error
        except UnicodeDecodeError as error:
            # TensorFlow's message quotes bytes of the caller, and its binding cannot make text of
            # them: the message is what it could not decode, and the code is lost.
            raise invalid(_message(error.object.decode(errors="replace"))) from error
        finally:
            # In the first run TensorFlow optimizes the graph: its duration is not representative.
            self._places[what] = places
            seconds = time.monotonic() - began
            if known:
                each = seconds / max(rows, 1)
                self.seconds_per_row = min(self.seconds_per_row or each, each)
            if known and few:
                if seconds > _SLOW_SECONDS:
                    self._slow.add(what)
                else:
                    self._slow.discard(what)
        return [to_array(value, place) for value, place in zip(values, places.outputs, strict=True)]

    def close(self) -> None:
        """Release the memory; the model cannot be run any more."""
        self._session.close()


def _as_model_error(error: OpError) -> ModelError:
    # Python's sessions raise an error of their own, with another message, while handling
    # TensorFlow's.
    while isinstance(error.__context__, OpError):
        error = error.__context__
    return ModelError(STATUS_CODES[error.error_code], _message(error.message))


def _message(text: str) -> str:
    # Python adds the place in the code that made the op, which the server has not got.
    message = text.partition("\n\nOriginal stack trace")[0]
    return message.partition("\n\nErrors may have originated")[0].strip("\n")


def _check_assets(meta_graph: Any) -> None:
    """Refuse a graph that lists an asset twice: TensorFlow Serving feeds each to the initializer.

    Raises:
        ModelError: A tensor is that of several assets; `code` is INVALID_ARGUMENT.
    """
    assets = list(meta_graph.asset_file_def)
    if not assets and ASSETS_KEY in meta_graph.collection_def:
        for packed in meta_graph.collection_def[ASSETS_KEY].any_list.value:
            asset = meta_graph_pb2.AssetFileDef()
            packed.Unpack(asset)
            assets.append(asset)
    names = [asset.tensor_info.name for asset in assets]
    for name in names:
        if names.count(name) > 1:
            raise invalid(f'Endpoint "{name}" fed more than once.')


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
