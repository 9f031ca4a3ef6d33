"""The run directory: journal, checkpoints and the fingerprint that guards a resumed run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import sys
import time
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from onnx_unipts.graph.errors import OnnxUniptsError, UsageError
from onnx_unipts.json_text import plain, to_json
from onnx_unipts.leaves import leaves_of
from onnx_unipts.output_file import atomic_path
from onnx_unipts.phase_times import PhaseTimes
from onnx_unipts.run_files import FINGERPRINT, JOURNAL, LOCK, OWN

__all__ = ["RunDirectory", "check_own"]

# A killed process's children hold the lock for a moment longer.
LOCK_PATIENCE_SECONDS = 3.0


class RunDirectory:
    """One run's files, held by one process at a time.

    - ``fingerprint.json``: what the run depends on (model, recipe, data, versions).
    - ``journal.jsonl``: one JSON object per line, on disk before `append` returns.
    - ``checkpoint-NAME.npz``: the latest checkpoint of each name, replaced atomically.
    - further documents by `write_json`.

    Attributes:
        times: how long phases take, with those of earlier sessions; ``total`` from the opening on.
    """

    def __init__(self, path: Path, journal: IO[bytes], lock: IO[bytes], *, resumed: bool) -> None:
        """Use `open` instead."""
        self.path = path
        self.resumed = resumed
        self._journal = journal
        self._lock = lock
        self._entries: list[dict[str, Any]] = []
        self.times = PhaseTimes([])

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        fingerprint: Mapping[str, Any],
        *,
        resume: bool = False,
        spared: Collection[Path] = (),
    ) -> RunDirectory:
        """Lock the directory, creating it if need be, and go on with its run or start afresh.

        ``fingerprint`` is any document that JSON can hold. With ``resume``, a run whose
        fingerprint is equal goes on, and where there is no run yet one starts; without it the
        files of an earlier run are removed, but for those ``spared``.

        Raises `UsageError` if another process uses the directory, if it holds files but no run,
        if it cannot be written, or if the run to resume has another fingerprint (naming what
        differs).
        """
        path = Path(path)
        if path.is_symlink() and not path.exists():
            raise UsageError(f"run directory {path} is a link to nothing; create what it names")
        try:
            check_own(path)
            path.mkdir(parents=True, exist_ok=True)
            lock = (path / LOCK).open("ab")
        except OSError as error:
            raise UsageError(f"run directory {path} cannot be used ({error.strerror})") from error
        try:
            _acquire(lock, path)
            fingerprint = json.loads(to_json(fingerprint))
            resumed = resume and _check_fingerprint(path, fingerprint)
            if not resumed:
                _clear(path, {each.resolve() for each in spared})
                _write_json(path / FINGERPRINT, fingerprint)
            entries, journal = _open_journal(path / JOURNAL)
        except BaseException:
            lock.close()
            raise
        run = cls(path, journal, lock, resumed=resumed)
        run._entries = entries
        run.times = PhaseTimes(run.entries("times"))
        run.times.begin("total")
        return run

    def inherit(
        self, names: Sequence[str], path: str | os.PathLike[str], differing: Collection[str]
    ) -> None:
        """Take over the checkpoints ``names`` of the run in ``path``, where this run has none.

        Raises `UsageError` if that run's fingerprint differs in other keys than ``differing``,
        which are written with dots, as ``recipe.seed``.
        """
        other = Path(path)
        before, now = (_read_json(each / FINGERPRINT) for each in (other, self.path))
        if before is None:
            raise UsageError(f"{other} holds no run; give the run directory of a compression")
        differences = [d for d in _differences(before, now or {}) if d.key not in differing]
        if differences:
            raise UsageError(f"{other} holds a run of something else: {differences[0]}")
        for name in names:
            source, target = other / self._checkpoint(name).name, self._checkpoint(name)
            if source.is_file() and not target.exists():
                with atomic_path(target) as temporary:
                    shutil.copyfile(source, temporary)

    def close(self) -> None:
        """Release the directory to other processes."""
        self._journal.close()
        self._lock.close()

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def append(self, kind: str, **fields: Any) -> None:
        """Add the line ``{"kind": kind, **fields}`` to the journal and wait for the disk.

        Floats come back equal, bit for bit, from `entries`.
        """
        entry = {"kind": kind, **plain(fields, strict=False)}
        line = json.dumps(entry, separators=(",", ":"))
        with _writing(self.path):
            self._journal.write(line.encode("utf-8") + b"\n")
            self._journal.flush()
            os.fsync(self._journal.fileno())
        self._entries.append(json.loads(line))

    def entries(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Return the journal's entries of one ``kind``, or all, in the order they were written."""
        return [entry for entry in self._entries if kind is None or entry["kind"] == kind]

    def note_times(self) -> None:
        """Keep in the journal how long phases took so far, for a session to come."""
        self.append("times", **self.times.entry())

    def save_checkpoint(
        self, name: str, arrays: Mapping[str, np.ndarray], state: Mapping[str, Any]
    ) -> None:
        """Replace the checkpoint called ``name``, atomically.

        ``arrays`` are of any shape and of numpy's own dtypes; ``state`` is what JSON can hold.
        """
        header = json.dumps({"names": list(arrays), "state": plain(state, strict=False)})
        # Members are numbered: tensors' names may hold what names in archives may not.
        members: dict[str, Any] = {
            f"array{i}": np.asarray(array) for i, array in enumerate(arrays.values())
        }
        if any(array.dtype.hasobject for array in members.values()):
            raise TypeError("arrays of Python objects cannot be stored without pickle")
        members["header"] = np.frombuffer(header.encode("utf-8"), dtype=np.uint8)
        path = self._checkpoint(name)
        with _writing(self.path), atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **members)

    def load_checkpoint(self, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Return the arrays and the state of the checkpoint called ``name``, None without one.

        Raises `UsageError` if the file is damaged.
        """
        path = self._checkpoint(name)
        if not path.exists():
            return None
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as members:
                header = json.loads(members["header"].tobytes())
                arrays = {key: members[f"array{i}"] for i, key in enumerate(header["names"])}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UsageError(
                f"checkpoint {path} is damaged ({error}); start afresh without --resume"
            ) from error
        return arrays, header["state"]

    def write_json(self, document: str, content: Any) -> Path:
        """Write ``content`` to the file called ``document`` atomically and return its path."""
        with _writing(self.path):
            _write_json(self.path / document, content)
        return self.path / document

    def read_json(self, document: str) -> Any | None:
        """Return the content of the file called ``document``, None if there is none."""
        return _read_json(self.path / document)

    def _checkpoint(self, name: str) -> Path:
        if not re.fullmatch(r"[\w.-]+", name):
            raise ValueError(f"checkpoint name {name!r}: letters, digits, '_', '.', '-' only")
        return self.path / f"checkpoint-{name}.npz"


@contextlib.contextmanager
def _writing(directory: Path) -> Iterator[None]:
    """Raise `OnnxUniptsError` where the disk is full, or broken."""
    try:
        yield
    except OSError as error:
        raise OnnxUniptsError(
            f"run directory {directory} cannot be written ({error.strerror}); see to it, then go "
            "on with --resume"
        ) from error


def check_own(path: Path) -> None:
    """Raise `UsageError` unless there is nothing at ``path``, or a run of this tool."""
    if not path.exists():
        return
    if not path.is_dir():
        raise UsageError(f"run directory {path} is a file; give another --run-dir")
    if (path / FINGERPRINT).exists():
        return
    # A run killed before its fingerprint was written leaves these two at most.
    foreign = [f.name for f in path.iterdir() if f.name not in (LOCK, f".{FINGERPRINT}.tmp")]
    if foreign:
        raise UsageError(
            f"run directory {path} holds other files ({min(foreign)}) and no run of this tool; "
            "give an empty or a new --run-dir"
        )


def _check_fingerprint(path: Path, fingerprint: Mapping[str, Any]) -> bool:
    """Return whether there is a run to resume; raise if it is another run than asked for."""
    earlier = _read_json(path / FINGERPRINT)
    if earlier is None:
        return False
    differences = _differences(earlier, fingerprint)
    if not differences:
        return True
    more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
    raise UsageError(
        f"run directory {path} holds another run: {'; '.join(map(str, differences[:3]))}{more}; "
        "run without --resume to start afresh, or give another --run-dir"
    )


class _Difference(NamedTuple):
    key: str
    before: str
    now: str

    def __str__(self) -> str:
        return f"{self.key} was {self.before}, is {self.now}"


def _differences(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> list[_Difference]:
    before, now = dict(leaves_of(earlier)), dict(leaves_of(later))
    return [
        _Difference(key, _short(before, key), _short(now, key))
        for key in dict.fromkeys((*before, *now))
        if (key in before, before.get(key)) != (key in now, now.get(key))
    ]


def _short(leaves: Mapping[str, Any], key: str) -> str:
    if key not in leaves:
        return "absent"
    text = json.dumps(leaves[key], ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:16]}...{text[-5:]}"


def _clear(path: Path, spared: Collection[Path]) -> None:
    own = {file for pattern in OWN for file in path.glob(pattern)}
    own = {file for file in own if file.resolve() not in spared}
    # The fingerprint goes last: a directory half cleared must still be known as ours.
    for file in sorted(own, key=lambda file: (file.name == FINGERPRINT, file.name)):
        if file.is_file() or file.is_symlink():
            file.unlink()


def _write_json(path: Path, content: Any) -> None:
    text = to_json(content)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _read_json(path: Path) -> Any | None:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"{path} is damaged ({error}); start afresh without --resume") from error


def _open_journal(path: Path) -> tuple[list[dict[str, Any]], IO[bytes]]:
    """Return the whole entries and the file to append to; a torn end is cut off."""
    journal = path.open("a+b")
    journal.seek(0)
    entries, end = [], 0
    for line in journal:
        entry = _parse_line(line)
        if entry is None:
            break
        entries.append(entry)
        end += len(line)
    journal.truncate(end)
    journal.seek(end)
    return entries, journal


def _parse_line(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    with contextlib.suppress(ValueError):
        entry = json.loads(line)
        if isinstance(entry, dict) and "kind" in entry:
            return entry
    return None


def _acquire(lock: IO[bytes], path: Path) -> None:
    deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
    while not _try_lock(lock):
        if time.monotonic() > deadline:
            raise UsageError(
                f"run directory {path} is in use by another process; "
                "wait for it to end, or give another --run-dir"
            )
        time.sleep(0.1)


def _try_lock(lock: IO[bytes]) -> bool:
    """Take the lock that the system releases when the process ends, however it ends."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
