"""The examples run: each makes its data, a dense model and a sparse one, and says what came of it.

They train their dense models, so they are among the long tests; those of frameworks skip without.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

pytestmark = pytest.mark.long


def run(script: str, directory: Path, *needed: str) -> str:
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    command = [sys.executable, EXAMPLES / script, directory]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def accuracies(printed: str) -> list[float]:
    return [float(value) for value in re.findall(r": accuracy (\S+)", printed)]


def test_an_audio_model(tmp_path: Path):
    dense, before, after = accuracies(run("audio/compress_audio.py", tmp_path))
    assert dense > 0.95
    assert before < after
    assert after > dense - 0.03
    assert (tmp_path / "audio.sparse.run" / "report.html").is_file()


def test_a_detector(tmp_path: Path):
    printed = run("detector/compress_detector.py", tmp_path)
    dense, sparse = (float(value) for value in re.findall(r"F1 (\S+)", printed))
    assert dense > 0.6
    assert sparse > dense - 0.1


@pytest.mark.parametrize(
    ("script", "needed"),
    [
        ("pytorch/export_and_compress.py", ("torch", "sklearn")),
        ("keras/convert_and_compress.py", ("tensorflow", "tf2onnx", "sklearn")),
    ],
)
def test_a_model_of_a_framework(tmp_path: Path, script: str, needed: tuple[str, ...]):
    dense, _, after = accuracies(run(script, tmp_path, *needed))
    assert dense > 0.95
    assert after > dense - 0.03
