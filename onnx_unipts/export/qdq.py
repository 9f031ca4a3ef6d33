"""Static quantisation of a sparse model to int8: QDQ nodes, by onnxruntime's own quantizer."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from onnx_unipts.export.quiet import quiet
from onnx_unipts.graph.cleanup import runnable
from onnx_unipts.graph.errors import OnnxUniptsError, UnsupportedModelError
from onnx_unipts.graph.model import fits_one_file, from_proto, stored_tensors, to_proto
from onnx_unipts.graph.normalization.merging import fold_normalizations
from onnx_unipts.graph.opset_conversion import convert_opset
from onnx_unipts.graph.reason import reason_of
from onnx_unipts.graph.runtime import onnxruntime
from onnx_unipts.graph.sequence_inputs import copy_sequences

__all__ = ["QUANTIZATIONS", "Quantized", "quantize"]

QUANTIZATIONS = ("int8",)
# The first in which a weight has a scale for each of its channels.
LEAST_OPSET = 13
# The first in which an initializer need not be an input.
LEAST_IR = 4
# What the quantizer adds to the name of a weight.
SUFFIX = "_quantized"

Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Quantized:
    """A quantised ``model``, and the names of its weights (without suffix) with their zeros.

    ``zeros`` are of the integers: small values have become zero beside those that were.
    """

    model: ir.Model
    zeros: dict[str, int]
    samples: int


def quantize(model: ir.Model, runs: Iterable[Feeds], *, averaged: bool = True) -> Quantized:
    """Return a quantised copy of ``model``; ``runs`` are what calibration feeds it, run by run.

    Weights are int8, symmetric, with a scale per output channel where the operator allows it, so
    that what is zero stays zero. Activations are uint8, in the range from their minimum to their
    maximum, ``averaged`` over the runs, which leaves rare extremes out, or that of all runs
    (`onnxruntime.quantization.quantize_static`). Normalisations are folded before, and a model
    below opset 13 is converted to it.

    Raises `UnsupportedModelError` for a model that the quantizer cannot take.
    """
    if not fits_one_file(model):
        raise UnsupportedModelError(
            "its weights take more than 2 GB, which onnxruntime's quantizer does not read; leave "
            "out --quantize"
        )
    before = _prepared(model)
    reader = _Reader(runs)
    try:
        after = _quantized(to_proto(before), reader, averaged)
        copy_sequences(after, model)
    except (OnnxUniptsError, OSError):
        raise
    except Exception as error:
        raise UnsupportedModelError(
            f"onnxruntime cannot quantise the model ({reason_of(error)}); leave out --quantize"
        ) from error
    zeros = _zeros(before, after)
    if not zeros:
        raise UnsupportedModelError(
            "onnxruntime's quantizer finds nothing to quantise in the model; leave out --quantize"
        )
    return Quantized(after, zeros, reader.samples)


def _prepared(model: ir.Model) -> ir.Model:
    """Return a copy whose weights are initializers that the quantizer recognises."""
    copy = runnable(model)
    copy = copy.clone() if copy is model else copy
    fold_normalizations(copy)
    if copy.opset_imports.get("", LEAST_OPSET) < LEAST_OPSET:
        copy = convert_opset(copy, LEAST_OPSET)
    common.LiftConstantsToInitializersPass(lift_all_constants=False, size_limit=0)(copy)
    # A name in the list of inputs is a value that callers may override, which no constant is.
    for value in list(copy.graph.inputs):
        if value.is_initializer():
            copy.graph.inputs.remove(value)
    for value in list(copy.graph.initializers.values()):
        if not value.uses() and not value.is_graph_output():
            del copy.graph.initializers[str(value.name)]
    return copy


class _Reader:
    """Hands the runs to the calibration, as onnxruntime's CalibrationDataReader does."""

    def __init__(self, runs: Iterable[Feeds]) -> None:
        self._runs = iter(runs)
        self.samples = 0

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return what the next run is fed, None after the last."""
        run = next(self._runs, None)
        if run is None:
            return None
        self.samples += max((len(a) for a in run.values() if a.ndim), default=1)
        return dict(run)


def _quantized(proto: onnx.ModelProto, reader: _Reader, averaged: bool) -> ir.Model:
    assert onnxruntime is not None  # imported before its subpackages are
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType
    from onnxruntime.quantization.quantize import quantize_static

    CalibrationDataReader.register(_Reader)
    with tempfile.TemporaryDirectory() as directory, quiet(logging.WARNING):
        source, path = (Path(directory) / name for name in ("model.onnx", "quantized.onnx"))
        source.write_bytes(proto.SerializeToString())
        quantize_static(
            source,
            path,
            reader,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={
                "WeightSymmetric": True,
                "ActivationSymmetric": False,
                "CalibMovingAverage": averaged,
            },
        )
        made = onnx.load(path)
    # The header is that of the user's model, not the quantizer's.
    made.producer_name, made.producer_version = proto.producer_name, proto.producer_version
    del made.metadata_props[:]
    made.metadata_props.extend(proto.metadata_props)
    made.graph.value_info.clear()
    # So are its inputs and outputs, which shape inference may have narrowed.
    for kind in ("input", "output"):
        made.graph.ClearField(kind)
        getattr(made.graph, kind).extend(getattr(proto.graph, kind))
    made.ir_version = max(made.ir_version, LEAST_IR)
    quantized = from_proto(made)
    quantized.graph.sort()
    return quantized


def _zeros(before: ir.Model, after: ir.Model) -> dict[str, int]:
    """Return the number of zeros of each quantised weight; what was zero must have stayed it."""
    integers = stored_tensors(after)
    zeros = {}
    for key, stored in stored_tensors(before).items():
        made = integers.get(f"{key}{SUFFIX}")
        if made is None or made.tensor.dtype != ir.DataType.INT8:
            continue
        array = made.numpy()
        if array[stored.numpy() == 0].any():
            raise OnnxUniptsError(
                f"weight {key!r}: zeros did not stay zero when quantised; this is a defect, please "
                "report it"
            )
        zeros[key] = int((array == 0).sum())
    return zeros
