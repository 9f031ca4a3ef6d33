"""Packing and unpacking model files, whoever pruned them: what the commands pack and unpack do."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from onnx_unipts.arguments import ModelPath, check_kinds, model_file
from onnx_unipts.export import model_stem
from onnx_unipts.export.storage import Storage, forget_sparse
from onnx_unipts.external_data import data_files
from onnx_unipts.graph.errors import OnnxUniptsError, UnsupportedModelError
from onnx_unipts.graph.model import load_model, save_model, stored_tensors, writing
from onnx_unipts.graph.packing import Packing
from onnx_unipts.graph.packing import pack as pack_weights
from onnx_unipts.graph.packing import unpack as unpack_weights
from onnx_unipts.json_text import plain
from onnx_unipts.output_file import atomic_path, check_output_file, trial_of
from onnx_unipts.report.files import describe_file

__all__ = ["pack", "unpack"]


def pack(
    model: ModelPath,
    output: ModelPath | None = None,
    *,
    pack: str = "delta8",
    values: str = "stored",
) -> dict[str, Any]:
    """Pack the weights with zeros of the model file ``model`` into ``output``.

    ``pack`` is an encoding, or ``smallest`` for the best of each weight; ``values`` is ``stored``,
    so that `unpack` gives the same model back bit for bit, or ``float16``. ``output`` defaults to
    ``<stem>.packed.onnx`` beside the model. Returns a document: both files, the weights that were
    packed, those with zeros that were not and why, and ``notes``. A model that nothing can be saved
    in is written as it is.

    Raises `UsageError` for the output or the choices, `UnsupportedModelError` for a model that
    cannot be read, is damaged, or of an opset below 11.
    """
    check_kinds(locals())
    storage = Storage("packed", pack, values)
    source, target = _paths(model, output, "packed")
    loaded = load_model(source, unpacked=False)
    unpacked = unpack_weights(loaded)
    stored_otherwise = bool(unpacked) or forget_sparse(loaded)
    before = _tensors(loaded)
    try:
        packing = pack_weights(loaded, storage.pack, half=values == "float16")
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{source}: {error}") from error
    if packing.packed or stored_otherwise:
        if values == "stored":
            with trial_of(target) as trial:
                save_model(loaded, trial)
                _verify(before, trial)
        save_model(loaded, target)
    else:
        _write_as_it_is(source, target, loaded)
    return plain(
        {
            "model": describe_file(source, data_files(source)),
            "output": describe_file(target, data_files(target)),
            "pack": storage.pack,
            "values": storage.values,
            "weights": [asdict(weight) for weight in packing.packed],
            "dense": packing.dense,
            "notes": _packing_notes(packing),
        }
    )


def unpack(model: ModelPath, output: ModelPath | None = None) -> dict[str, Any]:
    """Turn packed and sparse weights of the model file ``model`` into plain ones, in ``output``.

    ``output`` defaults to ``<stem>.unpacked.onnx`` beside the model. Returns a document like that
    of `pack`. Raises `UnsupportedModelError` for a file that is damaged: its indices and counts are
    checked before anything is written.
    """
    source, target = _paths(model, output, "unpacked")
    loaded = load_model(source, unpacked=False)
    unpacked = unpack_weights(loaded)
    sparse = forget_sparse(loaded)
    notes = []
    if unpacked or sparse:
        save_model(loaded, target)
    else:
        notes.append("the model holds no packed weights; it is written as it is")
        _write_as_it_is(source, target, loaded)
    return plain(
        {
            "model": describe_file(source, data_files(source)),
            "output": describe_file(target, data_files(target)),
            "weights": [{"name": name} for name in (*unpacked, *sparse)],
            "notes": notes,
        }
    )


def _paths(model: ModelPath, output: ModelPath | None, word: str) -> tuple[Path, Path]:
    check_kinds({"output": output})
    source = model_file(model)
    name = f"{model_stem(source)}.{word}.onnx"
    target = Path(output) if output is not None else source.with_name(name)
    return source, check_output_file(target, "--output", source if source.is_file() else None)


def _tensors(model: ir.Model) -> dict[str, np.ndarray]:
    return {key: stored.numpy() for key, stored in stored_tensors(model).items()}


def _write_as_it_is(source: Path, target: Path, model: ir.Model) -> None:
    if data_files(source):
        save_model(model, target)
        return
    with writing(target), atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def _verify(before: Mapping[str, np.ndarray], written: Path) -> None:
    """Read the packed file back: every tensor has the same bits."""
    after = _tensors(load_model(written))
    for key, array in before.items():
        if key not in after or after[key].tobytes() != array.tobytes():
            raise OnnxUniptsError(
                f"{written}: tensor {key!r} does not come back bit for bit; this is a defect, "
                "please report it"
            )


def _packing_notes(packing: Packing) -> list[str]:
    notes = []
    if not packing.zeros and not packing.packed:
        notes.append("the model holds no zeros that packing could save; it is written as it is")
    elif not packing.packed:
        notes.append("no weight gets smaller when packed; the model is written as it is")
    if packing.negative_zeros:
        notes.append(
            f"{packing.negative_zeros:,} zeros are negative and kept as values, for the model to "
            "stay the same bit for bit; adding 0 to the weights beforehand saves them"
        )
    return notes
