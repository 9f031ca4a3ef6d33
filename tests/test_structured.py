"""Compressed with a pattern, the written file has it in every group; only the file is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from small_networks import classifier, draw, images, network, perceptron, saved

from onnx_unipts import api
from onnx_unipts.graph.errors import UnsupportedModelError, UsageError

pytestmark = pytest.mark.usefixtures("quick_simplification")

QUICK: dict[str, Any] = {
    "training.adaptation": 0,
    "training.epochs": 2,
    "training.batch_size": 16,
    "allocation.method": "lamp",
    "allocation.search.population": 4,
    "allocation.search.generations": 2,
    "allocation.search.parents": 2,
    "allocation.search.samples": 32,
}

VARIED = """net (float[N,3,8,8] x) => (float[N,6] y) {
    c1 = Conv <pads = [1,1,1,1]> (x, w1)
    r1 = Relu (c1)
    c2 = Conv <pads = [1,1,1,1], group = 2> (r1, w2)
    r2 = Relu (c2)
    c3 = ConvTranspose <group = 2, strides = [2,2]> (r2, w3)
    r3 = Relu (c3)
    c4 = Conv <group = 16> (r3, w4)
    p = GlobalAveragePool (c4)
    f = Flatten (p)
    g = Gemm (f, w5)
    r5 = Relu (g)
    y = Gemm <transB = 1> (r5, w6)
}"""
# Groups of 3, 10, 6 and 1 channels: most are no multiple of 4.
SHAPES = {
    "w1": (20, 3, 3, 3),
    "w2": (12, 10, 3, 3),
    "w3": (12, 8, 2, 2),
    "w4": (16, 1, 3, 3),
    "w5": (16, 9),
    "w6": (6, 9),
}


def varied() -> onnx.ModelProto:
    return network(VARIED, draw(0, **SHAPES))


def compress(
    model: onnx.ModelProto,
    directory: Path,
    pattern: str,
    sparsity: float | None = None,
    data: Any = None,
    **chosen: Any,
) -> api.Result:
    settings = QUICK | {"pattern": pattern} | {k.replace("__", "."): v for k, v in chosen.items()}
    path = saved(model, directory)
    data = {"x": images()} if data is None else data
    return api.compress(
        path, sparsity=sparsity, data=data, settings=settings, jobs=2, format="dense"
    )


def initializers(path: Path | None) -> dict[str, np.ndarray]:
    assert path is not None
    return {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def reduced_rows(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the weights of `VARIED` as rows of what one output sums over at one position."""
    return {
        "w1": tensors["w1"].transpose(0, 2, 3, 1).reshape(-1, 3),
        "w2": tensors["w2"].transpose(0, 2, 3, 1).reshape(-1, 10),
        "w3": tensors["w3"].reshape(2, 6, 8, 2, 2).transpose(0, 2, 3, 4, 1).reshape(-1, 6),
        "w5": tensors["w5"].T,
        "w6": tensors["w6"],
    }


@pytest.mark.parametrize(("pattern", "n", "m"), [("2:4", 2, 4), ("1:4", 1, 4), ("4:8", 4, 8)])
def test_no_group_of_m_keeps_more_than_n(pattern: str, n: int, m: int, tmp_path: Path):
    result = compress(varied(), tmp_path, pattern)
    tensors = initializers(result.output)
    zeros = 0
    for name, rows in reduced_rows(tensors).items():
        if rows.shape[1] <= n:  # nothing to prune
            assert rows.all(), name
            continue
        for start in range(0, rows.shape[1], m):
            group = rows[:, start : start + m]
            kept = np.count_nonzero(group, axis=1)
            assert (kept == min(n, group.shape[1])).all(), (name, start)
            zeros += group.size - int(kept.sum())
    assert tensors["w4"].all()  # depthwise: sums over one channel
    assert result.report["sparsity"]["zeros"] == zeros
    assert result.report["sparsity"]["target"] == 1 - n / m


def channel_matrices(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the weights of `VARIED` as (out, in, positions)."""
    matrices = {name: tensors[name].reshape(*shape[:2], -1) for name, shape in SHAPES.items()}
    for name in ("w3", "w5"):  # input channels come first
        matrices[name] = matrices[name].swapaxes(0, 1)
    return matrices


@pytest.mark.parametrize(("pattern", "rows", "columns"), [("4x1", 4, 1), ("1x4", 1, 4)])
@pytest.mark.parametrize("method", ["lamp", "evolutionary"])
def test_blocks_are_kept_or_removed_as_a_whole(
    method: str, pattern: str, rows: int, columns: int, tmp_path: Path
):
    result = compress(varied(), tmp_path, pattern, 0.7, allocation__method=method)
    zeros = total = 0
    for name, matrix in channel_matrices(initializers(result.output)).items():
        total += matrix.size
        zeros += int((matrix == 0).sum())
        for out in range(0, matrix.shape[0], rows):
            for inp in range(0, matrix.shape[1], columns):
                block = matrix[out : out + rows, inp : inp + columns]
                kept = np.count_nonzero(block, axis=(0, 1))
                assert set(kept) <= {0, block[..., 0].size}, (name, out, inp)
    assert 0 <= zeros - int(0.7 * total) < rows * columns
    assert zeros == result.report["sparsity"]["zeros"]


def test_two_of_four_along_the_rows_of_a_matrix_product(tmp_path: Path):
    x = np.random.default_rng(0).standard_normal((48, 10)).astype(np.float32)
    result = compress(perceptron(), tmp_path, "2:4", data={"x": x})
    tensors = initializers(result.output)
    assert (np.count_nonzero(tensors["w1"][:8].reshape(2, 4, 16), axis=1) == 2).all()
    assert tensors["w1"][8:].all()
    assert (np.count_nonzero(tensors["w2"].reshape(4, 4, 4), axis=1) == 2).all()


def test_without_training_the_pattern_is_there_as_well(tmp_path: Path):
    result = compress(classifier(), tmp_path, "2:4", 0.5, training__epochs=0)
    filters = initializers(result.output)["w2"]
    assert (np.count_nonzero(filters.reshape(8, 2, 4, 3, 3), axis=2) == 2).all()


def test_half_precision_keeps_its_pattern(tmp_path: Path):
    model = classifier()
    for tensor in model.graph.initializer:
        half = onnx.numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    data = {"x": images().astype(np.float16)}
    result = compress(model, tmp_path, "2:4", data=data)
    filters = initializers(result.output)["w2"]
    assert (np.count_nonzero(filters.reshape(8, 2, 4, 3, 3), axis=2) == 2).all()


def test_a_compressed_model_compressed_again_keeps_its_pattern(tmp_path: Path):
    first = compress(classifier(), tmp_path, "1:4")
    assert first.output is not None
    (tmp_path / "second").mkdir()
    again = compress(onnx.load(first.output), tmp_path / "second", "2:4")
    filters = initializers(again.output)["w2"]
    assert (np.count_nonzero(filters.reshape(8, 2, 4, 3, 3), axis=2) <= 2).all()


def test_a_sparsity_that_does_not_fit_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match=r"sparsity 0.9 does not fit the pattern 2:4"):
        compress(classifier(), tmp_path, "2:4", 0.9)


def test_a_model_without_long_enough_reductions_is_refused_with_the_reason(tmp_path: Path):
    model = network(
        "net (float[N,3,8,8] x) => (float[N,8,6,6] y) { y = Conv (x, w) }", draw(0, w=(8, 3, 3, 3))
    )
    with pytest.raises(UnsupportedModelError, match=r"sums over 3: nothing to prune .* 4:8"):
        compress(model, tmp_path, "4:8")
