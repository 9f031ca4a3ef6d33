"""A broken onnxruntime is found and the way to mend it told; torch is never needed."""

import json
import os
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_unipts.environment import check_training_runtime, describe, versions

UNINSTALL = "-m pip uninstall -y onnxruntime onnxruntime-training onnxruntime-training-cpu"
INSTALL = "-m pip install onnxruntime-training-cpu==1.19.2"
COMMAND_LINE = "import sys; from onnx_unipts.cli import main; main(prog_name='onnx-unipts')"


def run(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess:
    """Run the command line in a child whose imports come from ``path`` first."""
    environment = dict(os.environ, PYTHONPATH=str(path or ""), COLUMNS="80")
    return subprocess.run(
        [sys.executable, "-c", COMMAND_LINE, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def lay_over(path: Path, state: str, version: str = "1.23.2", package: str = "") -> Path:
    """Put an ``onnxruntime`` into ``path``, as another distribution's installation would."""
    capi = path / "onnxruntime" / "capi"
    capi.mkdir(parents=True)
    (path / "onnxruntime" / "__init__.py").write_text(f"__version__ = {version!r}\n{package}")
    (capi / "__init__.py").write_text("")
    (capi / "_pybind_state.py").write_text(state)
    metadata = path / f"onnxruntime-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: onnxruntime\nVersion: {version}\n"
    )
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"never read: the environment is checked first")
    return path


def test_the_training_runtime_of_this_environment_passes():
    check_training_runtime()


def test_doctor_finds_no_problem_here():
    result = run("doctor")
    assert result.returncode == 0, result.stdout
    assert "1.19.2, training build" in result.stdout
    assert "Everything is in place." in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_doctor_prints_json_for_machines():
    environment = json.loads(run("doctor", "--json").stdout)
    assert environment["problems"] == []
    assert environment["onnxruntime"]["training"] is True
    assert environment["onnxruntime"]["distributions"] == {"onnxruntime-training-cpu": "1.19.2"}
    assert environment["cores"] >= 1
    assert environment["memory_bytes"] > 1 << 20


def test_versions_name_what_a_result_depends_on():
    found = versions()
    assert {"python", "onnx-unipts", "onnx", "onnx-ir", "numpy", "onnxsim"} <= set(found)
    assert found["onnxruntime-training-cpu"] == "1.19.2"


def test_an_overwritten_runtime_is_found_with_the_commands_that_mend_it(tmp_path: Path):
    result = run("doctor", path=lay_over(tmp_path, state=""))
    assert result.returncode == 3
    assert "is overwritten by onnxruntime 1.23.2" in result.stdout
    assert UNINSTALL in result.stdout
    assert INSTALL in result.stdout
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("compress", "MODEL", "--sparsity", "0.9"),
        ("search", "MODEL"),
        ("evaluate", "MODEL", "MODEL"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_commands_that_need_the_runtime_end_with_exit_code_3(tmp_path, model, arguments):
    overwritten = lay_over(tmp_path / "site", state="")
    result = run(*(str(model) if a == "MODEL" else a for a in arguments), path=overwritten)
    assert result.returncode == 3
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: the training build of onnxruntime is overwritten")
    assert UNINSTALL in line
    assert INSTALL in line
    assert result.stdout == ""


def test_two_distributions_together_are_a_problem_even_while_the_training_build_is_on_top(
    tmp_path: Path,
):
    overwritten = lay_over(tmp_path, "GradientGraphBuilder = object", version="1.19.2")
    problems = json.loads(run("doctor", "--json", path=overwritten).stdout)["problems"]
    assert [p["problem"] for p in problems] == [
        "onnxruntime and onnxruntime-training-cpu are installed together and overwrite each other"
    ]


def test_another_version_of_the_training_build_is_a_problem(tmp_path: Path):
    old = lay_over(tmp_path, "GradientGraphBuilder = object", version="1.17.0")
    result = run("doctor", path=old)
    assert result.returncode == 3
    assert "version 1.17.0, 1.19.2 is needed" in result.stdout


def test_a_missing_runtime_is_a_problem(tmp_path: Path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'onnxruntime':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name='onnxruntime')\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    result = run("doctor", path=tmp_path)
    assert result.returncode == 3
    assert "onnxruntime is not installed" in result.stdout
    assert INSTALL in result.stdout


def test_doctor_survives_a_runtime_that_kills_the_process_at_import(tmp_path: Path):
    deadly = lay_over(tmp_path, state="", package="import os; os.kill(os.getpid(), 9)")
    result = run("doctor", path=deadly)
    assert result.returncode == 3
    assert "cannot be imported" in result.stdout


def test_describe_works_where_the_runtime_cannot_be_imported(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(lay_over(tmp_path, state="raise ImportError('libc is old')")))
    (problem,) = describe()["problems"]
    assert "libc is old" in problem["problem"]


def test_help_and_recipes_need_no_runtime(tmp_path: Path):
    deadly = lay_over(tmp_path, state="", package="raise SystemExit('imported')")
    assert run("--help", path=deadly).returncode == 0
    assert run("compress", "--help", path=deadly).returncode == 0
    assert run("recipes", path=deadly).returncode == 0


def test_torch_is_not_required():
    assert not [r for r in requires("onnx-unipts") if r.lower().startswith("torch")]


def test_torch_is_neither_needed_nor_imported_by_any_module():
    program = """
import importlib, pkgutil, sys

extras = {"onnx_unipts.olive_pass"}
asked = []

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            asked.append(name)
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())
import onnx_unipts
count = 0
for module in pkgutil.walk_packages(onnx_unipts.__path__, "onnx_unipts."):
    if module.name in extras:
        continue
    importlib.import_module(module.name)
    assert not asked, f"{module.name} imports {asked}"
    count += 1
print(count)
"""
    child = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert child.returncode == 0, child.stderr
    assert int(child.stdout) > 20


def test_the_training_package_stays_reachable():
    """Users of ``onnxruntime.training`` in the same process find it as they always did."""
    program = (
        "import sys\nfrom onnx_unipts.graph.runtime import onnxruntime\n"
        "assert onnxruntime.InferenceSession\n"
        "assert 'onnxruntime.training' not in sys.modules\n"
        "from importlib.util import find_spec\nassert find_spec('onnxruntime').origin\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert child.returncode == 0, child.stderr


def test_compress_works_where_torch_cannot_be_imported(tmp_path: Path):
    weight = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=opset), tmp_path / "small.onnx")
    for name in ("torch", "torchvision"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('torch was imported')")
    result = run(
        *("compress", str(tmp_path / "small.onnx"), "--sparsity", "0.5", "--epochs", "1"),
        *("--num-samples", "32", "--batch-size", "8", "--set", "allocation.search.generations=1"),
        path=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert "16 of 32 weights are zero" in result.stdout
