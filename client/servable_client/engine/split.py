"""Traffic splitting: which label a call goes to."""

from __future__ import annotations

import hashlib
import math
import numbers
import random
import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from servable_client._errors import (
    InvalidInput,
    ModelNotFound,
    NotReady,
    ServableError,
)
from servable_client.engine.copies import check_importable
from servable_client.types.answers import Classification
from servable_client.types.arguments import (
    as_number,
    check_function,
    check_name,
    check_type,
    refuse,
)

if TYPE_CHECKING:
    from collections.abc import Callable

STABLE = "stable"
# Ten shares of 0.1 add up to slightly more than one.
_ROUNDING = 1e-9
# Durations of each label.
_KEPT = 1000


@dataclass
class LabelCalls:
    """The calls that a split sent to a label, by a client's own count.

    Attributes:
        calls: How many; of `classify_many`, each image.
        errors: How many failed, by the name of the status.
        answers: How often each class was the answer; of `classify` and `classify_many`.
        seconds: The durations of the latest successful calls, up to 1,000, in seconds.
    """

    calls: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT), repr=False)

    def percentile(self, share: float) -> float | None:
        """A percentile of the durations, `share` from 0 to 1, in seconds; None without any."""
        ordered = sorted(self.seconds)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None


class Split:
    """The shares of the calls that go to labels other than the client's own.

    The label is selected at random for each call; a call that names a version or label is not
    split. With `key` the label is computed from the key: the same key goes to the same label
    while the shares stay, and keeps it if the share of that label grows (for labels after the
    first: if the shares before it stay).

    Args:
        shares: The share of each label, 0 to 1; the rest goes to the client's own label.
        seed: The seed of the random generator, for reproducible labels.
        key: Called for each call; returns text, bytes or a number, a user id for example.

    Raises:
        InvalidInput: A share is not a number from 0 to 1, or they add up to more than 1.

    Example:
        >>> split = Split({"canary": 0.1}, key=lambda: "user 17")
        >>> len({split.pick() for _ in range(100)})
        1
    """

    def __init__(
        self,
        shares: Mapping[str, float],
        *,
        seed: int | None = None,
        key: Callable[[], str | bytes | int] | None = None,
    ) -> None:
        _check(shares)
        if seed is not None and key is not None:
            raise InvalidInput("seed and key are mutually exclusive")
        if seed is not None:
            check_type("seed", seed, numbers.Integral, "an integer")
        check_function("key", key)
        self.shares: dict[str, float] = {label: float(share) for label, share in shares.items()}
        self._key = key
        self._calls: dict[str, LabelCalls] = {}
        self._lock = threading.Lock()
        # The generator of the module is reseeded after a fork, so that children differ.
        self._random = None if seed is None else random.Random(int(seed))

    def pick(self) -> str | None:
        """The label for the next call; None for the client's own.

        Raises:
            InvalidInput: The function for the key returned another type.
        """
        if self._key is not None:
            point = _point(self._key())
        else:
            point = random.random() if self._random is None else self._random.random()
        reached = 0.0
        for label, share in self.shares.items():
            reached += share
            if point < reached:
                return label
        return None

    @property
    def calls(self) -> dict[str, LabelCalls]:
        """The calls to each label so far, the client's own among them; a copy.

        Servers and gateways do not see which label a call over gRPC was for: this is what to judge
        a canary by.
        """
        with self._lock:
            return {
                label: LabelCalls(
                    calls=one.calls,
                    errors=one.errors.copy(),
                    answers=one.answers.copy(),
                    seconds=one.seconds.copy(),
                )
                for label, one in self._calls.items()
            }

    def record(self, label: str | None, seconds: float, result: object) -> None:
        """Count a call; called by the client.

        Args:
            label: The label that it went to; None for the highest version.
            seconds: How long it took.
            result: The answer, or the error.
        """
        with self._lock:
            one = self._calls.setdefault("" if label is None else label, LabelCalls())
            one.calls += 1
            if isinstance(result, ServableError):
                one.errors[result.code or type(result).__name__] += 1
                return
            one.seconds.append(seconds)
            if isinstance(result, Classification):
                one.answers[result.label] += 1

    def __getstate__(self) -> object:
        check_importable("key", self._key)
        # A copy, in another process perhaps, counts its own calls.
        return {**vars(self), "_calls": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    def __repr__(self) -> str:
        return f"Split({self.shares!r})"


def _check(shares: Any) -> None:
    """Check a mapping of labels to shares.

    Raises:
        InvalidInput: It is invalid.
    """
    check_type("split", shares, Mapping, 'a dict of labels to shares, {"canary": 0.1} for example')
    if not shares:
        raise InvalidInput("split names no label", hint='map labels to shares: {"canary": 0.1}')
    for label, share in shares.items():
        check_name("label", label)
        wanted = "a number from 0 to 1, 0.1 for one call in ten"
        if not 0 <= as_number(f"the share of {label}", share, wanted) <= 1:
            refuse(f"the share of {label}", wanted, share)
    if math.fsum(shares.values()) > 1 + _ROUNDING:
        raise InvalidInput(
            f"the shares add up to {math.fsum(shares.values()):g}",
            hint="the sum of all shares must be at most 1",
        )


def _point(key: object) -> float:
    """Hash a key to a number from 0 to 1, the same one in any process."""
    if isinstance(key, str | int):
        key = str(key).encode()
    if not isinstance(key, bytes):
        raise InvalidInput(
            f"the split key has type {type(key).__name__}", hint="return text, bytes or an int"
        )
    digest = hashlib.blake2b(key, digest_size=8).digest()
    # 53 bits, the precision of a float: more would be rounded, up to 1 for the last few.
    return (int.from_bytes(digest) >> 11) / (1 << 53)


def is_label_unavailable(error: ServableError) -> bool:
    """Whether an error means that a label points to no available version."""
    if error.missing_signature:
        return False
    return isinstance(error, ModelNotFound | NotReady) or error.code == "FAILED_PRECONDITION"
