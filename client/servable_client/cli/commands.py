"""The sub-commands that use a running server."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from servable_client.cli.options import (
    DEFAULT_MODEL,
    DEFAULT_SERVER,
    Access,
    CaBundle,
    Certificate,
    Json,
    Key,
    Label,
    Model,
    PrivateKey,
    Server,
    Timeout,
    Token,
    Version,
    make_client,
)
from servable_client.cli.predict import predict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from servable_client import Classification, Client, ServableError


# The labels that Servable itself sets, which are always looked up.
_LABELS = ("stable", "canary")


def register(app: typer.Typer) -> None:
    """Add the sub-commands to `app`."""
    app.command()(classify)
    app.command()(predict)
    app.command()(status)
    app.command()(wait)


def classify(
    pictures: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Image files.")],
    server: Server = DEFAULT_SERVER,
    model: Model = DEFAULT_MODEL,
    version: Version = None,
    label: Label = None,
    api_key: Key = None,
    token: Token = None,
    ca: CaBundle = None,
    certificate: Certificate = None,
    key: PrivateKey = None,
    timeout: Timeout = 5.0,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Output as CSV.")] = False,
) -> None:
    """Classify images.

    If an image cannot be read, an error names it, the other images are classified, and the exit
    status is 1.
    """
    from servable_client import ServableError
    from servable_client.cli.console import print_csv, print_error, print_json, print_table

    if json and csv:
        raise typer.BadParameter("--json and --csv are mutually exclusive")
    options = {"version": version, "label": label, "timeout": timeout}
    access = Access(api_key=api_key, token=token, ca=ca, certificate=certificate, key=key)
    with make_client(server, access, model=model, **options) as client:
        found = list(
            zip(
                pictures,
                client.classify_many(pictures, batch_size=16, on_error="return"),
                strict=True,
            )
        )
    answers = [(name, a) for name, a in found if not isinstance(a, ServableError)]
    columns = ("picture", "label", "probability", "version", "ms")
    if json:
        print_json([{"picture": picture, **_plain(answer)} for picture, answer in answers])
    elif csv:
        print_csv(
            ("picture", "label", "class_id", "probability", "version"),
            [(name, a.label, a.class_id, a.probability, a.version) for name, a in answers],
        )
    elif answers:
        print_table(
            columns,
            [
                (
                    name,
                    a.label,
                    a.probability,
                    "-" if a.version is None else a.version,
                    f"{a.elapsed * 1000:.1f}",
                )
                for name, a in answers
            ],
        )
    failures = _distinct(answer for _, answer in found if isinstance(answer, ServableError))
    for error in failures:
        print_error(error)
    if failures:
        raise typer.Exit(1)


def _distinct(errors: Any) -> list[ServableError]:
    """Each error once: a server that is down fails every image alike."""
    return list({str(error): error for error in errors}.values())


def _plain(answer: Classification) -> dict[str, object]:
    return {
        "label": answer.label,
        "class_id": answer.class_id,
        "probability": answer.probability,
        "probabilities": answer.probabilities.tolist(),
        "labels": list(answer.labels),
        "version": answer.version,
        "elapsed": answer.elapsed,
    }


def status(
    server: Server = DEFAULT_SERVER,
    model: Model = DEFAULT_MODEL,
    api_key: Key = None,
    token: Token = None,
    ca: CaBundle = None,
    certificate: Certificate = None,
    key: PrivateKey = None,
    timeout: Timeout = 5.0,
    label: Annotated[
        list[str] | None, typer.Option(help="Label to look up as well; repeatable.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="models.config of the server, whose labels are looked up as well."),
    ] = None,
    json: Json = False,
) -> None:
    """Show the versions of a model, their states and labels, and its signatures.

    TensorFlow Serving cannot list labels, so each one is looked up by name: `stable`, `canary`,
    those of --label, and those of the model in --config.
    """
    from servable_client import ModelNotFound
    from servable_client.cli.console import print_json, print_table, say

    wanted = [*(label or ()), *(_labels_in(config, model) if config else ())]
    access = Access(api_key=api_key, token=token, ca=ca, certificate=certificate, key=key)
    with make_client(server, access, model=model, timeout=timeout) as client:
        versions = client.status()
        try:
            signatures = client.metadata()
        except ModelNotFound:
            signatures = {}  # the server knows the model, but no version is available
        labels = _labels(client, [*_LABELS, *wanted]) if signatures else {}
    # Requested labels that no version has.
    labels |= dict.fromkeys(name for name in wanted if name not in labels)
    if json:
        print_json(
            {
                "model": model,
                "versions": [asdict(version) for version in versions],
                "labels": labels,
                "signatures": {name: asdict(value) for name, value in signatures.items()},
            }
        )
        return
    print_table(
        ("version", "state", "labels", "error"),
        [
            (
                v.version,
                v.state,
                ", ".join(label for label, version in labels.items() if version == v.version),
                v.error_message if v.error_code != "OK" else "",
            )
            for v in versions
        ],
        title=model,
    )
    lost = [name for name, version in labels.items() if version is None]
    if lost:
        say(f"no version has the label {', '.join(lost)}")
    print_table(
        ("signature", "inputs", "outputs"),
        [
            (
                name,
                ", ".join(f"{k} {v.dtype} {v.plain_shape}" for k, v in s.inputs.items()),
                ", ".join(f"{k} {v.dtype} {v.plain_shape}" for k, v in s.outputs.items()),
            )
            for name, s in sorted(signatures.items())
        ],
    )


def _labels_in(config: Path, model: str) -> list[str]:
    """The labels of a model in the configuration of a server."""
    from servable_client._wire.model_config import config_of

    listed = config_of(config).model_config_list.config
    return [name for entry in listed if entry.name == model for name in entry.version_labels]


def _labels(client: Client, names: Iterable[str]) -> dict[str, int | None]:
    """The version of each label that has one."""
    from servable_client import ModelNotFound, NotReady

    found: dict[str, int | None] = {}
    for label in dict.fromkeys(names):
        try:
            found[label] = client.resolve(label=label)
        except (ModelNotFound, NotReady):
            continue
    return found


def wait(
    server: Server = DEFAULT_SERVER,
    model: Model = DEFAULT_MODEL,
    version: Annotated[int | None, typer.Option(help="Version to wait for.")] = None,
    label: Annotated[str | None, typer.Option(help="Label to wait for.")] = None,
    api_key: Key = None,
    token: Token = None,
    ca: CaBundle = None,
    certificate: Certificate = None,
    key: PrivateKey = None,
    timeout: Annotated[float, typer.Option(help="Maximum time to wait, in seconds.", min=0)] = 60.0,
    json: Json = False,
) -> None:
    """Wait until a server serves a model, or a version or label of it."""
    from servable_client.cli.console import print_json

    access = Access(api_key=api_key, token=token, ca=ca, certificate=certificate, key=key)
    with make_client(server, access, model=model, version=version, label=label) as client:
        found = client.wait_until_available(timeout=timeout)
    if json:
        print_json({"model": model, "version": found})
    else:
        typer.echo(f"{model} version {found} is available at {server}")
