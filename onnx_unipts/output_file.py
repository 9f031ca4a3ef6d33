"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from onnx_unipts.graph.errors import OnnxUniptsError, UsageError
from onnx_unipts.graph.model import data_locations, writing

__all__ = [
    "atomic_path",
    "check_apart",
    "check_output_directory",
    "check_output_file",
    "require_text",
    "trial_of",
]

# Bytes of a file name that leave room for what other files that go with it add to its name.
LONGEST_NAME = 220


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path to write to; what was written becomes ``path`` when the block ends well.

    The temporary file stands in the same directory, so that the exchange is one atomic step, and
    is removed when the block raises. Its name depends on ``path`` alone: what a killed process
    left is overwritten by the next one. A link stays one, and a file keeps its mode. Raises
    `OSError` if the directory cannot be written.
    """
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        _flush_to_disk(temporary, os.O_RDWR)
        if path.exists():
            os.chmod(temporary, path.stat().st_mode & 0o7777)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # Windows cannot open directories.
        _flush_to_disk(path.parent, os.O_RDONLY)


@contextlib.contextmanager
def trial_of(output: Path) -> Iterator[Path]:
    """Yield where a model can be tried out before it becomes ``output``.

    In a directory of its own beside it, which goes in the end; what a killed run left there, too.
    Errors name ``output``.
    """
    real = Path(os.path.realpath(output))
    directory = real.with_name(f".{real.name}.trial")
    shutil.rmtree(directory, ignore_errors=True)
    trial = directory / output.name
    with writing(output):
        directory.mkdir(exist_ok=True)
    try:
        yield trial
    except OnnxUniptsError as error:
        raise type(error)(str(error).replace(str(trial), str(output))) from error
    finally:
        gc.collect()  # a model that was read from there may still map its data
        shutil.rmtree(directory, ignore_errors=True)


def check_output_file(
    path: str | os.PathLike[str],
    option: str = "output",
    model: str | os.PathLike[str] | None = None,
) -> Path:
    """Return ``path`` if a file can be written there, before hours of work depend on it.

    ``option`` is the name for the message; ``model`` is the input file that must survive.
    Raises `UsageError`.
    """
    path = Path(path)
    real = Path(os.path.realpath(path))
    require_text(path, option)
    if path.is_dir():
        raise UsageError(f"{option} {path} is a directory; give the name of a file")
    if not real.parent.is_dir():
        raise UsageError(f"{option} {path}: the directory {real.parent} does not exist; create it")
    if path.exists() and not path.is_file():
        raise UsageError(f"{option} {path} is not a regular file; give another name")
    if len(os.fsencode(real.name)) > LONGEST_NAME:
        raise UsageError(
            f"{option}: the name {path.name[:40]}... is longer than {LONGEST_NAME} bytes; give a "
            "shorter one"
        )
    if path.exists() and model is not None:
        _check_model_survives(path, option, Path(model))
    elsewhere = path.is_symlink() and real.parent != Path(os.path.realpath(path.parent))
    if elsewhere and model is not None and data_locations(Path(model)):
        raise UsageError(f"{option} {path} is a link to another directory, where its data would be")
    if not _writable(real):
        raise UsageError(f"{option} {path} is not writable; give a path that is")
    return path


def require_text(path: Path, option: str) -> None:
    """Raise `UsageError` for a path that is not UTF-8: onnxruntime opens no other."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{option} {str(path)!r}: the name is not UTF-8, which onnxruntime needs; rename it"
        ) from error


def check_output_directory(path: str | os.PathLike[str], option: str) -> Path:
    """Return ``path`` if there is a directory, or can be one. Raises `UsageError`."""
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise UsageError(f"{option} {path} is a file; give the name of a directory")
    there = next(parent for parent in (path, *path.absolute().parents) if parent.is_dir())
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {path}: directory {there} is not writable")
    return path


def check_apart(written: Mapping[str, Any], read: Mapping[str, Any]) -> None:
    """Raise `UsageError` where a path to write is one to read, or to write for something else.

    Both are paths by the names of their arguments; what is no path is left out.
    """
    known = {os.path.realpath(path): name for name, path in read.items() if _is_path(path)}
    for name, path in written.items():
        if not _is_path(path):
            continue
        other = known.setdefault(os.path.realpath(path), name)
        if other != name:
            raise UsageError(f"{name} {path} is also the {other}; give another name")


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike) and value != ""


def _check_model_survives(path: Path, option: str, model: Path) -> None:
    if os.path.samefile(path, model):
        raise UsageError(f"{option} {path} is the model itself; give another name")
    ours, theirs = (
        {(each.parent / name).resolve() for name in data_locations(each)} for each in (path, model)
    )
    if path.resolve() in theirs:
        raise UsageError(f"{option} {path} holds the weights of the model; give another name")
    if both := sorted(ours & theirs):
        raise UsageError(
            f"{option} {path} keeps its weights in {both[0].name}, and so does the model; give "
            "another name"
        )


def _writable(path: Path) -> bool:
    if path.exists() and not os.access(path, os.W_OK):
        return False
    return os.access(path.parent, os.W_OK | os.X_OK)


def _flush_to_disk(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
