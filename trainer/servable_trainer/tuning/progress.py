"""Progress of a search: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self

from servable_client.cli.console import console, say
from servable_trainer.scoring.metric_names import in_words, metrics_line
from servable_trainer.tuning.trials import one_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from rich.console import RenderableType

    from servable_trainer.tuning.trials import Trial

_BEST = 5


class SearchProgress:
    """Prints the progress of trials; a context manager, which owns the live table.

    Args:
        objective: The metric that is optimized.
        budget: When the search ends, in words.
    """

    def __init__(self, objective: str = "val_accuracy", budget: str = "") -> None:
        self._objective = in_words(objective)
        self._budget = budget
        self._best: list[Trial] = []
        self._running: dict[str, tuple[str, int, int]] = {}
        self._lock = threading.Lock()
        self._live: Any = None
        self._epochs: Callable[..., None] | None = None

    def __enter__(self) -> Self:
        err = console()
        if err.is_terminal:
            from rich.live import Live

            self._live = Live(
                console=err, get_renderable=self._renderable, refresh_per_second=4, transient=True
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, text: str) -> None:
        """Print a line, above the live table if there is one."""
        if self._live is None:
            say(text)
        else:
            self._live.console.print(text, markup=False)

    def on_epoch(self, listener: Callable[..., None]) -> None:
        """Call `listener` with the arguments of each call of `epoch`."""
        self._epochs = listener

    def set_best(self, trials: list[Trial]) -> None:
        """Set the trials so far, best first."""
        self._best = trials

    def trial_started(
        self, name: str, values: dict[str, Any], *, worker: str | None = None
    ) -> None:
        """Report that a trial started."""
        chosen = {k: v for k, v in values.items() if not k.startswith("tuner/")}
        past = values.get("tuner/trial_id")
        self.say(
            f"trial {name}{f' on {worker}' if worker else ''}"
            f"{f' continues {past}' if past else ''}  {one_line(chosen)}"
        )
        with self._lock:
            self._running[name] = ("starting", 0, 1)

    def batch(self, name: str, done: int, total: int | None) -> None:
        """Report a finished batch."""
        with self._lock:
            what = self._running.get(name, ("epoch 1", 0, 1))[0]
            self._running[name] = (what if what != "starting" else "epoch 1", done, total or 1)

    def epoch(
        self,
        name: str,
        epoch: int,
        epochs: int | None,
        measured: dict[str, float],
        seconds: float,
    ) -> None:
        """Report a finished epoch."""
        of = f"/{epochs}" if epochs else ""
        self.say(f"  trial {name} epoch {epoch}{of}  {metrics_line(measured)}  {seconds:.0f} s")
        with self._lock:
            self._running[name] = (f"epoch {min(epoch + 1, epochs or epoch + 1)}{of}", 0, 1)
        if self._epochs is not None:
            self._epochs(name, epoch, epochs, measured, seconds)

    def trial_ended(self, trial: Trial, best: list[Trial]) -> None:
        """Report that a trial ended."""
        with self._lock:
            self._running.pop(trial.name, None)
            self._best = best
        if trial.score is None:
            self.say(f"trial {trial.name} failed: {trial.error}")
            return
        first = best[0]
        self.say(
            f"trial {trial.name} completed  {self._objective} {trial.score:.4f}"
            f"  {trial.seconds:.0f} s  best so far {first.score:.4f} (trial {first.name})"
        )

    def trial_cancelled(self, name: str) -> None:
        """Report that a trial was cancelled."""
        with self._lock:
            self._running.pop(name, None)

    def _renderable(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        with self._lock:
            best, running = list(self._best[:_BEST]), dict(self._running)
        table = Table(title=Text(f"best so far{self._budget}"), title_justify="left")
        for column in ("trial", self._objective, "hyperparameters"):
            table.add_column(column)
        for trial in best:
            if trial.score is not None:
                table.add_row(
                    trial.name,
                    f"{trial.score:.4f}",
                    Text(one_line(trial.hyperparameters)),
                )
        bars = Table.grid(padding=(0, 1))
        for name, (what, done, total) in sorted(running.items()):
            bars.add_row(f"trial {name}", what, ProgressBar(total=total, completed=done, width=40))
        return Group(table, bars) if best else bars
