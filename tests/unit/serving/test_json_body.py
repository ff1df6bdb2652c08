"""A body is read as RapidJSON 1.1.0 reads it, with its words and its offsets."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servable_serving.core.errors import ModelError
from servable_serving.server.json import parse
from servable_serving.server.json.parse import parse_body, read_signature_name
from servable_serving.server.json.rapidjson_reader import read_json
from servable_serving.server.json.rapidjson_values import show, write_error


def said(body: bytes) -> str:
    with pytest.raises(ModelError) as raised:
        parse_body(body)
    assert raised.value.code == "INVALID_ARGUMENT"
    return raised.value.message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "The document is empty"),
        (b"  ", "The document is empty. at offset: 2"),
        (b"\x00{}", "The document is empty. at offset: 0"),
        (b"]", "The document is empty. at offset: 0"),
        (b":", "The document is empty. at offset: 0"),
        (b"x", "Invalid value. at offset: 0"),
        (b"{instances: ", "Missing a name for object member. at offset: 1"),
        (b"{", "Missing a name for object member. at offset: 1"),
        (b'{"a":1,}', "Missing a name for object member. at offset: 7"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a":', "Invalid value. at offset: 5"),
        (b'{"a":nul}', "Invalid value. at offset: 8"),
        (b'{"a":[1,]}', "Invalid value. at offset: 8"),
        (b'{"a":1', "Missing a comma or '}' after an object member. at offset: 6"),
        (b'{"a":1]', "Missing a comma or '}' after an object member. at offset: 6"),
        (b'{"a":[1 2]}', "Missing a comma or ']' after an array element. at offset: 8"),
        (b'{"a":[01]}', "Missing a comma or ']' after an array element. at offset: 7"),
        (b'{"a":"b', "Missing a closing quotation mark in string. at offset: 7"),
        (b'{"a":"b\x00"}', "Missing a closing quotation mark in string. at offset: 7"),
        (b'{"a":"\\x"}', "Invalid escape character in string. at offset: 6"),
        (b'{"a":"bc\x01"}', "Invalid escape character in string. at offset: 8"),
        (b'{"a":"\\u12g4"}', "Incorrect hex digit after \\u escape in string. at offset: 6"),
        (b'{"a":"\\ud800"}', "The surrogate pair in string is invalid. at offset: 6"),
        (b'{"a":"\\ud800\\u0041"}', "The surrogate pair in string is invalid. at offset: 6"),
        (b'{"a":1e400}', "Number too big to be stored in double. at offset: 5"),
        (b'{"a":0e309}', "Number too big to be stored in double. at offset: 5"),
        (b'{"a":%b}' % (b"9" * 309), "Number too big to be stored in double. at offset: 5"),
        (b'{"a":%b}' % (b"9" * 5000), "Number too big to be stored in double. at offset: 5"),
        (b'{"a":1.}', "Miss fraction part in number. at offset: 7"),
        (b'{"a":1e}', "Miss exponent in number. at offset: 7"),
        (b'{"a":-}', "Invalid value. at offset: 6"),
        # Offsets count bytes, the mark at the beginning too.
        ('{"é":x}'.encode(), "Invalid value. at offset: 6"),
        (b'\xef\xbb\xbf{"a":x}', "Invalid value. at offset: 8"),
    ],
)
def test_words_of_a_malformed_body(body: bytes, words: str) -> None:
    assert said(body) == f"JSON Parse error: {words}"


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"[1, 2]", "[1, 2]"),
        (b'"text"', '"text"'),
        (b"null and more", "null"),
        (b"-0", "0"),
        # A number that JSON has no word for ends what is printed.
        (b"[1, NaN, 2]", "[1, "),
    ],
)
def test_a_body_must_be_an_object(body: bytes, shown: str) -> None:
    assert said(body) == f"JSON Value: {shown} Is not object"


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1} and more',
        b'{"a": 1}}',
        b'{"a": 1}\x00',
        b'\xef\xbb\xbf{"a": 1}',
        b'\r\n\t {"a": 1}',
        b'{"a": 1, "a": 2}',
        b'{"a": 1, "\\u0061": 2}',
    ],
)
def test_what_is_passed_over(body: bytes) -> None:
    assert parse_body(body) == {"a": 1}


@pytest.mark.parametrize(
    ("number", "value"),
    [
        (b"NaN", math.nan),
        (b"-NaN", math.nan),
        (b"Infinity", math.inf),
        (b"Inf", math.inf),
        (b"-Inf", -math.inf),
        (b"-Infinity", -math.inf),
        (b"9e308", math.inf),
        (b"1e-400", 0.0),
        (b"-0", 0),
        (b"18446744073709551616", 18446744073709551616.0),
    ],
)
def test_numbers_beyond_json(number: bytes, value: float) -> None:
    got = parse_body(b'{"a": %b}' % number)["a"]
    assert got == value or (math.isnan(got) and math.isnan(value))


def test_the_first_of_repeated_keys_counts_at_any_depth() -> None:
    body = b'{"instances": [{"a": [1], "a": [2]}], "x": {"b": {"c": 1, "c": 2}}}'
    assert parse_body(body) == {"instances": [{"a": [1]}], "x": {"b": {"c": 1}}}


@pytest.mark.parametrize("raw", [b"\xff", b"\xed\xa0\x80", b"caf\xe9", b"\\udc80"])
def test_bytes_that_are_no_utf_8_pass_through(raw: bytes) -> None:
    text = parse_body(b'{"a": "%b"}' % raw)["a"]
    assert text.encode("utf-8", "surrogateescape") == raw.replace(b"\\udc80", b"\xed\xb2\x80")
    assert raw.replace(b"\\udc80", b"\xed\xb2\x80") in write_error(text)


@pytest.mark.parametrize("depth", [200, 900, 1000, 1020, 1030, 3000])
def test_depth_beyond_what_the_quick_readers_take(depth: int) -> None:
    for inner in (b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth + b"]" * depth):
        assert parse_body(b'{"n": 1, "b": %b}' % inner)["n"] == 1


def test_depth_does_no_harm() -> None:
    deep = b'{"a": 1, "b": %b}' % (b"[" * 50_000 + b"]" * 50_000)
    assert parse_body(deep)["a"] == 1
    assert said(b'{"b": %b' % (b"[" * 60_000)) == (
        "JSON Parse error: Invalid value. at offset: 60006"
    )
    # TensorFlow Serving has no limit but its memory; ours is one sentence.
    assert said(b"[" * 1_000_000) == (
        "JSON Parse error: More than 100000 levels of nesting. at offset: 100000"
    )


def test_the_name_of_a_signature() -> None:
    assert read_signature_name({}) == ""
    assert read_signature_name({"signature_name": "both"}) == "both"
    with pytest.raises(ModelError) as raised:
        read_signature_name(parse_body(b'{"signature_name": 3, "instances": [[1.0, 2.0, 5.0]]}'))
    assert raised.value.message == (
        'JSON Value: {\n    "signature_name": 3,\n    "instances": [[1.0, 2.0, 5.0]]\n} not '
        "formatted correctly. 'signature_name' key must be a string value."
    )


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (
            b'{"a": {}, "b": [], "c": [[], {}]}',
            '{\n    "a": {},\n    "b": [],\n    "c": [[], {}]\n}',
        ),
        (
            b'{"a": [{"b": 1, "c": null}, true]}',
            '{\n    "a": [{\n            "b": 1,\n            "c": null\n        }, true]\n}',
        ),
        (b'{"a": 1, "a": 2}', '{\n    "a": 1,\n    "a": 2\n}'),
        (
            b"[1e22, 1e21, 1e20, 123456.789e3, 5e-324, 1e-7, 0.00001, -0.0]",
            "[1e22, 1e21, 100000000000000000000.0, 123456789.0, 5e-324, 1e-7, 0.00001, -0.0]",
        ),
        (
            b"[18446744073709551615, 99999999999999999999]",
            "[18446744073709551615, 100000000000000000000.0]",
        ),
        ('["\\u00e9☃/\\/\\b\\u001f\\u007f\\"\\\\"]'.encode(), '["é☃//\\b\\u001F\x7f\\"\\\\"]'),
    ],
)
def test_how_a_value_is_printed(body: bytes, shown: str) -> None:
    assert show(read_json(body)) == shown


def test_a_long_value_is_cut_off_after_the_piece_that_goes_beyond_256_bytes() -> None:
    assert show([1.0] * 1000) == "[" + "1.0, " * 51 + "1.0"
    assert show("x" * 1000) == '"' + "x" * 1000 + '"'
    assert show(["x" * 1000, 1]) == '["' + "x" * 1000 + '"'
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert show(nested) == "[" * 256


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def same(one: object, other: object) -> bool:
    return repr(one) == repr(other)


@settings(max_examples=50)
@given(st.dictionaries(st.text(), _VALUES), st.sampled_from(["", " x", "}", "\n"]))
def test_the_quick_readers_agree_with_the_faithful_one(value: object, after: str) -> None:
    for ensure_ascii in (True, False):
        text = json.dumps(value, ensure_ascii=ensure_ascii, separators=(",", ":")) + after
        body = text.encode("utf-8", "surrogatepass")
        faithful = read_json(body)
        for reader in (parse._quick, parse._standard):
            quick = reader(body)
            assert quick is None or same(_as_doubles(quick), _as_doubles(faithful))


def _as_doubles(value: object) -> object:
    """Integers of more than 64 bits are doubles, which orjson makes of them at once."""
    if isinstance(value, dict):
        return {key: _as_doubles(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_doubles(item) for item in value]
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return float(value)
    return value


def test_pictures_take_the_quick_way() -> None:
    for request in (
        {"instances": [[[0, 255]] * 28]},
        {"instances": [{"image": [[0.5, 1e-5]], "note": "x"}] * 3},
        {"instances": [{"image_bytes": {"b64": "YQ=="}}], "signature_name": "serving_bytes"},
        {"inputs": {"image": [[[0, 255]]]}},
        {"instances": [{"b64": "AAA0e0E30AAA"}], "x": [1.0e-30, 1.0e10]},
        {"examples": [{"image": [0.5] * 4, "label": "x"}], "context": {"a": 1}},
    ):
        assert parse._quick(json.dumps(request).encode()) == request
