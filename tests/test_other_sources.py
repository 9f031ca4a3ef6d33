"""Calibration data from tables, recordings and texts."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calibration_inputs import refused, spec

from onnx_unipts.calibration import InputSpec, Preprocessing, load_calibration_data, storage


def everything(source: Any, *signature: InputSpec, **options: Any) -> dict[str, np.ndarray]:
    data = load_calibration_data(source, signature, Preprocessing(**options))
    return data.batch(np.arange(len(data)))


class TestTables:
    def write(self, folder: Path, text: str, name: str = "a.csv") -> Path:
        path = folder / name
        path.write_text(text)
        return path

    def test_columns_are_fed_in_their_order(self, tmp_path: Path) -> None:
        for text in ("a,b,c\n1,2,3\n4,5,6.5\n", "1,2,3\n4,5,6.5\n", "a;b;c\n1;2;3\n\n4;5;6.5\n"):
            fed = everything(self.write(tmp_path, text), spec("N", 3))
            assert fed["x"].tolist() == [[1, 2, 3], [4, 5, 6.5]]
            assert fed["x"].dtype == np.float32
        tabs = self.write(tmp_path, "1\t2\n3\t4\n", "a.tsv")
        assert everything(tabs, spec("N", None, dtype=np.int32))["x"].dtype == np.int32

    def test_a_column_of_labels_is_not_fed(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, "a,Class,b\n1,0,2\n3,7,4\n")
        data = load_calibration_data(path, [spec("N", 2)])
        assert data.labels is not None
        assert data.labels.tolist() == [0, 7]
        assert data.batch(np.arange(2))["x"].tolist() == [[1, 2], [3, 4]]

    def test_one_input_per_column_goes_by_name(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, "town,age,id\nRome,3,9\nOslo,4.5,8\n")
        town = spec("N", 1, name="town", dtype=object)
        fed = everything(path, spec("N", name="age"), town)
        assert fed["age"].tolist() == [3, 4.5]
        assert fed["town"].tolist() == [["Rome"], ["Oslo"]]
        with refused("no column for the model's inputs size; its columns are town, age, id"):
            everything(path, spec("N", 1, name="size"), town)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "holds no lines"),
            ("a,b\n", "a header and no lines"),
            ("1,2\n3\n", "line 2 has 1 columns, expected 2"),
            ("1,2\n3,\n", "line 2, column 2: '' is not a number; .* fill gaps and encode"),
            ("a,b\n1,2\n3,red\n", "line 3, b: 'red' is not a number"),
            ("1,2,3\n", "3 columns to feed, but the model's input x .* takes 2"),
            ("a,b,label\n1,2,cat\n", "line 2, label: 'cat' is not the number of a class"),
            ("1,2\n3,nan\n", "holds nan in sample 1"),
        ],
    )
    def test_bad_tables_are_named_by_line_and_column(
        self, tmp_path: Path, text: str, message: str
    ) -> None:
        with refused(message):
            everything(self.write(tmp_path, text), spec("N", 2))


def write_wav(path: Path, values: np.ndarray, width: int = 2, rate: int = 16000) -> Path:
    """Write ``values`` (frames, channels) of -1..1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scaled = np.clip(np.rint(values * 2.0 ** (8 * width - 1)), -(2.0 ** (8 * width - 1)), None)
    numbers = scaled.astype(np.int64) + (128 if width == 1 else 0)
    frames = numbers[..., None] >> (8 * np.arange(width)) & 255
    with wave.open(str(path), "wb") as file:
        file.setnchannels(values.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(frames.astype(np.uint8).tobytes())
    return path


class TestRecordings:
    wave = np.linspace(-1, 0.9, 20)[:, None]

    @pytest.mark.parametrize("width", [1, 2, 3, 4])
    def test_every_width_becomes_minus_one_to_one(self, tmp_path: Path, width: int) -> None:
        path = write_wav(tmp_path / "a.wav", self.wave, width)
        fed = everything(path, spec("N", 20))["x"]
        np.testing.assert_allclose(fed[0], self.wave[:, 0], atol=2.0 ** (1 - 8 * width))

    def test_recordings_are_cut_to_the_length_of_the_model(self, tmp_path: Path) -> None:
        write_wav(tmp_path / "b" / "2.wav", self.wave[:3])
        write_wav(tmp_path / "a" / "1.wav", self.wave)
        data = load_calibration_data(tmp_path, [spec("N", 1, 8)])
        fed = data.batch(np.arange(len(data)))["x"]
        assert fed.shape == (4, 1, 8)
        np.testing.assert_allclose(fed[:3].reshape(-1)[:20], self.wave[:, 0], atol=1e-4)
        assert not fed[2, 0, 4:].any()
        assert not fed[3, 0, 3:].any()
        assert data.labels is not None
        assert data.labels.tolist() == [0, 0, 0, 1]
        assert "8 values at 16000 Hz from 2 recordings" in data.description

    def test_channels(self, tmp_path: Path) -> None:
        stereo = np.concatenate([self.wave, -self.wave / 2], axis=1)
        path = write_wav(tmp_path / "a.wav", stereo)
        both = everything(path, spec("N", 2, "length"))["x"][0]
        np.testing.assert_allclose(both, stereo.T, atol=1e-4)
        last = everything(path, spec("N", None, 2))["x"][0]
        np.testing.assert_allclose(last, stereo, atol=1e-4)
        mean = everything(path, spec("N", "length"))["x"][0]
        np.testing.assert_allclose(mean, stereo.mean(axis=1), atol=1e-4)
        with refused("has 2 channels, the model takes 4"):
            everything(path, spec("N", 4, 20))

    def test_whole_numbers_where_the_model_takes_them(self, tmp_path: Path) -> None:
        path = write_wav(tmp_path / "a.wav", self.wave, width=1)
        fed = everything(path, spec("N", 20, dtype=np.int16))["x"][0]
        assert fed.dtype == np.int16
        assert fed[0] == -(2**15)

    def test_what_cannot_be_fed_is_refused(self, tmp_path: Path) -> None:
        write_wav(tmp_path / "a.wav", self.wave)
        with refused(r"compute them in a script.py:function"):
            everything(tmp_path, spec("N", 1, 40, 98))
        write_wav(tmp_path / "b.wav", self.wave[:5])
        with refused("5 to 20 values, .* --input-shape"):
            everything(tmp_path, spec("N", None))
        write_wav(tmp_path / "b.wav", self.wave, rate=8000)
        with refused("b.wav has 8000 Hz, .* 16000 Hz; resample all files"):
            everything(tmp_path, spec("N", 20))
        (tmp_path / "b.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:30])
        with refused("b.wav: cannot be read .* convert others to 16-bit PCM"):
            everything(tmp_path, spec("N", 20))


class TestTexts:
    @pytest.fixture
    def text(self, tmp_path: Path) -> Path:
        pytest.importorskip("tokenizers")
        words = {"[PAD]": 7, "[UNK]": 1, "red": 2, "green": 3, "blue": 4}
        document = {
            "version": "1.0",
            "added_tokens": [],
            "pre_tokenizer": {"type": "Whitespace"},
            "model": {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"},
        }
        (tmp_path / "tokenizer.json").write_text(json.dumps(document))
        path = tmp_path / "lines.txt"
        path.write_text("red green\n\nblue\nred blue pink green\n")
        return path

    def test_lines_become_tokens_of_one_length(self, text: Path) -> None:
        ids = spec("N", "length", name="input_ids", dtype=np.int64)
        mask = spec("N", "length", name="attention_mask", dtype=np.int64)
        segments = spec("N", "length", name="token_type_ids", dtype=np.int64)
        fed = everything(text, ids, mask, segments)
        assert fed["input_ids"].tolist() == [[2, 3, 7, 7], [4, 7, 7, 7], [2, 4, 1, 3]]
        assert fed["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
        assert not fed["token_type_ids"].any()

    def test_the_length_of_the_model_holds(self, text: Path) -> None:
        fed = everything(text, spec("N", 2, name="words", dtype=np.int32))["words"]
        assert fed.tolist() == [[2, 3], [4, 7], [2, 4]]
        assert fed.dtype == np.int32

    def test_the_tokenizer_may_be_elsewhere(self, text: Path, tmp_path: Path) -> None:
        other = text.with_name("other.json")
        text.with_name("tokenizer.json").rename(other)
        ids = spec("N", "length", name="input_ids", dtype=np.int64)
        assert len(everything(text, ids, tokenizer=other)["input_ids"]) == 3
        with refused(r"there is no .*tokenizer.json; give the model's .* --tokenizer"):
            everything(text, ids)
        other.write_text("{}")
        with refused("tokenizer .*other.json: cannot be read"):
            everything(text, ids, tokenizer=other)

    def test_what_a_text_cannot_feed_is_refused(self, text: Path) -> None:
        ids = spec("N", "length", name="input_ids", dtype=np.int64)
        with refused("cannot feed the model's input past"):
            everything(text, ids, spec("N", 4, 8, name="past"))

    def test_without_the_library_the_remedy_is_said(
        self, text: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
        with refused(r"pip install 'onnx-unipts\[text\]'"):
            everything(text, spec("N", 2, dtype=np.int64))


class TestStorage:
    def test_what_is_large_is_mapped_from_a_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from PIL import Image

        for number in range(6):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
        (tmp_path / "2.png").write_text("no image")
        kept = load_calibration_data(tmp_path, [spec("N", 3, 8, 8)])
        monkeypatch.setattr(storage, "IN_MEMORY", 5 * 3 * 64)
        mapped = load_calibration_data(tmp_path, [spec("N", 3, 8, 8)])
        assert isinstance(mapped.column("x").pixels, np.memmap)  # type: ignore[attr-defined]
        for data in (kept, mapped):
            reds = data.batch(np.arange(5))["x"][:, 0, 0, 0] * 255
            np.testing.assert_allclose(reds, [0, 1, 3, 4, 5], rtol=1e-6)

    def test_arrays_and_batches_are_mapped_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        values = np.arange(96, dtype=np.float32).reshape(24, 4)
        np.save(tmp_path / "x.npy", values)
        monkeypatch.setattr(storage, "IN_MEMORY", 100)
        for source in (tmp_path / "x.npy", [{"x": values[i : i + 6]} for i in range(0, 24, 6)]):
            data = load_calibration_data(source, [spec("N", 4)])
            held = data.column("x").values  # type: ignore[attr-defined]
            while not isinstance(held, np.memmap):
                held = held.base
            np.testing.assert_array_equal(data.batch(np.arange(24))["x"], values)
        values[17, 2] = np.nan
        np.save(tmp_path / "x.npy", values)
        with refused("holds nan in sample 17"):
            load_calibration_data(tmp_path / "x.npy", [spec("N", 4)])

    def test_too_little_space_is_said_before_anything_is_read(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with refused("set TMPDIR to a directory with more space, or take fewer samples"):
            storage.room_for((2**50,), np.dtype(np.uint8))
