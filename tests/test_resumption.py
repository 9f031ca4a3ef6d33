"""The same run again gives the same file, also after a kill, and another run is not resumed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compression import QUICK, SEARCHED, UNTRAINED, compress, saved_externally
from small_networks import classifier, images, saved

from onnx_unipts import api
from onnx_unipts.callbacks import Epoch
from onnx_unipts.graph.errors import UsageError

pytestmark = pytest.mark.usefixtures("quick_simplification")


def test_the_search_alone_is_gone_on_from(tmp_path: Path):
    path = saved(classifier(), tmp_path)
    options: dict[str, Any] = {
        "sparsity": 0.8, "data": {"x": images()}, "settings": SEARCHED, "jobs": 2,
    }  # fmt: skip
    found = api.search(path, **options)
    assert found.output is None
    allocation = json.loads((found.run_dir / "allocation.json").read_text())
    result = api.compress(path, **options, resume=True)
    assert result.report["search"]["evaluations"] == found.report["search"]["evaluations"]
    assert json.loads((result.run_dir / "allocation.json").read_text()) == allocation


def test_cores_change_nothing_where_the_replicas_stay_the_same(tmp_path: Path):
    odd = SEARCHED | {"training.batch_size": 15}
    files = []
    for cores in (1, 2):
        (tmp_path / str(cores)).mkdir()
        result = compress(classifier(), tmp_path / str(cores), odd, jobs=cores)
        assert result.output is not None
        files.append(result.output.read_bytes())
    assert files[0] == files[1]


def test_a_run_of_other_replicas_is_not_resumed(tmp_path: Path):
    chosen = UNTRAINED | {"training.batch_size": 64}
    compress(classifier(), tmp_path, chosen, jobs=1)
    with pytest.raises(UsageError, match="replicas was 1, is 2"):
        compress(tmp_path / "m.onnx", tmp_path, chosen, jobs=2, resume=True)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"sparsity": 0.7}, "sparsity"),
        ({"settings": UNTRAINED | {"seed": 1}}, "recipe.seed"),
        ({"data": {"x": images(seed=3)}}, "data.sha256"),
        ({"data": {"x": images(), "labels": np.arange(48) % 4}}, "data.sha256"),
    ],
)
def test_another_run_is_not_resumed(change: dict[str, Any], key: str, tmp_path: Path):
    compress(classifier(), tmp_path, UNTRAINED)
    with pytest.raises(UsageError, match=key):
        compress(tmp_path / "m.onnx", tmp_path, **({"settings": UNTRAINED} | change), resume=True)


def test_a_run_of_data_that_changed_in_one_sample_is_not_resumed(tmp_path: Path):
    x = images(300)
    compress(classifier(), tmp_path, UNTRAINED, data={"x": x})
    x[1] += 0.01
    with pytest.raises(UsageError, match=r"data\.sha256"):
        compress(tmp_path / "m.onnx", tmp_path, UNTRAINED, data={"x": x}, resume=True)


def test_a_run_of_other_external_weights_is_not_resumed(tmp_path: Path):
    path = saved_externally(classifier(), tmp_path)
    compress(path, tmp_path, UNTRAINED)
    content = bytearray((tmp_path / "weights.bin").read_bytes())
    content[400:404] = np.float32(0.5).tobytes()
    (tmp_path / "weights.bin").write_bytes(content)
    with pytest.raises(UsageError, match=r"model.* was .*, is "):
        compress(path, tmp_path, UNTRAINED, resume=True)


def test_training_is_gone_on_from_in_the_attempt_that_it_was_in(tmp_path: Path):
    # At this rate the first attempt leads away from the dense model.
    chosen = QUICK | {"training.epochs": 3, "training.learning_rate": 5.0}
    epochs: list[int] = []

    def stop(epoch: Epoch) -> None:
        epochs.append(epoch.number)
        if len(epochs) == 5:
            raise KeyboardInterrupt

    path = saved(classifier(), tmp_path)
    whole = compress(path, tmp_path, chosen, output=tmp_path / "whole.onnx")
    stopped: dict[str, Any] = {"output": tmp_path / "stopped.onnx"}
    with pytest.raises(KeyboardInterrupt):
        compress(path, tmp_path, chosen, on_epoch=stop, **stopped)
    journal = (tmp_path / "stopped.run" / "journal.jsonl").read_text().splitlines()
    took = [line["seconds"] for line in map(json.loads, journal) if line["kind"] == "times"][-1]
    resumed = compress(path, tmp_path, chosen, resume=True, **stopped)
    assert epochs == [1, 2, 3, 1, 2]
    assert resumed.report["time"]["training_seconds"] > took["training"] > 0
    assert resumed.report["time"]["total_seconds"] > took["total"]
    assert any("leads away" in text for text in whole.report["warnings"])
    assert resumed.report["warnings"] == whole.report["warnings"]
    assert resumed.report["training"]["history"] == whole.report["training"]["history"]
    assert stopped["output"].read_bytes() == (tmp_path / "whole.onnx").read_bytes()


def test_what_was_measured_on_other_data_is_another_curve(tmp_path: Path):
    chosen = QUICK | {"training.epochs": 2}

    def stop(epoch: Epoch) -> None:
        raise KeyboardInterrupt

    path = saved(classifier(), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        compress(path, tmp_path, chosen, on_epoch=stop)
    labelled = {"x": images(30, seed=1), "labels": np.arange(30) % 4}
    result = compress(path, tmp_path, chosen, resume=True, eval_data=labelled)
    history = result.report["training"]["history"]
    assert [point["samples"] for point in history] == [30] * len(history)
    assert all(point["accuracy"] is not None for point in history)
    assert history[-1]["epoch"] == 2
    again = compress(path, tmp_path, chosen, resume=True, eval_data={"x": images(20, seed=2)})
    last = again.report["training"]["history"][-1]
    assert (last["samples"], last["epoch"]) == (20, 2)


KILLED_RUN = SEARCHED | {"training.epochs": 3, "allocation.search.generations": 4}
CHILD = """
    import json, os, signal, sys
    import numpy as np
    import onnx_unipts
    from onnx_unipts.progress import Quiet

    model, data, settings, phase, count, event, ending = sys.argv[1:]

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    class Killed(Quiet):
        # Progress that ends the process at one step of one phase.
        def phase(self, name, total, completed=0):
            made = super().phase(name, total, completed)
            steps = []
            def advance(n=1, **fields):
                steps.append(n)
                if name == phase and len(steps) == int(count):
                    die()
            made.advance = advance
            return made

    def watch(happening, arguments):
        # The path that is opened, or the new name.
        if happening == event and str(arguments[event == "os.rename"]).endswith(ending):
            die()

    if event:
        sys.addaudithook(watch)
    onnx_unipts.compress(
        model, sparsity=0.8, data={"x": np.load(data)}, settings=json.loads(settings), jobs=2,
        format="dense", progress=Killed(),
    )
"""
KILLS = {
    "in the search, after the first generation": ("search", 1, "", ""),
    "in the first epoch": ("training", 2, "", ""),
    "in the second epoch": ("training", 5, "", ""),
    "as a checkpoint is replaced": ("", 0, "os.rename", "checkpoint-training.npz"),
    "as the output is begun": ("", 0, "open", ".m.sparse.onnx.partial"),
    "as the output is moved into place": ("", 0, "os.rename", "m.sparse.onnx"),
    "as the report is written": ("", 0, "os.rename", "report.json"),
}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[float]]:
    """Return the file of a run that nothing disturbed, and its losses."""
    result = compress(classifier(), tmp_path_factory.mktemp("unbroken"), KILLED_RUN)
    assert result.output is not None
    return result.output.read_bytes(), result.report["training"]["loss"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize("when", KILLS)
def test_a_killed_run_leaves_no_half_file_and_resumes_to_the_same_bits(
    when: str, unbroken: tuple[bytes, list[float]], tmp_path: Path
):
    model = saved(classifier(), tmp_path)
    np.save(tmp_path / "x.npy", images())
    phase, count, event, ending = KILLS[when]
    arguments = [model, tmp_path / "x.npy", json.dumps(KILLED_RUN), phase, count, event, ending]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    output = tmp_path / "m.sparse.onnx"
    assert output.exists() == (ending == "report.json")
    if output.exists():
        assert output.read_bytes() == unbroken[0]
    assert not (tmp_path / "m.sparse.run" / "report.json").exists()
    result = compress(model, tmp_path, KILLED_RUN, resume=True)
    assert output.read_bytes() == unbroken[0]
    assert result.report["training"]["loss"] == unbroken[1]
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"m.onnx", "x.npy", "m.sparse.onnx", "m.sparse.run"}


def test_the_same_seed_gives_the_same_file_and_so_does_resuming_what_is_finished(
    unbroken: tuple[bytes, list[float]], tmp_path: Path
):
    model = saved(classifier(), tmp_path)
    for resume in (False, True):
        result = compress(model, tmp_path, KILLED_RUN, resume=resume)
        assert result.output is not None
        assert result.output.read_bytes() == unbroken[0]
