"""The model contract: what the signatures of an image classifier take and give."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from servable_client._wire import wire_pb2 as wire
from servable_client._wire.status import INIT_SIGNATURE
from servable_serving.core.names import (
    BYTES_SIGNATURE,
    CLASSIFY_METHOD,
    CLASSIFY_SIGNATURE,
    DEFAULT_SIGNATURE,
    PREDICT_METHOD,
)
from servable_serving.repository.manifest import CandidateError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_HINT = "docs/gates.md has the contract; `servable export` writes candidates that keep it"


def contract_of(model: Path | Any) -> dict[str, Any]:
    """What a SavedModel's signatures take and give, as written, for JSON.

    Args:
        model: Its folder, or its MetaGraphDef if that has been read already.

    Raises:
        ModelError: There is no SavedModel, or it is damaged.
    """
    from servable_serving.model.saved_model import read_meta_graph, signatures_of

    meta_graph = read_meta_graph(model) if isinstance(model, Path) else model

    def tensors(infos: Mapping[str, wire.TensorInfo]) -> dict[str, Any]:
        return {
            key: {
                "dtype": wire.DataType.Name(info.dtype),
                "shape": None
                if info.tensor_shape.unknown_rank
                else [dim.size for dim in info.tensor_shape.dim],
            }
            for key, info in sorted(infos.items())
        }

    return {
        key: {
            "method": signature.method_name,
            "inputs": tensors(signature.inputs),
            "outputs": tensors(signature.outputs),
        }
        for key, signature in sorted(signatures_of(meta_graph).items())
        if key != INIT_SIGNATURE
    }


def check_contract(signatures: Mapping[str, Any], classes: int) -> None:
    """Hold signatures against the contract: `serving_default`, and the other two if they are there.

    Args:
        signatures: What `contract_of` gave.
        classes: How many there are.

    Raises:
        CandidateError: They break it.
    """
    if DEFAULT_SIGNATURE not in signatures:
        raise CandidateError(f"there is no signature {DEFAULT_SIGNATURE}", hint=_HINT)
    answers = {
        "probabilities": ("DT_FLOAT", [-1, classes]),
        "class_id": ("DT_INT64", [-1]),
        "label": ("DT_STRING", [-1]),
    }
    images = {"image": ("DT_UINT8", _image_shape(signatures[DEFAULT_SIGNATURE]))}
    _check(signatures, DEFAULT_SIGNATURE, PREDICT_METHOD, images, answers)
    _check(
        signatures, BYTES_SIGNATURE, PREDICT_METHOD, {"image_bytes": ("DT_STRING", [-1])}, answers
    )
    _check(
        signatures,
        CLASSIFY_SIGNATURE,
        CLASSIFY_METHOD,
        {"inputs": ("DT_STRING", [-1])},
        {"classes": ("DT_STRING", [-1, classes]), "scores": ("DT_FLOAT", [-1, classes])},
    )


def check_signatures(signatures: Mapping[str, Any]) -> None:
    """Hold the signatures of a model that is not an image classifier against what servers need.

    Raises:
        CandidateError: There is none, or one gives nothing.
    """
    if not signatures:
        raise CandidateError(
            "the model has no signature",
            hint="tf.saved_model.save takes signatures=..., and model.export(DIR) writes one",
        )
    for key, signature in signatures.items():
        if not signature["outputs"]:
            raise CandidateError(f"the signature {key} gives nothing", hint="give it an output")


def check_compatible(signatures: Mapping[str, Any], served: Mapping[str, Any]) -> None:
    """Refuse what would fail the callers of the version that is served now.

    Raises:
        CandidateError: A signature, an input or an output that they use is gone or another.
    """
    hint = "callers of the served version would fail; another interface belongs under another name"
    for key, before in served.items():
        if key not in signatures:
            raise CandidateError(
                f"the served version has a signature {key}, and the candidate has none", hint=hint
            )
        now = signatures[key]
        if not _takes(now["inputs"], before["inputs"]):
            raise CandidateError(
                f"the signature {key} takes {_told(now['inputs'])}, and the served version's takes "
                f"{_told(before['inputs'])}",
                hint=hint,
            )
        for name, info in before["outputs"].items():
            found = now["outputs"].get(name, {})
            if found.get("dtype") != info["dtype"] or not _same_rank(found["shape"], info["shape"]):
                raise CandidateError(
                    f"the signature {key} gives {_told(now['outputs'])}, and the served version's "
                    f"gives {_told(before['outputs'])}",
                    hint=hint,
                )


def shape_fits(shape: Sequence[int], declared: Sequence[int] | None) -> bool:
    """Whether a tensor has the shape that is declared; -1 and None allow any."""
    return declared is None or (
        len(shape) == len(declared)
        and all(one in (-1, side) for one, side in zip(declared, shape, strict=True))
    )


def _takes(now: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether inputs that fit `before` fit `now` too."""
    return now.keys() == before.keys() and all(
        now[name]["dtype"] == info["dtype"] and _accepts(now[name]["shape"], info["shape"])
        for name, info in before.items()
    )


def _accepts(now: Sequence[int] | None, before: Sequence[int] | None) -> bool:
    if now is None or before is None:
        return now is None
    return len(now) == len(before) and all(
        one in (-1, other) for one, other in zip(now, before, strict=True)
    )


def _same_rank(now: Sequence[int] | None, before: Sequence[int] | None) -> bool:
    # An unknown rank promises nothing, and breaks no promise that can be read here.
    return now is None or before is None or len(now) == len(before)


def _image_shape(signature: Mapping[str, Any]) -> list[int]:
    """The shape of the images, grey or in colour, that a signature declares, or the default."""
    shape = signature["inputs"].get("image", {}).get("shape") or []
    sides = shape[1:3]
    fits = shape[:1] == [-1] and len(sides) == 2 and min(sides) > 0 and shape[3:] in ([], [3])
    return shape if fits else [-1, 28, 28]


def _check(
    signatures: Mapping[str, Any],
    key: str,
    method: str,
    inputs: Mapping[str, tuple[str, Sequence[int]]],
    outputs: Mapping[str, tuple[str, Sequence[int]]],
) -> None:
    signature = signatures.get(key)
    if signature is None:
        return
    if signature["method"] != method:
        raise CandidateError(
            f"the signature {key} has the method {signature['method']}, and must have {method}",
            hint=_HINT,
        )
    if set(signature["inputs"]) != set(inputs):
        raise CandidateError(
            f"the signature {key} takes {', '.join(signature['inputs']) or 'nothing'}, and it must "
            f"take {', '.join(inputs)}",
            hint=_HINT,
        )
    for name, (dtype, shape) in (*inputs.items(), *outputs.items()):
        found = signature["inputs" if name in inputs else "outputs"].get(name)
        if found is None:
            raise CandidateError(f"the signature {key} gives no {name}", hint=_HINT)
        # An output's shape may be left open; an input's must be declared.
        fits = found["shape"] == list(shape) if name in inputs else _open(found["shape"], shape)
        if found["dtype"] != dtype or not fits:
            raise CandidateError(
                f"the signature {key} has {_told({name: found})}, and it must be "
                f"{_told({name: {'dtype': dtype, 'shape': list(shape)}})}",
                hint=_HINT,
            )


def _open(found: Sequence[int] | None, expected: Sequence[int]) -> bool:
    return found is None or (
        len(found) == len(expected)
        and all(
            one in (-1, other) or other == -1 for one, other in zip(found, expected, strict=True)
        )
    )


def _told(tensors: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {info['dtype'].removeprefix('DT_').lower()} "
        f"{'of any shape' if info['shape'] is None else info['shape']}"
        for name, info in tensors.items()
    )
