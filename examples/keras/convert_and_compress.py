"""From Keras: a network trained on handwritten digits, converted by tf2onnx, and compressed.

Needs ``tensorflow``, ``tf2onnx`` and ``scikit-learn``; these may stand in an environment of their
own. Writes ``digits.onnx``, ``calibration.npz`` and ``test.npz`` into the directory given as its
argument, and compresses the model where onnx-unipts can be imported; else it prints the command.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf2onnx
from sklearn.datasets import load_digits


def main(directory: Path) -> None:
    """Train, convert, and compress or say how."""
    directory.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = (digits.images[order, ..., None] / 16).astype(np.float32)  # NHWC, as in Keras
    labels = digits.target[order].astype(np.int64)
    np.savez_compressed(directory / "calibration.npz", image=images[500:])
    np.savez_compressed(directory / "test.npz", image=images[:500], labels=labels[:500])
    model = train(images[500:], labels[500:])
    signature = [tf.TensorSpec((None, 8, 8, 1), tf.float32, name="image")]
    tf2onnx.convert.from_function(
        tf.function(lambda image: model(image), input_signature=signature),
        input_signature=signature,
        opset=17,
        output_path=str(directory / "digits.onnx"),
    )
    if importlib.util.find_spec("onnx_unipts") is None:
        print(
            f"onnx-unipts compress {directory}/digits.onnx --sparsity 0.9 "
            f"--data {directory}/calibration.npz --eval-data {directory}/test.npz"
        )
        return
    import onnx_unipts

    result = onnx_unipts.compress(
        directory / "digits.onnx",
        sparsity=0.9,
        data=directory / "calibration.npz",
        eval_data=directory / "test.npz",
        settings={"training.epochs": 5},
    )
    accuracy = result.report["accuracy"]
    for stage in ("dense", "before_recovery", "after_recovery"):
        print(f"{stage}: accuracy {accuracy[stage]:.3f}")


def train(images: np.ndarray, labels: np.ndarray) -> tf.keras.Model:
    """Return a trained network that ends in a Softmax."""
    tf.keras.utils.set_random_seed(0)
    model = tf.keras.Sequential(
        [
            tf.keras.Input((8, 8, 1)),
            tf.keras.layers.Conv2D(32, 3, padding="same", use_bias=False),
            tf.keras.layers.BatchNormalization(),
            tf.keras.layers.ReLU(),
            tf.keras.layers.Conv2D(64, 3, padding="same", strides=2, activation="relu"),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images, labels, batch_size=64, epochs=10, verbose=0)
    return model


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("keras-example"))
