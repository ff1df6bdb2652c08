"""The graph of an image classifier: the model contract's three signatures.

Every input passes a check before the first kernel that could fail the process: TensorFlow
Serving enforces neither shapes nor sizes, and a wrong-rank input to a oneDNN convolution ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf

from servable_serving.core.names import (
    BYTES_SIGNATURE,
    CLASSIFY_SIGNATURE,
    DEFAULT_SIGNATURE,
    IMAGE_FEATURE,
    MAX_REQUEST_PIXELS,
)
from servable_serving.model.image_limits import declared_cost, max_rows, refusals
from servable_serving.model.preprocessing import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


# Images of a batch are decoded in parallel, and each of the largest size takes about 300 MiB while
# it is shrunk.
_DECODE_PARALLEL = 2


class Classifier:
    """An image classifier with the signatures of the model contract.

    The signatures share the network and the decoding of images as functions that each calls, so
    that the graph contains the weights once.

    Args:
        probabilities: uint8 [N, *shape] to float32 [N, C], for inference, of constants alone.
        labels: The name of each of the C classes.
        shape: Height and width of an image, and 3 if it is in colour.
        invert: Whether a grey image file whose border is light is inverted.
    """

    def __init__(
        self,
        probabilities: Callable[[tf.Tensor], tf.Tensor],
        *,
        labels: Sequence[str],
        shape: tuple[int, ...],
        invert: bool,
    ) -> None:
        self._labels = list(labels)
        self._invert = invert
        self._shape = shape
        self._image = tf.TensorSpec([None, *shape], tf.uint8, name="image")
        self._strings = tf.TensorSpec([None], tf.string, name="image_bytes")
        self._network = _function(probabilities, self._image)
        self._decode_all = _function(self._decode, self._strings)

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The three signatures, traced."""
        functions = {
            DEFAULT_SIGNATURE: _function(self._answer, self._image),
            BYTES_SIGNATURE: _function(self._answer_bytes, self._strings),
            CLASSIFY_SIGNATURE: _function(
                self._classify, tf.TensorSpec([None], tf.string, name="inputs")
            ),
        }
        return {name: f.get_concrete_function() for name, f in functions.items()}

    def _classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        examples = tf.io.parse_example(
            self._bounded(tf.ensure_shape(inputs, [None])),
            {IMAGE_FEATURE: tf.io.FixedLenFeature([], tf.string)},
        )
        answer = self._answer(self._decode_all(examples[IMAGE_FEATURE]))
        scores, order = tf.math.top_k(answer["probabilities"], k=len(self._labels))
        return {"classes": tf.gather(tf.constant(self._labels), order), "scores": scores}

    def _answer_bytes(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._answer(self._decode_all(tf.ensure_shape(image_bytes, [None])))

    def _answer(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        image = self._bounded(tf.ensure_shape(image, [None, *self._shape]))
        count = tf.shape(image)[0]
        # On some processors, oneDNN's fused convolution gives an empty batch a wrong shape, at
        # which the next one fails. So the network is given at least one row.
        missing = tf.cast(tf.equal(count, 0), tf.int32)
        filled = tf.pad(image, [[0, missing], *[[0, 0]] * len(self._shape)])
        probabilities = tf.ensure_shape(
            tf.cast(self._network(filled), tf.float32)[:count], [None, len(self._labels)]
        )
        class_id = tf.argmax(probabilities, axis=1, output_type=tf.int64)
        return {
            "probabilities": probabilities,
            "class_id": class_id,
            "label": tf.gather(tf.constant(self._labels), class_id),
        }

    def _decode(self, encoded: tf.Tensor) -> tf.Tensor:
        channels = 1 if len(self._shape) == 2 else self._shape[2]
        encoded = self._bounded(tf.ensure_shape(encoded, [None]))

        def step(
            index: tf.Tensor, cost: tf.Tensor, images: tf.TensorArray
        ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
            one = encoded[index]
            declared = declared_cost(one)
            image = decode(
                one,
                size=self._shape[:2],
                channels=channels,
                invert=self._invert,
                checks=refusals(one, declared, before=cost),
            )
            # More than the limit is refused: the sum cannot overflow.
            spent = cost + tf.minimum(declared[2], MAX_REQUEST_PIXELS)
            return index + 1, spent, images.write(index, image)

        count = tf.shape(encoded)[0]
        images = tf.TensorArray(tf.uint8, size=count, element_shape=self._shape)
        _, _, images = tf.while_loop(
            lambda index, _cost, _images: index < count,
            step,
            (tf.constant(0), tf.constant(0, tf.int64), images),
            parallel_iterations=_DECODE_PARALLEL,
        )
        return images.stack()

    def _bounded(self, rows: tf.Tensor) -> tf.Tensor:
        """The rows of a request, which are not too many."""
        most = max_rows(self._shape)
        count = tf.shape(rows)[0]
        said = [f"a request of more than {most} images:", count]
        with tf.control_dependencies([tf.debugging.Assert(count <= most, said)]):
            return tf.identity(rows)


def _function(run: Callable[[tf.Tensor], Any], spec: tf.TensorSpec) -> Any:
    return tf.function(run, input_signature=[spec], autograph=False)
