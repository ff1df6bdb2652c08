"""The client against a real server of the shipped model, over gRPC and REST."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from tests.conftest import NAME, serving
from tests.functional.client.conftest import as_file

import servable_client as sdk
from servable_client import Client

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import RunningServer

    from servable_trainer.data.dataset import Dataset


def test_images_of_the_test_set_are_classified(client: Any, dataset: Dataset) -> None:
    images, targets = dataset.test.images[:200], dataset.test.targets[:200]
    right = 0
    for image, target in zip(images, targets, strict=True):
        answer = client.classify(image)
        assert answer.label == dataset.labels[answer.class_id]
        assert answer.probability == answer.probabilities.max()
        assert answer.probabilities.shape == (10,)
        assert answer.probabilities.dtype == np.float32
        assert answer.probabilities.sum() == pytest.approx(1, abs=1e-5)
        right += answer.class_id == target
    assert right >= 170


def test_every_form_of_an_image_gets_the_same_answer(
    client: Any, dataset: Dataset, tmp_path: Path
) -> None:
    picture = dataset.test.images[0]
    data = as_file(picture)
    path = tmp_path / "boot.png"
    path.write_bytes(data)
    expected = client.classify(picture)
    assert expected.label == "Ankle boot"
    with path.open("rb") as file:
        forms = [
            picture[..., np.newaxis], path, str(path), data, file, Image.fromarray(picture),
            Image.fromarray(picture).convert("RGB"), Image.fromarray(picture).convert("P"),
            as_file(picture, "BMP"), as_file(picture, "TIFF"), io.BytesIO(data),
        ]  # fmt: skip
        for form in forms:
            answer = client.classify(form)
            assert answer.label == expected.label
            np.testing.assert_allclose(answer.probabilities, expected.probabilities, atol=1e-4)


def test_both_transports_give_the_same_answer(server: RunningServer, dataset: Dataset) -> None:
    with Client(server.grpc, model=NAME) as one, Client(server.http, model=NAME) as other:
        for image in dataset.test.images[:20]:
            a, b = one.classify(image), other.classify(image)
            assert (a.label, a.class_id) == (b.label, b.class_id)
            np.testing.assert_allclose(a.probabilities, b.probabilities, atol=1e-6)
        assert one.status() == other.status()
        assert one.metadata() == other.metadata()


def test_the_answer_names_its_version(server: RunningServer, dataset: Dataset) -> None:
    image = dataset.test.images[0]
    for address in (server.grpc, server.http):
        for version in (None, 1):
            with Client(address, model=NAME, version=version) as client:
                assert client.classify(image).version == 1


def test_status_and_metadata(client: Any) -> None:
    assert client.status() == [sdk.VersionStatus(version=1, state="AVAILABLE")]
    signatures = client.metadata()
    assert set(signatures) == {"serving_default", "serving_bytes", "classify"}
    assert signatures["serving_default"].inputs == {
        "image": sdk.TensorSpec(dtype="DT_UINT8", shape=(-1, 28, 28))
    }
    assert signatures["serving_default"].outputs == {
        "probabilities": sdk.TensorSpec(dtype="DT_FLOAT", shape=(-1, 10)),
        "class_id": sdk.TensorSpec(dtype="DT_INT64", shape=(-1,)),
        "label": sdk.TensorSpec(dtype="DT_STRING", shape=(-1,)),
    }
    assert signatures["classify"].method == "tensorflow/serving/classify"
    assert client.wait_until_available(1) == 1


def test_predict_takes_a_batch(client: Any, dataset: Dataset) -> None:
    answer = client.predict({"image": dataset.test.images[:7]})
    assert answer.outputs["probabilities"].shape == (7, 10)
    assert answer.outputs["class_id"].dtype == np.int64
    assert answer.outputs["label"].dtype == object
    assert answer.outputs["label"][0] == b"Ankle boot"


def test_a_bitmap_of_one_bit_per_pixel(client: Any) -> None:
    data = io.BytesIO()
    Image.new("1", (40, 40)).save(data, "BMP")
    assert client.classify(data.getvalue()).probability > 0


def test_a_truncated_image_is_damaged(client: Any, dataset: Dataset) -> None:
    data = as_file(np.tile(dataset.test.images[0], (4, 4)))
    with pytest.raises(sdk.InvalidInput, match="damaged"):
        client.classify(data[: len(data) // 2])


def test_a_wrong_size_is_refused_and_the_server_stays_up(client: Any, dataset: Dataset) -> None:
    for size in (27, 29):
        with pytest.raises(sdk.InvalidInput, match=rf"\[28, 28\].*\[{size}, 28\]") as caught:
            client.classify(np.zeros([size, 28], np.uint8))
        assert caught.value.hint
        with pytest.raises(sdk.InvalidInput) as caught:
            client.predict({"image": np.zeros([1, size, 28], np.uint8)})
        assert caught.value.code == "INVALID_ARGUMENT"
        assert caught.value.model == NAME
        assert caught.value.endpoint == client.endpoint
    assert client.classify(dataset.test.images[0]).label == "Ankle boot"


@pytest.mark.parametrize("array", [np.zeros([1, 28, 28], np.float32), np.full([1, 28, 28], 256)])
def test_another_dtype_is_refused_over_both(client: Any, array: np.ndarray) -> None:
    # Over REST TensorFlow Serving would silently read 256 as 0.
    with pytest.raises(sdk.InvalidInput) as caught:
        client.predict({"image": array})
    assert caught.value.code == "INVALID_ARGUMENT"


def test_another_name_is_refused_over_both(client: Any, dataset: Dataset) -> None:
    with pytest.raises(sdk.InvalidInput):
        client.predict({"img": dataset.test.images[:1]})


def test_a_model_that_is_not_a_classifier_is_for_predict(tmp_path: Path, dataset: Dataset) -> None:
    import tensorflow as tf

    class Mean(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 28, 28], tf.uint8, name="image")])
        def mean(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"mean": tf.reduce_mean(tf.cast(image, tf.float32), axis=[1, 2])}

    module = Mean()
    tf.saved_model.save(module, str(tmp_path / NAME / "1"), {"serving_default": module.mean})
    picture = dataset.test.images[0]
    with serving(tmp_path / NAME, tmp_path / "log") as server:
        for address in (server.grpc, server.http):
            with Client(address, model=NAME) as client:
                with pytest.raises(sdk.ServerFailed, match=r"returned \['mean'\]"):
                    client.classify(picture)
                answer = client.predict({"image": picture[np.newaxis]})
                assert answer.outputs["mean"] == pytest.approx([picture.mean()])
                assert set(client.metadata()) == {"serving_default"}


def test_a_large_image_is_resized_before_it_is_sent(client: Any) -> None:
    noise = np.random.default_rng(0).integers(0, 256, [2500, 3000, 3], np.uint8)
    # Decoding may take longer than the default timeout on a slow machine.
    assert client.classify(Image.fromarray(noise), timeout=60).probability > 0


def test_waiting_for_a_missing_version_ends_at_the_timeout(client: Any) -> None:
    with pytest.raises(sdk.DeadlineExceeded, match="was not available"):
        client.wait_until_available(7, timeout=0.2)
