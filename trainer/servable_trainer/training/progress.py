"""Progress of a training: a bar on a terminal, and a line per epoch."""

from __future__ import annotations

import time
from typing import Any

import keras

from servable_client.cli.console import progress_bar


class EpochLines(keras.callbacks.Callback):  # type: ignore[misc]
    """Prints a line for each epoch, above a bar of its batches."""

    def __init__(self, *, prefix: str = "") -> None:
        super().__init__()
        self.prefix = prefix

    # Keras calls these with `logs` by position or name; the parameters are its own.
    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Show the bar."""
        self.progress = progress_bar()
        self.progress.start()
        self.task = self.progress.add_task(self.prefix or "training", total=self.params["steps"])

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Reset the bar."""
        self.began = time.monotonic()
        self.progress.reset(
            self.task,
            description=f"{self.prefix}epoch {epoch + 1}/{self.params['epochs']}",
            total=self.params["steps"],
        )

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Advance the bar."""
        self.progress.update(self.task, completed=batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Print the metrics of the epoch."""
        logs = logs or {}
        parts = [f"loss {logs['loss']:.4f}", f"accuracy {logs['accuracy']:.4f}"]
        if "val_accuracy" in logs:
            parts += [
                f"validation loss {logs['val_loss']:.4f}",
                f"validation accuracy {logs['val_accuracy']:.4f}",
            ]
        # By the bar's own console, which prints above the bar and not into it.
        self.progress.console.print(
            f"{self.prefix}epoch {epoch + 1}/{self.params['epochs']}  {'  '.join(parts)}"
            f"  {time.monotonic() - self.began:.0f} s",
            markup=False,
        )

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Hide the bar."""
        self.progress.stop()
