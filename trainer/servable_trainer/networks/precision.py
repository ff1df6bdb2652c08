"""Precision and devices of a training."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import keras

if TYPE_CHECKING:
    from collections.abc import Iterator

# Linux's names of instructions that multiply bfloat16; without them it is slower than float32.
_BFLOAT16 = {"amx_bf16", "avx512_bf16"}


def policy_name(precision: str | None) -> str:
    """The dtype policy of a precision; "auto" depends on the processor, None is the current one."""
    if precision is None:
        return str(keras.config.dtype_policy().name)
    if precision != "auto":
        return precision
    return "mixed_bfloat16" if _BFLOAT16 & processor_flags() else "float32"


@contextlib.contextmanager
def dtype_policy(precision: str | None) -> Iterator[None]:
    """Layers created within the block compute in `precision`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy_name(precision))
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def processor_flags() -> set[str]:
    """The processor's features on Linux; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return set(flags.partition(":")[2].split())


def spread() -> int:
    """Share every batch among all accelerators; returns their number.

    Under JAX, by `keras.distribution.DataParallel`; Keras does not support this under TensorFlow,
    which uses one. A distribution that the program has set itself is kept.
    """
    if keras.backend.backend() != "jax":
        return 1
    distribution = keras.distribution.distribution()
    if distribution is None:
        devices = keras.distribution.list_devices()
        if len(devices) < 2:
            return 1
        distribution = keras.distribution.DataParallel(devices=devices)
        keras.distribution.set_distribution(distribution)
    return int(distribution.device_mesh.devices.size)
