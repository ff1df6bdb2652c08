"""The flows that classify one image or a chunk of images."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from servable_client._errors import InvalidInput, ServableError, ServerFailed
from servable_client.engine import class_names
from servable_client.engine.effects import Offload
from servable_client.engine.split import is_label_unavailable
from servable_client.engine.telemetry import log
from servable_client.types.answers import Classification, Prediction
from servable_client.types.images import ENCODED, Prepared, checked, fit, prepare
from servable_client.types.operations import Description, Failure, PredictOperation, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from servable_client.engine.core import Engine
    from servable_client.engine.effects import Flow
    from servable_client.types.images import Picture

# The time that a call may spend on reading class names once its answer is there.
_NAMES_SECONDS = 2.0
# How often reading the names of a version is attempted.
_NAMES_ATTEMPTS = 3


class Classifier:
    """Classifies images; caches the class names of each version."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._names: dict[tuple[str, int | None], list[str | None]] = {}
        self._attempts: dict[tuple[str, int | None], int] = {}
        self._complete: dict[tuple[str, int | None], tuple[str, ...]] = {}

    def one(self, image: Picture, *, target: Target, timeout: float | None) -> Flow[Classification]:
        """Classify an image."""
        began = self._engine.now()
        deadline = self._engine.deadline(timeout)
        if isinstance(image, np.ndarray):
            prepared: Prepared = checked(image)
        else:
            prepared = yield Offload(partial(prepare, image))
        if self._engine.split is None:
            return (yield from self._one(prepared, target, deadline, began))
        return (
            yield from self._engine.call_split(
                lambda chosen: self._one(prepared, chosen, deadline, began), target
            )
        )

    def _one(
        self, prepared: Prepared, target: Target, deadline: float, began: float
    ) -> Flow[Classification]:
        """Classify a prepared image."""
        description = self._engine.known(target)
        if description is None:
            description = yield from self._engine.describe(target, deadline)
        try:
            signature, name, value = fit(prepared, description, target.model)
        except InvalidInput:
            pass  # a new version may accept it, which is checked below
        else:
            # The short path, which most single images take.
            batch = np.array([value], object) if signature == ENCODED else value[np.newaxis]
            prediction: Prediction = yield from self._engine.call(
                PredictOperation(target=target, signature=signature, inputs={name: batch}), deadline
            )
            return (yield from self._read(prediction, 1, target, deadline, began))[0]
        (answer,) = yield from self._fitted([prepared], target, deadline, began)
        if isinstance(answer, ServableError):
            raise answer
        return answer

    def chunk(
        self, images: Sequence[Picture], *, target: Target, timeout: float | None
    ) -> Flow[list[Classification | ServableError]]:
        """Classify images, with an error in place of each failure; each request has the timeout."""
        began = self._engine.now()
        if all(isinstance(image, np.ndarray) for image in images):
            ready = _prepared(images)
        else:
            ready = yield Offload(partial(_prepared, images))
        prepared = [item for item in ready if not isinstance(item, InvalidInput)]
        chosen, fallback = self._engine.targets_of(target)
        own = self._engine.in_use(chosen if fallback is None else fallback)
        found = yield from self._all(prepared, own if fallback is None else chosen, began, timeout)
        if target is self._engine.target:
            self._engine.count(chosen, began, found)
        failed = _failed(found, is_label_unavailable) if fallback is not None else []
        yield from self._again(failed, found, prepared, own, began, timeout)
        failed = _failed(found, lambda error: self._engine.instead(own, error) is not None)
        yield from self._again(failed, found, prepared, self._engine.in_use(own), began, timeout)
        rest = iter(found)
        return [item if isinstance(item, InvalidInput) else next(rest) for item in ready]

    def _again(
        self,
        failed: Sequence[int],
        found: list[Classification | ServableError],
        prepared: Sequence[Prepared],
        target: Target,
        began: float,
        timeout: float | None,
    ) -> Flow[None]:
        """Classify the images that failed with another target, and replace their errors."""
        again = yield from self._all([prepared[i] for i in failed], target, began, timeout)
        for index, answer in zip(failed, again, strict=True):
            found[index] = answer

    def _all(
        self, prepared: Sequence[Prepared], target: Target, began: float, timeout: float | None
    ) -> Flow[list[Classification | ServableError]]:
        """Classify prepared images, with an error in place of each failure."""
        if not prepared:
            return []
        deadline = self._engine.deadline(timeout)
        try:
            return (yield from self._fitted(prepared, target, deadline, began, timeout))
        except ServableError as error:
            return [error] * len(prepared)

    def _fitted(
        self,
        prepared: Sequence[Prepared],
        target: Target,
        deadline: float,
        began: float,
        timeout: float | None = None,
    ) -> Flow[list[Classification | ServableError]]:
        """Send prepared images to the signatures that accept them."""
        answers: list[Any] = [None] * len(prepared)
        groups: dict[tuple[str, str, object], list[tuple[int, Any]]] = {}
        description = yield from self._engine.describe(target, deadline)
        read = False
        for index, image in enumerate(prepared):
            try:
                signature, name, value = fit(image, description, target.model)
            except InvalidInput as first:
                error = first
                if not read:
                    # A new version may accept it.
                    read = True
                    description = yield from self._engine.describe(target, deadline, fresh=True)
                    try:
                        signature, name, value = fit(image, description, target.model)
                    except InvalidInput as second:
                        answers[index] = second
                        continue
                else:
                    answers[index] = error
                    continue
            shape = None if signature == ENCODED else value.shape
            groups.setdefault((signature, name, shape), []).append((index, value))
        for (signature, name, _), members in groups.items():
            values = [value for _, value in members]
            found = yield from self._group(
                signature, name, values, target, deadline, began, timeout
            )
            for (index, _), answer in zip(members, found, strict=True):
                answers[index] = answer
        return answers

    def _group(
        self,
        signature: str,
        name: str,
        values: list[Any],
        target: Target,
        deadline: float,
        began: float,
        timeout: float | None,
    ) -> Flow[list[Classification | ServableError]]:
        """Send one request; if the server refuses it, bisect to find the invalid image."""
        batch: Any
        if signature == ENCODED:
            batch = np.empty(len(values), object)
            batch[:] = values
        else:
            batch = values[0][np.newaxis] if len(values) == 1 else np.stack(values)
        try:
            prediction: Prediction = yield from self._engine.call(
                PredictOperation(target=target, signature=signature, inputs={name: batch}), deadline
            )
            found = yield from self._read(prediction, len(values), target, deadline, began)
            return list(found)
        except InvalidInput as error:
            if len(values) == 1:
                return [error]
        except ServableError as error:
            return [error] * len(values)
        middle = len(values) // 2
        answers: list[Classification | ServableError] = []
        for half in (values[:middle], values[middle:]):
            answers += yield from self._group(
                signature, name, half, target, self._engine.deadline(timeout), began, timeout
            )
        return answers

    def _read(
        self, prediction: Prediction, count: int, target: Target, deadline: float, began: float
    ) -> Flow[list[Classification]]:
        """The classifications in a prediction, with the names of the classes."""
        try:
            probabilities, class_ids = prediction["probabilities"], prediction["class_id"]
            labels = prediction["label"]
            if not len(probabilities) == len(class_ids) == len(labels) == count:
                raise ValueError(f"{count} images were sent")
            rows: Iterable[tuple[Any, Any, Any]]
            if count == 1:
                rows = ((class_ids.item(), labels.item(), probabilities[0]),)
            else:
                rows = zip(class_ids.tolist(), labels.tolist(), probabilities, strict=True)
            found = [
                (int(class_id), label.decode(errors="replace"), row.item(class_id), row)
                for class_id, label, row in rows
            ]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise ServerFailed(
                f"{target.model} returned {sorted(prediction)}; a classifier must return "
                "label, class_id and probabilities for every image",
                hint="use `predict` for models of any other kind",
                endpoint=self._engine.endpoints[0].url,
                model=target.model,
            ) from None
        version = prediction.version
        all_names = self._complete.get((target.model, version))
        if all_names is None:
            names = yield from self._read_names(target, version, probabilities.shape[1], deadline)
            for class_id, label, _, _ in found:
                if names[class_id] is None:
                    names[class_id] = label
            all_names = tuple(str(i) if name is None else name for i, name in enumerate(names))
            if None not in names:
                self._complete[target.model, version] = all_names
        # From here on, the description of another version is no longer used for this target.
        self._engine.seen(target, version)
        elapsed = self._engine.now() - began
        return [
            Classification(
                label=label,
                class_id=class_id,
                probability=probability,
                probabilities=row,
                version=version,
                elapsed=elapsed,
                labels=all_names,
            )
            for class_id, label, probability, row in found
        ]

    def _read_names(
        self, target: Target, version: int | None, count: int, deadline: float
    ) -> Flow[list[str | None]]:
        """Read the class names of a version, as far as possible."""
        key = (target.model, version)
        names = self._names.setdefault(key, [None] * count)
        if version is None or self._attempts.get(key, 0) >= _NAMES_ATTEMPTS:
            return names
        self._attempts[key] = self._attempts.get(key, 0) + 1
        pinned = Target(model=target.model, version=version)
        deadline = min(deadline, self._engine.now() + _NAMES_SECONDS)
        try:
            description: Description = yield from self._engine.describe(pinned, deadline)
            if not class_names.can_be_read(description):
                self._attempts[key] = _NAMES_ATTEMPTS
                return names
            by_name, by_number = class_names.operations(description, pinned)
            named: Prediction = yield from self._engine.call(by_name, deadline)
            numbered: Prediction = yield from self._engine.call(by_number, deadline)
        except (ServableError, Failure) as error:
            # The answer is complete but for the names of the less likely classes.
            log.debug("cannot read the class names of %s %s: %s", target.model, version, error)
            return names
        try:
            found = class_names.match(named["classes"], named["scores"], numbered["probabilities"])
        except (ServableError, KeyError, AttributeError, TypeError, ValueError):
            found = []  # the response contradicts the signatures
        if len(found) == count:
            for class_id, name in enumerate(found):
                names[class_id] = names[class_id] or name
        return names


def _failed(answers: Sequence[object], matches: Callable[[ServableError], bool]) -> list[int]:
    """The positions of the errors that match."""
    return [i for i, a in enumerate(answers) if isinstance(a, ServableError) and matches(a)]


def _prepared(images: Sequence[Picture]) -> list[Prepared | InvalidInput]:
    """Prepare each image, with an error in place of each failure."""
    ready: list[Prepared | InvalidInput] = []
    for image in images:
        try:
            ready.append(prepare(image))
        except InvalidInput as error:
            ready.append(error)
    return ready
