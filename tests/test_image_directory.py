"""Directories of images: order, labels, sizes, colours, and what is skipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from calibration_inputs import IMAGES, MEAN, STD, everything, picture, refused, spec, write_images
from PIL import Image

from onnx_unipts.calibration import InputSpec, Preprocessing, load_calibration_data


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
