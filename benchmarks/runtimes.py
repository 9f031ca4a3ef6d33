"""A packed file in several runtimes: outputs equal bit for bit, load time and latency to dense.

Each runtime has an environment of its own, made on demand in the directory that the environment
variable ONNX_UNIPTS_RUNTIMES names, else in ~/.cache/onnx-unipts/runtimes. What cannot be installed
is skipped, with the reason. Dense and packed file are loaded and run in turn on one thread; the
ratios are medians over the rounds. Times of a busy machine mean little.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
from pruned import pruned

from onnx_unipts.calibration import input_signature, load_calibration_data
from onnx_unipts.export import FORMATS, Storage

RUNTIMES = {
    "onnxruntime 1.16": ["onnxruntime==1.16.3", "numpy<2"],
    "onnxruntime, newest": ["onnxruntime", "numpy"],
    "openvino": ["openvino", "numpy"],
}
HERE = "the training build"

CHILD = """
import json, sys, time
import numpy as np
library, rounds, feeds, *files = sys.argv[1:]
feeds = dict(np.load(feeds))
if library == "openvino":
    import openvino
    version = openvino.__version__
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    def load(file):
        compiled = core.compile_model(core.read_model(file), "CPU", settings)
        return lambda: list(compiled(feeds).values())
else:
    import onnxruntime
    version = onnxruntime.__version__
    def load(file):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, feeds)
def timed(call, *arguments):
    began = time.perf_counter()
    result = call(*arguments)
    return time.perf_counter() - began, result
runs = [load(file) for file in files]
outputs = [run() for run in runs]
equal = [all(a.tobytes() == b.tobytes() for a, b in zip(outputs[0], o)) for o in outputs]
loads = np.array([[timed(load, file)[0] for file in files] for _ in range(int(rounds))])
times = np.array([[timed(run)[0] for run in runs] for _ in range(int(rounds))])
print(json.dumps({
    "version": version,
    "equal": equal,
    "load_ratio": np.median(loads / loads[:, :1], axis=0).tolist(),
    "latency_ratio": np.median(times / times[:, :1], axis=0).tolist(),
    "load_milliseconds": (np.median(loads, axis=0) * 1e3).tolist(),
}))
"""


def directory() -> Path:
    """Return where the environments are."""
    chosen = os.environ.get("ONNX_UNIPTS_RUNTIMES")
    return Path(chosen) if chosen else Path.home() / ".cache" / "onnx-unipts" / "runtimes"


def interpreter(name: str) -> Path:
    """Return the Python of the environment ``name``, which is made if it is missing.

    Raises `RuntimeError` with the last line of what went wrong.
    """
    home = directory() / name.replace(",", "").replace(" ", "-")
    python = home / "bin" / "python"
    done = home / "installed"
    if not done.is_file():
        pip = [str(python), "-m", "pip", "install", "-q", *RUNTIMES[name]]
        for command in ([sys.executable, "-m", "venv", "--clear", str(home)], pip):
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode:
                lines = result.stderr.strip().splitlines() or ["no message"]
                raise RuntimeError(lines[-1])
        done.touch()
    return python


def compare(python: str | Path, library: str, files: list[Path], feeds: Path, rounds: int) -> dict:
    """Return versions, equality and ratios of ``files`` to the first, in one runtime."""
    command = [str(python), "-c", CHILD, library, str(rounds), str(feeds), *map(str, files)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(result.stderr.strip().splitlines()[-1])
    return json.loads(result.stdout.strip().splitlines()[-1])


def write_files(model: Path, sparsity: float, folder: Path) -> tuple[dict[str, Path], Path]:
    """Write the pruned ``model`` dense and packed, and inputs for it; return the paths."""
    storages = {
        "dense": Storage("dense"),
        "delta8": Storage("packed"),
        "smallest": Storage("packed", "smallest"),
    }
    files = {}
    for name, storage in storages.items():
        graph, _ = pruned(model, sparsity, "global")
        files[name] = folder / f"{name}.onnx"
        FORMATS[storage.format]().write(graph, files[name], storage)
    signature = input_signature(graph)
    batch = load_calibration_data(None, signature, num_samples=2).batch(np.arange(1))
    np.savez(folder / "feeds.npz", **batch)
    return files, folder / "feeds.npz"


@click.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--sparsity", default=0.9, show_default=True)
@click.option("--rounds", default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(model: Path, sparsity: float, rounds: int, as_json: bool) -> None:
    """Run MODEL, pruned, dense and packed in every runtime."""
    results: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as folder:
        files, feeds = write_files(model, sparsity, Path(folder))
        for name in (HERE, *RUNTIMES):
            library = "openvino" if name == "openvino" else "onnxruntime"
            try:
                python = Path(sys.executable) if name == HERE else interpreter(name)
                results[name] = compare(python, library, list(files.values()), feeds, rounds)
            except (OSError, RuntimeError) as error:
                results[name] = {"skipped": str(error)}
    if as_json:
        click.echo(json.dumps(results, indent=2))
        return
    for name, result in results.items():
        if "skipped" in result:
            click.echo(f"{name}: skipped: {result['skipped']}")
            continue
        for index, form in enumerate(files):
            click.echo(
                f"{name} ({result['version']}), {form}: "
                f"{'equal' if result['equal'][index] else 'DIFFERENT'}, load "
                f"{result['load_milliseconds'][index]:.0f} ms, ratio "
                f"{result['load_ratio'][index]:.2f}, latency ratio "
                f"{result['latency_ratio'][index]:.2f}"
            )


if __name__ == "__main__":
    main()
