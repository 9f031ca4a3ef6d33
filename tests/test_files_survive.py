"""What a command reads is there after it, unchanged, whatever the names of what it writes."""

from __future__ import annotations

import json
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from compression import UNTRAINED, compress
from small_networks import classifier, images, saved

from onnx_unipts import api, compress_to, pack, sweep
from onnx_unipts.cli import main
from onnx_unipts.export import default_output, default_run_directory
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.runtime import onnxruntime

pytestmark = pytest.mark.usefixtures("quick_simplification")


def renamed(directory: Path) -> Path:
    """Save a model whose data file goes by the name of another one."""
    path = directory / "model.onnx"
    onnx.save(
        classifier(), path, save_as_external_data=True, location="other.onnx.data", size_threshold=0
    )
    return path


def answers(path: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": images(4)})[0]


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def test_packing_leaves_data_files_of_the_model_alone(tmp_path: Path):
    path = renamed(tmp_path)
    before, expected = contents(tmp_path), answers(path)
    for _ in range(3):
        pack(path, tmp_path / "other.onnx")
        assert {name: contents(tmp_path)[name] for name in before} == before
        np.testing.assert_array_equal(answers(tmp_path / "other.onnx"), expected)
    assert len(contents(tmp_path)) == 4


def test_compressing_leaves_data_files_of_the_model_alone(tmp_path: Path):
    path = renamed(tmp_path)
    before = contents(tmp_path)
    result = compress(path, tmp_path, UNTRAINED, output=tmp_path / "other.onnx", format="dense")
    assert {name: contents(tmp_path)[name] for name in before} == before
    assert result.report["sparsity"]["zeros"] == 659


def test_an_output_that_shares_the_data_file_of_the_model_is_refused(tmp_path: Path):
    path = renamed(tmp_path)
    (tmp_path / "copy.onnx").write_bytes(path.read_bytes())
    for output in ("copy.onnx", "other.onnx.data"):
        with pytest.raises(UsageError, match="weights"):
            compress(path, tmp_path, UNTRAINED, output=tmp_path / output)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "x.npz"}, "output {}/x.npz is also the data"),
        ({"save_recipe": "x.npz"}, "recipe to save {}/x.npz is also the data"),
        ({"save_recipe": "e.npz"}, "recipe to save {}/e.npz is also the evaluation data"),
        ({"output": "y.onnx", "save_recipe": "y.onnx"}, "is also the output"),
        ({"output": "y.run", "run_dir": "y.run"}, "run directory {}/y.run is also the output"),
    ],
)
def test_what_is_written_is_not_what_is_read(tmp_path: Path, options: dict[str, str], message: str):
    path = saved(classifier(), tmp_path)
    for name in ("x.npz", "e.npz"):
        np.savez(tmp_path / name, x=images())
    before = contents(tmp_path)
    written: dict[str, Any] = {key: tmp_path / name for key, name in options.items()}
    with pytest.raises(UsageError) as error:
        api.compress(
            path, sparsity=0.5, data=tmp_path / "x.npz", eval_data=tmp_path / "e.npz",
            settings=UNTRAINED, **written,
        )  # fmt: skip
    assert message.format(tmp_path) in str(error.value)
    assert contents(tmp_path) == before


def test_the_allocation_of_a_run_can_be_used_in_its_place(tmp_path: Path):
    path = saved(classifier(), tmp_path)
    np.savez(tmp_path / "x.npz", x=images())
    found = ["--sparsity", "0.8", "--data", str(tmp_path / "x.npz"), "--num-samples", "48"]
    found += ["--set", "training.batch_size=16", "-q"]
    file = tmp_path / "m.sparse.run" / "allocation.json"
    done = CliRunner().invoke(main, ["search", str(path), *found, "--allocation", "erk"])
    assert done.exit_code == 0, done.output
    layers = json.loads(file.read_text())["layers"]
    words = ["compress", str(path), *found, "--epochs", "1", "--allocation", str(file)]
    for again in ([], ["--resume"]):
        done = CliRunner().invoke(main, [*words, *again])
        assert done.exit_code == 0, done.output
        assert json.loads(file.read_text())["layers"] == layers
    changed = json.loads(file.read_text())
    changed["layers"][0]["kept"] -= 1
    changed["layers"][1]["kept"] += 1
    file.write_text(json.dumps(changed))
    done = CliRunner().invoke(main, [*words, "--resume"])
    assert done.exit_code == 2
    assert "allocation" in done.stderr


def test_goals_and_sweeps_look_at_names_first(tmp_path: Path):
    path = saved(classifier(), tmp_path)
    options: dict[str, Any] = {"data": {"x": images()}, "settings": UNTRAINED}
    with pytest.raises(UsageError, match=r"run directory .*u\.run is also the output"):
        compress_to(
            path, "drop=1%", output=tmp_path / "u.run", run_dir=tmp_path / "u.run", **options
        )
    for call in (
        lambda name: compress_to(path, "drop=1%", output=name, save_recipe=name, **options),
        lambda name: sweep(
            path,
            [0.5],
            output=tmp_path / "s.onnx",
            save_recipe=tmp_path / "s.sweep.html",
            **options,
        ),
    ):
        with pytest.raises(UsageError, match=r"recipe to save .* is also the"):
            call(tmp_path / "t.onnx")
    assert [each.name for each in tmp_path.iterdir()] == ["m.onnx"]


def test_a_link_to_where_no_data_can_be_is_refused(tmp_path: Path):
    path = renamed(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "link.onnx").symlink_to(tmp_path / "real" / "model.onnx")
    with pytest.raises(UsageError, match="is a link to another directory"):
        compress(path, tmp_path, UNTRAINED, output=tmp_path / "link.onnx")


@pytest.mark.skipif(os.name != "posix", reason="names are text elsewhere")
def test_names_that_are_no_text_are_refused_or_escaped(tmp_path: Path):
    odd = os.fsdecode(b"\xe9")
    path = saved(classifier(), tmp_path)
    for output in (tmp_path / f"{odd}.onnx", tmp_path / odd / "o.onnx"):
        output.parent.mkdir(exist_ok=True)
        with pytest.raises(UsageError, match="is not UTF-8, which onnxruntime needs; rename it"):
            api.compress(path, sparsity=0.5, data={"x": images()}, output=output)
    with pytest.raises(UsageError, match="is not UTF-8"):
        api.inspect(tmp_path / f"{odd}.onnx")
    np.savez(tmp_path / f"{odd}.npz", x=images())
    result = api.compress(
        path, sparsity=0.5, data=tmp_path / f"{odd}.npz", settings=UNTRAINED, jobs=1
    )
    written = json.loads((result.run_dir / "report.json").read_text(encoding="utf-8"))
    assert f"{odd}.npz" in written["data"]["description"]
    assert (result.run_dir / "report.html").read_text(encoding="utf-8")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_is_no_model(tmp_path: Path):
    pipe = tmp_path / "m.onnx"
    os.mkfifo(pipe)
    for call in (partial(api.compress, sparsity=0.5), pack, partial(sweep, sparsities=[0.5])):
        with pytest.raises(UsageError, match="no regular file, and is read more than once"):
            call(pipe)


def test_searching_needs_no_place_for_a_model(tmp_path: Path):
    path = saved(classifier(), tmp_path)
    (tmp_path / "m.sparse.onnx").mkdir()
    found = api.search(path, sparsity=0.5, data={"x": images()}, settings=UNTRAINED, jobs=1)
    assert (found.run_dir / "allocation.json").is_file()
    with pytest.raises(UsageError, match="is a directory"):
        api.compress(path, sparsity=0.5, data={"x": images()}, settings=UNTRAINED, jobs=1)


def test_a_report_is_shown_where_its_page_cannot_be_written(tmp_path: Path):
    run = compress(classifier(), tmp_path, UNTRAINED).run_dir
    (run / "report.html").unlink()
    (run / "report.html").mkdir()
    shown = CliRunner().invoke(main, ["report", str(run), "--json"])
    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["sparsity"]["target"] == 0.8
    assert "the page stays as it is" in shown.stderr


def test_a_run_directory_that_is_a_link_to_nothing(tmp_path: Path):
    (tmp_path / "there.run").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is a link to nothing; create what it names"):
        compress(classifier(), tmp_path, UNTRAINED, run_dir=tmp_path / "there.run")


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("m.onnx", "m.run"),
        ("m.ORT", "m.run"),
        ("m.sparse.onnx", "m.sparse.run"),
        ("v1.0", "v1.0.run"),
    ],
)
def test_a_run_goes_by_the_whole_name_of_its_model(name: str, run: str):
    assert default_run_directory(Path("there") / name) == Path("there") / run


def test_names_that_differ_behind_a_dot_are_two_models(tmp_path: Path):
    first, second = (tmp_path / name for name in ("v1.0", "v1.1"))
    for path in (first, second):
        shutil.copyfile(saved(classifier(), tmp_path), path)
    assert default_output(second) == tmp_path / "v1.1.sparse.onnx"
    assert pack(second)["output"]["path"] == str(tmp_path / "v1.1.packed.onnx")
    options: dict[str, Any] = {"data": {"x": images()}, "jobs": 1, "settings": UNTRAINED}
    swept = sweep(first, [0.5, 0.7], output=tmp_path / "out", **options)
    runs = [result.run_dir for result in swept.results]
    assert runs == [tmp_path / "out-0.5.run", tmp_path / "out-0.7.run"]
    reports = [json.loads((run / "report.json").read_text()) for run in runs]
    assert [report["sparsity"]["target"] for report in reports] == [0.5, 0.7]
    assert swept.page == tmp_path / "out.sweep.html"
