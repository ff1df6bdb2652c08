"""Names and constants that several sub-packages must agree on."""

from __future__ import annotations

from pathlib import Path

# Labels that releases move.
STABLE, CANARY = "stable", "canary"

# The signature of requests that name none.
DEFAULT_SIGNATURE = "serving_default"
# Signatures of the model contract, see the README.
BYTES_SIGNATURE = "serving_bytes"
CLASSIFY_SIGNATURE = "classify"
# The input of `serving_bytes`.
IMAGE_BYTES = "image_bytes"
# Feature of the tf.Example that `classify` reads; the name is TensorFlow's own convention.
IMAGE_FEATURE = "image/encoded"

# Method names of a SignatureDef (tensorflow/python/saved_model/signature_constants.py).
PREDICT_METHOD = "tensorflow/serving/predict"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"

# Limits of an image file that a graph decodes: pixels of a side, and bytes.
MAX_SIDE = 4096
MAX_BYTES = 10 << 20
# What all image files of a request may cost together: as much as sixteen of the largest.
MAX_REQUEST_PIXELS = 16 * MAX_SIDE * MAX_SIDE
# Rows of a request's tensor: at most so many, and so many values in them. Without AVX-512, and so
# without oneDNN, TensorFlow takes 0.45 MiB for each row of the shipped model, in all 4 GiB at most.
MAX_ROWS, MAX_ROW_VALUES = 2048, 1 << 26
# Scans of a JPEG, each of which costs as much as a decoding; encoders write ten or so.
MAX_SCANS = 64
# A GIF is walked block by block before it is decoded: bytes, and blocks of up to 255 of them.
MAX_GIF_BYTES, MAX_GIF_BLOCKS = 2 << 20, 1 << 15

# What models.config is made of, where it does not exist yet: it is live, so it is not under version
# control.
TEMPLATE = "models.config.template"

# Warm-up records within a version folder.
WARMUP = Path("assets.extra/tf_serving_warmup_requests")

# Mount point of the model repository in a container; base paths in models.config begin with it.
CONTAINER_ROOT = Path("/models")

# A version in the shadow is served as a model of its own: under the model's name it would be the
# highest, and get the requests that name none.
_SHADOW = ".shadow"


def shadow_name(model: str) -> str:
    """The model's name by which a version is asked that no client may get."""
    return f"{model}{_SHADOW}"


def is_shadow(model: str) -> bool:
    """Whether a model's name is one of `shadow_name`."""
    return model.endswith(_SHADOW)
