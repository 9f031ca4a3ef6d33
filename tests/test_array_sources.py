"""Arrays in memory and in .npy and .npz files as calibration data."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calibration_inputs import IMAGES, TEXT, VECTORS, everything, refused, spec

from onnx_unipts.calibration import Preprocessing, load_calibration_data


class TestArrays:
    def test_a_dict_of_arrays_in_the_order_of_the_model(self) -> None:
        arrays = {"weights": np.ones((5, 6)), "ids": np.ones((5, 6), np.int32)}
        data = load_calibration_data(arrays, TEXT)
        batch = everything(data)
        assert list(batch) == ["ids", "weights"]
        assert batch["ids"].dtype == np.int64
        assert batch["weights"].dtype == np.float32
        assert data.labels is None

    def test_one_array_feeds_the_only_input(self) -> None:
        assert len(load_calibration_data(np.ones((5, 4)), VECTORS)) == 5
        with refused(r"one array feeds one input, but the model has 2 \(ids, weights\)"):
            load_calibration_data(np.ones((5, 4)), TEXT)

    def test_another_name_is_taken_where_no_mistake_is_possible(self) -> None:
        data = load_calibration_data({"images": np.ones((5, 4)), "labels": np.arange(5)}, VECTORS)
        assert "'images' is taken as the input 'x'" in data.warnings[0]
        with refused("expected arrays named x, found a, b; missing: x"):
            load_calibration_data({"a": np.ones((5, 4)), "b": np.ones(5)}, VECTORS)
        with refused("expected arrays named ids, weights, found ids; missing: weights"):
            load_calibration_data({"ids": np.ones((5, 4), np.int64)}, TEXT)
        with refused("found none"):
            load_calibration_data({}, VECTORS)

    def test_what_the_model_does_not_take_is_named(self) -> None:
        data = load_calibration_data({"x": np.ones((5, 4)), "names": np.arange(5)}, VECTORS)
        assert "not used: names" in data.warnings[0]

    @pytest.mark.parametrize(
        ("found", "expected"),
        [
            (np.int64, np.float32),
            (np.uint8, np.float32),
            (np.float32, np.int64),
            (bool, np.int64),
            (np.int64, bool),
            (np.complex64, np.float32),
            (object, np.float32),
        ],
    )
    def test_other_dtypes_are_refused(self, found: Any, expected: Any) -> None:
        message = f"input 'x' has dtype {np.dtype(found)}, expected {np.dtype(expected)}"
        with refused(message):
            load_calibration_data({"x": np.ones((5, 4), found)}, [spec("N", 4, dtype=expected)])

    def test_whole_numbers_are_cast_where_they_fit(self) -> None:
        signature = [spec("N", 1, dtype=np.int32)]
        data = load_calibration_data({"x": np.array([[2**31 - 1]])}, signature)
        assert everything(data)["x"].tolist() == [[2**31 - 1]]
        with refused("which int32 cannot hold"):
            load_calibration_data({"x": np.array([[2**31]])}, signature)
        with refused("which uint8 cannot hold"):
            load_calibration_data({"x": np.array([[-1]])}, [spec("N", 1, dtype=np.uint8)])

    @pytest.mark.parametrize(
        ("shape", "message"),
        [
            ((3, 8, 8), r"shape \[3, 8, 8\], expected \[N, 3, 8, 8\]: the batch axis is missing"),
            ((5, 3, 8, 9), r"shape \[5, 3, 8, 9\], expected \[N, 3, 8, 8\]$"),
            ((5, 8, 8, 3), r"array.transpose\(0, 3, 1, 2\) would fit"),
            ((5, 192), "2 axes instead of 4"),
            ((0, 3, 8, 8), "no samples"),
        ],
    )
    def test_other_shapes_are_refused(self, shape: tuple[int, ...], message: str) -> None:
        with refused(message):
            load_calibration_data({"x": np.ones(shape)}, IMAGES)

    def test_the_inputs_must_agree_in_their_samples(self) -> None:
        with refused(r"differ in their number of samples \(ids 4, weights 5\)"):
            load_calibration_data({"ids": np.ones((4, 3), int), "weights": np.ones((5, 3))}, TEXT)

    def test_samples_along_another_axis_are_told_how_to_come_first(self) -> None:
        signature = [spec("N", 3), spec(2, "N", 5, name="state")]
        arrays = {"x": np.ones((6, 3)), "state": np.ones((2, 6, 5))}
        with refused(
            r"'state' has to be \[N, .*5\] for N samples, as np.moveaxis\(array, 1, 0\) is"
        ):
            load_calibration_data(arrays, signature)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_what_is_not_finite_is_named_by_its_sample(self, value: float) -> None:
        values = np.zeros((5, 4))
        values[3, 1] = value
        with refused(f"input 'x' holds {value} in sample 3"):
            load_calibration_data({"x": values}, VECTORS)

    def test_overflow_in_half_precision_is_named(self) -> None:
        values = np.zeros((5, 4), np.float32)
        values[2] = 1e6
        with refused("holds inf in sample 2; only finite numbers of float16"):
            load_calibration_data({"x": values}, [spec("N", 4, dtype=np.float16)])

    @pytest.mark.parametrize(
        "labels",
        [np.zeros(4), np.zeros(3, int), np.zeros((4, 2), int), np.zeros(4, bool), ["a"] * 4],
    )
    def test_labels_are_one_whole_number_per_sample(self, labels: Any) -> None:
        with refused(r"labels have dtype .* expected whole numbers of shape \[4\]"):
            load_calibration_data({"x": np.ones((4, 4)), "labels": labels}, VECTORS)

    def test_a_column_of_labels_is_accepted(self) -> None:
        arrays = {"x": np.ones((4, 4)), "labels": np.arange(4, dtype=np.uint8)[:, None]}
        labels = load_calibration_data(arrays, VECTORS).labels
        assert labels is not None
        assert labels.dtype == np.int64
        assert labels.tolist() == [0, 1, 2, 3]

    def test_an_input_may_be_called_labels(self) -> None:
        data = load_calibration_data({"labels": np.ones((4, 4))}, [spec("N", 4, name="labels")])
        assert data.labels is None
        assert data.input_names == ["labels"]

    def test_a_random_subset_keeps_the_labels(self) -> None:
        arrays = {"x": np.arange(20.0).reshape(20, 1), "labels": np.arange(20)}
        data = load_calibration_data(arrays, [spec("N", 1)], num_samples=7, seed=5)
        assert data.labels is not None
        assert len(data) == 7
        assert everything(data)["x"][:, 0].tolist() == data.labels.tolist()

    def test_pixel_options_are_not_ignored_in_silence(self) -> None:
        options = Preprocessing(mean=(0.5,))
        data = load_calibration_data({"x": np.ones((4, 4))}, VECTORS, options)
        assert "fed as they are" in data.warnings[0]


class TestFiles:
    def test_npy(self, tmp_path: Path) -> None:
        path = tmp_path / "x.npy"
        np.save(path, np.arange(20.0).reshape(5, 4))
        data = load_calibration_data(path, VECTORS)
        assert everything(data)["x"].dtype == np.float32
        assert data.warnings == []
        assert str(path) in data.description
        with refused(r"x.npy with one array feeds one input"):
            load_calibration_data(path, TEXT)

    def test_npz(self, tmp_path: Path) -> None:
        path = tmp_path / "x.npz"
        np.savez_compressed(path, x=np.arange(20.0).reshape(5, 4), labels=np.arange(5))
        data = load_calibration_data(str(path), VECTORS)
        assert data.labels is not None
        assert data.labels.tolist() == [0, 1, 2, 3, 4]

    def test_a_directory_of_npz_is_joined_by_name(self, tmp_path: Path) -> None:
        for number, count in enumerate((2, 1, 3)):
            arrays = {"x": np.full((count, 4), float(number)), "labels": np.full(count, number)}
            np.savez(tmp_path / f"{number}.npz", **arrays)
        data = load_calibration_data(tmp_path, VECTORS)
        assert data.labels is not None
        assert data.labels.tolist() == [0, 0, 1, 2, 2, 2]
        assert everything(data)["x"][:, 0].tolist() == [0, 0, 1, 2, 2, 2]
        np.savez(tmp_path / "3.npz", x=np.ones((2, 4)))
        with refused(r"3.npz: no labels, but .*0.npz has them"):
            load_calibration_data(tmp_path, VECTORS)

    def test_files_of_one_directory_need_one_shape(self, tmp_path: Path) -> None:
        for length in (3, 4):
            ids, weights = np.ones((2, length), int), np.ones((2, length))
            np.savez(tmp_path / f"{length}.npz", ids=ids, weights=weights)
        with refused(r"4.npz: input 'ids' has samples of shape \[4\], but .*3.npz has \[3\]"):
            load_calibration_data(tmp_path, TEXT)

    def test_pickled_objects_are_refused_unread(self, tmp_path: Path) -> None:
        class Bomb:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.touch, (tmp_path / "exploded",))

        objects = np.array([Bomb(), Bomb()], dtype=object)
        np.save(tmp_path / "a.npy", objects, allow_pickle=True)
        np.savez(tmp_path / "b.npz", x=objects)
        (tmp_path / "c.npy").write_bytes(pickle.dumps(Bomb()))
        for name, message in {
            "a.npy": "a.npy: holds pickled objects, which are refused",
            "b.npz": "b.npz: array 'x' holds pickled objects, which are refused",
            "c.npy": "c.npy: a pickle, which is refused",
        }.items():
            with refused(message):
                load_calibration_data(tmp_path / name, VECTORS)
        assert not (tmp_path / "exploded").exists()

    @pytest.mark.parametrize("suffix", ["npy", "npz"])
    def test_damaged_files_are_refused(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"x.{suffix}"
        path.write_text("nothing of the kind")
        with refused(rf"x.{suffix}: not an .{suffix} file"):
            load_calibration_data(path, VECTORS)
        values = np.arange(4000.0).reshape(1000, 4)
        with path.open("wb") as file:
            _ = np.save(file, values) if suffix == "npy" else np.savez(file, x=values)
        whole = path.read_bytes()
        for end in range(0, len(whole), 997):
            path.write_bytes(whole[:end])
            with refused(rf"x.{suffix}"):
                load_calibration_data(path, VECTORS)
        if suffix == "npz":
            path.write_bytes(whole[:500] + b"\0" * 500 + whole[1000:])
            with refused("array 'x' cannot be read"):
                load_calibration_data(path, VECTORS)
