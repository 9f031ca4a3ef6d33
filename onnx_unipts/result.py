"""What a run made: its files and its report, shown well in a terminal and in a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnx_unipts.run_files import PAGE

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Result"]


@dataclass(frozen=True, repr=False)
class Result:
    """What a run made.

    ``report`` is the document of ``report.json``, ``output`` the sparse model's file (None for a
    search or a dry run), ``run_dir`` the directory with journal and checkpoints. Printed by rich it
    is the tables of the command line, in a notebook a summary.
    """

    report: dict[str, Any]
    output: Path | None
    run_dir: Path

    @property
    def sparsity(self) -> float:
        """The share of the prunable weights that is zero; before a run, of the dense model."""
        return float(self.report["sparsity"]["achieved"])

    @property
    def accuracy(self) -> float | None:
        """The accuracy of the sparse model, a share; None where there were no labels."""
        return (self.report.get("accuracy") or {}).get("after_recovery")

    @property
    def agreement(self) -> float | None:
        """How often the sparse model gives the dense one's top class; None without classes."""
        after = (self.report.get("fidelity") or {}).get("after_recovery") or {}
        return after.get("agreement")

    @property
    def page(self) -> Path | None:
        """The page of the run, None where there is none."""
        path = self.run_dir / PAGE
        return path if self.output is not None and path.is_file() else None

    def __repr__(self) -> str:
        """Return the result in a line."""
        parts = [f"sparsity {self.sparsity:.4f}"]
        if self.accuracy is not None:
            parts.append(f"accuracy {self.accuracy:.4f}")
        if self.agreement is not None:
            parts.append(f"agreement {self.agreement:.4f}")
        return f"<Result {self.output or self.run_dir}: {', '.join(parts)}>"

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Table | str]:
        """Yield the tables of the command line."""
        from onnx_unipts.report.summary import report_tables

        for table in report_tables(self.report):
            yield table
            yield ""

    def _repr_html_(self) -> str:
        """Return a summary for a notebook."""
        from onnx_unipts.report.html import result_fragment

        return result_fragment(self.report, self.page)
