"""The two-dimensional layout of running sums, which onnxruntime up to 1.19 computes fast.

Its CumSum takes one step per element along the axis, whatever else the tensor holds: a stream of n
elements as one row costs n steps, as a matrix whose columns are consecutive pieces of the stream
n / columns. What precedes each column is added from a stored row of starts.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["choose_columns", "from_columns", "to_columns"]

START_BYTES = 4


def choose_columns(length: int, padding_bytes: float, multiple: int = 1) -> int:
    """Return how many columns a stream of ``length`` elements gets: about half its root.

    Of the numbers close to that it is the one at which starts and padding, at ``padding_bytes`` an
    element, take the fewest bytes; a multiple of ``multiple``.
    """
    target = math.sqrt(length) / 2
    low, high = int(0.75 * target / multiple), int(1.25 * target / multiple) + 1
    candidates = [multiple * i for i in range(max(low, 1), max(high, 1) + 1)]
    return min(candidates, key=lambda b: START_BYTES * b + padding_bytes * (-length % b))


def to_columns(stream: np.ndarray, columns: int) -> np.ndarray:
    """Return the matrix (len(stream) / columns, columns) whose columns are pieces of ``stream``."""
    return np.ascontiguousarray(stream.reshape(columns, -1).T)


def from_columns(matrix: np.ndarray) -> np.ndarray:
    """Return the stream of which the columns of ``matrix`` are the pieces."""
    return matrix.T.reshape(-1)
