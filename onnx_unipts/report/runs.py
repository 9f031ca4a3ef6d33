"""Finished runs on disk: their documents read, their page written."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.model import writing
from onnx_unipts.output_file import atomic_path
from onnx_unipts.report.keys import missing_key
from onnx_unipts.run_files import FIGURES, FINGERPRINT, PAGE, REPORT

__all__ = [
    "check_page_name",
    "copy_report",
    "read_report",
    "write_page",
    "write_report_page",
]


def read_report(run_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the ``report.json`` of a finished run.

    Raises `UsageError` if there is none, or if it is damaged.
    """
    path = Path(run_dir)
    report = _read(path / REPORT)
    if report is not None:
        if key := missing_key(report):
            raise UsageError(f"{path / REPORT} is damaged (no {key}); run compress once more")
        return report
    if not path.is_dir():
        raise UsageError(f"{path} is not a directory; give the run directory of a compression")
    if (path / FINGERPRINT).exists():
        raise UsageError(
            f"{path} holds a run that has not ended; go on with compress --resume, then ask again"
        )
    raise UsageError(f"{path} holds no {REPORT}; give the run directory of a compression")


def check_page_name(path: Path) -> None:
    """Raise `UsageError` unless ``path`` has the ending of a page: no model is to become one."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--html {path}: a page; give a name that ends in .html")


def write_report_page(run_dir: str | os.PathLike[str]) -> Path:
    """Write ``report.html`` of a finished run and return its path.

    Raises `UsageError` if the directory holds no finished run or cannot be written.
    """
    from onnx_unipts.report.html import report_page

    path = Path(run_dir)
    return write_page(path / PAGE, report_page(read_report(path), _read(path / FIGURES)))


def copy_report(run_dir: str | os.PathLike[str], directory: str | os.PathLike[str]) -> None:
    """Copy the page and the document of a finished run; raises as `writing` does."""
    target = Path(directory)
    with writing(target):
        target.mkdir(parents=True, exist_ok=True)
        for name in (PAGE, REPORT):
            with atomic_path(target / name) as temporary:
                shutil.copyfile(Path(run_dir) / name, temporary)


def write_page(path: Path, page: str) -> Path:
    """Write ``page`` to ``path``, whole or not at all; raises as `writing` does."""
    with writing(path), atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="xmlcharrefreplace")
    return path


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is damaged ({error}); run compress once more") from error
    if not isinstance(document, dict):
        raise UsageError(f"{path} is damaged (no mapping); run compress once more")
    return document
