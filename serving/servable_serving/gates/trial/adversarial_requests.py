"""Adversarial and malformed requests, each of which a server must survive.

They are made from what the signatures declare, so that they fit any model. Most may be answered or
refused. An image beyond the contract's limits must be refused: a file of a few
kilobytes would take gigabytes when it is decoded.
"""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from servable_client import InvalidInput
from servable_client._wire import wire_pb2 as wire
from servable_client._wire.dtypes import numpy_dtype
from servable_client._wire.tensors import to_proto
from servable_serving.core.names import (
    BYTES_SIGNATURE,
    CLASSIFY_METHOD,
    DEFAULT_SIGNATURE,
    IMAGE_BYTES,
    IMAGE_FEATURE,
    MAX_BYTES,
    MAX_REQUEST_PIXELS,
    MAX_SIDE,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PREDICT = "/tensorflow.serving.PredictionService/Predict"
CLASSIFY = "/tensorflow.serving.PredictionService/Classify"
# One more of the largest images than a request may have.
_MANY = MAX_REQUEST_PIXELS // MAX_SIDE**2 + 1
_BOMB = MAX_SIDE + 904  # a side of 5,000 pixels: 25 MB a channel, from a few kilobytes


_STRINGS = (
    ("an empty string", b""),
    ("a string of 1 MB", b"a b" * 350_000),
    ("a string that is not UTF-8", b"\xff\xfe\x00\xc3"),
    ("a string of control characters", bytes(range(32)) * 8),
)


@dataclass(frozen=True, kw_only=True)
class AdversarialRequest:
    """A request.

    Attributes:
        said: A description, for messages.
        path: A gRPC method, or the path of a URL.
        body: The message, or the JSON.
        rest: Whether it is sent over REST.
        must_refuse: Whether an answer to it breaks the contract.
    """

    said: str
    path: str
    body: bytes
    rest: bool = False
    must_refuse: bool = False


def adversarial_requests(name: str, contract: Mapping[str, Any]) -> Iterator[AdversarialRequest]:
    """All requests, from the most likely accident to the most malicious.

    Args:
        name: The model's name.
        contract: Its signatures, as `contract_of` gives them.
    """
    for key, signature in contract.items():
        if signature["method"] != CLASSIFY_METHOD:
            yield from _tensors(name, key, signature["inputs"])
    yield from _malformed(name, contract)
    for key, signature in contract.items():
        if signature["method"] == CLASSIFY_METHOD:
            yield from _examples(name, key)
        elif key == BYTES_SIGNATURE and list(signature["inputs"]) == [IMAGE_BYTES]:
            for said, data, must in _images():
                yield _predict(name, key, {IMAGE_BYTES: _strings(data)}, said, must=must)
            many = to_proto(np.array([_large()] * _MANY, object))
            said = f"{_MANY} images of {MAX_SIDE} x {MAX_SIDE} pixels"
            yield _predict(name, key, {IMAGE_BYTES: many}, said, must=True)


def _predict(
    name: str, key: str, inputs: Mapping[str, Any], said: str, *, must: bool = False
) -> AdversarialRequest:
    request = wire.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, key
    for field, proto in inputs.items():
        request.inputs[field].CopyFrom(proto)
    return AdversarialRequest(
        said=f"{said}, to {key} over gRPC",
        path=PREDICT,
        body=request.SerializeToString(),
        must_refuse=must,
    )


def _rest(name: str, said: str, body: object, *, verb: str = "predict") -> AdversarialRequest:
    return AdversarialRequest(
        said=f"{said}, over REST",
        path=f"/v1/models/{name}:{verb}",
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
        rest=True,
    )


def _tensors(name: str, key: str, inputs: Mapping[str, Any]) -> Iterator[AdversarialRequest]:
    """Tensors of another rank, size or dtype than declared, for each input."""
    whole = {
        field: _tensor(info["dtype"], [max(d, 1) for d in info["shape"] or []])
        for field, info in inputs.items()
    }
    for field, info in inputs.items():
        for shape in _other_shapes(info["shape"] or []):
            proto = _tensor(info["dtype"], shape)
            said = f"a tensor of shape {list(shape)} for {field}, which takes {info['shape']}"
            yield _predict(name, key, {**whole, field: proto}, said)
        for dtype in ("DT_FLOAT", "DT_STRING", "DT_UINT8", "DT_INT64", "DT_BOOL"):
            if dtype != info["dtype"]:
                shape = [max(d, 1) for d in info["shape"] or []]
                proto = _tensor(dtype, shape)
                said = (
                    f"a tensor of {_plain(dtype)} for {field}, which takes {_plain(info['dtype'])}"
                )
                yield _predict(name, key, {**whole, field: proto}, said)
        if info["dtype"] == "DT_STRING":
            for said, value in _STRINGS:
                yield _predict(name, key, {**whole, field: _strings(value)}, f"{said} for {field}")
        for said, proto in _inconsistent(info["dtype"]):
            yield _predict(name, key, {**whole, field: proto}, f"{said} for {field}")
        if len(inputs) > 1:
            rest = {other: proto for other, proto in whole.items() if other != field}
            yield _predict(name, key, rest, f"no {field}")
    yield _predict(name, key, {}, "no input at all")
    yield _predict(name, key, {"nosuch": to_proto([1.0])}, "an unknown input")
    yield _predict(name, key, {**whole, "nosuch": to_proto([1.0])}, "one input too many")


def _other_shapes(declared: Sequence[int]) -> Iterator[Sequence[int]]:
    """Shapes of another rank, or of sides that do not fit; no more than a few kilobytes each."""
    sides = [max(side, 1) for side in declared]
    seen = []
    for shape in (
        (2, 2), (), (1,), (3,), (28,), (1, 784), (*sides, 1), (1, *sides),
        *([(*sides[:-1], sides[-1] - 1), (*sides[:-1], 0), (*sides[:-1], 1),
           (1, *(1 for _ in sides[1:])), sides[1:], (0, *sides[2:]), (0, *sides)] if sides else []),
        (1, 1, 1, 1, 1, 1), (0,), (0, 0, 0),
    ):  # fmt: skip
        fits = len(shape) == len(declared) and all(
            d in (-1, s) for d, s in zip(declared, shape, strict=False)
        )
        if not fits and tuple(shape) not in seen:
            seen.append(tuple(shape))
            yield shape
    if declared[:1] == [-1]:
        yield (0, *sides[1:])  # an empty batch, which fits


def _inconsistent(dtype: str) -> Iterator[tuple[str, Any]]:
    """Messages that are not valid tensors, or contradict themselves."""
    huge = wire.TensorProto(dtype=dtype)
    for _ in range(3):
        huge.tensor_shape.dim.add(size=1 << 20)
    yield "a shape of a quintillion elements with no data", huge
    overflow = wire.TensorProto(dtype=dtype)
    for _ in range(4):
        overflow.tensor_shape.dim.add(size=1 << 40)
    yield "a shape whose size overflows", overflow
    negative = wire.TensorProto(dtype=dtype)
    negative.tensor_shape.dim.add(size=-5)
    yield "a shape with a negative side", negative
    yield (
        "a tensor of unknown rank",
        wire.TensorProto(dtype=dtype, tensor_shape=wire.TensorShapeProto(unknown_rank=True)),
    )
    short = wire.TensorProto(dtype=dtype, tensor_content=b"\1\2\3")
    for side in (1, 28, 28):
        short.tensor_shape.dim.add(size=side)
    yield "a tensor with less data than its shape has elements", short
    yield "an empty message", wire.TensorProto()
    for kind in (wire.DT_VARIANT, wire.DT_RESOURCE, wire.DT_QINT8):
        yield f"a tensor of dtype {wire.DataType.Name(kind)}", wire.TensorProto(dtype=kind)


def _malformed(name: str, contract: Mapping[str, Any]) -> Iterator[AdversarialRequest]:
    """Malformed requests."""
    yield _predict(name, "nosuch", {}, "an unknown signature")
    yield AdversarialRequest(
        said="bytes that are not a message, over gRPC", path=PREDICT, body=b"\xff" * 64
    )
    body: object
    ragged = [[1, 2], [3]]
    deep = b'{"instances": ' + b"[" * 5000 + b"]" * 5000 + b"}"
    for said, body in (
        ("a flat row of numbers", {"instances": [[1, 2]]}),
        ("a single number", {"instances": [1]}),
        ("ragged rows", {"instances": [ragged, ragged]}),
        ("an empty batch", {"instances": []}),
        ("instances that are null", {"instances": None}),
        ("an object in place of an array", {"instances": {"a": 1}}),
        ("text in place of numbers", {"instances": ["text", "text"]}),
        ("numbers out of every range", {"instances": [[[1e39, -1, 2**63, 2**70]]]}),
        ("NaN and infinity", b'{"instances": [[[NaN, Infinity, -Infinity]]]}'),
        ("invalid base64", {"instances": [{"b64": "***"}]}),
        ("inputs that are null", {"inputs": None}),
        ("columns of different lengths", {"inputs": {"image": [1], "nosuch": [1, 2]}}),
        ("an empty object", {}),
        ("an empty body", b""),
        ("half a body", b'{"instances": [[1,'),
        ("bytes that are not UTF-8", b"\xff\xfe\x00"),
        ("brackets 5,000 deep", deep),
        ("another type of signature_name", {"signature_name": 5, "instances": [1]}),
    ):
        yield _rest(name, said, body)
    for key, signature in contract.items():
        if signature["method"] == CLASSIFY_METHOD:
            yield _rest(
                name,
                f"an example of numbers to {key}",
                {"signature_name": key, "examples": [{"x": 1.0}]},
                verb="classify",
            )
        for field, info in signature["inputs"].items():
            if info["dtype"] == "DT_STRING":
                value = {"b64": base64.b64encode(b"not an image").decode()}
                body = {"signature_name": key, "instances": [{field: value}, {field: value}]}
                yield _rest(name, f"bytes that are not an image to {key}", body)


def _examples(name: str, key: str) -> Iterator[AdversarialRequest]:
    """tf.Examples without the feature, with another kind of it, and none at all."""

    def classify(said: str, *examples: wire.Example) -> AdversarialRequest:
        request = wire.ClassificationRequest()
        request.model_spec.name, request.model_spec.signature_name = name, key
        request.input.example_list.examples.extend(examples)
        body = request.SerializeToString()
        return AdversarialRequest(said=f"{said}, to {key} over gRPC", path=CLASSIFY, body=body)

    numbers, empty, twice = wire.Example(), wire.Example(), wire.Example()
    numbers.features.feature[IMAGE_FEATURE].float_list.value.append(float("nan"))
    empty.features.feature[IMAGE_FEATURE].SetInParent()
    twice.features.feature[IMAGE_FEATURE].bytes_list.value.extend([b"a", b"b"])
    wrong = wire.Example()
    wrong.features.feature["nosuch"].bytes_list.value.append(b"a")
    yield classify("no example")
    yield classify("an example without features", wire.Example())
    yield classify("an example with another feature's name", wrong)
    yield classify("an example with NaN for an image", numbers)
    yield classify("an example with an empty feature", empty)
    yield classify("an example with two images", twice)
    yield _predict(name, key, {"inputs": _strings(b"\xff" * 32)}, "bytes that are not an example")
    for said, data, _ in _images():
        one = wire.Example()
        one.features.feature[IMAGE_FEATURE].bytes_list.value.append(data)
        yield classify(said, one)


@cache
def _large() -> bytes:
    """An image of the largest size, in a file of 100 KB."""
    return _file(np.zeros([MAX_SIDE, MAX_SIDE], np.uint8), "JPEG")


@cache
def _images() -> tuple[tuple[str, bytes, bool], ...]:
    """Files that are not images, truncated or far too large; and whether to refuse them.

    Cached, since they take a second or two to make. Those too large are complete files where their
    format compresses them, so that a graph without the limits would decode them, and show it.
    """
    return tuple(_made_images())


def _made_images() -> Iterator[tuple[str, bytes, bool]]:
    yield "an empty file", b"", False
    yield "text for an image", b"text", False
    small = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP"):
        data = _file(small, kind)
        yield f"the first bytes of a {kind}", data[:12], False
        yield f"half a {kind}", data[: len(data) // 2], False
        middle = data[: len(data) // 2] + b"\xa5" * 16 + data[len(data) // 2 + 16 :]
        yield f"a damaged {kind}", middle, False
    size = f"of {_BOMB} x {_BOMB} pixels"
    flat = np.zeros([_BOMB, _BOMB], np.uint8)
    for kind, options in (
        ("PNG", {"compress_level": 1}), ("JPEG", {}), ("GIF", {}), ("WEBP", {"lossless": True}),
    ):  # fmt: skip
        yield f"a {kind} {size}", _file(flat, kind, **options), True
    bitmap = bytearray(_file(small, "BMP"))
    bitmap[18:26] = struct.pack("<ii", _BOMB, -_BOMB)
    yield f"a BMP that declares itself {size}", bytes(bitmap), True
    yield "a PNG that declares 60000 x 60000 pixels", _png_header(60_000), True
    yield f"a PNG of more than {MAX_BYTES >> 20} MiB", _file(small, "PNG") + b"\0" * MAX_BYTES, True
    frame = Image.fromarray(flat[:2000, :2000])
    frames = [Image.fromarray(np.full([2000, 2000], n, np.uint8)) for n in range(1, 6)]
    animation = _file(frame, "GIF", save_all=True, append_images=frames)
    yield "a GIF of six frames of 2000 x 2000 pixels", animation, True
    blocks = b"\x21\xfe" + b"\x01A" * (1 << 18) + b"\0;"
    yield "a GIF of 262,144 blocks", b"GIF89a\x08\0\x08\0\0\0\0" + blocks, True
    yield "a JPEG of 2,000 scans", _scanned(2000), True
    # TensorFlow's decoder writes past its buffer at these two.
    opaque = _animation("RGB")
    yield "an animated WebP", opaque, True
    transparent = bytearray(_animation("RGBA"))
    transparent[20] &= ~0x10 & 0xFF
    yield "an animated WebP that denies its transparency", bytes(transparent), True


def _scanned(count: int) -> bytes:
    """A progressive JPEG whose last scan comes many times."""
    data = _file(np.zeros([512, 512, 3], np.uint8), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * count + data[-2:]


def _animation(mode: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, [3, 64, 64, len(mode)], np.uint8)
    frames = [Image.fromarray(one) for one in pixels]
    return _file(frames[0], "WEBP", save_all=True, append_images=frames[1:])


def _file(source: Any, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = source if isinstance(source, Image.Image) else Image.fromarray(source)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _png_header(side: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


def _strings(data: bytes) -> Any:
    return to_proto(np.array([data], object))


def _tensor(dtype: str, shape: Sequence[int]) -> Any:
    """A tensor of NaN, of ones or of short strings."""
    number: Any = wire.DataType.Value(dtype)
    try:
        kind = numpy_dtype(number)
    except InvalidInput:  # NumPy has none, such as for resources
        proto = wire.TensorProto(dtype=number, half_val=[0], int_val=[0])
        for side in shape:
            proto.tensor_shape.dim.add(size=side)
        return proto
    if kind.kind == "O":
        return to_proto(np.full(shape, b"x", object))
    return to_proto(np.full(shape, np.nan if kind.kind in "fc" else 1, kind))


def image_file(contract: Mapping[str, Any]) -> bytes:
    """A PNG file of the size that the default signature of a classifier takes."""
    image = contract.get(DEFAULT_SIGNATURE, {}).get("inputs", {}).get("image", {})
    sides = (image.get("shape") or [])[1:3]
    size = sides if len(sides) == 2 and min(sides) > 0 else [8, 8]
    pixels = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    return _file(pixels, "PNG")


def _plain(dtype: str) -> str:
    return dtype.removeprefix("DT_").lower()
