"""Calibration data from .wav files, for audio models: one file or a directory of them."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onnx_unipts.calibration.data import CalibrationData
from onnx_unipts.calibration.directory import RECORDING_SUFFIX, content_of, files_under
from onnx_unipts.calibration.image_labels import labels_of
from onnx_unipts.calibration.samples import LABELS, check_samples, data_from
from onnx_unipts.calibration.signature import InputSpec
from onnx_unipts.calibration.source import Request, Source, as_path, only_input, sources
from onnx_unipts.graph.errors import UsageError

__all__ = ["WavFiles"]


@sources.register("wav")
class WavFiles(Source):
    """A .wav file, or a directory of them, with labels as a directory of images has them.

    The samples of PCM files of 8, 16, 24 or 32 bits are fed as -1..1, or as they are where the
    model takes int16. The model's input is (N, length), (N, channels, length) or (N, length,
    channels); where it takes one channel, several are averaged. Recordings are cut into pieces of
    the model's length, the last one filled with silence. All files need one sampling rate, which is
    not changed.
    """

    @staticmethod
    def matches(source: Any) -> bool:
        """See `Source`."""
        path = as_path(source)
        if path is None or not path.is_file():
            return content_of(source) == "recordings"
        return path.suffix.lower() == RECORDING_SUFFIX

    @staticmethod
    def load(source: Any, request: Request) -> CalibrationData:
        """See `Source`."""
        path = Path(source)
        shape = _shape(only_input(request, f"{path} with recordings"))
        files = [path]
        if path.is_dir():
            files = sorted(f for f in files_under(path) if f.suffix.lower() == RECORDING_SUFFIX)
        labels, warnings = (None, []) if path.is_file() else labels_of(path, files)
        recordings = [_read(file) for file in files]
        _check_rates(recordings)
        length = shape.length or _common_length(recordings, path)
        pieces = [_pieces(recording, shape, length) for recording in recordings]
        arrays = {shape.spec.name: np.concatenate(pieces)}
        if labels is not None:
            arrays[LABELS] = np.repeat(labels, [len(each) for each in pieces])
        samples = check_samples(arrays, request.signature, str(path))
        rate = recordings[0].rate
        origin = f"{length} values at {rate} Hz from {len(files)} recordings in {path}"
        data = data_from(samples, request, origin)
        data.warnings = [*warnings, *data.warnings]
        return data


@dataclass(frozen=True)
class _Shape:
    """How the model's input holds a recording; ``length`` None where it is dynamic."""

    spec: InputSpec
    channels: int | None  # None: there is no such axis
    channels_last: bool
    length: int | None


@dataclass(frozen=True)
class _Recording:
    """One file: ``values`` int32 (frames, channels), of ``bits`` each."""

    path: Path
    values: np.ndarray
    bits: int
    rate: int


def _shape(spec: InputSpec) -> _Shape:
    axes = spec.sample_shape
    if spec.dtype.kind != "f" and spec.dtype != np.int16:
        raise UsageError(
            f"the model's input {spec} takes no recordings: these are fed as floating point or "
            "int16; give --data as .npz or script.py:function"
        )
    if len(axes) == 1:
        return _Shape(spec, None, False, axes[0] if isinstance(axes[0], int) else None)
    if len(axes) == 2:
        first, last = axes
        if isinstance(first, int) and first <= 8:
            return _Shape(spec, first, False, last if isinstance(last, int) else None)
        if isinstance(last, int) and last <= 8:
            return _Shape(spec, last, True, first if isinstance(first, int) else None)
    raise UsageError(
        f"the model's input {spec} takes no recordings: these are (N, length), (N, channels, "
        "length) or (N, length, channels); where the model takes spectrograms, compute them in a "
        "script.py:function"
    )


def _read(path: Path) -> _Recording:
    try:
        with wave.open(str(path), "rb") as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            frames = file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        reason = str(error) or "truncated"
        raise UsageError(
            f"{path}: cannot be read ({reason}); only PCM files can, convert others to 16-bit PCM"
        ) from error
    if width not in (1, 2, 3, 4):
        raise UsageError(
            f"{path}: has {8 * width} bits a sample; only 8, 16, 24 and 32 can be read"
        )
    frames = frames[: len(frames) // (width * channels) * width * channels]
    if not frames:
        raise UsageError(f"{path}: holds no samples")
    return _Recording(path, _integers(frames, width).reshape(-1, channels), 8 * width, rate)


def _integers(frames: bytes, width: int) -> np.ndarray:
    """Return little-endian PCM as int32: 8 bits are unsigned, all others signed."""
    if width == 1:
        return np.frombuffer(frames, np.uint8).astype(np.int32) - 128
    if width == 3:
        padded = np.zeros((len(frames) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(frames, np.uint8).reshape(-1, 3)
        values: np.ndarray = padded.view("<i4")[:, 0] >> 8
        return values
    return np.frombuffer(frames, f"<i{width}").astype(np.int32)


def _check_rates(recordings: Sequence[_Recording]) -> None:
    first = recordings[0]
    for other in recordings:
        if other.rate != first.rate:
            raise UsageError(
                f"{other.path} has {other.rate} Hz, {first.path} {first.rate} Hz; resample all "
                "files to the rate of the model's training, e.g. with sox or ffmpeg -ar"
            )


def _common_length(recordings: Sequence[_Recording], path: Path) -> int:
    lengths = {len(recording.values) for recording in recordings}
    if len(lengths) == 1:
        return lengths.pop()
    raise UsageError(
        f"{path}: the recordings have {min(lengths)} to {max(lengths)} values, and the model's "
        "input leaves the length open; give it with --input-shape, as in --input-shape 1,16000"
    )


def _pieces(recording: _Recording, shape: _Shape, length: int) -> np.ndarray:
    """Return the recording in pieces, in the shape and dtype that the model takes."""
    values = _with_channels(recording, shape.channels or 1)
    if shape.spec.dtype == np.int16:
        shifted = values * 2.0 ** (16 - recording.bits)
        values = np.clip(np.rint(shifted), -(2**15), 2**15 - 1).astype(np.int16)
    else:
        values = (values / 2.0 ** (recording.bits - 1)).astype(np.float32)
    missing = -len(values) % length
    values = np.concatenate([values, np.zeros((missing, values.shape[1]), values.dtype)])
    pieces = values.reshape(-1, length, values.shape[1])
    if shape.channels is None:
        return pieces[:, :, 0]
    return pieces if shape.channels_last else pieces.transpose(0, 2, 1)


def _with_channels(recording: _Recording, channels: int) -> np.ndarray:
    """Return the values, float64 (frames, channels): those of the file, or their mean for one."""
    found = recording.values.shape[1]
    if channels == found:
        return recording.values.astype(np.float64)
    if channels == 1:
        return recording.values.mean(axis=1, keepdims=True)
    raise UsageError(
        f"{recording.path}: has {found} channels, the model takes {channels}; convert the file"
    )
