"""A detector: squares and discs found in noise, two outputs and no classes to agree on.

The network gives, for every cell of a grid of 4 by 4, the probability that the centre of a square
and of a disc lies there, and the size of what does (as CenterNet, arXiv 1904.07850). Writes, into
the directory given as its argument, ``detector.onnx``, ``calibration.npz`` (unlabelled) and what
compress writes, and prints how many objects dense and sparse model find.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir

sys.path.insert(0, str(Path(__file__).parents[1]))

from training import Network, fit

import onnx_unipts
from onnx_unipts.graph.model import save_model
from onnx_unipts.graph.parameters import bind
from onnx_unipts.targets import Target
from onnx_unipts.training.ort import file_session

SIDE, GRID = 32, 4
CELL = SIDE // GRID
HEAT = Target("heat", "heat_scores", "probability", closing="Sigmoid")
SIZE = Target("size", "size", "values", weight=0.2)


def main(directory: Path) -> None:
    """Make data and model, compress the model, and print what both find."""
    directory.mkdir(parents=True, exist_ok=True)
    images, heat, size = make_images(1536, seed=0)
    np.savez_compressed(directory / "calibration.npz", image=images)
    save_model(train(images, heat, size), directory / "detector.onnx")
    result = onnx_unipts.compress(
        directory / "detector.onnx",
        sparsity=0.8,
        data=directory / "calibration.npz",
        settings={"training.epochs": 6, "training.augment": False},
    )
    test_images, test_heat, _ = make_images(400, seed=1)
    for path in (directory / "detector.onnx", result.output):
        found, missed, wrong = score(path, test_images, test_heat)
        share = 2 * found / (2 * found + missed + wrong)
        print(f"{path}: {found} found, {missed} missed, {wrong} wrong, F1 {share:.3f}")
    print(f"page: {result.page}")


def make_images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return images (count, 1, 32, 32), heat (count, 2, 4, 4) of 0 and 1, size (count, 1, 4, 4)."""
    rng = np.random.default_rng(seed)
    images = 0.1 * rng.standard_normal((count, 1, SIDE, SIDE))
    heat, size = np.zeros((count, 2, GRID, GRID)), np.zeros((count, 1, GRID, GRID))
    row, column = np.mgrid[:SIDE, :SIDE]
    for image, target, extent in zip(images[:, 0], heat, size[:, 0], strict=True):
        for _ in range(rng.integers(1, 4)):
            y, x, radius, kind = *rng.uniform(4, 28, 2), rng.uniform(3, 6), rng.integers(2)
            far = np.abs(row - y), np.abs(column - x)
            inside = np.maximum(*far) < radius if kind == 0 else np.hypot(*far) < radius
            image[inside] += rng.uniform(0.7, 1.3)
            cell = int(y // CELL), int(x // CELL)
            target[(kind, *cell)] = 1.0
            extent[cell] = radius / CELL
    return (array.astype(np.float32) for array in (images, heat, size))  # type: ignore[return-value]


def train(images: np.ndarray, heat: np.ndarray, size: np.ndarray) -> ir.Model:
    """Return a trained network of five convolutions and two heads."""
    network = Network("detector", "image", ["N", 1, SIDE, SIDE])
    value, channels = network.entry, 1
    for number, (width, stride) in enumerate([(16, 1), (32, 2), (48, 2), (64, 2), (64, 1)]):
        value = network.layer(
            "Conv", value, f"conv{number}", (width, channels, 3, 3),
            kernel_shape=[3, 3], strides=[stride] * 2, pads=[1] * 4,
        )  # fmt: skip
        value, channels = network.add("Relu", value), width
    scores = network.layer("Conv", value, "heat_head", (2, channels, 1, 1), kernel_shape=[1, 1])
    scores.name = HEAT.value
    sizes = network.layer("Conv", value, "size_head", (1, channels, 1, 1), kernel_shape=[1, 1])
    shape = [GRID, GRID]
    outputs = {
        "heat": (network.add("Sigmoid", scores, "heat"), ["N", 2, *shape]),
        "size": (sizes, ["N", 1, *shape]),
    }
    model = network.model(outputs)
    tensors = fit(
        model, network.shapes, [HEAT, SIZE], "image", images,
        lambda picked: {HEAT.value: 20 * heat[picked] - 10, SIZE.value: size[picked]},
        epochs=25, rate=0.1,
    )  # fmt: skip
    return bind(model, tensors)


def score(path: Path, images: np.ndarray, heat: np.ndarray) -> tuple[int, int, int]:
    """Return how many objects are found, missed and wrongly seen: a cell off is still found."""
    (seen,) = file_session(path).run(["heat"], {"image": images})
    peaks = (seen > 0.4) & (seen == spread(seen))
    true = heat > 0.5
    found = int((true & (spread(peaks) > 0)).sum())
    return found, int(true.sum()) - found, int((peaks & ~(spread(true) > 0)).sum())


def spread(maps: np.ndarray) -> np.ndarray:
    """Return the largest value of each cell and its eight neighbours."""
    padded = np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)))
    shifted = [padded[:, :, y : y + GRID, x : x + GRID] for y in range(3) for x in range(3)]
    return np.max(shifted, axis=0)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("detector-example"))
