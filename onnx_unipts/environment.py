"""The environment: versions, cores, memory, and whether onnxruntime is its training build."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from onnx_unipts.cores import available_cores
from onnx_unipts.graph.errors import BrokenEnvironmentError

__all__ = ["Problem", "Runtime", "check_training_runtime", "describe", "probe_runtime", "versions"]

RUNTIME_VERSION = "1.19.2"
TRAINING_BUILDS = ("onnxruntime-training-cpu", "onnxruntime-training")
# All of these install the import package `onnxruntime`: the last one installed wins.
RUNTIME_DISTRIBUTIONS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    *TRAINING_BUILDS,
)
LIBRARIES = (
    "onnx",
    "onnx-ir",
    "onnxsim",
    "numpy",
    "pillow",
    "pydantic",
    "pyyaml",
    "jinja2",
    "joblib",
    "threadpoolctl",
    "click",
    "rich",
)
PYTHON_RANGE = ((3, 10), (3, 12))


@dataclass(frozen=True)
class Runtime:
    """What ``import onnxruntime`` gives."""

    installed: bool
    version: str | None = None
    path: str | None = None
    training: bool = False
    error: str | None = None


@dataclass(frozen=True)
class Problem:
    """Something that keeps the tool from working, and the shell commands that mend it."""

    problem: str
    commands: tuple[str, ...]


def check_training_runtime() -> None:
    """Do nothing if ``onnxruntime`` is the training build of the right version.

    Raises `BrokenEnvironmentError` with one line: what is wrong, and the commands that mend it.
    """
    problem = _runtime_problem(probe_runtime(), _installed(RUNTIME_DISTRIBUTIONS))
    if problem is None:
        return
    commands = " && ".join(problem.commands)
    raise BrokenEnvironmentError(f"{problem.problem}; mend it with: {commands}")


def probe_runtime() -> Runtime:
    """Import ``onnxruntime`` into this process and return what came of it."""
    try:
        package = importlib.import_module("onnx_unipts.graph.runtime").onnxruntime
        state = importlib.import_module("onnxruntime.capi._pybind_state")
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime"
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Runtime(installed=not missing, error=reason)
    return Runtime(
        installed=True,
        version=getattr(package, "__version__", None),
        path=getattr(package, "__file__", None),
        training=hasattr(state, "GradientGraphBuilder"),
    )


def versions() -> dict[str, str]:
    """Return the versions a result depends on, by distribution name, for reports."""
    found = _installed(("onnx-unipts", *LIBRARIES, *RUNTIME_DISTRIBUTIONS))
    return {"python": platform.python_version(), **found}


def describe() -> dict[str, Any]:
    """Return versions, platform, cores, memory (bytes) and ``problems``, ready for JSON.

    ``onnxruntime`` is imported in a child process, so that a broken one cannot end this process.
    """
    distributions = _installed(RUNTIME_DISTRIBUTIONS)
    libraries = _installed(LIBRARIES)
    runtime = _probe_in_child()
    return {
        "onnx-unipts": _installed(("onnx-unipts",)).get("onnx-unipts"),
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "cores": available_cores(),
        "memory_bytes": _memory_bytes(),
        "libraries": {name: libraries.get(name) for name in LIBRARIES},
        "onnxruntime": {"distributions": distributions, **asdict(runtime)},
        "problems": [asdict(p) for p in _problems(runtime, distributions, libraries)],
    }


def _problems(
    runtime: Runtime, distributions: Mapping[str, str], libraries: Mapping[str, str]
) -> list[Problem]:
    return [
        problem
        for problem in (
            _python_problem(),
            _runtime_problem(runtime, distributions) or _twofold_problem(distributions),
            _library_problem(libraries),
        )
        if problem is not None
    ]


def _python_problem() -> Problem | None:
    first, last = PYTHON_RANGE
    if first <= sys.version_info[:2] <= last:
        return None
    low, high = ("{}.{}".format(*version) for version in PYTHON_RANGE)
    return Problem(
        f"Python {platform.python_version()} is not supported: onnxruntime-training "
        f"{RUNTIME_VERSION} runs on Python {low} to {high}",
        (f"python{high} -m venv .venv", ".venv/bin/python -m pip install onnx-unipts"),
    )


def _runtime_problem(runtime: Runtime, distributions: Mapping[str, str]) -> Problem | None:
    if not runtime.installed:
        commands = _reinstall(distributions) if distributions else (_install(),)
        return Problem("onnxruntime is not installed", commands)
    if runtime.error is not None:
        return Problem(
            f"onnxruntime is installed but cannot be imported ({runtime.error})",
            _reinstall(distributions),
        )
    others = _names(name for name in distributions if name not in TRAINING_BUILDS)
    if not runtime.training and any(name in distributions for name in TRAINING_BUILDS):
        return Problem(
            f"the training build of onnxruntime is overwritten by {others or 'another build'} "
            f"{runtime.version} (GradientGraphBuilder is missing)",
            _reinstall(distributions),
        )
    if not runtime.training:
        return Problem(
            f"onnxruntime {runtime.version} is not the training build "
            "(GradientGraphBuilder is missing)",
            _reinstall(distributions),
        )
    if runtime.version != RUNTIME_VERSION:
        return Problem(
            f"the training build of onnxruntime is version {runtime.version}, "
            f"{RUNTIME_VERSION} is needed",
            _reinstall(distributions),
        )
    return None


def _twofold_problem(distributions: Mapping[str, str]) -> Problem | None:
    """Two distributions still work if the training build came last, but only until one changes."""
    if len(distributions) < 2:
        return None
    return Problem(
        f"{_names(distributions)} are installed together and overwrite each other",
        _reinstall(distributions),
    )


def _library_problem(libraries: Mapping[str, str]) -> Problem | None:
    missing = [name for name in LIBRARIES if name not in libraries]
    if not missing:
        return None
    return Problem(f"not installed: {', '.join(missing)}", (_pip("install", *missing),))


def _reinstall(distributions: Mapping[str, str]) -> tuple[str, ...]:
    named = sorted({"onnxruntime", *TRAINING_BUILDS, *distributions})
    return _pip("uninstall", "-y", *named), _install()


def _install() -> str:
    return _pip("install", f"{TRAINING_BUILDS[0]}=={RUNTIME_VERSION}")


def _pip(*arguments: str) -> str:
    return shlex.join([sys.executable or "python", "-m", "pip", *arguments])


def _names(names: Any) -> str:
    return " and ".join(names)


def _installed(names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _probe_in_child() -> Runtime:
    program = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1])\n"
        "from dataclasses import asdict; from onnx_unipts.environment import probe_runtime\n"
        "print(json.dumps(asdict(probe_runtime())))"
    )
    try:
        child = subprocess.run(
            [sys.executable, "-c", program, json.dumps(sys.path)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Runtime(installed=True, error="the import does not end")
    if child.returncode != 0:
        return Runtime(installed=True, error=f"the import ends Python with {child.returncode}")
    return Runtime(**json.loads(child.stdout.splitlines()[-1]))


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
