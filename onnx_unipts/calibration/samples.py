"""Arrays as the user gives them, checked against what the model takes, and joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from onnx_unipts.calibration.data import ArrayColumn, CalibrationData
from onnx_unipts.calibration.preprocessing import array_layout
from onnx_unipts.calibration.signature import Dimension, InputSpec
from onnx_unipts.calibration.source import Request, draw
from onnx_unipts.calibration.storage import on_disk, room_for
from onnx_unipts.graph.errors import UsageError

__all__ = ["LABELS", "Samples", "check_samples", "data_from", "join_samples"]

LABELS = "labels"

_PART = 1024  # samples that are looked at together


@dataclass(frozen=True)
class Samples:
    """Checked arrays by input name, of the model's dtypes, first axis = sample; labels int64."""

    inputs: dict[str, np.ndarray]
    labels: np.ndarray | None
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def on_disk(self) -> Samples:
        """Return the same samples, held in files that are mapped into memory."""
        return replace(self, inputs={name: on_disk(array) for name, array in self.inputs.items()})

    def first(self, count: int | None) -> Samples:
        """Return the first ``count`` samples, all if None."""
        labels = None if self.labels is None else self.labels[:count]
        inputs = {name: array[:count] for name, array in self.inputs.items()}
        return Samples(inputs, labels, self.warnings)


def check_samples(arrays: Mapping[str, Any], signature: Sequence[InputSpec], where: str) -> Samples:
    """Check ``arrays`` by input name, and ``labels`` if any, against ``signature``.

    Floating arrays are cast to the model's floating dtype, integers to its integer dtype where
    every value fits. ``where`` begins each message. Raises `UsageError` for wrong names, dtypes or
    shapes, for differing or no samples, and for NaN or infinity.
    """
    named, warnings = _by_input(arrays, signature, where)
    inputs = {}
    for spec in signature:
        array = _cast(named[spec.name], spec, where)
        _check_shape(array, spec, where)
        _check_finite(array, spec, where)
        _check_table(array, spec, where)
        inputs[spec.name] = array
    count = _count(inputs, signature, where)
    wants_labels = LABELS in arrays and all(spec.name != LABELS for spec in signature)
    labels = _labels(arrays[LABELS], count, where) if wants_labels else None
    return Samples(inputs, labels, tuple(warnings))


def join_samples(pieces: Sequence[tuple[str, Samples]], where: str) -> Samples:
    """Concatenate ``pieces``, each with the name it has in messages.

    Raises `UsageError` if there are none, or if shapes or the presence of labels differ.
    """
    if not pieces:
        raise UsageError(f"{where}: no samples")
    first_where, first = pieces[0]
    for piece_where, piece in pieces[1:]:
        for name, array in piece.inputs.items():
            expected = first.inputs[name].shape[1:]
            if array.shape[1:] != expected:
                raise UsageError(
                    f"{piece_where}: input {name!r} has samples of shape {list(array.shape[1:])}, "
                    f"but {first_where} has {list(expected)}; all samples need one shape, pad or "
                    "crop them"
                )
        if (piece.labels is None) != (first.labels is None):
            has, lacks = (
                (first_where, piece_where) if piece.labels is None else (piece_where, first_where)
            )
            raise UsageError(f"{lacks}: no {LABELS}, but {has} has them; give all or none")
    samples = [piece for _, piece in pieces]
    inputs = {name: _joined([piece.inputs[name] for piece in samples]) for name in first.inputs}
    labels = [piece.labels for piece in samples if piece.labels is not None]
    return Samples(inputs, np.concatenate(labels) if labels else None, first.warnings)


def _joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    shape = (sum(map(len, arrays)), *arrays[0].shape[1:])
    return np.concatenate(arrays, out=room_for(shape, arrays[0].dtype))


def data_from(samples: Samples, request: Request, origin: str) -> CalibrationData:
    """Return calibration data of the samples that the request asks for; ``origin`` in words."""
    rows, warnings = draw(len(samples), request)
    if request.options.concerns_pixels:
        warnings.append(
            f"mean, std, scale, resize and crop apply to files of images; the arrays from {origin} "
            "are fed as they are"
        )
    columns = {}
    for name, array in samples.inputs.items():
        wanted = request.options.augment_arrays
        layout = array_layout(array.shape, array.dtype, request.options) if wanted else None
        columns[name] = ArrayColumn(array, layout)
    return CalibrationData(
        columns,
        None if samples.labels is None else samples.labels[rows],
        description=f"samples from {origin}",
        warnings=[*samples.warnings, *warnings],
        rows=rows,
    )


def _by_input(
    arrays: Mapping[str, Any], signature: Sequence[InputSpec], where: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    names = [spec.name for spec in signature]
    arrays = _spread(arrays, signature, where)
    found = [name for name in arrays if name in names or name != LABELS]
    missing = [name for name in names if name not in arrays]
    if missing and len(names) == len(found) == 1:
        array = {names[0]: _array(arrays[found[0]], found[0], where)}
        return array, [f"{where}: the array {found[0]!r} is taken as the input {names[0]!r}"]
    if missing:
        raise UsageError(
            f"{where}: expected arrays named {_listed(names)}, found {_listed(found)}; "
            f"missing: {_listed(missing)}"
        )
    warnings = []
    if unused := [name for name in found if name not in names]:
        warnings.append(f"{where}: not an input of the model and not used: {_listed(unused)}")
    return {name: _array(arrays[name], name, where) for name in names}, warnings


def _array(values: Any, name: str, where: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(f"{where}: {name!r} cannot become an array ({reason})") from error


def _spread(
    arrays: Mapping[str, Any], signature: Sequence[InputSpec], where: str
) -> dict[str, Any]:
    """Give each element of a sequence, given as a list of arrays, the name of its own."""
    elements: dict[str, list[str]] = {}
    for spec in signature:
        if spec.sequence and spec.sequence in arrays:
            elements.setdefault(spec.sequence, []).append(spec.name)
    spread = {name: array for name, array in arrays.items() if name not in elements}
    for sequence, names in elements.items():
        if len(arrays[sequence]) != len(names):
            raise UsageError(
                f"{where}: the sequence {sequence!r} has {len(arrays[sequence])} arrays, but the "
                f"model is fed {len(names)}: give a list of {len(names)}, or arrays named "
                f"{_listed(names)}, each with one row per sample"
            )
        spread |= zip(names, arrays[sequence], strict=True)
    return spread


def _listed(names: Sequence[object]) -> str:
    return ", ".join(map(str, names)) or "none"


def _cast(array: np.ndarray, spec: InputSpec, where: str) -> np.ndarray:
    if array.dtype == spec.dtype:
        return array
    if _is_floating(array.dtype) and _is_floating(spec.dtype):
        with np.errstate(over="ignore"):  # what overflows is found and named by its sample
            return array.astype(spec.dtype)
    if array.dtype.kind in "iu" and spec.dtype.kind in "iu":
        limits = np.iinfo(spec.dtype)
        if not array.size or (array.min() >= limits.min and array.max() <= limits.max):
            return array.astype(spec.dtype)
        raise UsageError(
            f"{where}: input {spec.name!r} holds {array.min()} to {array.max()}, which "
            f"{spec.dtype} cannot hold ({limits.min} to {limits.max})"
        )
    if array.dtype.kind == "U" and spec.dtype.kind == "O":
        return array.astype(object)
    remedy = f"convert the array with astype({str(spec.dtype)!r}), where that is what is meant"
    if spec.dtype.kind == "f" and array.dtype == np.uint8:
        remedy = "normalise the pixels as in training, or give a directory of images"
    raise UsageError(
        f"{where}: input {spec.name!r} has dtype {array.dtype}, expected {spec.dtype}; "
        + ("objects are refused" if array.dtype.kind == "O" else remedy)
    )


def _is_floating(dtype: np.dtype) -> bool:
    return dtype.kind == "f" or "float" in dtype.name  # bfloat16 and float8 are of kind V


def _check_shape(array: np.ndarray, spec: InputSpec, where: str) -> None:
    expected = _fed(spec)
    what = f"{where}: input {spec.name!r} has shape {list(array.shape)}, expected {_axes(expected)}"
    if _fits(array.shape, spec.sample_shape):
        raise UsageError(
            f"{what}: the batch axis is missing; if it is one sample, add it with array[None], "
            "and if samples run along another axis, bring that to the front with np.moveaxis"
        )
    if array.ndim != len(expected):
        raise UsageError(f"{what}: {array.ndim} axes instead of {len(expected)}")
    if _fits(array.shape[1:], spec.sample_shape):
        return
    remedy = ""
    if array.ndim == 4:
        for order in ((0, 3, 1, 2), (0, 2, 3, 1)):
            if _fits(tuple(array.shape[axis] for axis in order[1:]), spec.sample_shape):
                remedy = f"; array.transpose{order} would fit"
    raise UsageError(what + remedy)


def _fits(shape: tuple[int, ...], expected: Sequence[Dimension]) -> bool:
    return len(shape) == len(expected) and all(
        not isinstance(axis, int) or axis == length
        for axis, length in zip(expected, shape, strict=True)
    )


def _axes(shape: Sequence[Dimension]) -> str:
    return f"[{', '.join('?' if axis is None else str(axis) for axis in shape)}]"


def _check_finite(array: np.ndarray, spec: InputSpec, where: str) -> None:
    if not _is_floating(array.dtype):
        return
    sample = _first_not_finite(array)
    if sample is None:
        return
    value = array[sample][~np.isfinite(array[sample])].flat[0]
    raise UsageError(
        f"{where}: input {spec.name!r} holds {value} in sample {sample}; only finite numbers of "
        f"{spec.dtype} are allowed"
    )


def _check_table(array: np.ndarray, spec: InputSpec, where: str) -> None:
    if spec.table is None or array.dtype.kind not in "iu" or not array.size:
        return
    least, most = int(array.min()), int(array.max())
    if most >= spec.table or least < -spec.table:
        raise UsageError(
            f"{where}: input {spec.name!r} holds {least} to {most}, but the model has a table of "
            f"{spec.table} for it: 0 to {spec.table - 1}"
        )


def _first_not_finite(array: np.ndarray) -> int | None:
    """Return the first sample with a value that is not finite, None without one."""
    # In parts: the array may be larger than memory.
    for start in range(0, len(array), _PART):
        finite = np.isfinite(array[start : start + _PART])
        if not finite.all():
            return start + int(np.argmin(finite.reshape(len(finite), -1).all(axis=1)))
    return None


def _count(inputs: Mapping[str, np.ndarray], signature: Sequence[InputSpec], where: str) -> int:
    counts = {name: len(array) for name, array in inputs.items()}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{name} {count}" for name, count in counts.items())
        most = max(counts.values())
        spec = next(spec for spec in signature if counts[spec.name] < most)
        raise UsageError(
            f"{where}: the inputs differ in their number of samples ({found}); the first axis of "
            f"every array runs over them, so that {spec.name!r} has to be {_axes(_fed(spec))} for "
            f"N samples{_moved_hint(inputs[spec.name], spec, most)}"
        )
    count = next(iter(counts.values()))
    if count == 0:
        raise UsageError(f"{where}: no samples, the first axis has length 0")
    return count


def _fed(spec: InputSpec) -> tuple[Dimension, ...]:
    """Return the shape of an array for ``spec``: what else is called as the batch is another."""
    return ("N", *("?" if axis == "N" else axis for axis in spec.sample_shape))


def _moved_hint(array: np.ndarray, spec: InputSpec, count: int) -> str:
    """Say how the samples of ``array`` come first, where they run along another axis."""
    for axis in range(1, array.ndim):
        moved = np.moveaxis(array, axis, 0).shape
        if array.shape[axis] == count and _fits(moved[1:], spec.sample_shape):
            return f", as np.moveaxis(array, {axis}, 0) is"
    return ""


def _labels(values: Any, count: int, where: str) -> np.ndarray:
    labels = _array(values, LABELS, where)
    if labels.shape in ((), (count, 1)) and labels.size == count:
        labels = labels.reshape(count)
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise UsageError(
            f"{where}: {LABELS} have dtype {labels.dtype} and shape {list(labels.shape)}, expected "
            f"whole numbers of shape [{count}], one class per sample; leave them out to go on "
            "without accuracy"
        )
    return labels.astype(np.int64)
