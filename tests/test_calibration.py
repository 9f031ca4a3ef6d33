"""Calibration data: what each source yields, what it refuses, and how images become inputs."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnxruntime.quantization import CalibrationDataReader
from PIL import Image

from onnx_unipts.calibration import (
    CalibrationData,
    InputSpec,
    Preprocessing,
    input_signature,
    load_calibration_data,
    parse_input_shapes,
    require_batch,
)
from onnx_unipts.calibration.data import ArrayColumn, ImageColumn
from onnx_unipts.calibration.preprocessing import Normalization
from onnx_unipts.calibration.source import sources
from onnx_unipts.graph.errors import UsageError

SHARED = Path(__file__).parents[2] / "shared"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FLOAT = np.dtype(np.float32)


def spec(*shape: int | str | None, name: str = "x", dtype: Any = np.float32) -> InputSpec:
    return InputSpec(name, np.dtype(dtype), shape)


IMAGES = [spec("N", 3, 8, 8)]
VECTORS = [spec("N", 4)]
TEXT = [spec("N", "length", name="ids", dtype=np.int64), spec("N", "length", name="weights")]


def model(text: str) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(text))


def picture(size: tuple[int, int] = (8, 8), seed: int = 0) -> Image.Image:
    width, height = size
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values)


def write_images(directory: Path, names: list[str], size: tuple[int, int] = (8, 8)) -> Path:
    for seed, name in enumerate(names):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(size, seed).save(path)
    return directory


def everything(data: CalibrationData) -> dict[str, np.ndarray]:
    return data.batch(np.arange(len(data)))


def refused(match: str) -> Any:
    return pytest.raises(UsageError, match=match)


class TestSignature:
    def test_lists_the_inputs_that_are_fed(self) -> None:
        read = input_signature(
            model(
                """<ir_version: 3, opset_import: ["" : 8]>
                g (float[N, 3] x, int64[2, length] ids, float[3] w) => (float[N, 3] y)
                <float[3] w = {1, 2, 3}> { y = Add(x, w) }"""
            )
        )
        assert read == [
            InputSpec("x", np.dtype(np.float32), ("N", 3)),
            InputSpec("ids", np.dtype(np.int64), (2, "length")),
        ]

    def test_a_negative_axis_is_dynamic(self) -> None:
        graph = model("<ir_version: 8, opset_import: ['' : 17]> g () => () {}".replace("'", '"'))
        graph.graph.inputs.append(
            ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([-1, 3]))
        )
        assert input_signature(graph)[0].shape == (None, 3)

    def test_input_shape_fixes_dynamic_axes_but_the_first(self) -> None:
        graph = model(
            """<ir_version: 8, opset_import: ["" : 17]>
            g (float[N, 3, h, w] x) => (float[N, 3, h, w] y) { y = Relu(x) }"""
        )
        for text in ("x:1,3,16,24", "1,3,16,24"):
            shapes = parse_input_shapes([text])
            assert input_signature(graph, shapes)[0].shape == ("N", 3, 16, 24)
        with refused(r"x:1,4,16,24 contradicts the model, .* \[N, 3, h, w\]"):
            input_signature(graph, parse_input_shapes(["x:1,4,16,24"]))
        with refused(r"contradicts"):
            input_signature(graph, parse_input_shapes(["x:1,3,16"]))
        with refused(r"names 'y', but the model's inputs are x"):
            input_signature(graph, parse_input_shapes(["y:1,3,16,24"]))

    def test_the_name_is_what_stands_before_the_last_colon(self) -> None:
        assert parse_input_shapes(["serving/x:0:1,3,8,8", "7,2"]) == {
            "serving/x:0": (1, 3, 8, 8),
            "": (7, 2),
        }

    @pytest.mark.parametrize("text", ["x:", "x", "x:1,a", "x:1,-3", "x:0,3", "x:1,,3", ""])
    def test_a_malformed_input_shape_is_refused(self, text: str) -> None:
        with refused("expected NAME:D0,D1"):
            parse_input_shapes([text])

    def test_a_shape_given_twice_is_refused(self) -> None:
        with refused("'x' twice"):
            parse_input_shapes(["x:1,3", "x:1,4"])


class Reader(CalibrationDataReader):
    def __init__(self, batches: list[dict[str, np.ndarray]]) -> None:
        self.batches = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]
        return next(self.batches, None)


class TestChoice:
    def test_every_kind_of_source_matches_exactly_one_plugin(self, tmp_path: Path) -> None:
        images = write_images(tmp_path / "images", ["a.png"])
        arrays = tmp_path / "arrays"
        arrays.mkdir()
        np.savez(arrays / "a.npz", x=np.ones(3))
        np.save(arrays / "a.npy", np.ones(3))
        for name in ("a.csv", "b.TSV", "a.txt", "a.wav"):
            (arrays / name).write_text("")
        recordings = tmp_path / "recordings"
        (recordings / "deeper").mkdir(parents=True)
        (recordings / "deeper" / "a.wav").write_text("")
        script = tmp_path / "data.py"
        script.write_text("")
        given_as = {
            "synthetic": [None, "synthetic"],
            "csv": [arrays / "a.csv", arrays / "b.TSV"],
            "text": [arrays / "a.txt"],
            "wav": [arrays / "a.wav", recordings],
            "image-directory": [images, str(images)],
            "npz-directory": [arrays],
            "npz": [arrays / "a.npz"],
            "npy": [arrays / "a.npy"],
            "script": [script, str(script), f"{script}:function"],
            "arrays": [{"x": 1}, np.ones(3)],
            "iterable": [[{}], iter([{}]), ({} for _ in "a")],
            "data-reader": [Reader([])],
        }
        assert sorted(given_as) == list(sources)
        for kind, examples in given_as.items():
            for example in examples:
                assert [name for name in sources if sources[name].matches(example)] == [kind]

    def test_unknown_sources_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.doc").write_text("")
        for source, message in {
            str(tmp_path / "nowhere"): "no such file or directory",
            "nowhere.py:load": "no such file or directory",
            tmp_path / "a.doc": "not a kind that can be read",
            3: "cannot be a int",
            "": "no path",
        }.items():
            with refused(message):
                load_calibration_data(source, VECTORS)

    def test_a_model_that_cannot_be_fed_is_refused(self) -> None:
        with refused("no inputs"):
            load_calibration_data(None, [])
        with refused(r"n \(int64 \[\]\) is a scalar"):
            load_calibration_data(None, [spec("N", 4), spec(name="n", dtype=np.int64)])

    def test_num_samples_must_be_positive(self) -> None:
        with refused("--num-samples is 0"):
            load_calibration_data(None, VECTORS, num_samples=0)


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


def moved_by_definition(images: np.ndarray, dy: int, dx: int, flip: bool) -> np.ndarray:
    """Pad all sides of (channels, height, width) by their mirror image, crop, mirror."""
    _, height, width = images.shape
    tall, wide = height // 8, width // 8
    padded = np.pad(images, ((0, 0), (tall, tall), (wide, wide)), mode="reflect")
    window = padded[:, dy : dy + height, dx : dx + width]
    return window[:, :, ::-1] if flip else window


class TestAugmentation:
    @pytest.mark.parametrize("layout", ["nchw", "nhwc"])
    def test_every_image_is_a_padded_crop_of_its_original(self, layout: Any) -> None:
        rng = np.random.default_rng(0)
        pixels = rng.integers(1, 256, (40, 3, 16, 24), np.uint8)
        stored = pixels if layout == "nchw" else pixels.transpose(0, 2, 3, 1)
        column = ImageColumn(stored, layout, None, np.dtype(np.uint8))
        data = CalibrationData({"x": column}, description="")
        moved = data.augmented(np.arange(40), np.random.default_rng(7))["x"]
        moved = moved if layout == "nchw" else moved.transpose(0, 3, 1, 2)
        found = []
        for image, result in zip(pixels, moved, strict=True):
            candidates = [
                (dy, dx, flip)
                for dy in range(5)
                for dx in range(7)
                for flip in (False, True)
                if np.array_equal(moved_by_definition(image, dy, dx, flip), result)
            ]
            assert len(candidates) == 1
            found += candidates
        downs, rights, flips = zip(*found, strict=True)
        assert set(downs) == set(range(5))
        assert set(rights) == set(range(7))
        assert 8 < sum(flips) < 32

    def test_it_is_a_matter_of_the_generator_alone(self) -> None:
        data = load_calibration_data(None, IMAGES, num_samples=16)
        indices = np.arange(16)
        first = data.augmented(indices, np.random.default_rng(3))["x"]
        again = data.augmented(indices, np.random.default_rng(3))["x"]
        other = data.augmented(indices, np.random.default_rng(4))["x"]
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_the_pixels_stay_those_of_the_image(self) -> None:
        white = np.full((64, 3, 8, 8), 255, np.uint8)
        normalization = Normalization.of(Preprocessing(mean=MEAN, std=STD), 3)
        data = CalibrationData(
            {"x": ImageColumn(white, "nchw", normalization, FLOAT)}, description=""
        )
        moved = data.augmented(np.arange(64), np.random.default_rng(0))["x"]
        np.testing.assert_array_equal(moved, data.batch(np.arange(64))["x"])

    def test_inputs_of_one_sample_move_together(self) -> None:
        images = np.random.default_rng(0).random((8, 3, 16, 16)).astype(np.float32) + 1
        columns = {"a": ArrayColumn(images, "nchw"), "b": ArrayColumn(images, "nchw")}
        moved = CalibrationData(columns, description="").augmented(
            np.arange(8), np.random.default_rng(0)
        )
        np.testing.assert_array_equal(moved["a"], moved["b"])

    def test_arrays_move_only_on_request(self) -> None:
        images = np.random.default_rng(0).random((8, 3, 16, 16)).astype(np.float32)
        specs = [spec("N", 3, 16, 16)]
        rng = np.random.default_rng(0)
        still = load_calibration_data({"x": images}, specs)
        np.testing.assert_array_equal(still.augmented(np.arange(8), rng)["x"], images)
        moving = load_calibration_data({"x": images}, specs, Preprocessing(augment_arrays=True))
        moved = moving.augmented(np.arange(8), rng)["x"]
        assert not np.array_equal(moved, images)
        assert set(moved.ravel().tolist()) <= set(images.ravel().tolist())

    def test_what_is_no_image_never_moves(self) -> None:
        vectors = np.random.default_rng(0).random((8, 4)).astype(np.float32)
        data = load_calibration_data({"x": vectors}, VECTORS, Preprocessing(augment_arrays=True))
        np.testing.assert_array_equal(
            data.augmented(np.arange(8), np.random.default_rng(0))["x"], vectors
        )


class TestPreprocessing:
    @given(
        hnp.arrays(np.uint8, (2, 3, 4, 5)),
        st.tuples(*[st.floats(-2, 2)] * 3),
        st.tuples(*[st.floats(0.01, 2)] * 3),
    )
    @settings(max_examples=50, deadline=None)
    def test_pixels_become_what_the_formula_says(self, pixels: Any, mean: Any, std: Any) -> None:
        normalization = Normalization.of(Preprocessing(mean=mean, std=std), 3)
        values = ImageColumn(pixels, "nchw", normalization, FLOAT).batch(np.arange(2))
        shape = (3, 1, 1)
        expected = (pixels / 255 - np.reshape(mean, shape)) / np.reshape(std, shape)
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-4)
        last = ImageColumn(pixels.transpose(0, 2, 3, 1), "nhwc", normalization, FLOAT)
        np.testing.assert_allclose(last.batch(np.arange(2)).transpose(0, 3, 1, 2), values)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"std": (1.0, 0.0, 1.0)}, "must be above 0"),
            ({"mean": (float("nan"),)}, "only finite"),
            ({"crop": 0}, "at least 1"),
            ({"resize": -1}, "at least 1"),
            ({"resize": 8, "crop": 9}, "smaller than --crop"),
            ({"layout": "hwc"}, "allowed are nchw and nhwc"),
        ],
    )
    def test_numbers_that_cannot_be_meant(self, options: dict[str, Any], message: str) -> None:
        with refused(message):
            Preprocessing(**options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (Preprocessing(mean=(0.5, 0)), "--mean has 2 numbers, but the model's input has 3 "),
            (Preprocessing(std=(1.0, 1.0)), "--std has 2 numbers"),
            (Preprocessing(crop=7), "--crop 7 contradicts .* height is 8"),
            (Preprocessing(resize=7), "--resize 7 is smaller"),
            (Preprocessing(layout="nhwc"), "--layout nhwc contradicts .* 8 channels"),
        ],
    )
    def test_options_against_the_model(
        self, tmp_path: Path, options: Preprocessing, message: str
    ) -> None:
        with refused(message):
            load_calibration_data(write_images(tmp_path, ["a.png"]), IMAGES, options)


class TestImageDirectory:
    def test_pixels_and_order(self, tmp_path: Path) -> None:
        write_images(tmp_path, ["b.png", "a.png", "c.webp", "d.BMP"])
        data = load_calibration_data(tmp_path, [spec("N", 3, 8, 8)])
        assert len(data) == 4
        assert data.labels is None
        first = np.asarray(picture(seed=1), np.float32).transpose(2, 0, 1) / 255
        np.testing.assert_allclose(data.batch(np.array([0]))["x"][0], first, rtol=1e-6)
        last = load_calibration_data(tmp_path, [spec("N", 8, 8, 3)])
        np.testing.assert_array_equal(
            everything(last)["x"].transpose(0, 3, 1, 2), everything(data)["x"]
        )

    def test_labels_are_the_alphabetical_index_of_the_subdirectory(self, tmp_path: Path) -> None:
        write_images(tmp_path, ["dog/a.png", "cat/b.png", "dog/deep/c.png", ".hidden/d.png"])
        (tmp_path / "ape").mkdir()  # a class without images still counts
        data = load_calibration_data(tmp_path, IMAGES)
        assert data.labels is not None
        assert data.labels.dtype == np.int64
        assert data.labels.tolist() == [1, 2, 2]

    def test_whole_numbers_as_subdirectories_are_the_labels(self, tmp_path: Path) -> None:
        write_images(tmp_path, ["10/a.png", "9/b.png", "007/c.png"])
        data = load_calibration_data(tmp_path, IMAGES)
        assert data.labels is not None
        assert data.labels.tolist() == [7, 10, 9]

    def test_no_labels_where_none_are_meant(self, tmp_path: Path) -> None:
        write_images(tmp_path / "one", ["images/a.png", "images/b.png"])
        write_images(tmp_path / "mixed", ["cat/a.png", "dog/b.png", "c.png"])
        for name, message in (("one", "single subdirectory, images"), ("mixed", "beside them")):
            data = load_calibration_data(tmp_path / name, IMAGES)
            assert data.labels is None
            assert message in data.warnings[0]

    def test_a_table_of_labels(self, tmp_path: Path) -> None:
        write_images(tmp_path, ["a.png", "b.png", "sub/c.png"])
        table = tmp_path / "labels.csv"
        table.write_text("file,label\nsub/c.png,5\nb.png, 3\n\na.png,4\ngone.png,1\n")
        data = load_calibration_data(tmp_path, IMAGES)
        assert data.labels is not None
        assert data.labels.tolist() == [4, 3, 5]
        assert "1 missing images, the first is gone.png" in data.warnings[0]
        table.write_text("a.png,4\nb.png,cat\n")
        with refused(r"labels.csv: line 2 is 'b.png,cat'; expected file,label"):
            load_calibration_data(tmp_path, IMAGES)
        table.write_text("a.png,4\n")
        with refused(r"2 of 3 images have no label, the first is b.png"):
            load_calibration_data(tmp_path, IMAGES)

    def test_corrupt_images_are_skipped_and_counted(self, tmp_path: Path) -> None:
        write_images(tmp_path, [f"{label}/{n}.png" for label in "ab" for n in range(4)])
        bad = tmp_path / "a" / "1.png"
        bad.write_bytes(bad.read_bytes()[:60])
        (tmp_path / "b" / "0.jpg").write_text("no image")
        (tmp_path / "b" / "notes.txt").write_text("ignored")
        data = load_calibration_data(tmp_path, IMAGES)
        assert (len(data), data.skipped) == (7, 2)
        assert data.labels is not None
        assert data.labels.tolist() == [0] * 3 + [1] * 4
        assert "skipped 2 unreadable images" in data.warnings[0]
        assert str(bad) in data.warnings[0]
        whole = np.asarray(picture(seed=2), np.float32).transpose(2, 0, 1) / 255
        np.testing.assert_allclose(data.batch(np.array([1]))["x"][0], whole, rtol=1e-6)

    def test_corrupt_images_are_replaced_in_a_random_subset(self, tmp_path: Path) -> None:
        write_images(tmp_path, [f"{n}.png" for n in range(10)])
        for number in range(4):
            (tmp_path / f"{number}.png").write_text("no image")
        for seed in range(5):
            data = load_calibration_data(tmp_path, IMAGES, num_samples=6, seed=seed)
            expected = [np.asarray(picture(seed=n)).transpose(2, 0, 1) / 255 for n in range(4, 10)]
            np.testing.assert_allclose(everything(data)["x"], expected, rtol=1e-6)

    def test_directories_without_a_readable_image_are_refused(self, tmp_path: Path) -> None:
        with refused("holds no images"):
            load_calibration_data(tmp_path, IMAGES)
        (tmp_path / "a.png").write_text("no image")
        with refused(r"none of 1 images can be read, the first is a.png"):
            load_calibration_data(tmp_path, IMAGES)
        with refused(r"none of 1 images can be read"):
            load_calibration_data(tmp_path, [spec("N", 3, "h", "w")])

    def test_a_random_subset_by_seed(self, tmp_path: Path) -> None:
        write_images(tmp_path, [f"{n % 3}/{n}.png" for n in range(30)])
        full = load_calibration_data(tmp_path, IMAGES)
        one = load_calibration_data(tmp_path, IMAGES, num_samples=12, seed=1)
        again = load_calibration_data(tmp_path, IMAGES, num_samples=12, seed=1)
        other = load_calibration_data(tmp_path, IMAGES, num_samples=12, seed=2)
        x, all_x = everything(one)["x"], everything(full)["x"]
        np.testing.assert_array_equal(x, everything(again)["x"])
        assert not np.array_equal(x, everything(other)["x"])
        rows = [int(np.flatnonzero((all_x == image).all(axis=(1, 2, 3)))[0]) for image in x]
        assert rows == sorted(set(rows))
        assert full.labels is not None
        assert one.labels is not None
        np.testing.assert_array_equal(one.labels, full.labels[rows])
        few = load_calibration_data(tmp_path, IMAGES, num_samples=31)
        assert len(few) == 30
        assert "31 samples were asked for" in few.warnings[0]

    def test_other_sizes_are_resized_by_the_shorter_side_and_cropped(self, tmp_path: Path) -> None:
        values = np.zeros((20, 40, 3), np.uint8)
        values[:, 8:32] = 255
        Image.fromarray(values).save(tmp_path / "a.png")
        data = load_calibration_data(tmp_path, [spec("N", 3, 10, 10)])
        assert everything(data)["x"].min() > 0.9

    def test_resize_and_crop_give_what_pillow_gives(self, tmp_path: Path) -> None:
        write_images(tmp_path, ["a.png"], size=(50, 40))
        data = load_calibration_data(
            tmp_path, [spec("N", 3, 16, 16)], Preprocessing(resize=20, crop=16)
        )
        resized = picture((50, 40)).resize((25, 20), Image.Resampling.BILINEAR)
        expected = np.asarray(resized.crop((4, 2, 20, 18)), np.float32) / 255
        np.testing.assert_allclose(everything(data)["x"][0].transpose(1, 2, 0), expected, rtol=1e-6)

    def test_a_crop_alone_does_not_resize(self, tmp_path: Path) -> None:
        write_images(tmp_path, ["a.png"], size=(20, 12))
        options = Preprocessing(crop=8)
        data = load_calibration_data(tmp_path, [spec("N", 3, "h", "w")], options)
        expected = np.asarray(picture((20, 12)))[2:10, 6:14] / 255
        np.testing.assert_allclose(everything(data)["x"][0].transpose(1, 2, 0), expected, rtol=1e-6)

    def test_large_jpeg_files_decode_at_less(self, tmp_path: Path) -> None:
        y, x = np.mgrid[0:600, 0:800]
        values = np.stack([x * 255 / 800, y * 255 / 600, (x + y) * 255 / 1400], -1)
        image = Image.fromarray(values.astype(np.uint8))
        image.save(tmp_path / "a.jpg", quality=95)
        data = load_calibration_data(tmp_path, [spec("N", 3, 60, 80)])
        expected = np.asarray(image.resize((80, 60), Image.Resampling.BILINEAR)) / 255
        found = everything(data)["x"][0].transpose(1, 2, 0)
        assert np.abs(found - expected).max() < 0.03

    def test_an_open_size_is_that_of_the_images(self, tmp_path: Path) -> None:
        write_images(tmp_path, ["a.png", "b.png"], size=(12, 10))
        data = load_calibration_data(tmp_path, [spec("N", 3, None, "w")])
        assert everything(data)["x"].shape == (2, 3, 10, 12)
        picture((13, 10)).save(tmp_path / "c.png")
        with refused(r"differ \(a.png is 12x10, c.png 13x10\); give --crop or --input-shape"):
            load_calibration_data(tmp_path, [spec("N", 3, None, "w")])

    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "1", "I;16"])
    def test_all_colour_modes_become_the_channels_of_the_model(
        self, tmp_path: Path, mode: str
    ) -> None:
        suffix = "tif" if mode == "CMYK" else "png"
        grey = Image.fromarray(np.full((8, 8), 255, np.uint8))
        if mode == "I;16":
            grey = Image.fromarray(np.full((8, 8), 65535, np.uint16))
        else:
            grey = grey.convert(mode)
        grey.save(tmp_path / f"a.{suffix}")
        for channels in (1, 3, 4):
            data = load_calibration_data(tmp_path, [spec("N", channels, 8, 8)])
            np.testing.assert_allclose(everything(data)["x"], 1, atol=0.01)

    def test_sixteen_bits_keep_their_range(self, tmp_path: Path) -> None:
        ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
        Image.fromarray(ramp).save(tmp_path / "a.png")
        data = load_calibration_data(tmp_path, [spec("N", 1, 8, 8)])
        np.testing.assert_allclose(everything(data)["x"][0, 0], ramp / 65535, atol=0.005)

    def test_the_dtype_of_the_model_is_fed(self, tmp_path: Path) -> None:
        write_images(tmp_path, ["a.png"])
        for dtype in (np.float16, np.float64):
            data = load_calibration_data(tmp_path, [spec("N", 3, 8, 8, dtype=dtype)])
            assert everything(data)["x"].dtype == dtype
        pixels = load_calibration_data(tmp_path, [spec("N", 8, 8, 3, dtype=np.uint8)])
        np.testing.assert_array_equal(everything(pixels)["x"][0], np.asarray(picture()))

    @pytest.mark.parametrize(
        ("signature", "message"),
        [
            ([spec("N", 3, 8, 3)], "both axis 1 and the last axis"),
            ([spec("N", "c", "h", "w")], "neither axis 1 nor the last axis .* --layout"),
            ([spec("N", 64)], "takes no images"),
            ([spec("N", 3, 8, 8, dtype=np.int64)], "takes no images"),
            ([*IMAGES, spec("N", 4, name="y")], r"the model has 2 \(x, y\)"),
        ],
    )
    def test_models_that_images_do_not_fit(
        self, tmp_path: Path, signature: list[InputSpec], message: str
    ) -> None:
        with refused(message):
            load_calibration_data(write_images(tmp_path, ["a.png"]), signature)

    def test_layout_decides_where_the_shape_does_not(self, tmp_path: Path) -> None:
        write_images(tmp_path, ["a.png"], size=(3, 8))
        for layout in ("nchw", "nhwc"):
            data = load_calibration_data(
                tmp_path,
                [spec("N", 3, 8, 3)],
                Preprocessing(layout=layout),  # type: ignore[arg-type]
            )
            assert everything(data)["x"].shape == (1, 3, 8, 3)

    def test_the_description_says_what_was_assumed(self, tmp_path: Path) -> None:
        write_images(tmp_path, ["a/a.png", "b/b.png"])
        data = load_calibration_data(tmp_path, IMAGES, Preprocessing(mean=MEAN, std=STD))
        assert data.description == (
            f"2 images of 8x8x3 in 2 classes from {tmp_path}, NCHW, "
            "mean 0.485,0.456,0.406, std 0.229,0.224,0.225"
        )


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


class TestSynthetic:
    def test_it_is_a_matter_of_the_seed(self) -> None:
        signature = [*IMAGES, spec("N", "length", name="ids", dtype=np.int64)]
        first, again = (everything(load_calibration_data(None, signature, seed=3)) for _ in "ab")
        other = everything(load_calibration_data(None, signature, seed=4))
        for name in first:
            np.testing.assert_array_equal(first[name], again[name])
            assert not np.array_equal(first[name], other[name])

    def test_images_are_smooth_and_standardized(self) -> None:
        for shape, axis in (((3, 32, 32), 2), ((32, 32, 1), 1)):
            data = load_calibration_data(None, [spec("N", *shape)])
            assert len(data) == 8192
            images = data.batch(np.arange(256))["x"]
            assert images.shape == (256, *shape)
            assert abs(images.mean()) < 0.01
            assert abs(images.std() - 1) < 0.01
            assert np.diff(images, axis=axis).std() < 0.7 * images.std()

    def test_given_mean_and_std_normalize_the_pixels(self) -> None:
        images = everything(
            load_calibration_data(None, IMAGES, Preprocessing(mean=MEAN, std=STD), num_samples=64)
        )["x"]
        pixels = images * np.reshape(STD, (3, 1, 1)) + np.reshape(MEAN, (3, 1, 1))
        assert pixels.min() > -1e-6
        assert pixels.max() < 1 + 1e-6

    def test_each_dtype_and_name_gets_what_it_can_mean(self) -> None:
        signature = [
            spec("N", 3, 16, name="floats"),
            spec("N", 16, name="ids", dtype=np.int32),
            spec("N", 16, name="attention_mask", dtype=np.int64),
            spec("N", 16, name="position_ids", dtype=np.int64),
            spec("N", 16, name="token_type_ids", dtype=np.int64),
            spec("N", 16, name="flags", dtype=bool),
            spec("N", 8, 8, 3, name="pixels", dtype=np.uint8),
            spec("N", 16, name="half", dtype=np.float16),
        ]
        batch = everything(load_calibration_data(None, signature, num_samples=50))
        assert [batch[one.name].dtype for one in signature] == [one.dtype for one in signature]
        assert abs(batch["floats"].std() - 1) < 0.1
        assert 0 <= batch["ids"].min() < batch["ids"].max() < 10
        assert batch["attention_mask"].all()
        assert batch["position_ids"][7].tolist() == list(range(16))
        assert not batch["token_type_ids"].any()
        assert batch["flags"].all()
        assert batch["pixels"].max() > 200

    def test_guessed_axes_agree_and_are_said(self) -> None:
        data = load_calibration_data(None, TEXT, num_samples=2)
        assert {array.shape for array in everything(data).values()} == {(2, 16)}
        assert "guessed, as --input-shape does not say: length = 16" in data.description
        images = load_calibration_data(None, [spec("N", 3, "h", None)], num_samples=2)
        assert everything(images)["x"].shape == (2, 3, 224, 224)
        assert "h = 224, axis 3 of x = 224" in images.description

    def test_the_cost_is_said_and_the_memory_bounded(self) -> None:
        data = load_calibration_data(None, [spec("N", 2**20, name="mask")])
        assert len(data) == 64
        assert "synthetic inputs stand in" in data.warnings[0]

    def test_text_cannot_be_made_up(self) -> None:
        with refused("takes text"):
            load_calibration_data(None, [spec("N", dtype=object)])


def accuracy(path: Path, data: CalibrationData) -> float:
    session = onnxruntime.InferenceSession(path)
    parts = np.array_split(np.arange(len(data)), len(data) // 50)
    scores = np.concatenate([session.run(None, data.batch(part))[0] for part in parts])
    return float(np.mean(scores.argmax(axis=1) == data.labels))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared models and images")
class TestRealModels:
    def test_accuracy_of_resnet20(self) -> None:
        path = SHARED / "models/cifar10/resnet20_folded.onnx"
        data = load_calibration_data(
            SHARED / "data/cifar10/test",
            input_signature(ir.load(path)),
            Preprocessing(mean=MEAN, std=STD),
        )
        assert accuracy(path, data) == pytest.approx(0.822, abs=0.001)

    def test_accuracy_of_mobilenetv2(self) -> None:
        path = SHARED / "models/imagenet/mobilenetv2.onnx"
        centre = (128 / 255,) * 3
        data = load_calibration_data(
            SHARED / "data/imagenet/test",
            input_signature(ir.load(path)),
            Preprocessing(mean=centre, std=centre, resize=256, crop=224),
        )
        assert accuracy(path, data) > 0.85
