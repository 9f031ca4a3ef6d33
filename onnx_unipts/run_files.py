"""The names of the files in a run directory."""

__all__ = ["ALLOCATION", "FIGURES", "FINGERPRINT", "JOURNAL", "LOCK", "OWN", "PAGE", "REPORT"]

FINGERPRINT = "fingerprint.json"
JOURNAL = "journal.jsonl"
ALLOCATION = "allocation.json"
REPORT = "report.json"
FIGURES = "figures.json"
PAGE = "report.html"
LOCK = ".lock"
# What a run writes. Only these are removed by a fresh start: the rest is the user's.
OWN = (FINGERPRINT, JOURNAL, ALLOCATION, REPORT, FIGURES, PAGE, "checkpoint-*.npz", ".*.tmp")
