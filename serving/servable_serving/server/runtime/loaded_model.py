"""A loaded version: the graph, and how its requests are batched."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tensorflow.core.protobuf.config_pb2 import ConfigProto
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from servable_client._wire.dtypes import data_type_of
from servable_serving.core.errors import ModelError, invalid
from servable_serving.core.lazy_tensorflow import has_session_threads
from servable_serving.core.names import CLASSIFY_METHOD, PREDICT_METHOD, REGRESS_METHOD
from servable_serving.model.saved_model import SavedModel
from servable_serving.repository.manifest import MANIFEST, manifest_of
from servable_serving.server.runtime.pieces import MOST_ROWS, run_in_pieces

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from servable_client._wire import wire_pb2 as wire
    from servable_serving.server.runtime.batching import Batcher
    from servable_serving.server.runtime.session_bundle import SessionBundle
    from servable_serving.server.telemetry import Metrics


# The cost of waking threads for each op of a graph is below a millisecond.
_HEAVY_SECONDS = 0.004
_METHOD_NAMES = (PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD)
_METHODS_OF = {
    "Classify": ("classification", CLASSIFY_METHOD),
    "Regress": ("regression", REGRESS_METHOD),
}


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How versions are loaded and run.

    Args:
        bundle: How the graph is loaded and run.
        batcher: Batches requests.
        batch_all: Whether for every model, or for those alone whose rows are known to be
            independent of each other: those that Servable exported.
        check_method_names: Whether a signature's `method_name` must fit the API.
        metrics: Where runs are counted.
        timeout: Seconds after which a slow run is cancelled if its deadline is no later; one value
            for all runs, since TensorFlow optimizes the graph again for each.
    """

    bundle: SessionBundle
    batcher: Batcher | None = None
    batch_all: bool = False
    check_method_names: bool = False
    metrics: Metrics | None = None
    timeout: float | None = None


class LoadedModel:
    """A version that answers requests; safe to run from several threads.

    Args:
        name: The model's name.
        number: The version.
        folder: Where it lies.
        options: How to load and run it.
        spread: Whether its ops are spread over all cores, also if its rows do not depend on each
            other.

    Attributes:
        in_pieces: Whether it is run on one thread, and large requests in pieces beside each other.

    Raises:
        ModelError: It cannot be loaded.
    """

    def __init__(
        self, name: str, number: int, folder: Path, options: LoadOptions, *, spread: bool = False
    ) -> None:
        self.name, self.number = name, number
        self.warmup_records = 0
        self._together = options.batch_all or (folder / MANIFEST).is_file()
        bundle = options.bundle
        # Rows that do not depend on each other are run on one thread, in pieces where they are
        # many; unless the flags ask for more, or sessions share the threads of the process.
        config = bundle.session
        intra, inter = config.intra_op_parallelism_threads, config.inter_op_parallelism_threads
        exported = (folder / MANIFEST).is_file()
        self._may_spread = intra == 0 and not spread
        single = intra == 1 or (self._may_spread and has_session_threads())
        self.in_pieces = exported and single and inter <= 1
        self._most_rows = _most_rows(folder)
        if self.in_pieces:
            session = ConfigProto()
            session.CopyFrom(config)
            session.intra_op_parallelism_threads = 1
            # The export has optimized the graph already: a second round finds nothing, and takes
            # a fifth of the first request.
            rewrites = session.graph_options.rewrite_options
            if rewrites.meta_optimizer_iterations == RewriterConfig.DEFAULT_NUM_ITERS:
                rewrites.meta_optimizer_iterations = RewriterConfig.ONE
            self._graph = SavedModel(
                folder, session=session, tags=bundle.tags, inline_rows=MOST_ROWS
            )
        else:
            self._graph = SavedModel(folder, session=config, tags=bundle.tags)
        self.configure(options)

    def configure(self, options: LoadOptions) -> None:
        """Set how requests are batched and counted; the threads stay as they were loaded."""
        self._options = options
        self._batcher = self._text_batcher = options.batcher
        if options.batcher is not None and not options.batch_all:
            # Batching was not asked for: long runs of one model must not delay another's, nor
            # files that take long to decode the arrays of others.
            self._batcher, self._text_batcher = options.batcher.apart(), options.batcher.apart()

    @property
    def is_heavy(self) -> bool:
        """Whether it takes so long for a row on one thread that more threads are worth waking.

        So it is if no run has been measured.
        """
        if not (self.in_pieces and self._may_spread):
            return False
        seconds = self._graph.seconds_per_row
        return seconds is None or seconds > _HEAVY_SECONDS

    @property
    def signatures(self) -> dict[str, wire.SignatureDef]:
        """The signatures, by name."""
        return self._graph.signatures

    def run(
        self,
        signature: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str] = (),
        *,
        api: str = "Predict",
        deadline: float | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run a signature.

        Args:
            signature: Its name; it exists.
            inputs: Arrays by name; exactly those of the signature.
            outputs: The outputs to give; all unless given.
            api: What the metrics name it.
            deadline: Until when, by time.monotonic.

        Raises:
            ModelError: The inputs do not fit, the graph refused them, or the deadline has passed.
        """
        if self._options.check_method_names:
            _check_method_name(self.signatures[signature].method_name, api)

        def run(
            inputs: Mapping[str, NDArray[Any]], deadline: float | None
        ) -> dict[str, NDArray[Any]]:
            def whole(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
                return self._graph.run(signature, inputs, outputs, timeout=self._timeout(deadline))

            if not self.in_pieces:
                return whole(inputs)
            return run_in_pieces(whole, inputs, most_rows=self._most_rows)

        text = any(array.dtype.kind == "O" for array in inputs.values())
        batcher = self._text_batcher if text else self._batcher
        began = time.perf_counter()
        if batcher is None or not self._together or not self._fits(signature, inputs):
            answer = run(inputs, deadline)
        else:
            key = (self, signature, *sorted(outputs))
            answer = batcher.run(key, inputs, run, deadline=deadline)
        self._count(api, began)
        return answer

    def run_tensors(
        self,
        feeds: Mapping[str, NDArray[Any]],
        fetches: Sequence[str],
        *,
        api: str,
        deadline: float | None = None,
    ) -> list[NDArray[Any]]:
        """Run the graph by the names of its tensors.

        Raises:
            ModelError: As `run`.
        """
        began = time.perf_counter()
        answer = self._graph.run_tensors(feeds, fetches, timeout=self._timeout(deadline))
        self._count(api, began)
        return answer

    def close(self) -> None:
        """Release the memory; it cannot be run any more."""
        self._graph.close()

    def _fits(self, signature: str, inputs: Mapping[str, NDArray[Any]]) -> bool:
        """Whether the dtypes are the signature's; a wrong request must not fail a batch."""
        expected = self.signatures[signature].inputs
        return all(data_type_of(array) == expected[name].dtype for name, array in inputs.items())

    def _count(self, api: str, began: float) -> None:
        if self._options.metrics is not None:
            self._options.metrics.ran(self.name, api, time.perf_counter() - began)

    def _timeout(self, deadline: float | None) -> float | None:
        if deadline is None:
            return None
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise ModelError("DEADLINE_EXCEEDED", "the deadline has passed")
        limit = self._options.timeout
        return limit if limit is not None and remaining <= limit else None


def _most_rows(folder: Path) -> float:
    """How many rows of a request a version's graph accepts, by its manifest."""
    limits = manifest_of(folder).get("limits")
    found = limits.get("rows") if isinstance(limits, dict) else None
    return found if isinstance(found, int) else math.inf


def _check_method_name(method_name: str, api: str) -> None:
    if api == "Predict":
        if method_name not in _METHOD_NAMES:
            raise ModelError(
                "INTERNAL",
                "Expected prediction signature method_name to be one of "
                f"{{{', '.join(_METHOD_NAMES)}}}. Was: {method_name}",
            )
        return
    kind, expected = _METHODS_OF[api]
    if method_name != expected:
        raise invalid(f"Expected {kind} signature method_name to be {expected}. Was: {method_name}")
