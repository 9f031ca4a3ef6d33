"""A pass for Microsoft Olive: ``OnnxUniPTS`` makes the ONNX model of a workflow sparse.

Needs ``olive-ai`` (``pip install 'onnx-unipts[olive]'``). ``python -m onnx_unipts.olive_pass``
prints what ``olive run --package-config`` takes.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from olive.data.config import DataConfig
from olive.hardware import AcceleratorSpec
from olive.model import OliveModelHandler, ONNXModelHandler
from olive.model.utils import resolve_onnx_path
from olive.package_config import OlivePackageConfig
from olive.passes import Pass
from olive.passes.pass_config import BasePassConfig, PassConfigParam
from olive.search.search_parameter import Categorical

from onnx_unipts.api import compress
from onnx_unipts.calibration import Preprocessing
from onnx_unipts.run_files import PAGE, REPORT

__all__ = ["OnnxUniPTS", "package_config"]


class OnnxUniPTS(Pass):
    """Sets the asked share of the weights of an ONNX model to zero, and trains the others."""

    @classmethod
    def _default_config(cls, accelerator_spec: AcceleratorSpec) -> dict[str, PassConfigParam]:
        return {
            "sparsity": PassConfigParam(
                type_=float,
                default_value=0.8,
                search_defaults=Categorical([0.5, 0.7, 0.8, 0.9]),
                description="Share of the prunable weights to set to zero.",
            ),
            "data": PassConfigParam(
                type_=str,
                default_value=None,
                description="Calibration data as for onnx-unipts compress --data; instead of "
                "data_config.",
            ),
            "data_config": PassConfigParam(
                type_=DataConfig | dict,
                default_value=None,
                description="Calibration data as of Olive; its batches are fed as they are.",
            ),
            "recipe": PassConfigParam(
                type_=str, default_value="unipts", description="Name or file of the recipe."
            ),
            "settings": PassConfigParam(
                type_=dict,
                default_value={},
                description="Settings of the recipe to change, as in {'training.epochs': 5}.",
            ),
            "preprocessing": PassConfigParam(
                type_=str,
                default_value=None,
                description="Name of a preset for images, as for --preprocessing.",
            ),
            "format": PassConfigParam(
                type_=str,
                default_value="dense",
                description="How zeros are stored: dense, packed, sparse-initializer.",
            ),
        }

    def _run_for_config(
        self, model: OliveModelHandler, config: BasePassConfig, output_model_path: str
    ) -> ONNXModelHandler:
        if not isinstance(model, ONNXModelHandler):
            raise ValueError(f"OnnxUniPTS takes ONNX models, not {type(model).__name__}")
        output = Path(resolve_onnx_path(output_model_path, Path(model.model_path).name))
        output.parent.mkdir(parents=True, exist_ok=True)
        preset = config.preprocessing
        with tempfile.TemporaryDirectory() as run_dir:
            result = compress(
                model.model_path,
                sparsity=config.sparsity,
                output=output,
                data=_data(config, model.io_config["input_names"]),
                recipe=config.recipe,
                settings=config.settings,
                preprocessing=None if preset is None else Preprocessing(preset=preset),
                format=config.format,
                run_dir=Path(run_dir) / "unipts.run",
            )
            kept = [shutil.copy(result.run_dir / name, output.parent) for name in (REPORT, PAGE)]
        attributes = dict(model.model_attributes or {})
        attributes["additional_files"] = sorted({*attributes.get("additional_files", []), *kept})
        return ONNXModelHandler(
            model_path=str(output.parent),
            onnx_file_name=output.name,
            model_attributes=attributes,
        )


def package_config() -> dict[str, Any]:
    """Return Olive's own package configuration with this pass added, for ``olive.run``."""
    known = json.loads(Path(OlivePackageConfig.get_default_config_path()).read_text("utf-8"))
    everywhere = {f"supported_{what}": ["*"] for what in ("providers", "accelerators")}
    known["passes"][OnnxUniPTS.__name__] = {
        "module_path": f"onnx_unipts.olive_pass.{OnnxUniPTS.__name__}",
        "supported_precisions": ["*"],
        **everywhere,
    }
    return known


def _data(config: BasePassConfig, names: Sequence[str]) -> Any:
    if config.data_config is None:
        return config.data
    given = config.data_config
    container = (
        given if isinstance(given, DataConfig) else DataConfig(**given)
    ).to_data_container()
    return _batches(container.create_dataloader(), names)


def _batches(loader: Any, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
    """Yield the inputs of a data loader, whose items are pairs of them and labels.

    Inputs come by name, or in the order of ``names``; a single one may come as it is.
    """
    for inputs, _ in loader:
        if isinstance(inputs, Mapping):
            named = inputs
        else:
            listed = inputs if isinstance(inputs, list | tuple) else [inputs]
            named = dict(zip(names, listed, strict=True))
        yield {name: np.asarray(value) for name, value in named.items()}


if __name__ == "__main__":
    print(json.dumps(package_config(), indent=2))
