"""delta8: the distance from each value to the next in one byte; zeros are stored across long gaps.

In two bytes where nearly all is zero: then that takes less than the zeros would.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnx_unipts.graph.packing.columns import choose_columns, from_columns, to_columns
from onnx_unipts.graph.packing.decoder import Decoder
from onnx_unipts.graph.packing.encoding import ENCODINGS, Parts, Zeros, is_stored, require

__all__ = ["Delta8"]

KINDS = (np.dtype(np.uint8), np.dtype(np.uint16))
# From so many values on the columns cost fewer milliseconds than they cost bytes.
LEAST_FOR_COLUMNS = 768


@ENCODINGS.register("delta8")
class Delta8:
    """Parts ``c``, uint8 or uint16: distances (n,); or (rows, columns) with starts ``b``, int32.

    The position of a value is the running sum of the distances, per column and from its start.
    """

    def encode(self, flat: np.ndarray) -> Parts | None:
        """Return the parts of ``flat``; None where it is all zero, or too full to be padded."""
        stored = np.flatnonzero(is_stored(flat))
        if not len(stored):
            return None
        kind, positions = _fewest_bytes(stored, flat.itemsize)
        count = len(positions)
        if count < LEAST_FOR_COLUMNS:
            distances = np.diff(positions, prepend=0)
            return {"c": distances.astype(kind), "v": flat[positions]}
        columns = choose_columns(count, kind.itemsize + flat.itemsize)
        padded = _padded(positions, -count % columns, flat.size)
        if padded is None:
            return None
        matrix = to_columns(padded, columns)
        distances = np.diff(matrix, axis=0, prepend=matrix[:1])
        return {
            "c": distances.astype(kind),
            "b": matrix[:1].astype(np.int32),
            "v": to_columns(flat[padded], columns).reshape(-1),
        }

    def decode(self, parts: Mapping[str, np.ndarray], size: int) -> np.ndarray:
        """Return the flat tensor; raises `BrokenPartsError`."""
        distances, values = parts["c"], parts["v"]
        require(distances.dtype in KINDS, f"distances of type {distances.dtype}, not uint8")
        require(values.ndim == 1, f"values of shape {values.shape}, not one axis")
        require(
            distances.size == len(values), f"{distances.size} distances for {len(values)} values"
        )
        require(distances.ndim == (2 if "b" in parts else 1), f"distances of {distances.ndim} axes")
        positions = np.cumsum(distances, axis=0, dtype=np.int64)
        if "b" in parts:
            starts = parts["b"]
            expected = (1, distances.shape[1])
            require(starts.dtype == np.int32, f"starts of type {starts.dtype}, not int32")
            require(starts.shape == expected, f"starts of shape {starts.shape}, not {expected}")
            positions = from_columns(positions + starts)
            values = from_columns(values.reshape(distances.shape))
        require(
            bool((positions >= 0).all() and (positions < size).all()),
            f"a position is outside of the {size} elements",
        )
        require(bool((np.diff(positions) > 0).all()), "a position stands twice or out of order")
        flat = np.zeros(size, values.dtype)
        flat[positions] = values
        return flat

    def variants(self) -> list[frozenset[str]]:
        """Return the parts that tell where values go, without and with columns."""
        return [frozenset({"c"}), frozenset({"c", "b"})]

    def build(self, decoder: Decoder, parts: frozenset[str], values: str, zeros: Zeros) -> str:
        """Add Cast, CumSum, with columns Add and Reshape, and ScatterElements into ``zeros``."""
        int32 = 6
        distances = decoder.add("Cast", decoder.part("c"), to=int32)
        axis = decoder.constant("axis", np.array(0, np.int64))
        positions = decoder.add("CumSum", distances, axis)
        if "b" in parts:
            positions = decoder.add("Add", positions, decoder.part("b"))
            flat = decoder.constant("flat", np.array([-1], np.int64))
            positions = decoder.add("Reshape", positions, flat)
        return decoder.add("ScatterElements", zeros(), positions, values)


def _fewest_bytes(positions: np.ndarray, value_bytes: int) -> tuple[np.dtype, np.ndarray]:
    """Return the type of the distances that takes the fewest bytes, and the positions for it."""
    made = [(kind, _bridged(positions, int(np.iinfo(kind).max))) for kind in KINDS]
    return min(made, key=lambda pair: len(pair[1]) * (pair[0].itemsize + value_bytes))


def _bridged(positions: np.ndarray, longest: int) -> np.ndarray:
    """Return ``positions`` (n,), ascending, with more between those further apart than that."""
    gaps = np.diff(positions, prepend=0)
    extra = np.maximum(gaps - 1, 0) // longest
    if not extra.any():
        return positions
    ends = np.cumsum(extra + 1) - 1
    steps = np.full(int(ends[-1]) + 1, longest, np.int64)
    steps[ends] = gaps - longest * extra
    return np.cumsum(steps)


def _padded(positions: np.ndarray, count: int, size: int) -> np.ndarray | None:
    """Return ``positions`` with ``count`` more of zeros: no two the same, no gap longer for it."""
    if not count:
        return positions
    free = np.ones(size, dtype=bool)
    free[positions] = False
    zeros = np.flatnonzero(free)
    first = positions[0]
    # Before the first position only next to it, so that the distance stays one.
    chosen = np.concatenate([zeros[zeros > first], zeros[zeros < first][::-1]])[:count]
    return None if len(chosen) < count else np.sort(np.concatenate([positions, chosen]))
