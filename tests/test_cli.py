"""The command line: one line per error, the right exit code, JSON alone on standard output."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from onnx_unipts.cli import main
from onnx_unipts.cli.command import Command
from onnx_unipts.cli.options import run_options, show_options
from onnx_unipts.graph.errors import (
    BrokenEnvironmentError,
    OnnxUniptsError,
    TargetMissedError,
    UnsupportedModelError,
    UsageError,
)
from onnx_unipts.recipe import load_recipe

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def error_of(result: Result, exit_code: int) -> str:
    """Return the one line of an error that ended with ``exit_code``."""
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A convolution and a classifier, with a dynamic batch."""
    rng = np.random.default_rng(0)
    weights = {
        "conv.weight": rng.standard_normal((4, 3, 3, 3)),
        "fc.weight": rng.standard_normal((10, 4)),
        "fc.bias": rng.standard_normal(10),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "conv.weight"], ["c"], name="conv", pads=[1] * 4),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node(
                "Gemm", ["f", "fc.weight", "fc.bias"], ["scores"], name="fc", transB=1
            ),
        ],
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    proto = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    path = tmp_path / "small.onnx"
    onnx.save(proto, path)
    return path


# inspect


def test_inspect_lists_the_weights_and_the_signature(model: Path):
    result = run("inspect", model)
    assert result.exit_code == 0
    assert "conv.weight" in result.stdout
    assert "4x3x3x3" in result.stdout
    assert "148" in result.stdout
    assert "image  FLOAT [N, 3, 8, 8]" in result.stdout


def test_inspect_prints_the_promised_json(model: Path):
    document = json.loads(run("inspect", model, "--json").stdout)
    assert document["model"] == str(model)
    conv, fc = document["weights"]
    assert conv == {
        "name": "conv.weight",
        "scope": "",
        "operator": "Conv",
        "nodes": ["conv"],
        "shape": [4, 3, 3, 3],
        "dtype": "FLOAT",
        "count": 108,
        "out_axis": 0,
        "in_axis": 1,
        "pruned": True,
        "trainable": conv["trainable"],
        "reason": "",
        "chain": [],
        "in_groups": 1,
        "zero": 0,
        "kind": "",
        "computed": False,
    }
    assert conv["trainable"] in (True, False, None)
    assert (fc["out_axis"], fc["in_axis"]) == (0, 1)
    assert document["inputs"] == [{"name": "image", "shape": ["N", 3, 8, 8], "dtype": "FLOAT"}]
    assert document["outputs"] == [{"name": "scores", "shape": ["N", 10], "dtype": "FLOAT"}]


def test_inspect_says_why_a_weight_is_not_pruned(model: Path):
    weights = json.loads(run("inspect", model, "--exclude", "^fc", "--json").stdout)["weights"]
    assert [weight["pruned"] for weight in weights] == [True, False]
    assert "excluded" in weights[1]["reason"]
    assert "no: excluded" in run("inspect", model, "--exclude", "^fc").stdout


def test_only_leaves_all_other_weights(model: Path):
    weights = json.loads(run("inspect", model, "--only", "^fc", "--json").stdout)["weights"]
    assert [weight["pruned"] for weight in weights] == [False, True]
    assert weights[0]["reason"] == "not among those asked for alone"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--only", "head"], "only 'head' matches no weight"),
        (["--layer-sparsity", "head=0.5"], "'head' matches no weight that is pruned; there are"),
        (["--layer-sparsity", "fc"], "'fc' is not REGEX=SHARE"),
        (["--layer-sparsity", "fc=1.5"], "is 1.5; allowed: a mapping with a number at least 0 and"),
        (["--layer-sparsity", "conv=0.01"], "it would be between 0.0068 and 0.2770"),
    ],
)
def test_a_choice_of_layers_that_cannot_work_is_refused(
    model: Path, options: list[str], message: str
):
    data = model.with_name("data.npz")
    np.savez(data, image=np.zeros((64, 3, 8, 8), np.float32))
    result = run("compress", model, "--sparsity", "0.9", "--data", data, *options)
    assert message in result.stderr.splitlines()[-1]
    assert result.exit_code == 2
    assert not model.with_name("small.sparse.onnx").exists()


def test_quiet_prints_nothing(model: Path):
    assert run("inspect", model, "-q").output == ""


def test_what_is_no_onnx_file_is_refused(tmp_path: Path, model: Path):
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"this is not a model at all")
    assert str(garbage) in error_of(run("inspect", garbage), 4)
    truncated = tmp_path / "truncated.onnx"
    truncated.write_bytes(model.read_bytes()[:200])
    assert str(truncated) in error_of(run("inspect", truncated), 4)


def test_verbose_shows_the_traceback(tmp_path: Path):
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"this is not a model at all")
    result = run("inspect", garbage, "-v")
    assert result.exit_code == 4
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: ")


# recipes


def test_recipes_are_listed(model: Path):
    result = run("recipes")
    assert result.exit_code == 0
    assert "unipts-paper" in result.stdout
    assert set(json.loads(run("recipes", "--json").stdout)) >= {"unipts", "unipts-paper"}


def test_a_printed_recipe_is_a_recipe(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text(run("recipes", "unipts").stdout)
    assert load_recipe(path) == load_recipe("unipts")


def test_an_unknown_recipe_is_refused_with_the_known_ones():
    assert "unipts, unipts-paper" in error_of(run("recipes", "best"), 2)


# compress, search, evaluate

QUICK = (
    *("--sparsity", "0.75", "--num-samples", "32", "--batch-size", "8", "--epochs", "2"),
    *("--set", "allocation.search.generations=1", "--set", "allocation.search.population=4"),
    *("--allocation", "evolutionary"),
)


def zeros_of(path: Path) -> int:
    """Count the zeros of the prunable weights in the file at ``path``."""
    tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    return sum(int((tensors[name] == 0).sum()) for name in ("conv.weight", "fc.weight"))


def test_compress_writes_the_model_and_prints_the_report(model: Path, tmp_path: Path):
    result = run("compress", model, *QUICK, "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert zeros_of(tmp_path / "small.sparse.onnx") == report["sparsity"]["zeros"] == 111
    assert json.loads((tmp_path / "small.sparse.run" / "report.json").read_text()) == report
    assert report["command"].startswith(f"onnx-unipts compress {model} --sparsity 0.75")
    assert report["recipe"]["training"]["epochs"] == 2
    assert "Warning: " in result.stderr
    assert report["warnings"]


def test_compress_prints_tables_alone_on_standard_output(model: Path, tmp_path: Path):
    result = run("compress", model, *QUICK, "-o", tmp_path / "out.onnx")
    assert result.exit_code == 0, result.stderr
    assert "111 of 148 weights are zero" in result.stdout
    assert "training" in result.stderr
    assert "Warning" not in result.stdout


def test_quiet_leaves_warnings_alone(model: Path):
    result = run("compress", model, *QUICK, "-q")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert all(line.startswith("Warning: ") for line in result.stderr.splitlines())


def test_a_dry_run_writes_nothing_but_the_recipe(model: Path, tmp_path: Path):
    recipe = tmp_path / "mine.yaml"
    result = run("compress", model, *QUICK, "--dry-run", "--save-recipe", recipe)
    assert result.exit_code == 0, result.stderr
    assert "no model was written" in result.stdout
    assert load_recipe(recipe).training.epochs == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine.yaml", "small.onnx"]


def test_a_search_can_be_gone_on_with(model: Path, tmp_path: Path):
    found = run("search", model, *QUICK)
    assert found.exit_code == 0, found.stderr
    assert "111 of 148 weights will be zero" in found.stdout
    assert (tmp_path / "small.sparse.run" / "allocation.json").exists()
    assert not (tmp_path / "small.sparse.onnx").exists()
    resumed = run("compress", model, *QUICK, "--resume")
    assert resumed.exit_code == 0, resumed.stderr
    assert "going on with the run in" in resumed.stderr
    again = tmp_path / "again.onnx"
    unbroken = run("compress", model, *QUICK, "-o", again)
    assert unbroken.exit_code == 0, unbroken.stderr
    assert again.read_bytes() == (tmp_path / "small.sparse.onnx").read_bytes()


def test_a_search_that_was_not_asked_for_is_gone_on_with_all_the_same(model: Path, tmp_path: Path):
    unsearched = QUICK[: QUICK.index("--allocation")]
    document = tmp_path / "small.sparse.run" / "allocation.json"
    assert run("compress", model, *unsearched).exit_code == 0
    assert json.loads(document.read_text())["method"] == "tempered-lamp"
    assert run("search", model, *unsearched).exit_code == 0
    found = json.loads(document.read_text())
    assert found["method"] == "evolutionary"
    resumed = run("compress", model, *unsearched, "--resume")
    assert resumed.exit_code == 0, resumed.stderr
    assert json.loads(document.read_text()) == found


def test_resuming_with_other_settings_is_refused(model: Path):
    assert run("search", model, *QUICK).exit_code == 0
    result = run("compress", model, *QUICK, "--lr", "0.5", "--resume", "-q")
    message = error_of_last_line(result, 2)
    assert "recipe.training.learning_rate was 0.02, is 0.5" in message


def error_of_last_line(result: Result, exit_code: int) -> str:
    """Return the error of a command that warned before."""
    assert result.exit_code == exit_code, result.output
    *before, last = result.stderr.splitlines()
    assert all(line.startswith("Warning: ") for line in before)
    assert last.startswith("Error: ")
    return last


def test_evaluate_compares_two_files(model: Path, tmp_path: Path):
    assert run("compress", model, *QUICK, "-q").exit_code == 0
    data = tmp_path / "data.npz"
    rng = np.random.default_rng(1)
    images = rng.standard_normal((40, 3, 8, 8)).astype(np.float32)
    np.savez(data, image=images, labels=rng.integers(0, 10, 40))
    arguments = ("evaluate", model, tmp_path / "small.sparse.onnx", "--data", data)
    document = json.loads(run(*arguments, "--json").stdout)
    assert document["sparsity"]["zeros"] == 111
    assert set(document["accuracy"]) == {"dense", "sparse", "interval", "samples"}
    assert document["fidelity"]["sparse"]["samples"] == 40
    table = run(*arguments).stdout
    assert "accuracy" in table
    assert "95 % interval" in table


# Help and usage


def test_help_shows_options_in_groups_and_examples():
    text = run("compress", "-h").stdout
    places = [text.index(f"{heading}:\n") for heading in ("Method", "Data", "Output", "Run")]
    assert places == sorted(places)
    assert "onnx-unipts compress model.onnx --sparsity 0.9" in text
    assert run("compress", "--help").stdout == text


def test_the_group_names_every_command_and_the_version():
    text = run("-h").stdout
    for command in ("compress", "inspect", "evaluate", "search", "recipes", "doctor"):
        assert f"\n  {command} " in text
    assert run("--version").stdout.startswith("onnx-unipts, version ")


def test_help_imports_neither_numpy_nor_a_runtime():
    program = (
        "import sys\nfrom onnx_unipts.cli import main\n"
        "main(['compress', '-h'], standalone_mode=False)\n"
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'onnx_ir', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    child = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--sparsity", "1.5"],
            "'--sparsity': 1.5 is not between 0 and 1; for 1.5 percent give 1.5%",
        ),
        (["--sparsity", "0"], "'--sparsity': 0 is not between 0 and 1"),
        (["--sparsity", "1"], "1 is not between 0 and 1"),
        (["--sparsity", "nan"], "nan is not between 0 and 1"),
        (["--sparsity", "most"], "'most' is not a number such as 0.9 or 90%"),
        ([], "--sparsity is missing"),
        (["--sparsity", "0.9", "--epochs", "-1"], "training.epochs is -1; allowed: an integer"),
        (["--sparsity", "0.9", "--lr", "0"], "training.learning_rate is 0.0; allowed: a number"),
        (["--sparsity", "0.9", "--set", "training.epoch=1"], "did you mean training.epochs?"),
        (["--sparsity", "0.9", "--set", "epochs"], "expected key=value"),
        (["--sparsity", "0.9", "--recipe", "best"], "unknown recipe 'best'"),
        (["--sparsity", "0.9", "--mean", "1,a"], "'1,a' is not a list of numbers"),
        (["--sparsity", "0.9", "--std", "1,0,1"], "--std"),
        (["--sparsity", "0.9", "--input-shape", "image:3,a"], "--input-shape 'image:3,a'"),
        (["--sparsity", "0.9", "--format", "nonesuch"], "'nonesuch' is not one of 'dense', 'ort',"),
        (["--sparsity", "0.9", "--pack", "nonesuch"], "'nonesuch' is not one of 'bitmask', "),
        (["--sparsity", "0.9", "--jobs", "0"], "'--jobs'"),
        (["--sparsity", "0.9", "--jobs", "1000000"], "jobs is 1000000; allowed: 1 to "),
        (["--sparsety", "0.9"], "No such option '--sparsety'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_option_is_a_usage_error(model: Path, arguments: list[str], message: str):
    before = sorted(model.parent.iterdir())
    assert message in error_of(run("compress", model, *arguments), 2)
    assert sorted(model.parent.iterdir()) == before


def test_a_wrong_output_is_refused_before_any_work(model: Path, tmp_path: Path):
    for option, path, message in (
        ("-o", tmp_path, "is a directory"),
        ("-o", tmp_path / "missing" / "out.onnx", "does not exist"),
        ("-o", model, "is the model itself"),
        ("--save-recipe", tmp_path, "is a directory"),
    ):
        result = run("compress", model, "--sparsity", "0.9", option, path)
        assert message in error_of(result, 2)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["small.onnx"]


def test_a_missing_model_and_a_misspelt_command_are_usage_errors():
    assert "nowhere.onnx' does not exist" in error_of(run("inspect", "nowhere.onnx"), 2)
    assert "Did you mean 'inspect'?" in error_of(run("inspct", "model.onnx"), 2)


# What commands raise


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch):
    """Add a command to the group that raises what it is told to."""
    told: list[BaseException] = []

    @click.command(cls=Command)
    @show_options
    @run_options
    def raise_it(show: object, run: object) -> None:
        raise told[0]

    monkeypatch.setitem(main.commands, "raise", raise_it)

    def invoke(error: BaseException, *arguments: str) -> Result:
        told[:] = [error]
        return run("raise", *arguments)

    return invoke


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (OnnxUniptsError, 1),
        (UsageError, 2),
        (BrokenEnvironmentError, 3),
        (UnsupportedModelError, 4),
        (TargetMissedError, 5),
    ],
)
def test_errors_for_the_user_have_their_exit_codes(raising, kind, code):
    line = error_of(raising(kind("model.onnx: two\nlines")), code)
    assert line == "Error: model.onnx: two lines"


def test_unexpected_exceptions_end_with_1_and_the_way_to_the_traceback(raising):
    line = error_of(raising(ValueError("weights [3] are odd")), 1)
    assert line == "Error: ValueError: weights [3] are odd; run again with -v for the traceback"
    assert "Traceback" in raising(ValueError("odd"), "-v").stderr


def test_an_interrupt_ends_with_130_and_the_way_to_go_on(raising):
    line = error_of(raising(KeyboardInterrupt()), 130)
    assert line == "Error: interrupted; run again with --resume to go on"


def test_a_reader_that_goes_away_is_no_error(model: Path):
    program = "from onnx_unipts.cli import main; main(prog_name='onnx-unipts')"
    reader, writer = os.pipe()
    os.close(reader)
    child = subprocess.run(
        [sys.executable, "-c", program, "inspect", str(model)],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert "Traceback" not in child.stderr
    assert "Error" not in child.stderr


def waiting(first: str) -> subprocess.Popen[str]:
    """Start a command that waits for a minute, once ``first`` is done."""
    # The handlers are set because a test run in the background of a shell ignores the signals.
    program = (
        "import click, signal, time\nfrom onnx_unipts.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"signal.signal(signal.SIGHUP, signal.SIG_DFL)\n{first}\n"
        "@main.command()\ndef wait():\n    print('waiting', flush=True)\n    time.sleep(60)\n"
        "main(['wait'])"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "waiting\n"
    time.sleep(0.1)
    return child


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
@pytest.mark.parametrize(
    ("name", "code", "how"),
    [
        ("SIGHUP", 129, "ended by SIGHUP"),
        ("SIGINT", 130, "interrupted"),
        ("SIGTERM", 143, "ended by SIGTERM"),
    ],
)
def test_a_signal_ends_a_command_with_its_own_code(name: str, code: int, how: str):
    child = waiting("")
    child.send_signal(signal.Signals[name])
    _, stderr = child.communicate(timeout=30)
    assert (child.returncode, stderr) == (code, f"Error: {how}\n")


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_a_signal_that_is_ignored_stays_so():
    child = waiting("signal.signal(signal.SIGHUP, signal.SIG_IGN)")  # as nohup does
    child.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert child.poll() is None
    child.terminate()
    child.communicate(timeout=30)
    assert child.returncode == 143


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
@pytest.mark.parametrize(
    "moment", ["tmp/*/*", "x.run/checkpoint-training.npz"], ids=["in a helper", "in training"]
)
def test_a_run_that_is_ended_from_outside_leaves_nothing_and_is_gone_on_with(
    moment: str, quick_simplification: None, tmp_path: Path
):
    (tmp_path / "tmp").mkdir()
    words = ["compress", EXAMPLE / "digits.onnx", "-o", tmp_path / "x.onnx", "--epochs", "20"]
    words += ["--data", EXAMPLE / "calibration.npz", "--sparsity", "0.9", "--num-samples", "128"]
    words += ["--set", "training.adaptation=0", "--set", "training.reconstruction=false"]
    words += ["--jobs", "1"]
    child = subprocess.Popen(
        [sys.executable, "-m", "onnx_unipts", *map(str, words)],
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not any(tmp_path.glob(moment)):
        assert child.poll() is None
        time.sleep(0.005)
    child.terminate()
    _, stderr = child.communicate(timeout=30)
    assert child.returncode == 143
    assert "Traceback" not in stderr
    *_, last = stderr.splitlines()
    assert last == "Error: ended by SIGTERM; run again with --resume to go on"
    assert list((tmp_path / "tmp").rglob("*")) == []
    assert {path.name for path in tmp_path.iterdir()} == {"tmp", "x.run"}
    resumed = run(*words, "--resume")
    assert resumed.exit_code == 0, resumed.stderr
    assert (tmp_path / "x.onnx").exists()


def test_a_dry_run_says_how_long_it_would_take_and_how_much_memory(model: Path):
    data = model.with_name("data.npz")
    np.savez(data, image=np.random.default_rng(0).random((128, 3, 8, 8), np.float32))
    words = ["compress", model, "--sparsity", "0.5", "--data", data, "--dry-run", "--json"]
    words[1:1] = ["--set", "training.reconstruction=false"]
    short, long, pruning = (
        json.loads(run(*words, "--epochs", epochs).stdout)["estimate"] for epochs in (1, 1000, 0)
    )
    assert short["training_seconds"] < long["training_seconds"] / 4
    assert pruning["training_seconds"] == 0
    assert short["search_seconds"] == 0 < pruning["search_seconds"]
    assert short["total_seconds"] > short["search_seconds"] + short["training_seconds"]
    assert 50_000_000 < short["memory_bytes"] < 4_000_000_000
    printed = run(*words[:-1], "--epochs", 1).stdout
    assert "on an idle machine (search" in printed
    assert not model.with_name("small.sparse.onnx").exists()
