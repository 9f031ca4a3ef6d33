"""Calibration data that is unusual, and yet fed as it is meant, or refused in one clear line."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from calibration_inputs import IMAGES, VECTORS, everything, refused, spec, write_images
from click.testing import CliRunner
from PIL import Image
from small_networks import classifier, draw, network, saved

from onnx_unipts.calibration import (
    Preprocessing,
    input_signature,
    iterable,
    load_calibration_data,
    storage,
)
from onnx_unipts.cli import main


def red(directory: Path) -> Path:
    directory.mkdir()
    Image.new("RGB", (8, 8), (255, 0, 0)).save(directory / "red.png")
    return directory


def test_presets_follow_the_order_of_channels(tmp_path: Path):
    source = red(tmp_path / "images")
    fed = [
        everything(
            load_calibration_data(source, IMAGES, Preprocessing(channel_order=order, **said))
        )
        for order, said in (
            ("rgb", {"preset": "imagenet"}),
            ("bgr", {"preset": "imagenet"}),
            ("bgr", {"mean": (0.406, 0.456, 0.485), "std": (0.225, 0.224, 0.229)}),
        )
    ]
    rgb, bgr, given = (each["x"][0, :, 0, 0] for each in fed)
    np.testing.assert_allclose(bgr, rgb[::-1], rtol=1e-6)
    np.testing.assert_allclose(given, bgr, rtol=1e-6)


def test_there_is_no_bgr_of_four_channels(tmp_path: Path):
    source = red(tmp_path / "images")
    with refused(r"--channel-order bgr is for 3 channels; .* takes 4"):
        load_calibration_data(source, [spec("N", 4, 8, 8)], Preprocessing(channel_order="bgr"))


@pytest.mark.parametrize("name", ["a.pgm", "a.png", "a.tiff"])
def test_sixteen_bits_of_grey_are_all_of_the_range(tmp_path: Path, name: str):
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / name)
    fed = everything(load_calibration_data(tmp_path, [spec("N", 1, 8, 8)]))["x"]
    np.testing.assert_allclose(fed[0, 0], values / 65535, atol=0.005)


def test_grey_of_floats_is_that_of_its_range_or_none(tmp_path: Path):
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    for name, scale in (("a", 1), ("b", 255), ("c", 1000)):
        Image.fromarray(values * np.float32(scale)).save(tmp_path / f"{name}.tiff")
    data = load_calibration_data(tmp_path, [spec("N", 1, 8, 8)])
    for each in everything(data)["x"]:
        np.testing.assert_allclose(each[0], values, atol=0.003)
    assert data.skipped == 1
    assert "c.tiff (grey values of 0 to 1000 have no known range" in data.warnings[0]


def test_a_long_thin_image_takes_no_more_than_its_frame(tmp_path: Path):
    Image.fromarray(np.tile(np.arange(0, 250, dtype=np.uint8), 32)[None]).save(tmp_path / "a.png")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    fed = everything(load_calibration_data(tmp_path, [spec("N", 1, 256, 256)]))["x"]
    assert fed.shape == (1, 1, 256, 256)
    assert np.ptp(fed) > 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_links_to_where_one_is_are_not_followed(tmp_path: Path):
    write_images(tmp_path / "data", ["cat/a.png", "dog/b.png"])
    (tmp_path / "data" / "cat" / "again").symlink_to(tmp_path / "data")
    write_images(tmp_path / "other", ["c.png"])
    (tmp_path / "data" / "dog" / "more").symlink_to(tmp_path / "other")
    data = load_calibration_data(tmp_path / "data", IMAGES)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 1]


def test_directories_that_link_to_each_other_are_walked_once(tmp_path: Path):
    write_images(tmp_path, ["a/x.png", "b/y.png"])
    (tmp_path / "a" / "l").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "l").symlink_to(tmp_path / "a")
    assert len(load_calibration_data(tmp_path, IMAGES)) == 4


def test_hidden_arrays_are_no_data(tmp_path: Path):
    write_images(tmp_path, ["a.png", "__b__/c.jfif", "d/e.png"])
    np.savez(tmp_path / ".cache.npz", x=np.zeros(3))
    assert len(load_calibration_data(tmp_path, IMAGES)) == 3
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 4), np.float32))
    (tmp_path / "._x.npz").write_bytes(b"of another system")
    assert len(load_calibration_data(tmp_path, VECTORS)) == 2


def test_what_a_script_prints_is_no_result(tmp_path: Path):
    script = tmp_path / "s.py"
    script.write_text(
        "import numpy as np\nprint('hello')\n\n\ndef load_data():\n    for _ in range(3):\n"
        "        print('batch')\n        yield {'x': np.zeros((16, 3, 8, 8), np.float32)}\n"
    )
    path = saved(classifier(), tmp_path)
    words = ["evaluate", str(path), str(path), "--data", str(script), "--json"]
    done = CliRunner().invoke(main, words)
    assert json.loads(done.stdout)["data"]["samples"] == 48
    assert done.stderr.count("batch") == 3


def table_model(body: str) -> ir.Model:
    tensors = draw(0, items=(50, 4), users=(1000, 4)) | {"zero": np.array(0), "one": np.array(1)}
    return ir.from_proto(network(f"net (int64[N,2] ids) => (float[n,c] y) {{{body}}}", tensors))


def test_ids_beyond_the_table_are_refused():
    (ids,) = input_signature(table_model("e = Gather (items, ids) y = Flatten (e)"))
    good = np.array([[0, 49], [-50, 3]])
    assert len(load_calibration_data({"ids": good}, [ids])) == 2
    for beyond, held in (([[0, 50]], "0 to 50"), ([[-51, 3]], "-51 to 3")):
        with refused(rf"input 'ids' holds {held}, but the model has a table of 50"):
            load_calibration_data({"ids": np.array(beyond)}, [ids])


def test_ids_of_several_tables_are_left_to_the_model():
    (ids,) = input_signature(
        table_model(
            "u = Gather <axis = 1> (ids, zero) i = Gather <axis = 1> (ids, one) "
            "a = Gather (users, u) b = Gather (items, i) y = Add (a, b)"
        )
    )
    assert len(load_calibration_data({"ids": np.array([[990, 3]])}, [ids])) == 1


class Grad:
    """As a tensor of a framework that will not be converted."""

    def __array__(self, *_: object) -> np.ndarray:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad\nmore")


class Silent:
    """Raises without a word."""

    def __array__(self, *_: object) -> np.ndarray:
        raise TypeError


def test_a_script_ends_before_its_result_is_shown(tmp_path: Path):
    script = tmp_path / "s.py"
    script.write_text(
        "import numpy as np\n\n\ndef load_data():\n    try:\n        while True:\n"
        "            yield {'x': np.zeros((16, 3, 8, 8), np.float32)}\n"
        "    finally:\n        print('closing')\n"
    )
    path = saved(classifier(), tmp_path)
    words = ["evaluate", str(path), str(path), "--data", str(script), "--num-samples", "32"]
    done = CliRunner().invoke(main, [*words, "--json"])
    assert json.loads(done.stdout)["data"]["samples"] == 32
    assert "closing" in done.stderr


@pytest.mark.parametrize("values", [[[1.0], [1.0, 2.0]], Grad(), Silent()])
def test_what_cannot_become_an_array_is_named(values: object):
    def batches() -> Iterator[dict[str, object]]:
        yield {"x": np.zeros((2, 4), np.float32)}
        yield {"x": values}

    with refused(r"generator, batch 1: 'x' cannot become an array"):
        load_calibration_data(batches(), VECTORS)


def test_many_small_batches_take_few_files(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(storage, "IN_MEMORY", 1 << 12)
    monkeypatch.setattr(iterable, "TOGETHER", 1 << 14)
    mapped = []
    make = storage._mapped

    def counting(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        mapped.append(shape)
        return make(shape, dtype)

    monkeypatch.setattr(storage, "_mapped", counting)
    rows = np.random.default_rng(0).standard_normal((4000, 4)).astype(np.float32)
    data = load_calibration_data(({"x": row[None]} for row in rows), VECTORS)
    np.testing.assert_array_equal(everything(data)["x"], rows)
    assert len(mapped) < 12


def test_tables_of_numbers_for_a_model_of_one_input(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("x,y\n1,2\n3,4\n")
    assert everything(load_calibration_data(path, [spec("N", 2)]))["x"].tolist() == [[1, 2], [3, 4]]
    path.write_text("x,y\n1,2\n3,4\n")
    assert everything(load_calibration_data(path, [spec("N", 1)]))["x"].tolist() == [[1], [3]]
    path.write_text("a,class,target\n1,2,0\n")
    with refused("class and target could both hold the labels"):
        load_calibration_data(path, [spec("N", 1)])
    path.write_text("a,label\n1,99999999999999999999\n")
    with refused("is not the number of a class"):
        load_calibration_data(path, [spec("N", 1)])


def test_tables_of_labels_say_what_is_wrong_with_them(tmp_path: Path):
    write_images(tmp_path, ["a.png"])
    for text, message in (
        ("a.png,-1\n", "line 1 is 'a.png,-1'"),
        ("a.png,1\na.png,2\n", "line 2 gives a.png another label than before"),
        ("a.png,99999999999999999999\n", "expected file,label"),
    ):
        (tmp_path / "labels.csv").write_text(text)
        with refused(message):
            load_calibration_data(tmp_path, IMAGES)


def test_a_table_of_labels_may_begin_with_the_mark_of_its_encoding(tmp_path: Path):
    write_images(tmp_path, ["a.png", "b.png"])
    (tmp_path / "labels.csv").write_text("a.png,1\nb.png,0\n", encoding="utf-8-sig")
    data = load_calibration_data(tmp_path, IMAGES)
    assert data.labels is not None
    assert data.labels.tolist() == [1, 0]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_directory_without_permission_is_named(tmp_path: Path):
    closed = tmp_path / "closed"
    write_images(closed, ["a.png"])
    closed.chmod(0)
    try:
        with refused("closed: no permission to read it|cannot be read"):
            load_calibration_data(closed, IMAGES)
    finally:
        closed.chmod(0o700)
