"""Iterables, data readers and scripts that yield batches as calibration data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calibration_inputs import VECTORS, Reader, everything, refused

from onnx_unipts.calibration import load_calibration_data


def batches(count: int = 4, size: int = 3) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {"x": np.full((size, 4), number, np.float32), "labels": [number] * size}


class TestBatches:
    @pytest.mark.parametrize(
        "make", [batches, lambda: list(batches()), lambda: Reader([*batches()])]
    )
    def test_all_batches_are_joined(self, make: Callable[[], Any]) -> None:
        data = load_calibration_data(make(), VECTORS)
        assert data.labels is not None
        assert data.labels.tolist() == np.repeat(np.arange(4), 3).tolist()
        np.testing.assert_array_equal(everything(data)["x"][:, 0], data.labels)

    def test_only_as_much_is_read_as_asked_for(self) -> None:
        endless = batches(10**9)
        data = load_calibration_data(endless, VECTORS, num_samples=7)
        assert data.labels is not None
        assert data.labels.tolist() == [0, 0, 0, 1, 1, 1, 2]
        assert next(endless)["labels"] == [3, 3, 3]

    def test_fewer_than_asked_for_is_said(self) -> None:
        data = load_calibration_data(batches(), VECTORS, num_samples=13)
        assert len(data) == 12
        assert "13 samples were asked for, but there are only 12" in data.warnings[0]

    @pytest.mark.parametrize(
        ("items", "message"),
        [
            ([], "list: no samples"),
            ([np.ones((1, 4))], "batch 0: expected a dict of arrays by input name, found ndarray"),
            ([{"x": np.ones((1, 4))}, {"x": np.ones(4)}], "batch 1: .* batch axis is missing"),
            ([{"x": np.ones((1, 4))}, {"y": 1, "z": 2}], "batch 1: expected arrays named x"),
            ([{"x": np.full((1, 4), np.nan)}], "batch 0: input 'x' holds nan in sample 0"),
        ],
    )
    def test_bad_batches_are_named(self, items: list[Any], message: str) -> None:
        with refused(message):
            load_calibration_data(items, VECTORS)


class TestScript:
    def write(self, directory: Path, body: str) -> str:
        path = directory / "data.py"
        path.write_text(f"import numpy as np\n{body}")
        return str(path)

    def test_the_function_yields_batches(self, tmp_path: Path) -> None:
        (tmp_path / "sibling_of_the_script.py").write_text("COUNT = 5")
        script = self.write(
            tmp_path,
            "from sibling_of_the_script import COUNT\n"
            "def load_data():\n    for n in range(COUNT):\n"
            "        yield {'x': np.full((2, 4), float(n)), 'labels': [n, n]}\n"
            "def other():\n    return {'x': np.ones((3, 4))}\n",
        )
        before = sorted(path.name for path in tmp_path.glob("*.py*"))
        data = load_calibration_data(script, VECTORS)
        assert data.labels is not None
        assert data.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
        assert "data.py:load_data" in data.description
        assert len(load_calibration_data(f"{script}:other", VECTORS)) == 3
        assert len(load_calibration_data(script, VECTORS, num_samples=3)) == 3
        assert sorted(path.name for path in tmp_path.glob("*.py*")) == before

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("def load_data(:", r"data.py, line 2: SyntaxError"),
            ("import nothing_like_that", r"data.py, line 2: ModuleNotFoundError: No module"),
            ("raise SystemExit(0)", r"data.py, line 2: SystemExit: 0"),
            (
                "def load_data():\n    yield {'x': np.ones((1, 4))}\n    raise KeyError('two\\nl')",
                r"data.py, line 4: KeyError",
            ),
            ("def load_data(path):\n    pass", r"data.py: TypeError: .*argument"),
            ("def load_data():\n    return 3", r"data.py: TypeError: .*not iterable"),
            ("def load_data():\n    return []", r"data.py:load_data: no samples"),
            ("def loaddata():\n    pass", r"data.py: no function 'load_data'; found loaddata"),
            ("load_data = 3", r"no function 'load_data'; found none"),
            (
                "def load_data():\n    yield {'x': np.ones(4)}",
                r"data.py:load_data, batch 0: .* batch axis is missing",
            ),
        ],
    )
    def test_errors_are_one_line_with_the_file(
        self, tmp_path: Path, body: str, message: str
    ) -> None:
        with refused(message) as raised:
            load_calibration_data(self.write(tmp_path, body), VECTORS)
        assert "\n" not in str(raised.value)
