"""Which arrays become the dtype that a signature takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from servable_client import InvalidInput
from servable_client.codec.as_dtype import as_declared
from servable_client.types.answers import Signature, TensorSpec


def taking(**dtypes: str) -> Signature:
    return Signature(
        inputs={name: TensorSpec(dtype=dtype, shape=None) for name, dtype in dtypes.items()},
        outputs={},
        method="",
    )


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([1, 2], "DT_FLOAT", np.float32),
        ([1.5, np.pi], "DT_FLOAT", np.float32),
        ([1.5, 2], "DT_HALF", np.float16),
        ([np.nan, np.inf, -np.inf], "DT_FLOAT", np.float32),
        ([0, 255], "DT_UINT8", np.uint8),
        ([-(2**31), 2**31 - 1], "DT_INT32", np.int32),
        ([2**63 - 1], "DT_UINT64", np.uint64),
        ([1, 2], "DT_COMPLEX64", np.complex64),
        ([0.1], "DT_COMPLEX128", np.complex128),
        ([], "DT_UINT8", np.uint8),
        (np.arange(3, dtype=np.uint8), "DT_FLOAT", np.float32),
        (np.float32(2.5), "DT_DOUBLE", np.float64),
    ],
)
def test_values_that_fit_are_converted(values: Any, dtype: str, expected: type) -> None:
    array = np.asarray(values)
    found = as_declared({"x": array}, taking(x=dtype))["x"]
    assert found.dtype == expected
    np.testing.assert_allclose(found, array, rtol=1e-3)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([256], "DT_UINT8"),
        ([-1], "DT_UINT8"),
        ([0.5], "DT_UINT8"),
        ([0.0, 1.0], "DT_UINT8"),
        ([np.nan], "DT_INT32"),
        ([np.inf], "DT_INT64"),
        ([2**31], "DT_INT32"),
        (np.array([2**64 - 1], np.uint64), "DT_INT64"),
        ([2.0**63], "DT_INT64"),
        ([2**24 + 1], "DT_FLOAT"),
        ([2**53 + 1], "DT_DOUBLE"),
        ([1e39], "DT_FLOAT"),
        ([70000.0], "DT_HALF"),
        ([True], "DT_FLOAT"),
        ([1], "DT_BOOL"),
        (["1"], "DT_FLOAT"),
        ([1], "DT_STRING"),
        ([1j], "DT_FLOAT"),
        (np.array([1, None], object), "DT_FLOAT"),
    ],
)
def test_values_that_would_be_lost_are_refused_by_the_inputs_name(values: Any, dtype: str) -> None:
    inputs = {"age": np.zeros(1, np.float32), "income": np.asarray(values)}
    with pytest.raises(InvalidInput, match="income") as caught:
        as_declared(inputs, taking(age="DT_FLOAT", income=dtype))
    assert caught.value.hint


def test_arrays_of_the_right_dtype_are_the_same_arrays() -> None:
    inputs = {"x": np.zeros(2, np.uint8), "text": np.array([b"a"], object), "more": np.zeros(1)}
    signature = taking(x="DT_UINT8", text="DT_STRING", absent="DT_FLOAT")
    assert as_declared(inputs, signature) is inputs
    assert as_declared(inputs, None) is inputs


@pytest.mark.parametrize("dtype", ["DT_VARIANT", "DT_RESOURCE", "DT_OF_TOMORROW", "DT_INVALID"])
def test_a_dtype_that_numpy_does_not_have_is_the_servers_to_refuse(dtype: str) -> None:
    array = np.zeros(2)
    assert as_declared({"x": array}, taking(x=dtype))["x"] is array
