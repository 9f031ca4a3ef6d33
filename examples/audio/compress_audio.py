"""An audio model: a network on raw waveforms, trained on made-up sounds, then compressed.

The sounds are six kinds of a quarter of a second at 8 kHz, in noise: tones, squares, rising and
falling chirps, clicks, and noise alone. Writes, into the directory given as its argument,
``audio.onnx``, ``calibration.npz`` (unlabelled), ``test.npz`` (with labels), and what compress
writes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from training import Network, fit

import onnx_unipts
from onnx_unipts.graph.model import save_model
from onnx_unipts.graph.parameters import bind
from onnx_unipts.targets import Target

RATE = 8000
LENGTH = 2000
KINDS = ("tone", "square", "rising chirp", "falling chirp", "clicks", "noise")
SCORES = Target("scores", "scores", "classes", axis=1)


def main(directory: Path) -> None:
    """Make data and model, compress the model, and print the accuracies."""
    directory.mkdir(parents=True, exist_ok=True)
    sounds, labels = make_sounds(1024, seed=0)
    test_sounds, test_labels = make_sounds(512, seed=1)
    np.savez_compressed(directory / "calibration.npz", sound=sounds)
    np.savez_compressed(directory / "test.npz", sound=test_sounds, labels=test_labels)
    save_model(train(sounds, labels), directory / "audio.onnx")
    result = onnx_unipts.compress(
        directory / "audio.onnx",
        sparsity=0.8,
        data=directory / "calibration.npz",
        eval_data=directory / "test.npz",
        settings={"training.epochs": 4, "training.adaptation": 50},
    )
    accuracy = result.report["accuracy"]
    for stage in ("dense", "before_recovery", "after_recovery"):
        print(f"{stage}: accuracy {accuracy[stage]:.3f}")
    print(f"page: {result.page}")


def make_sounds(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sounds, float32 (count, 1, 2000), and their kinds, int64 (count,)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(KINDS), size=count)
    sounds = np.stack([one_sound(KINDS[label], rng) for label in labels])[:, None]
    return sounds.astype(np.float32), labels.astype(np.int64)


def one_sound(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Return one sound of a random pitch, loudness and phase, in noise."""
    time = np.arange(LENGTH) / RATE
    low, high = rng.uniform(200, 500), rng.uniform(900, 1800)
    phase = rng.uniform(0, 2 * np.pi)
    duration = LENGTH / RATE
    if kind == "tone":
        wave = np.sin(2 * np.pi * rng.uniform(200, 1800) * time + phase)
    elif kind == "square":
        wave = np.sign(np.sin(2 * np.pi * low * time + phase))
    elif kind == "rising chirp":
        wave = np.sin(2 * np.pi * (low * time + (high - low) * time**2 / (2 * duration)) + phase)
    elif kind == "falling chirp":
        wave = np.sin(2 * np.pi * (high * time + (low - high) * time**2 / (2 * duration)) + phase)
    elif kind == "clicks":
        wave = (np.arange(LENGTH) % rng.integers(80, 300) < 3) * 3.0
    else:
        wave = rng.standard_normal(LENGTH)
    return rng.uniform(0.3, 1.0) * wave + 0.15 * rng.standard_normal(LENGTH)


def train(sounds: np.ndarray, labels: np.ndarray):
    """Return a trained network of four convolutions."""
    network = Network("audio", "sound", ["N", 1, LENGTH])
    value, channels = network.entry, 1
    for number, (width, kernel, stride) in enumerate(
        [(16, 33, 4), (32, 9, 4), (48, 9, 4), (64, 5, 2)]
    ):
        value = network.layer(
            "Conv", value, f"conv{number}", (width, channels, kernel),
            kernel_shape=[kernel], strides=[stride], pads=[kernel // 2] * 2,
        )  # fmt: skip
        value, channels = network.add("Relu", value), width
    value = network.add("Flatten", network.add("GlobalMaxPool", value))
    scores = network.layer("Gemm", value, "classifier", (len(KINDS), channels), transB=1)
    model = network.model({"scores": (scores, ["N", len(KINDS)])})
    certain = 30 * np.eye(len(KINDS), dtype=np.float32)
    tensors = fit(
        model, network.shapes, [SCORES], "sound", sounds,
        lambda picked: {"scores": certain[labels[picked]]}, epochs=8, rate=0.02,
    )  # fmt: skip
    return bind(model, tensors)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("audio-example"))
