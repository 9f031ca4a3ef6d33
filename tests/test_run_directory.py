"""A run directory survives kills, guards its run, and touches nothing that is not its own."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_unipts import run_directory
from onnx_unipts.graph.errors import OnnxUniptsError, UsageError
from onnx_unipts.output_file import atomic_path, check_output_file
from onnx_unipts.run_directory import RunDirectory

FINGERPRINT = {"model": "ab" * 32, "recipe": {"seed": 0, "training": {"epochs": 3}}}


def child(program: str, *arguments: str) -> subprocess.Popen:
    """Start a Python child that has the run directory at hand."""
    preamble = (
        "import os, signal, sys, time\nimport numpy as np\n"
        "from onnx_unipts.run_directory import RunDirectory\n"
        f"FINGERPRINT = {FINGERPRINT!r}\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", preamble + textwrap.dedent(program), *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )


def killed(program: str, *arguments: str) -> None:
    """Run a child that ends by SIGKILL."""
    process = child(program, *arguments)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL


# The journal


def test_the_journal_reads_back_what_was_appended_bit_for_bit(tmp_path: Path):
    values = {"fitness": np.float32(0.1), "kept": np.array([1, 2]), "x": 0.1 + 0.2, "bad": math.inf}
    with RunDirectory.open(tmp_path / "run", FINGERPRINT) as run:
        run.append("score", **values)
        run.append("epoch", number=1)
    with RunDirectory.open(tmp_path / "run", FINGERPRINT, resume=True) as run:
        assert run.resumed
        (score,) = run.entries("score")
        assert score["fitness"] == float(np.float32(0.1))
        assert score["kept"] == [1, 2]
        assert score["x"] == 0.1 + 0.2
        assert score["bad"] == math.inf
        assert [entry["kind"] for entry in run.entries()] == ["score", "epoch"]


def test_entries_are_seen_by_the_process_that_appends_them(tmp_path: Path):
    with RunDirectory.open(tmp_path, FINGERPRINT) as run:
        run.append("epoch", number=1)
        assert run.entries("epoch") == [{"kind": "epoch", "number": 1}]


def test_what_was_appended_before_a_kill_is_there_after_it(tmp_path: Path):
    killed(
        """
        run = RunDirectory.open(sys.argv[1], FINGERPRINT)
        for i in range(100):
            run.append("score", number=i)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        str(tmp_path),
    )
    with RunDirectory.open(tmp_path, FINGERPRINT, resume=True) as run:
        assert [entry["number"] for entry in run.entries("score")] == list(range(100))


@given(cut=st.integers(0, 200), rubbish=st.binary(max_size=8))
def test_a_torn_end_is_cut_off_and_the_journal_goes_on(tmp_path_factory, cut: int, rubbish: bytes):
    path = tmp_path_factory.mktemp("run")
    with RunDirectory.open(path, FINGERPRINT) as run:
        for i in range(5):
            run.append("score", number=i, text="é" * i)
    journal = path / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole[: len(whole) - cut] if cut < len(whole) else b"")
    with journal.open("ab") as file:
        file.write(rubbish.replace(b"\n", b""))
    with RunDirectory.open(path, FINGERPRINT, resume=True) as run:
        numbers = [entry["number"] for entry in run.entries("score")]
        assert numbers == list(range(len(numbers)))
        run.append("score", number=99)
    with RunDirectory.open(path, FINGERPRINT, resume=True) as run:
        assert [entry["number"] for entry in run.entries("score")] == [*numbers, 99]


# Checkpoints


def test_a_checkpoint_reads_back_equal(tmp_path: Path):
    rng = np.random.default_rng(0)
    arrays = {
        "/layer1/conv.weight:0": rng.standard_normal((3, 2, 3, 3)).astype(np.float32),
        "file": np.array(3.5),
        "ids": np.arange(4, dtype=np.int64),
        "empty": np.zeros((0, 3), np.float32),
    }
    state = {"epoch": 2, "loss": [0.1, math.nan], "rng": rng.bit_generator.state}
    with RunDirectory.open(tmp_path, FINGERPRINT) as run:
        run.save_checkpoint("training", arrays, state)
        loaded, loaded_state = run.load_checkpoint("training")
    assert list(loaded) == list(arrays)
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)
    assert loaded_state["rng"] == rng.bit_generator.state
    assert loaded_state["loss"][0] == 0.1
    assert math.isnan(loaded_state["loss"][1])


def test_only_the_latest_checkpoint_of_a_name_is_kept(tmp_path: Path):
    with RunDirectory.open(tmp_path, FINGERPRINT) as run:
        for epoch in range(3):
            run.save_checkpoint("training", {"w": np.full(2, epoch)}, {"epoch": epoch})
        run.save_checkpoint("student", {}, {})
        assert run.load_checkpoint("training")[1] == {"epoch": 2}
        assert run.load_checkpoint("other") is None
    assert sorted(file.name for file in tmp_path.glob("*.npz")) == [
        "checkpoint-student.npz",
        "checkpoint-training.npz",
    ]


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path: Path):
    killed(
        """
        run = RunDirectory.open(sys.argv[1], FINGERPRINT)
        run.save_checkpoint("training", {"w": np.zeros(4)}, {"epoch": 1})
        def kill(*arguments):
            os.kill(os.getpid(), signal.SIGKILL)
        os.replace = kill
        run.save_checkpoint("training", {"w": np.ones(4)}, {"epoch": 2})
        """,
        str(tmp_path),
    )
    with RunDirectory.open(tmp_path, FINGERPRINT, resume=True) as run:
        arrays, state = run.load_checkpoint("training")
        assert state == {"epoch": 1}
        np.testing.assert_array_equal(arrays["w"], np.zeros(4))


def test_python_objects_are_refused_in_checkpoints(tmp_path: Path):
    with RunDirectory.open(tmp_path, FINGERPRINT) as run, pytest.raises(TypeError, match="pickle"):
        run.save_checkpoint("training", {"w": np.array([{}])}, {})


def test_pickles_are_refused_when_a_checkpoint_is_read(tmp_path: Path):
    with RunDirectory.open(tmp_path, FINGERPRINT) as run:
        np.savez(tmp_path / "checkpoint-training.npz", header=np.array([{}]), allow_pickle=True)
        with pytest.raises(UsageError, match="damaged"):
            run.load_checkpoint("training")


def test_a_damaged_checkpoint_is_named_with_the_remedy(tmp_path: Path):
    with RunDirectory.open(tmp_path, FINGERPRINT) as run:
        run.save_checkpoint("training", {"w": np.ones(100)}, {})
        path = tmp_path / "checkpoint-training.npz"
        path.write_bytes(path.read_bytes()[:300])
        with pytest.raises(UsageError, match=r"checkpoint-training.npz is damaged.*--resume"):
            run.load_checkpoint("training")


# Documents


def test_documents_are_strict_json(tmp_path: Path):
    with RunDirectory.open(tmp_path, FINGERPRINT) as run:
        path = run.write_json("report.json", {"loss": np.float32(math.nan), "path": Path("a/b")})
        assert run.read_json("report.json") == {"loss": None, "path": "a/b"}
        assert run.read_json("allocation.json") is None
    assert path == tmp_path / "report.json"
    assert "NaN" not in path.read_text()


# Resuming and starting afresh


def test_resuming_where_there_is_no_run_starts_one(tmp_path: Path):
    with RunDirectory.open(tmp_path / "a" / "run", FINGERPRINT, resume=True) as run:
        assert not run.resumed
    with RunDirectory.open(tmp_path / "a" / "run", FINGERPRINT, resume=True) as run:
        assert run.resumed


def test_resuming_another_run_names_what_differs(tmp_path: Path):
    RunDirectory.open(tmp_path, FINGERPRINT).close()
    other = {"model": "ab" * 32, "recipe": {"seed": 1, "training": {"epochs": 3, "ramp": 0.5}}}
    with pytest.raises(UsageError) as refused:
        RunDirectory.open(tmp_path, other, resume=True)
    message = str(refused.value)
    assert "recipe.seed was 0, is 1" in message
    assert "recipe.training.ramp was absent, is 0.5" in message
    assert "model" not in message.partition("another run:")[2].partition(";")[0]
    assert "epochs" not in message
    assert "\n" not in message


def test_null_is_another_thing_than_nothing_in_a_fingerprint(tmp_path: Path):
    RunDirectory.open(tmp_path, FINGERPRINT | {"data": None}).close()
    with pytest.raises(UsageError, match="data was null, is absent"):
        RunDirectory.open(tmp_path, FINGERPRINT, resume=True)


def test_a_refused_resume_leaves_the_run_as_it_was(tmp_path: Path):
    with RunDirectory.open(tmp_path, FINGERPRINT) as run:
        run.append("score", number=1)
    with pytest.raises(UsageError):
        RunDirectory.open(tmp_path, {"model": "other"}, resume=True)
    with RunDirectory.open(tmp_path, FINGERPRINT, resume=True) as run:
        assert len(run.entries("score")) == 1


def test_tuples_and_paths_in_a_fingerprint_do_not_prevent_a_resume(tmp_path: Path):
    fingerprint = {"data": {"path": Path("images"), "mean": (0.5, np.float32(0.25))}}
    RunDirectory.open(tmp_path, fingerprint).close()
    with RunDirectory.open(tmp_path, fingerprint, resume=True) as run:
        assert run.resumed


def test_without_resume_an_earlier_run_is_removed_and_foreign_files_stay(tmp_path: Path):
    with RunDirectory.open(tmp_path, FINGERPRINT) as run:
        run.append("score", number=1)
        run.save_checkpoint("training", {"w": np.ones(2)}, {})
        run.write_json("allocation.json", {})
    (tmp_path / "model.onnx").write_bytes(b"the user's own")
    (tmp_path / "images.npz").write_bytes(b"the user's own")
    (tmp_path / "notes.html").write_text("the user's own")
    (tmp_path / "notes.json").write_text("the user's own")
    (tmp_path / "report.html").write_text("the run's")
    with RunDirectory.open(tmp_path, {"model": "other"}) as run:
        assert not run.resumed
        assert run.entries() == []
        assert run.load_checkpoint("training") is None
        assert run.read_json("allocation.json") is None
    assert (tmp_path / "model.onnx").exists()
    assert (tmp_path / "images.npz").exists()
    assert (tmp_path / "notes.html").exists()
    assert (tmp_path / "notes.json").exists()
    assert not (tmp_path / "report.html").exists()


def test_a_directory_with_other_files_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"other files \(thesis.tex\)"):
        RunDirectory.open(tmp_path, FINGERPRINT)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_refused_as_run_directory(tmp_path: Path):
    path = tmp_path / "run"
    path.write_text("")
    with pytest.raises(UsageError, match="is a file"):
        RunDirectory.open(path, FINGERPRINT)


def test_a_run_killed_before_its_fingerprint_was_written_can_be_started_again(tmp_path: Path):
    killed(
        """
        def kill(*arguments):
            os.kill(os.getpid(), signal.SIGKILL)
        os.replace = kill
        RunDirectory.open(sys.argv[1], FINGERPRINT)
        """,
        str(tmp_path),
    )
    with RunDirectory.open(tmp_path, FINGERPRINT, resume=True) as run:
        assert not run.resumed


def test_a_run_killed_while_another_is_removed_can_be_started_again(tmp_path: Path):
    with RunDirectory.open(tmp_path, FINGERPRINT) as run:
        run.append("epoch", number=1)
        run.write_json("report.json", {})
    killed(
        """
        from pathlib import Path
        remove = Path.unlink
        def kill_after(path, *arguments, **options):
            remove(path, *arguments, **options)
            if path.name == "fingerprint.json":
                os.kill(os.getpid(), signal.SIGKILL)
        Path.unlink = kill_after
        RunDirectory.open(sys.argv[1], FINGERPRINT)
        """,
        str(tmp_path),
    )
    with RunDirectory.open(tmp_path, FINGERPRINT) as run:
        assert run.entries() == []


# The lock


def test_two_processes_cannot_use_one_run_directory(tmp_path: Path):
    holder = child(
        """
        run = RunDirectory.open(sys.argv[1], FINGERPRINT)
        print("held", flush=True)
        time.sleep(60)
        """,
        str(tmp_path),
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match="in use by another process"):
            RunDirectory.open(tmp_path, FINGERPRINT, resume=True)
    finally:
        holder.kill()
        holder.communicate()
    with RunDirectory.open(tmp_path, FINGERPRINT, resume=True) as run:
        assert run.resumed


def test_a_lock_that_is_let_go_in_a_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As that of a killed process, which its children hold a little longer."""
    holder = RunDirectory.open(tmp_path, FINGERPRINT)
    monkeypatch.setattr(run_directory.time, "sleep", lambda seconds: holder.close())
    with RunDirectory.open(tmp_path, FINGERPRINT, resume=True) as run:
        assert run.resumed


def test_closing_releases_the_directory(tmp_path: Path):
    with RunDirectory.open(tmp_path, FINGERPRINT):
        pass
    with RunDirectory.open(tmp_path, FINGERPRINT):
        pass


# Output files


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path):
    def fail_half_way() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError

    path = tmp_path / "model.onnx"
    path.write_bytes(b"before")
    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_bytes() == b"before"
    with atomic_path(path) as temporary:
        assert temporary.parent == tmp_path
        temporary.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_an_output_that_cannot_be_written_is_refused(tmp_path: Path):
    model = tmp_path / "model.onnx"
    model.write_bytes(b"")
    for path, message in (
        (tmp_path, "is a directory"),
        (tmp_path / "missing" / "out.onnx", "does not exist"),
        (model, "is the model itself"),
        (Path(os.devnull), "not a regular file"),
    ):
        with pytest.raises(UsageError, match=message):
            check_output_file(path, "--output", model)
    assert check_output_file(str(tmp_path / "out.onnx")) == tmp_path / "out.onnx"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_in_a_directory_without_permission_is_refused(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="not writable"):
        check_output_file(tmp_path / "out.onnx")


def test_the_fingerprint_is_readable(tmp_path: Path):
    RunDirectory.open(tmp_path, FINGERPRINT).close()
    assert json.loads((tmp_path / "fingerprint.json").read_text()) == FINGERPRINT


def test_a_full_disk_ends_the_run_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with RunDirectory.open(tmp_path / "x.run", {}) as run:
        monkeypatch.setattr(os, "fsync", full)
        for write in (
            lambda: run.append("epoch", epoch=1),
            lambda: run.save_checkpoint("training", {"a": np.ones(3)}, {}),
            lambda: run.write_json("report.json", {}),
        ):
            with pytest.raises(OnnxUniptsError, match=r"x\.run .*No space left") as error:
                write()
            assert error.value.exit_code == 1
            assert "--resume" in str(error.value)
