"""Compress every ONNX file of some directories, each in its own process, and check the results.

Says for each model: the exit code, whether the written file loads and runs in onnxruntime, has the
signature of the original and exactly the asked number of zeros, whether outputs that no changed
weight feeds stayed what they were, and how far the outputs are from the dense model's before and
after recovery. Writes sweep.json, sweep.md and a log per model into the output directory.
"""

from __future__ import annotations

import json
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx_ir as ir

from onnx_unipts.calibration import input_signature, load_calibration_data
from onnx_unipts.evaluation import batching_for
from onnx_unipts.graph.dynamic_batch import batching_of
from onnx_unipts.graph.model import load_model, stored_tensors
from onnx_unipts.graph.prunable import PrunableWeight, find_prunable, with_last_resort
from onnx_unipts.probing import with_running_sizes
from onnx_unipts.training.ort import file_session

CLI = "from onnx_unipts.cli import main; main()"
CHECK_SECONDS = 120
COMPARED = 2


@click.command()
@click.argument("sources", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("sweep"))
@click.option("--jobs", default=2, show_default=True, help="Models at a time, one core each.")
@click.option("--timeout", default=600, show_default=True, help="Seconds for one model.")
@click.option("--sparsity", default=0.5, show_default=True)
@click.option("--epochs", default=1, show_default=True)
@click.option("--num-samples", default=32, show_default=True)
@click.option(
    "--option", "options", multiple=True, help="Passed on to compress, as --option=--lr=1"
)
@click.option("--check", nargs=2, type=click.Path(path_type=Path), hidden=True)
def main(
    sources: Sequence[Path],
    output: Path,
    jobs: int,
    timeout: int,
    sparsity: float,
    epochs: int,
    num_samples: int,
    options: Sequence[str],
    check: tuple[Path, Path] | None,
) -> None:
    """Sweep over SOURCES: ONNX files, or directories of them."""
    if check is not None:
        click.echo(json.dumps(_check(*check, sparsity)))
        return
    output.mkdir(parents=True, exist_ok=True)
    settings = [f"--sparsity={sparsity}", f"--epochs={epochs}", f"--num-samples={num_samples}"]
    began = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        records = list(
            pool.map(
                lambda path: _sweep_one(path, output, [*settings, *options], sparsity, timeout),
                _models(sources),
            )
        )
    document = _document(records, time.monotonic() - began)
    (output / "sweep.json").write_text(json.dumps(document, indent=2), encoding="utf-8")
    (output / "sweep.md").write_text(_table(document), encoding="utf-8")
    click.echo(_table(document))


def _models(sources: Sequence[Path]) -> list[Path]:
    """Return the model files, the largest first, so that none is started alone at the end."""
    found = [
        path
        for source in sources
        for path in (source.glob("**/*.onnx") if source.is_dir() else [source])
    ]
    return sorted(found, key=lambda path: (-path.stat().st_size, path))


def _sweep_one(
    path: Path, output: Path, options: Sequence[str], sparsity: float, timeout: int
) -> dict[str, Any]:
    """Compress and check one model; nothing that it does reaches this process."""
    name = f"{path.parent.name}/{path.name}"
    written = output / "models" / name
    written.parent.mkdir(parents=True, exist_ok=True)
    written.unlink(missing_ok=True)
    run_dir = written.with_suffix(".run")
    record: dict[str, Any] = {"model": name}
    began = time.monotonic()
    command = ["compress", str(path), "-o", str(written), "--run-dir", str(run_dir), "--jobs", "1"]
    code, _, errors = _run(["-c", CLI, *command, *options, "-q"], timeout)
    record["seconds"] = round(time.monotonic() - began, 1)
    record["exit"] = code
    (output / f"{name.replace('/', '.')}.log").write_text(errors, encoding="utf-8")
    record["messages"] = errors.strip().splitlines()
    if code == 0:
        record |= _fidelity(json.loads((run_dir / "report.json").read_text(encoding="utf-8")))
    arguments = ["--check", str(path), str(written), f"--sparsity={sparsity}"]
    checked, text, errors = _run([__file__, *arguments], CHECK_SECONDS)
    reason = (errors.strip().splitlines() or [""])[-1]
    record |= json.loads(text) if checked == 0 else {"check": f"ended with {checked}: {reason}"}
    click.echo(_progress_line(record), err=True)
    return record


def _run(arguments: Sequence[str], timeout: int) -> tuple[int | str, str, str]:
    """Return exit code (or the name of the signal, or "timeout"), standard output and error."""
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as expired:
        return "timeout", "", (expired.stderr or b"").decode("utf-8", "replace")
    code = done.returncode
    return signal.Signals(-code).name if code < 0 else code, done.stdout, done.stderr


def _fidelity(report: Mapping[str, Any]) -> dict[str, Any]:
    fidelity, training = report.get("fidelity", {}), report.get("training", {})
    seconds = report.get("time", {})
    weights, untrained = report["sparsity"]["per_layer"], training.get("untrained", [])
    return {
        "before": fidelity.get("before_recovery", {}).get("divergence"),
        "after": fidelity.get("after_recovery", {}).get("divergence"),
        "error_before": fidelity.get("before_recovery", {}).get("error"),
        "error_after": fidelity.get("after_recovery", {}).get("error"),
        "steps": training.get("steps", 0),
        "untrained": len(untrained),
        "trained": len(weights) - len(untrained),
        "warnings": report.get("warnings", []),
        "memory": report.get("memory_peak_bytes"),
        "search_seconds": seconds.get("search_seconds"),
        "training_seconds": seconds.get("training_seconds"),
    }


# The checks of one written file, in a process of its own


def _check(path: Path, written: Path, sparsity: float) -> dict[str, Any]:
    """Return what is found out about the dense model, and about ``written`` where it exists."""
    dense = load_model(path)
    weights = _pruned(dense)
    found: dict[str, Any] = {"weights": len(weights)}
    try:
        session = file_session(path)
        signature = input_signature(dense, whole=batching_of(dense).whole)
        guess = load_calibration_data(None, signature, num_samples=1).batch(np.arange(1))
        running = with_running_sizes(path, signature, guess)
        data = load_calibration_data(None, running, num_samples=COMPARED)
        samples = data.batch(np.arange(COMPARED))
        batch = next(batching_for(session, samples).runs(samples))
        names = [value.name for value in session.get_outputs()]
        before = session.run(names, batch)
        found["runs"] = True
    except Exception as error:
        found["runs"] = False
        found["why_not"] = str(error).strip().partition("\n")[0][:200]
    if not written.is_file():
        return found
    sparse = load_model(written)
    count = sum(weight.count for weight in weights)
    stored = stored_tensors(sparse)
    # What was cut out with dead channels counts as zero.
    left = [(stored[w.key].numpy(), w.zero) for w in weights if w.key in stored]
    kept = sum(np.count_nonzero(tensor != zero) for tensor, zero in left)
    found["exact"] = bool(count - kept == int(sparsity * count))
    found["signature"] = _signature(dense) == _signature(sparse)
    found["versions"] = (dense.ir_version, dict(dense.opset_imports)) == (
        sparse.ir_version,
        dict(sparse.opset_imports),
    )
    if found["runs"]:
        after = file_session(written).run(names, batch)
        tensors = [a for a in after if isinstance(a, np.ndarray)]
        found["finite"] = all(np.isfinite(a).all() for a in tensors if a.dtype.kind == "f")
        pairs = dict(zip(names, zip(before, after, strict=True), strict=True))
        found["untouched"] = _untouched(dense, sparse, pairs)
    return found


def _pruned(model: ir.Model) -> list[PrunableWeight]:
    """Return the weights that compress prunes: kinds of last resort where there are no others."""
    weights, _ = with_last_resort(lambda kinds: find_prunable(model, include=kinds))
    return [weight for weight in weights if weight.pruned]


def _signature(model: ir.Model) -> list[tuple[Any, ...]]:
    values = (*model.graph.inputs, *model.graph.outputs)
    return [(value.name, str(value.type), str(value.shape)) for value in values]


def _untouched(
    dense: ir.Model, sparse: ir.Model, outputs: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> bool:
    """Say whether every output behind no changed tensor is exactly what it was."""
    ours, theirs = stored_tensors(dense), stored_tensors(sparse)
    changed = {
        str(theirs[key].value.name)
        for key in theirs
        if key not in ours or not np.array_equal(ours[key].numpy(), theirs[key].numpy())
    }
    dirty = set(changed)
    for graph in (sparse.graph,):
        for node in graph:
            if any(name in dirty for name in _needed(node)):
                dirty.update(str(value.name) for value in node.outputs)
    return all(_equal(*pair) for name, pair in outputs.items() if name not in dirty)


def _equal(before: Any, after: Any) -> bool:
    """Compare two outputs: tensors, sequences of such, or maps."""
    return pickle.dumps(before) == pickle.dumps(after)


def _needed(node: ir.Node) -> Iterable[str]:
    yield from (str(value.name) for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            graphs = (
                [attribute.value] if attribute.type == ir.AttributeType.GRAPH else attribute.value
            )
            for graph in graphs:
                yield from map(str, graph.initializers)
                for inner in graph:
                    yield from _needed(inner)
                    yield from (str(value.name) for value in inner.outputs)


# The result


def _verdict(record: Mapping[str, Any]) -> str:
    """Say in a word how a model fared."""
    if record["exit"] == 4 and (not record.get("runs", True) or not record.get("weights", 1)):
        return "not applicable"
    if record["exit"] == 4:
        return "refused"
    if record["exit"] != 0:
        return "failed"
    sound = ("runs", "exact", "signature", "untouched")
    return "done" if all(record.get(key) for key in sound) else "wrong"


def _improved(record: Mapping[str, Any]) -> bool | None:
    if record["exit"] != 0 or not record.get("trained") or not record.get("steps"):
        return None
    return bool(record["after"] < record["before"])


def _document(records: Sequence[dict[str, Any]], seconds: float) -> dict[str, Any]:
    for record in records:
        record["verdict"] = _verdict(record)
        record["improved"] = _improved(record)
    verdicts = [record["verdict"] for record in records]
    judged = [record["improved"] for record in records if record["improved"] is not None]
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": round(seconds),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime),
        "verdicts": {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))},
        "trained": len(judged),
        "improved": sum(judged),
        "models": sorted(records, key=lambda record: record["model"]),
    }


def _progress_line(record: Mapping[str, Any]) -> str:
    numbers = f"{record.get('before')} -> {record.get('after')}" if record["exit"] == 0 else ""
    last = record["messages"][-1] if record["messages"] and record["exit"] != 0 else ""
    return f"{record['model']}: {record['exit']} in {record['seconds']} s {numbers} {last}"


def _table(document: Mapping[str, Any]) -> str:
    lines = [
        "| model | verdict | exit | weights | trained | divergence before | after | ratio "
        "| output error before | after | seconds | note |",
        f"|{'---|' * 12}",
    ]
    for record in document["models"]:
        before, after = record.get("before"), record.get("after")
        ratio = f"{after / before:.2f}" if before and after is not None else ""
        notes = record["messages"][-1:] if record["exit"] != 0 else record.get("warnings", [])[1:]
        notes = [*notes, record.get("check", ""), record.get("why_not", "")]
        cells = [
            record["model"],
            record["verdict"],
            record["exit"],
            record.get("weights", ""),
            record.get("trained", ""),
            _number(before),
            _number(after),
            ratio,
            _number(record.get("error_before")),
            _number(record.get("error_after")),
            record["seconds"],
            "; ".join(filter(None, notes)).replace("|", "/")[:300],
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in document["verdicts"].items())
    lines += [
        "",
        f"{len(document['models'])} models in {document['seconds']} s "
        f"({document['cpu_seconds']} s of CPU): {verdicts}; "
        f"training brought {document['improved']} of {document['trained']} nearer to dense.",
        "",
    ]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    main()
