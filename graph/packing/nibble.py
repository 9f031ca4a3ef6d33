"""nibble: the distance from each value to the next in four bits; one of the codes skips ahead."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from onnx_unipts.graph.packing.columns import choose_columns, from_columns, to_columns
from onnx_unipts.graph.packing.decoder import Decoder
from onnx_unipts.graph.packing.encoding import ENCODINGS, Parts, Zeros, is_stored, require

__all__ = ["Nibble"]

# The code that skips as many zeros; a lower one is a value, nearer by as much.
SKIP = 15


@ENCODINGS.register("nibble")
class Nibble:
    """Parts ``c``, uint8 (rows, columns): two codes a byte; ``b`` and ``n``, int32 (1, 2 columns).

    The codes are a matrix (rows, 2 columns): the lower halves of ``c``, then the upper ones. A code
    below 15 is a value at a distance of 15 - code, code 15 skips 15 elements, so that the distance
    is always 15 - code mod 15. ``b`` holds the position before each column, ``n`` the number of
    values before it. The values stand in ``v`` behind one zero, which is what the skips refer to:
    they write it where it is.
    """

    def encode(self, flat: np.ndarray) -> Parts | None:
        """Return the parts of ``flat``; None where it is all zero, or too full to be padded."""
        positions = np.flatnonzero(is_stored(flat))
        if not len(positions):
            return None
        stream = _codes(positions)
        columns = choose_columns(len(stream), flat.itemsize + 0.5, multiple=2)
        padded = _padded(stream, -len(stream) % columns)
        if padded is None:
            return None
        codes = to_columns(padded, columns)
        reached = np.cumsum(SKIP - padded % SKIP) - 1
        half = columns // 2
        return {
            "c": (codes[:, :half] | codes[:, half:] << 4).astype(np.uint8),
            **_starts(codes),
            "v": np.concatenate([np.zeros(1, flat.dtype), flat[reached[padded < SKIP]]]),
        }

    def decode(self, parts: Mapping[str, np.ndarray], size: int) -> np.ndarray:
        """Return the flat tensor; raises `BrokenPartsError`."""
        packed, values = parts["c"], parts["v"]
        require(packed.dtype == np.uint8, f"codes of type {packed.dtype}, not uint8")
        require(packed.ndim == 2, f"codes of {packed.ndim} axes, not 2")
        codes = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.int64)
        stream = from_columns(codes)
        positions = np.cumsum(SKIP - stream % SKIP) - 1
        require(bool((positions < size).all()), f"a position is outside of the {size} elements")
        emits = stream < SKIP
        count = int(emits.sum())
        require(values.ndim == 1, f"values of shape {values.shape}, not one axis")
        require(len(values) == 1 + count, f"{len(values)} values for a zero and {count} codes")
        require(not is_stored(values[:1]).any(), "the value before the first is not zero")
        for name, expected in _starts(codes).items():
            require(parts[name].dtype == np.int32, f"starts of type {parts[name].dtype}, not int32")
            require(np.array_equal(parts[name], expected), "the starts are not those of the codes")
        flat = np.zeros(size, values.dtype)
        flat[positions[emits]] = values[1:]
        return flat

    def variants(self) -> list[frozenset[str]]:
        """Return the parts that tell where values go."""
        return [frozenset({"c", "b", "n"})]

    def build(self, decoder: Decoder, parts: frozenset[str], values: str, zeros: Zeros) -> str:
        """Split the bytes, sum up the distances and the values, and scatter into ``zeros``."""
        int32 = 6
        axis = decoder.constant("axis", np.array(0, np.int64))
        flat = decoder.constant("flat", np.array([-1], np.int64))
        sixteen = decoder.constant("sixteen", np.array([16], np.int32))
        skip = decoder.constant("skip", np.array([SKIP], np.int32))
        both = decoder.add("Cast", decoder.part("c"), to=int32)
        low, high = decoder.add("Mod", both, sixteen), decoder.add("Div", both, sixteen)
        codes = decoder.add("Concat", low, high, axis=1)
        distances = decoder.add("Sub", skip, decoder.add("Mod", codes, skip))
        positions = decoder.add("CumSum", distances, axis)
        positions = decoder.add("Add", positions, decoder.part("b"))
        positions = decoder.add("Reshape", positions, flat)
        emits = decoder.add("Cast", decoder.add("Less", codes, skip), to=int32)
        numbers = decoder.add("CumSum", emits, axis)
        numbers = decoder.add("Add", numbers, decoder.part("n"))
        numbers = decoder.add("Reshape", decoder.add("Mul", numbers, emits), flat)
        scattered = decoder.add("Gather", values, numbers)
        return decoder.add("ScatterElements", zeros(), positions, scattered)


def _codes(positions: np.ndarray) -> np.ndarray:
    """Return the codes, int64, of ascending ``positions``: for each its skips, then itself."""
    skips, rest = np.divmod(np.diff(positions, prepend=-1) - 1, SKIP)
    ends = np.cumsum(skips + 1) - 1
    codes = np.full(int(ends[-1]) + 1, SKIP, np.int64)
    codes[ends] = SKIP - 1 - rest
    return codes


def _padded(codes: np.ndarray, count: int) -> np.ndarray | None:
    """Return ``codes`` with ``count`` more, of stored zeros; None where there is no room.

    A distance of two or more, of the last ones, is split into one and what remains.
    """
    if not count:
        return codes
    splittable = np.flatnonzero(codes < SKIP - 1)
    if len(splittable) < count:
        return None
    chosen = splittable[-count:]
    shorter = codes.copy()
    shorter[chosen] += 1
    return np.insert(shorter, chosen, SKIP - 1)


def _starts(codes: np.ndarray) -> Parts:
    """Return, for each column of ``codes``, the position and the number of values before it."""
    distances, emits = (SKIP - codes % SKIP).sum(axis=0), (codes < SKIP).sum(axis=0)
    return {
        "b": (np.cumsum(distances) - distances - 1).astype(np.int32)[np.newaxis],
        "n": (np.cumsum(emits) - emits).astype(np.int32)[np.newaxis],
    }
