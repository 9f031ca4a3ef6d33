"""A walk through dense model and student at once: what enters layer after layer in either."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph import normalization
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.isolation import isolated
from onnx_unipts.graph.model import serialize
from onnx_unipts.graph.nodes import values_read
from onnx_unipts.reconstruction.held_out import HELD_OUT
from onnx_unipts.reconstruction.least_squares import Moments
from onnx_unipts.reconstruction.linear_layer import LinearLayer, only_use
from onnx_unipts.reconstruction.moments import product_of, run_session
from onnx_unipts.reconstruction.views import FittingRuns
from onnx_unipts.student import Student
from onnx_unipts.training.ort import inference_session

__all__ = ["Rows", "Walk"]

# A layer is measured on no more rows than this many times its inputs: deep models are slow to run.
ROWS_PER_INPUT = 12
# Where rows themselves are looked at, and not only their moments, no less than so many, and more
# for each input: such layers have few inputs, and are quick to reach.
LEAST_ROWS = 2048
LOOKED_AT_PER_INPUT = 160
# Bytes that the values between two layers may take, of all samples in both models.
MEMORY = 1 << 29

# Values by name of one run.
Values = Mapping[str, Any]
# What rows are gathered into.
Gatherer = TypeVar("Gatherer", "_Sums", "Rows")
# What is made of them.
T = TypeVar("T")


@dataclass
class Rows:
    """What enters a layer, up to ``most`` rows of a run, from all of its samples.

    Attributes:
        dense, sparse: in dense model and student, of each run, float32 (groups, rows, K).
        dense_beside, sparse_beside: a value of the shape of the layer's outputs at the same
            positions, (groups, rows, outputs); empty where none was asked for, or where it
            is broadcast.
        held_out: bool (rows,), of each run.
    """

    most: int
    dense: list[np.ndarray] = field(default_factory=list)
    sparse: list[np.ndarray] = field(default_factory=list)
    dense_beside: list[np.ndarray] = field(default_factory=list)
    sparse_beside: list[np.ndarray] = field(default_factory=list)
    held_out: list[np.ndarray] = field(default_factory=list)

    def are_enough(self) -> bool:
        """Tell whether further runs may be left out where they take long."""
        count, inputs = sum(map(len, self.held_out)), self.sparse[0].shape[2]
        return any(map(np.any, self.held_out)) and count >= max(
            LOOKED_AT_PER_INPUT * inputs, LEAST_ROWS
        )

    def add(self, x: np.ndarray, y: np.ndarray, seen: int, *beside: np.ndarray) -> None:
        """Add rows of dense model and student, of which those from ``seen`` on are held out."""
        # Evenly, but not in step with the positions of a sample.
        count = x.shape[1]
        picked = np.linspace(0, count - 1, min(self.most, count)).round().astype(int)
        self.dense.append(x[:, picked])
        self.sparse.append(y[:, picked])
        self.held_out.append(picked >= seen)
        if beside:
            self.dense_beside.append(beside[0][:, picked])
            self.sparse_beside.append(beside[1][:, picked])


class Walk:
    """Goes from layer to layer in graph order; both models normalise by the batches' statistics.

    What is computed on the way is kept where it takes little memory, and the next layer is reached
    from there: fitting all layers takes little more than running the model, and not as many times
    as it has layers.
    """

    def __init__(self, student: Student, runs: FittingRuns, cores: int) -> None:
        """``runs`` is what dense model and student are fed."""
        self._dense, self._cores, self._runs = student.dense, cores, runs
        first = next(iter(runs))
        model = normalization.with_batch_statistics(student.model, student.normalizations)
        self._model = model
        self._parameters = {str(v.name): v for v in model.graph.inputs if v.name not in first}
        self._places = {node: place for place, node in enumerate(model.graph)}
        self._lives = _lives(model.graph, list(first))
        self._samples = student.batching.size or len(next(iter(first.values())))
        # The names of what is known where the walk is, and their values in dense model and student,
        # of each run; none while it is what runs are fed.
        self._reached = list(first)
        self._known: list[tuple[Values, Values]] = []

    def moments(
        self, name: str, layer: LinearLayer, tensors: Mapping[str, np.ndarray]
    ) -> tuple[Moments, Moments]:
        """Return the moments of what enters ``layer``: of most samples, and of those held out.

        ``tensors`` are the student's, of which those of the layers before must not change any more;
        ``name`` is that of the layer's weight. Measured in a process of its own; raises
        `UnsupportedModelError` where the runtime cannot.
        """
        return self._solved(_parts, _Sums(), name, layer, tensors)

    def rows(
        self,
        name: str,
        layer: LinearLayer,
        tensors: Mapping[str, np.ndarray],
        most: int,
        beside: str = "",
    ) -> Rows:
        """Return about ``most`` rows that enter ``layer``, and of the value called ``beside``.

        The latter has to be made before the layer. Otherwise as `moments`.
        """
        return self.solved(_themselves, name, layer, tensors, most, beside)

    def solved(
        self,
        solve: Callable[[Rows], T],
        name: str,
        layer: LinearLayer,
        tensors: Mapping[str, np.ndarray],
        most: int,
        beside: str = "",
    ) -> T:
        """Return what ``solve`` makes of what `rows` returns.

        In the process that gathers them: they take much memory, which ends with it.
        """
        rows = Rows(-(-most // len(self._runs)))
        return self._solved(solve, rows, name, layer, tensors, beside)

    def made_before(self, value: str, name: str) -> bool:
        """Tell whether ``value`` comes, in graph order, before the layer of the weight ``name``."""
        use = only_use(self._parameters[name])
        return use is not None and self._lives.get(value, (math.inf, 0))[0] < self._places[use[0]]

    def _solved(
        self,
        solve: Callable[[Gatherer], T],
        into: Gatherer,
        name: str,
        layer: LinearLayer,
        tensors: Mapping[str, np.ndarray],
        beside: str = "",
    ) -> T:
        """Walk on to ``layer``; return what ``solve`` makes of ``into`` with what enters it."""
        use = only_use(self._parameters[name])
        assert use is not None
        place = self._places[use[0]]
        needed = [name for name, (made, used) in self._lives.items() if made < place <= used]
        found, known = isolated(self._measured, solve, into, layer, tensors, needed, beside)
        if known is not None and needed != self._reached:
            self._keep(needed, known)
        return found

    def _keep(self, needed: Sequence[str], computed: Sequence[tuple[Values, Values]]) -> None:
        """Go on from the values ``needed``, those ``computed`` and others that were known."""
        before = self._values() if set(needed) & set(self._reached) else repeat(({}, {}))
        self._known = [
            (_of(needed, old[0], new[0]), _of(needed, old[1], new[1]))
            for old, new in zip(before, computed, strict=False)
        ]
        self._reached = list(needed)

    def _values(self) -> Iterator[tuple[Values, Values]]:
        """Yield of each run what is known in dense model and student."""
        yield from self._known or ((fed, fed) for fed in self._runs)

    def _measured(
        self,
        solve: Callable[[Gatherer], T],
        into: Gatherer,
        layer: LinearLayer,
        tensors: Mapping[str, np.ndarray],
        needed: Sequence[str],
        beside: str,
    ) -> tuple[T, list[tuple[Values, Values]] | None]:
        """Return what ``solve`` makes of ``into`` and, memory allowing, the values ``needed``."""
        session = self._session(self._reached, [*needed, layer.data, *filter(None, [beside])])
        rng = np.random.default_rng(0)
        computed: list[tuple[Values, Values]] | None = []
        for number, known in enumerate(self._values()):
            place = rng.integers(2**32)
            dense, sparse = (
                run_session(session, {**t, **values}) if session is not None else {}
                for t, values in zip((self._dense, tensors), known, strict=True)
            )
            both = [{**values, **new} for values, new in zip(known, (dense, sparse), strict=True)]
            x, y = (layer.rows(v[layer.data], np.random.default_rng(place)) for v in both)
            others = (
                layer.output_rows(values[beside], np.random.default_rng(place))
                for values in both
                if beside and _is_beside(values[beside], values[layer.data], layer)
            )
            if not (np.isfinite(x).all() and np.isfinite(y).all()):
                raise UnsupportedModelError(f"{layer.data} is not finite for some samples")
            into.add(x, y, self._seen(number, y.shape[1]), *others)
            if computed is not None:
                computed.append((dense, sparse))
                if not _is_kept([both[0][each] for each in needed], 2 * len(self._runs)):
                    computed = None
            if computed is None and into.are_enough():
                break
        return solve(into), computed

    def _seen(self, number: int, rows: int) -> int:
        """Return how many of the ``rows`` of a run, ordered by sample, are not held out."""
        if self._samples >= HELD_OUT:
            return rows * (self._samples - self._samples // HELD_OUT) // self._samples
        return 0 if number // self._runs.views % HELD_OUT == HELD_OUT - 1 else rows

    def _session(self, reached: Sequence[str], wanted: Sequence[str]) -> Any:
        """Return a session of what lies between values; None where all ``wanted`` is reached."""
        names = [name for name in dict.fromkeys(wanted) if name not in reached]
        if not names:
            return None
        part = ir.convenience.extract(self._model.graph, [*self._parameters, *reached], names)
        for value in list(part.inputs):
            if not value.uses():
                part.inputs.remove(value)
        # What was inferred of dynamic sizes may be wrong; the runtime infers again.
        computed = [value for node in part for value in node.outputs]
        for value in (*computed, *(value for value in part.inputs if value.name in reached)):
            value.shape = None
        model = ir.Model(part, ir_version=self._model.ir_version)
        return inference_session(serialize(model), self._cores)


_NONE = Moments(np.zeros(1), np.zeros(1), 0)


@dataclass
class _Sums:
    """The moments of rows, of those held out apart."""

    seen: Moments = _NONE
    held_out: Moments = _NONE

    def are_enough(self) -> bool:
        """Tell whether further runs may be left out where they take long."""
        count = self.seen.count + self.held_out.count
        return self.held_out.count > 0 and count >= ROWS_PER_INPUT * self.seen.own.shape[-1]

    def add(self, x: np.ndarray, y: np.ndarray, seen: int, *_: np.ndarray) -> None:
        """Add rows (groups, rows, K) of dense model and student, of which the last are held out."""
        self.seen += _moments(x[:, :seen], y[:, :seen])
        self.held_out += _moments(x[:, seen:], y[:, seen:])


def _themselves(rows: Rows) -> Rows:
    return rows


def _parts(sums: _Sums) -> tuple[Moments, Moments]:
    return sums.seen, sums.held_out


def _is_beside(value: Any, data: np.ndarray, layer: LinearLayer) -> bool:
    """Tell whether ``value`` has the samples and positions of what ``layer`` makes of ``data``."""
    expected = (len(data), *layer.output_sizes(data.shape[2:]))
    return isinstance(value, np.ndarray) and (len(value), *value.shape[2:]) == expected


def _moments(x: np.ndarray, y: np.ndarray) -> Moments:
    return Moments(product_of(y, y), product_of(x, y), y.shape[1])


def _of(names: Sequence[str], before: Values, new: Values) -> Values:
    """Return what is ``new`` of ``names``; others are copied, so that their memory can end."""
    return {name: new[name] if name in new else before[name].copy() for name in names}


def _is_kept(values: Sequence[Any], times: int) -> bool:
    """Tell whether there is memory for so many ``times`` the ``values``, all of them tensors."""
    if not all(isinstance(value, np.ndarray) for value in values):
        return False
    return sum(value.nbytes for value in values) * times <= MEMORY


def _lives(graph: ir.Graph, given: Collection[str]) -> dict[str, tuple[int, int]]:
    """Return of each value that depends on those ``given`` the places that make and last take it.

    Places count the nodes of ``graph``; -1 for what is given.
    """
    lives = dict.fromkeys(given, (-1, -1))
    for place, node in enumerate(graph):
        taken = {str(value.name) for value in values_read(node)} & lives.keys()
        if not taken:
            continue
        lives |= {name: (lives[name][0], place) for name in taken}
        lives |= {str(value.name): (place, place) for value in node.outputs if value.name}
    return lives
