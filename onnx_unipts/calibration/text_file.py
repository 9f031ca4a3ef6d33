"""Calibration data from a text and a tokenizer file, for language models: one line, one sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnx_unipts.calibration.data import CalibrationData
from onnx_unipts.calibration.samples import check_samples, data_from
from onnx_unipts.calibration.signature import InputSpec
from onnx_unipts.calibration.source import Request, Source, as_path, draw, sources
from onnx_unipts.graph.errors import UsageError

__all__ = ["TextFile"]

_TOKENIZER = "tokenizer.json"
_LONGEST = 128  # tokens of a sample where neither model nor --input-shape says how many
_IDS = ("input_ids", "ids", "tokens")


@sources.register("text")
class TextFile(Source):
    """A .txt file with one sample per line, and a tokenizer.json of the library tokenizers.

    The tokenizer is ``--tokenizer``, or the ``tokenizer.json`` beside the text. Samples are cut or
    filled up to the model's length; where that is open, to the longest line's, 128 at most. Fed are
    inputs called input_ids (or the only input), attention_mask, token_type_ids and position_ids.
    Needs ``pip install onnx-unipts[text]``.
    """

    @staticmethod
    def matches(source: Any) -> bool:
        """See `Source`."""
        path = as_path(source)
        return path is not None and path.suffix.lower() == ".txt" and path.is_file()

    @staticmethod
    def load(source: Any, request: Request) -> CalibrationData:
        """See `Source`."""
        path = Path(source)
        tokenizer = _tokenizer(path, request)
        lines = _lines(path)
        rows, warnings = draw(len(lines), request)
        length = _length(request.signature)
        tokens = _encode(tokenizer, [lines[row] for row in rows], length)
        arrays = {
            spec.name: _values(spec, *tokens, only=len(request.signature) == 1)
            for spec in request.signature
        }
        samples = check_samples(arrays, request.signature, str(path))
        everything = Request(request.signature, request.options, None, request.seed)
        origin = f"lines of {path}, {tokens[0].shape[1]} tokens each"
        data = data_from(samples, everything, origin)
        data.warnings = [*warnings, *data.warnings]
        return data


def _tokenizer(path: Path, request: Request) -> Any:
    given = request.options.tokenizer
    file = path.with_name(_TOKENIZER) if given is None else Path(given)
    if not file.is_file():
        raise UsageError(
            f"{path}: a text needs a tokenizer, and there is no {file}; give the model's "
            "tokenizer.json with --tokenizer, or --data as .npz of token numbers"
        )
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise UsageError(
            f"{path}: a text needs the library tokenizers: pip install 'onnx-unipts[text]'"
        ) from error
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"tokenizer {file}: cannot be read ({reason})") from error


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise UsageError(f"{path}: holds no text")
    return lines


def _length(signature: Sequence[InputSpec]) -> int | None:
    """Return the model's number of tokens, None where it is open."""
    lengths = {spec.shape[-1] for spec in signature if len(spec.shape) == 2}
    fixed = [length for length in lengths if isinstance(length, int)]
    return fixed[0] if fixed else None


def _encode(
    tokenizer: Any, lines: Sequence[str], length: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return token numbers, mask and segments, each int64 (lines, tokens)."""
    tokenizer.no_padding()
    tokenizer.enable_truncation(length or _LONGEST)
    encoded = tokenizer.encode_batch(list(lines))
    padded = length or max(1, max(len(each.ids) for each in encoded))
    ids = np.full((len(encoded), padded), _filling(tokenizer), np.int64)
    mask, segments = np.zeros_like(ids), np.zeros_like(ids)
    for row, each in enumerate(encoded):
        ids[row, : len(each.ids)] = each.ids
        mask[row, : len(each.ids)] = 1
        segments[row, : len(each.ids)] = each.type_ids
    return ids, mask, segments


def _filling(tokenizer: Any) -> int:
    known = (tokenizer.token_to_id(name) for name in ("[PAD]", "<pad>", "<|endoftext|>", "</s>"))
    return next((number for number in known if number is not None), 0)


def _values(
    spec: InputSpec, ids: np.ndarray, mask: np.ndarray, segments: np.ndarray, *, only: bool
) -> np.ndarray:
    name = spec.name.lower().rpartition("/")[2]
    if name in _IDS or (only and spec.dtype.kind in "iu"):
        return ids
    if "mask" in name:
        return mask.astype(spec.dtype)
    if "token_type" in name or "segment" in name:
        return segments
    if "position" in name:
        return np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    raise UsageError(
        f"a text cannot feed the model's input {spec}; known are input_ids, attention_mask, "
        "token_type_ids and position_ids: give --data as .npz or script.py:function"
    )
