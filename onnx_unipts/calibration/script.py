"""Calibration data from a function in a Python script, ``script.py:function``."""

from __future__ import annotations

import contextlib
import os
import re
import runpy
import sys
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

from onnx_unipts.calibration.data import CalibrationData
from onnx_unipts.calibration.iterable import data_from_batches
from onnx_unipts.calibration.source import Request, Source, sources
from onnx_unipts.graph.errors import UsageError

__all__ = ["Script"]

_DEFAULT_FUNCTION = "load_data"
_END = object()
_SOURCE = re.compile(r"(?P<path>.+\.py)(:(?P<function>\w+))?", re.DOTALL)


@sources.register("script")
class Script(Source):
    """A function that yields dicts of arrays by input name, with a batch axis, and ``labels``.

    ``script.py:function``; without a name the function is called ``load_data``. The script runs as
    if imported, its directory on the path.
    """

    @staticmethod
    def matches(source: Any) -> bool:
        """See `Source`."""
        if not isinstance(source, str | os.PathLike):
            return False
        match = _SOURCE.fullmatch(os.fspath(source))
        return match is not None and Path(match["path"]).is_file()

    @staticmethod
    def load(source: Any, request: Request) -> CalibrationData:
        """See `Source`."""
        match = _SOURCE.fullmatch(os.fspath(source))
        assert match is not None
        path, name = Path(match["path"]), match["function"] or _DEFAULT_FUNCTION
        batches = _run(path, name)
        try:
            return data_from_batches(batches, request, f"{path}:{name}")
        finally:
            batches.close()


def _run(path: Path, name: str) -> Generator[Any, None, None]:
    """Yield what the function yields; its errors, and those of the script, are the user's."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    rest: Iterator[Any] = iter(())
    try:
        with _to_standard_error():
            function = _function(path, name, runpy.run_path(str(path), run_name=path.stem))
            batches = function()
            rest = iter([batches] if isinstance(batches, Mapping) else batches)
        while True:
            with _to_standard_error():
                batch = next(rest, _END)
            if batch is _END:
                break
            yield batch
    except GeneratorExit:
        # No more is asked for: what the script has to do in the end is its own, too.
        with _to_standard_error():
            getattr(rest, "close", lambda: None)()
        raise
    except UsageError:
        raise
    # A script that calls sys.exit() would end the whole run without a word.
    except (Exception, SystemExit) as error:
        raise UsageError(f"{path}{_line(error, path)}: {_one_line(error)}") from error
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _to_standard_error() -> contextlib.AbstractContextManager[Any]:
    """What a script prints is no result of the command."""
    return contextlib.redirect_stdout(sys.stderr)


def _function(path: Path, name: str, module: Mapping[str, Any]) -> Callable[[], Any]:
    function = module.get(name)
    if callable(function):
        return function
    others = sorted(
        key for key, value in module.items() if callable(value) and not key.startswith("_")
    )
    raise UsageError(
        f"{path}: no function {name!r}; found {', '.join(others) or 'none'}; give one as "
        f"--data {path}:function"
    )


def _line(error: BaseException, path: Path) -> str:
    """Return where in the script the error came from, as ``, line 3``."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return f", line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f", line {lines[-1]}" if lines else ""


def _one_line(error: BaseException) -> str:
    text = str(error).strip().split("\n", maxsplit=1)[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
