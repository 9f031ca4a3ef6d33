"""Calibration data: batches, subsets and held-out parts of the samples."""

from __future__ import annotations

import numpy as np
import pytest
from calibration_inputs import VECTORS, everything, refused

from onnx_unipts.calibration import load_calibration_data, require_batch


class TestCalibrationData:
    data = load_calibration_data(
        {"x": np.arange(40, dtype=np.float32).reshape(10, 4), "labels": np.arange(10)}, VECTORS
    )

    def test_batches_are_the_samples_at_the_indices(self) -> None:
        batch = self.data.batch(np.array([3, 1, 3]))
        assert batch["x"][:, 0].tolist() == [12, 4, 12]
        assert self.data.input_names == ["x"]

    def test_a_subset_of_a_subset(self) -> None:
        subset = self.data.subset(np.array([8, 6, 4])).subset(np.array([2, 0]))
        assert len(subset) == 2
        assert subset.labels is not None
        assert subset.labels.tolist() == [4, 8]
        assert everything(subset)["x"][:, 0].tolist() == [16, 32]
        assert subset.description.startswith("2 samples")

    def test_split_partitions_by_seed(self) -> None:
        rest, held = self.data.split(3, seed=1)
        again, _ = self.data.split(3, seed=1)
        other, _ = self.data.split(3, seed=2)
        assert rest.labels is not None
        assert held.labels is not None
        assert sorted([*rest.labels, *held.labels]) == list(range(10))
        assert len(held) == 3
        np.testing.assert_array_equal(rest.labels, again.labels)
        assert not np.array_equal(rest.labels, other.labels)

    @pytest.mark.parametrize("count", [0, 10, 11])
    def test_split_leaves_something_on_both_sides(self, count: int) -> None:
        with refused(f"cannot hold out {count} of 10"):
            self.data.split(count)

    def test_a_batch_must_be_filled(self) -> None:
        require_batch(self.data, 10)
        with refused(r"found 10 samples .* batch takes 11.* --batch-size 10 or smaller"):
            require_batch(self.data, 11)

    def test_the_fingerprint_is_that_of_samples_and_labels(self) -> None:
        x, labels = np.arange(40, dtype=np.float32).reshape(10, 4), np.arange(10)
        changed, relabelled = x.copy(), labels.copy()
        changed[7, 2] += 1e-3
        relabelled[3] = 0
        order = np.arange(10)
        same = load_calibration_data({"x": x.copy(), "labels": labels.copy()}, VECTORS)
        others = [
            load_calibration_data({"x": x, "labels": relabelled}, VECTORS),
            load_calibration_data({"x": changed, "labels": labels}, VECTORS),
            load_calibration_data({"x": x}, VECTORS),
            same.subset(order[::-1]),
            same.subset(order[:9]),
        ]
        assert self.data.fingerprint["samples"] == 10
        assert same.fingerprint == same.subset(order).fingerprint == self.data.fingerprint
        hashes = {data.fingerprint["sha256"] for data in (self.data, *others)}
        assert len(hashes) == 6
