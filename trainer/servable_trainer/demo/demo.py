"""The whole workflow on one machine: from data to a second version under load."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from servable_client import Client
from servable_client.cli.console import headline, print_table, say
from servable_serving.core.imports import collection_paused
from servable_serving.core.processes import (
    ServerNotReady,
    ServerProcess,
    model_probe,
    repository_flags,
    serve_command,
)
from servable_serving.core.signals import exit_on_signals
from servable_serving.core.sockets import check_free
from servable_serving.release.deployment import Deployment
from servable_serving.release.folder_target import FolderTarget
from servable_serving.release.push import Plan, push
from servable_serving.release.server_group import ServerGroup
from servable_serving.release.steps import Steps
from servable_serving.repository.local import Repository
from servable_trainer.data import fashion_mnist
from servable_trainer.demo.load_generator import DemoError, LoadGenerator
from servable_trainer.scoring.scores import print_evaluation
from servable_trainer.tuning.trials import print_trials, trials_of

if TYPE_CHECKING:
    from servable_trainer.data.dataset import Dataset

_IMAGES = 16
# Marks a directory as the demo's own.
_MARK = ".servable-demo"
_START_SECONDS = 120.0
_END_SECONDS = 15.0
# Number of requests after the label has moved.
_AFTERWARDS = 50
# The slowest gates: the demo evaluates both versions itself.
_UNASKED = dict.fromkeys(("accuracy", "latency"), "the demo must finish within minutes")

# Excludes large networks and those that are slow to train: the demo must finish within minutes.
_FIXED = {
    "kind": "plain",
    "stages": 3,
    "width": 24,
    "blocks": 1,
    "kernel_size": 3,
    "batch_norm": True,
    "optimizer": "adamw",
    "schedule": "cosine",
    "batch_size": 128,
    "shift": 0,
    "ema": 0.0,
    "erasing": 0.0,
    "cutout": 0.0,
    "mixup": 0.0,
}


@dataclass(kw_only=True)
class Demo:
    """The steps of the demo; everything is written to `directory`."""

    directory: Path
    trials: int
    epochs: int
    subset: int
    port: int
    rest_port: int
    keep: bool
    data: Path | None

    def run(self) -> None:
        """Run all steps.

        Raises:
            ServableError: A step failed; no process is left running.
        """
        began = time.monotonic()
        # The server is terminated too.
        exit_on_signals()
        # Checked first, rather than after minutes of work.
        for port, flag in ((self.port, "--port"), (self.rest_port, "--rest-api-port")):
            check_free(port, flag, error=DemoError)
        if self.port == self.rest_port:
            raise DemoError(
                f"gRPC and REST cannot both listen on port {self.port}",
                hint="choose another port with --rest-api-port",
            )
        _check_ours(self.directory)
        # Import TensorFlow late so that usage errors fail fast.
        with collection_paused():
            from servable_trainer.training.train import train
            from servable_trainer.tuning.tune import tune

        headline("1. The data")
        folder, dataset = fashion_mnist.find(self.data)
        _empty(self.directory)
        say(
            f"{dataset.name} in {folder}: {len(dataset.train)} training images, "
            f"{len(dataset.test)} test images, SHA-256 of all four files verified"
        )

        headline(f"2. Tune: {trials_of(self.trials)}, {self.subset} training images each")
        trials = tune(
            dataset,
            directory=self.directory / "tuning",
            trials=self.trials,
            epochs=1,
            subset=self.subset,
            fixed=_FIXED,
        )
        print_trials(trials)

        headline("3. Train the best: 50,000 training and 10,000 validation images")
        train(
            dataset,
            directory=self._run(1),
            hyperparameters=trials[0].hyperparameters,
            epochs=self.epochs,
        )
        self._export(1, dataset)

        headline("4. Push it through the gates, and serve it")
        self._push(1, dataset)
        server = self._start_server(dataset.name)
        try:
            say(f"gRPC at {self._grpc}, REST at {self._rest}, process {server.pid}")
            self._classify(dataset)

            headline("5. A month later: fine-tune on all 60,000 images, and switch under load")
            train(dataset, directory=self._run(2), epochs=1, start_from=self._run(1), all_data=True)
            self._export(2, dataset)
            self._switch(dataset)

            headline("6. Next steps")
            self._print_next_lines(dataset, server.pid)
        except BaseException:
            server.stop(_END_SECONDS)
            raise
        if not self.keep:
            server.stop(_END_SECONDS)
        say(f"\nfinished in {(time.monotonic() - began) / 60:.1f} minutes")

    @property
    def _grpc(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    @property
    def _rest(self) -> str:
        return f"http://127.0.0.1:{self.rest_port}"

    @property
    def _boot(self) -> Path:
        return self.directory / "picture.png"

    def _run(self, number: int) -> Path:
        return self.directory / f"run-{number}"

    def _candidate(self, number: int) -> Path:
        return self.directory / f"candidate-{number}"

    def _export(self, number: int, dataset: Dataset) -> None:
        from servable_trainer.evaluation.evaluate import evaluate
        from servable_trainer.training.export_run import export_run

        run, candidate = self._run(number), self._candidate(number)
        print_evaluation(evaluate(run, dataset), title=f"{len(dataset.test)} test images")
        export_run(run, candidate, dataset, name=dataset.name)
        say(f"exported to {candidate}")

    @property
    def _models(self) -> Path:
        return self.directory / "models"

    def _push(self, number: int, dataset: Dataset, servers: ServerGroup | None = None) -> None:
        """Publish a candidate; the servers, if any, serve it as stable."""
        deployment = Deployment(
            model=dataset.name,
            repository=Repository(self._models / dataset.name),
            servers=servers,
            timeout=_START_SECONDS,
        )
        plan = Plan(promote=servers is not None, skip=_UNASKED)
        push(self._candidate(number), FolderTarget(deployment), Steps(), plan)

    def _start_server(self, name: str) -> ServerProcess:
        flags = repository_flags(self._models, port=self.port, rest_port=self.rest_port)
        say(shlex.join(["servable", "serve", *flags]))
        server = ServerProcess.start(serve_command(*flags), self.directory / "server.log")
        try:
            with model_probe(self._grpc, name) as probe:
                server.wait_until_ready(probe, timeout=_START_SECONDS)
        except BaseException as error:
            server.stop(_END_SECONDS)
            if isinstance(error, ServerNotReady):
                raise DemoError(
                    f"the server did not start: {server.last_line()}", hint=f"see {server.log}"
                ) from error
            raise
        return server

    def _classify(self, dataset: Dataset) -> None:
        images, targets = dataset.test.images[:_IMAGES], dataset.test.targets[:_IMAGES]
        rows = []
        with (
            Client(self._grpc, model=dataset.name) as grpc,
            Client(self._rest, model=dataset.name) as rest,
        ):
            for image, target in zip(images, targets, strict=True):
                one, other = grpc.classify(image), rest.classify(image)
                truth = dataset.labels[target]
                right = "yes" if truth == one.label == other.label else "no"
                rows.append(
                    (truth, one.label, one.probability, other.label, other.probability, right)
                )
            print_table(
                ("true", "by gRPC", "probability", "by REST", "probability", "correct"),
                rows,
                title=f"{_IMAGES} test images",
            )
            # Larger than the model's input, as most images are.
            Image.fromarray(images[0]).resize((280, 280)).save(self._boot)
            answer = grpc.classify(self._boot)
        say(
            f"{self._boot}, 280 x 280: {answer}, from version {answer.version} "
            f"in {answer.elapsed * 1000:.0f} ms; it is {dataset.labels[targets[0]]}"
        )

    def _switch(self, dataset: Dataset) -> None:
        say("sending requests to the label stable over both protocols during the push")
        generators = [LoadGenerator(server, dataset) for server in (self._grpc, self._rest)]
        with ServerGroup(self._grpc, model=dataset.name) as servers:
            try:
                for generator in generators:
                    generator.start()
                self._push(2, dataset, servers)
                for generator in generators:
                    generator.wait_for_more(_AFTERWARDS)
            finally:
                for generator in generators:
                    generator.stop()
        print_table(
            ("protocol", "requests", "failed", "answered by version"),
            [
                (
                    t.server.partition(":")[0],
                    t.asked,
                    len(t.failures),
                    ", ".join(f"{v}: {n}" for v, n in sorted(t.versions.items())) or "unknown",
                )
                for t in generators
            ],
        )
        failures = [failure for t in generators for failure in t.failures]
        if failures:
            raise DemoError(f"{len(failures)} requests failed, the first with: {failures[0]}")
        say("no request failed")

    def _print_next_lines(self, dataset: Dataset, pid: int) -> None:
        url = f"{self._rest}/v1/models/{dataset.name}"
        python, command = Path(sys.executable), Path(sys.executable).with_name("servable")
        # Relative if possible: a virtual environment in this directory, as `make demo` uses.
        with contextlib.suppress(ValueError):
            python, command = (Path(p).relative_to(Path.cwd()) for p in (python, command))
        boot = shlex.quote(str(self._boot))
        code = (
            "from servable_client import Client; "
            f'print(Client("{self._grpc}", model="{dataset.name}")'
            f".classify({json.dumps(str(self._boot))}))"
        )
        say(
            f"curl {url}\n"
            """(printf '{"signature_name": "serving_bytes", "instances": [{"b64": "'; """
            f"base64 {boot} | tr -d '\\n'; printf '\"}}]}}') | curl {url}:predict -d @-\n"
            f"{shlex.quote(str(command))} classify {boot} --server {self._grpc}\n"
            f"{shlex.quote(str(command))} rollback --server {self._grpc} "
            f"--repository {shlex.quote(str(self._models / dataset.name))}\n"
            f"{shlex.quote(str(python))} -c {shlex.quote(code)}"
        )
        if self.keep:
            say(f"\nthe server keeps running as process {pid}; `kill {pid}` stops it")
        else:
            say("\nthe server stops with the demo; use --keep to try these commands")


def _check_ours(directory: Path) -> None:
    """Refuse a directory with other files, which would be deleted."""
    try:
        taken = directory.exists() and not (
            (directory / _MARK).is_file() or (directory.is_dir() and not any(directory.iterdir()))
        )
    except OSError as error:
        raise DemoError(f"cannot read {directory}: {error.strerror}") from error
    if taken:
        raise DemoError(
            f"{directory} was not written by a demo",
            hint="choose a new directory with --directory",
        )


def _empty(directory: Path) -> None:
    try:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        (directory / _MARK).touch()
    except OSError as error:
        raise DemoError(
            f"cannot write to {directory}: {error.strerror}", hint="choose another with --directory"
        ) from error
