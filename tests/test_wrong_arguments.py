"""What Python allows to pass, and no command line does, is refused in one clear line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

import onnx_unipts
from onnx_unipts.graph.errors import UsageError

MODEL = Path(__file__).parents[1] / "examples" / "digits" / "digits.onnx"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: onnx_unipts.compress(onnx.load(MODEL), sparsity=0.5),  # type: ignore[arg-type]
            "the model is a ModelProto; allowed: the path of an ONNX file",
        ),
        (lambda: onnx_unipts.inspect(None), "the model is a NoneType"),  # type: ignore[arg-type]
        (lambda: onnx_unipts.compress(MODEL, settings="a=b"), "settings are 'a=b'"),  # type: ignore[arg-type]
        (lambda: onnx_unipts.compress(MODEL, recipe={}), "the recipe is a dict; allowed: a name"),  # type: ignore[arg-type]
        (lambda: onnx_unipts.compress(MODEL, jobs=0), "jobs is 0; allowed: an integer"),
        (lambda: onnx_unipts.compress(MODEL, jobs="2"), "jobs is '2'"),  # type: ignore[arg-type]
        (lambda: onnx_unipts.compress(MODEL, jobs=10**6), "jobs is 1000000; allowed: 1 to "),
        (lambda: onnx_unipts.evaluate(MODEL, MODEL, jobs=10**6), "; cores here: "),
        (lambda: onnx_unipts.compress_to(MODEL, 0.01), "target is 0.01; allowed: text"),  # type: ignore[arg-type]
        (lambda: onnx_unipts.benchmark(MODEL, MODEL, threads=-1), "threads is -1"),
        (lambda: onnx_unipts.benchmark(MODEL, MODEL, threads=10**6), "threads is 1000000; allowed"),
        (lambda: onnx_unipts.benchmark(MODEL, MODEL, batch_size=0), "batch_size is 0"),
        (lambda: onnx_unipts.benchmark(MODEL, MODEL, seconds=0), "seconds is 0; allowed: a number"),
        (lambda: onnx_unipts.inspect(MODEL, exclude="conv"), "exclude is 'conv'; allowed: a list"),
        (
            lambda: onnx_unipts.evaluate(MODEL, MODEL, preprocessing="imagnet"),
            "unknown preprocessing preset 'imagnet'",
        ),
        (lambda: onnx_unipts.Preprocessing(scale=0.0), "scale is 0.0; allowed: a number above 0"),
        (lambda: onnx_unipts.Preprocessing(resize=(32, 32)), "resize is (32, 32); allowed"),  # type: ignore[arg-type]
        (lambda: onnx_unipts.pack(onnx.load(MODEL)), "the model is a ModelProto"),  # type: ignore[arg-type]
        (lambda: onnx_unipts.compress(MODEL, output=5), "output is 5; allowed: a path"),  # type: ignore[arg-type]
        (lambda: onnx_unipts.search(MODEL, run_dir=[]), "run_dir is []; allowed: a path"),  # type: ignore[arg-type]
        (lambda: onnx_unipts.finetune(MODEL, allocation=1), "allocation is 1; allowed: a path"),  # type: ignore[arg-type]
        (lambda: onnx_unipts.unpack(MODEL, 1), "output is 1; allowed: a path"),  # type: ignore[arg-type]
        (lambda: onnx_unipts.sweep(MODEL, [0.5], report=1), "report is 1; allowed: a path"),  # type: ignore[arg-type]
        (lambda: onnx_unipts.sweep(MODEL, [0.5], save_recipe=1), "save_recipe is 1; allowed: a"),
        (lambda: onnx_unipts.compress(MODEL, on_epoch=5), "on_epoch is 5; allowed: a function"),  # type: ignore[arg-type]
        (lambda: onnx_unipts.compress(MODEL, format=True), "format is True; allowed: text"),  # type: ignore[arg-type]
        (lambda: onnx_unipts.compress(MODEL, input_shapes={"x": "1,3"}), "input_shapes is {'x'"),  # type: ignore[dict-item]
        (lambda: onnx_unipts.evaluate(MODEL, MODEL, num_samples=1.5), "num_samples is 1.5"),  # type: ignore[arg-type]
        (lambda: onnx_unipts.evaluate(MODEL, MODEL, seed=-1), "seed is -1; allowed: an integer"),
        (lambda: onnx_unipts.sweep(MODEL, 0.5), "a sweep needs shares"),  # type: ignore[arg-type]
        (lambda: onnx_unipts.sweep(MODEL, ["a"]), "a sweep needs shares"),  # type: ignore[list-item]
        (lambda: onnx_unipts.compress(MODEL, settings={1: 2}), "unknown key 1"),  # type: ignore[dict-item]
        (
            lambda: onnx_unipts.evaluate(MODEL, MODEL, preprocessing=1),  # type: ignore[arg-type]
            "preprocessing is a int; allowed: a Preprocessing, or a preset",
        ),
    ],
)
def test_what_is_of_the_wrong_kind_is_refused(call: Callable[[], Any], message: str):
    with pytest.raises(UsageError) as error:
        call()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_run_to_inherit_from_has_to_be_there(tmp_path: Path):
    with pytest.raises(UsageError, match=r"none\.run holds no run"):
        onnx_unipts.compress(
            MODEL, sparsity=0.5, output=tmp_path / "x.onnx", prepared_by=tmp_path / "none.run"
        )
