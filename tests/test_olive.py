"""The pass for Microsoft Olive, in a real workflow of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

os.environ["OLIVE_DISABLE_TELEMETRY"] = "1"
pytest.importorskip("olive", reason="olive-ai is not installed")

import olive

from onnx_unipts.olive_pass import package_config

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits"
QUICK = {"training.epochs": 1, "training.adaptation": 0, "allocation.method": "lamp"}


OLIVE_DATA = {
    "name": "dummies",
    "type": "DummyDataContainer",
    "load_dataset_config": {
        "input_names": ["image"],
        "input_shapes": [[1, 1, 8, 8]],
        "input_types": ["float32"],
        "max_samples": 64,
    },
}


@pytest.mark.parametrize(
    "data", [{"data": str(EXAMPLE / "calibration.npz")}, {"data_config": OLIVE_DATA}]
)
def test_a_workflow_makes_the_model_sparse(tmp_path: Path, data: dict[str, Any]):
    workflow = {
        "input_model": {"type": "ONNXModel", "model_path": str(EXAMPLE / "digits.onnx")},
        "passes": {
            "sparse": {
                "type": "OnnxUniPTS",
                "sparsity": 0.9,
                **data,
                "settings": QUICK,
            }
        },
        "output_dir": str(tmp_path / "out"),
        "cache_dir": str(tmp_path / "cache"),
    }
    olive.run(workflow, package_config=package_config())
    (written,) = (tmp_path / "out").rglob("*.onnx")
    weights = [numpy_helper.to_array(t) for t in onnx.load(written).graph.initializer]
    assert sum(int((weight == 0).sum()) for weight in weights) >= np.floor(33_424 * 0.9)
    (report,) = (tmp_path / "out").rglob("report.json")
    assert json.loads(report.read_text("utf-8"))["sparsity"]["zeros"] == 30_081
    assert len(list((tmp_path / "out").rglob("report.html"))) == 1


def test_olive_keeps_its_own_passes():
    passes = package_config()["passes"]
    assert {"OnnxUniPTS", "OnnxFloatToFloat16"} <= set(passes)
