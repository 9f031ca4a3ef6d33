"""Which source reads what --data is given, and what none reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from calibration_inputs import VECTORS, Reader, refused, spec, write_images

from onnx_unipts.calibration import load_calibration_data
from onnx_unipts.calibration.source import sources


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
