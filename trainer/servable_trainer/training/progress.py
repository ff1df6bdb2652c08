"""Progress of a training: a bar on a terminal, and a line per epoch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import keras

from servable_client.cli.console import progress_bar
from servable_trainer.scoring.metric_names import metrics_line

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class EpochLines(keras.callbacks.Callback):  # type: ignore[misc]
    """Prints a line for each epoch, above a bar of its batches.

    A training loop of a user's own need call only `on_epoch_end`.
    """

    def __init__(self, *, prefix: str = "") -> None:
        super().__init__()
        self.prefix = prefix
        self._bar: tuple[Progress, TaskID] | None = None
        self._began = time.monotonic()

    @property
    def bar(self) -> tuple[Progress, TaskID]:
        """The bar, which appears at first use."""
        if self._bar is None:
            progress = progress_bar()
            progress.start()
            task = progress.add_task(self.prefix or "training", total=self._known("steps"))
            self._bar = progress, task
        return self._bar

    # Keras calls these with `logs` by position or name; the parameters are its own.
    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Show the bar."""
        _ = self.bar

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Reset the bar."""
        self._began = time.monotonic()
        progress, task = self.bar
        progress.reset(task, description=self._epoch(epoch), total=self._known("steps"))

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Advance the bar."""
        progress, task = self.bar
        progress.update(task, completed=batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Print the metrics of the epoch."""
        measured = {name: float(value) for name, value in (logs or {}).items()}
        # By the bar's own console, which prints above the bar and not into it.
        self.bar[0].console.print(
            f"{self._epoch(epoch)}  {metrics_line(measured)}"
            f"  {time.monotonic() - self._began:.0f} s",
            markup=False,
        )
        self._began = time.monotonic()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Hide the bar."""
        if self._bar is not None:
            self._bar[0].stop()
            self._bar = None

    def _known(self, name: str) -> int | None:
        return (self.params or {}).get(name)

    def _epoch(self, epoch: int) -> str:
        epochs = self._known("epochs")
        return f"{self.prefix}epoch {epoch + 1}{f'/{epochs}' if epochs else ''}"
