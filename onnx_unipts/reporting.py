"""The report of a run: what is known before it, and what is measured when it is finished."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from onnx_unipts.calibration import CalibrationData
from onnx_unipts.environment import versions
from onnx_unipts.evaluation import (
    Accuracy,
    Fidelity,
    batching_for,
    compare,
    measure_accuracy,
    outputs_of,
)
from onnx_unipts.external_data import data_files
from onnx_unipts.gains import gains
from onnx_unipts.graph.model import read_tensors
from onnx_unipts.graph.runtime import onnxruntime
from onnx_unipts.job import Job
from onnx_unipts.measurement import measure_in_run
from onnx_unipts.memory import peak_memory
from onnx_unipts.pipeline import Outcome
from onnx_unipts.report.document import Report
from onnx_unipts.report.figures import output_samples, picked_samples, weight_histograms
from onnx_unipts.report.files import describe_file
from onnx_unipts.report.layers import layer_sparsities
from onnx_unipts.report.storage import quantization_facts, storage_facts
from onnx_unipts.rotating import UNROTATED, rotation_facts
from onnx_unipts.searching import SearchOutcome
from onnx_unipts.targets import Target
from onnx_unipts.training.ort import file_session, model_session

__all__ = ["data_facts", "finished_report", "planned_report", "search_facts"]

# Samples on which dense and sparse model are compared where no evaluation data is given.
COMPARED_SAMPLES = 2048
# Statistics that settle on the data move a divergence that is next to nothing.
CERTAINLY_WORSE = 1.5
NOTHING = 1e-3


def planned_report(job: Job) -> Report:
    """Return the report of what is known before the run."""
    return Report(
        command=job.command,
        recipe=job.recipe.model_dump(mode="json"),
        versions=versions(),
        seed=job.recipe.seed,
        model=describe_file(job.path, data_files(job.path)),
        target=job.sparsity,
        layers=layer_sparsities(job.weights, read_tensors(job.dense, job.keys)),
        data=data_facts(job.data),
        rotation=rotation_facts(job),
        warnings=job.warnings,
    )


def finished_report(job: Job, outcome: Outcome) -> tuple[Report, dict[str, Any]]:
    """Return the report of a finished run, and what its figures show beside it."""
    report = planned_report(job)
    report.output = describe_file(job.output, data_files(job.output))
    if not outcome.rotated:
        report.rotation = UNROTATED
    sparse = outcome.finished.weights
    report.layers = layer_sparsities(job.weights, sparse)
    report.eliminated = outcome.finished.eliminated
    report.storage = storage_facts(report, outcome.finished.written, job.pruned)
    report.quantization = quantization_facts(report, outcome.finished.quantized)
    if job.storage.quantize and report.output["bytes"] > report.model["bytes"]:
        job.warn(
            f"quantised it takes {report.output['bytes']} bytes, the dense model "
            f"{report.model['bytes']}: what int8 adds to the graph is more than it saves in so "
            "small a model; leave out --quantize"
        )
    data = job.eval_data or job.data.subset(_sample(len(job.data)))
    report.measured_on = data_facts(data)
    outputs = _outputs(job, outcome, data)
    report.fidelity, report.accuracy = _measure(job.targets, outputs, data)
    comparable = job.recipe.training.epochs > 0 and not job.random
    if comparable and (harm := _harm(report.fidelity, report.accuracy)):
        job.warn(
            f"recovery did harm: {harm}; is the calibration data of the kind that the model is "
            "for, and enough? --epochs 0 prunes without training"
        )
    report.time = {
        "search_seconds": outcome.search.seconds,
        "training_seconds": outcome.training_seconds,
    }
    report.search = search_facts(outcome.search)
    report.training = {
        "steps": len(outcome.losses),
        "images": len(outcome.losses) * job.recipe.training.batch_size,
        "replicas": job.replicas,
        "loss": outcome.losses,
        "history": outcome.history,
        "untrained": outcome.untrained,
        "reconstruction": outcome.fitted,
    }
    report.measured = _measured(job, data)
    report.runtimes = gains(
        job.pattern,
        cut=_is_cut(outcome),
        quantized=job.storage.quantize,
        ratio=report.measured.get("latency", {}).get("ratio"),
    )
    report.memory_peak_bytes = peak_memory() or None
    return report, _figures(job, sparse, outputs, data)


def _is_cut(outcome: Outcome) -> bool:
    eliminated = outcome.finished.eliminated
    return eliminated is not None and eliminated.removed > 0


def _measured(job: Job, data: CalibrationData) -> dict[str, Any]:
    """Return what load time, latency and memory of the dense and the written file come to."""
    names = {value.name for value in job.dense.graph.inputs}
    sample = {name: a for name, a in data.batch(np.arange(1)).items() if name in names}
    batching = job.own_batching or batching_for(file_session(job.path), sample)
    feeds = next(iter(batching.runs(sample)))
    return measure_in_run(job.path, job.output, feeds, job.cores, batching.size or 1)


def _outputs(job: Job, outcome: Outcome, data: CalibrationData) -> dict[str, dict[str, np.ndarray]]:
    """Return what the models make of ``data``: dense, before and after recovery."""

    def run(session: onnxruntime.InferenceSession) -> dict[str, np.ndarray]:
        return outputs_of(session, job.targets, data, job.own_batching)

    # One session at a time: each holds all weights.
    outputs = {"dense": run(file_session(job.path, job.cores, job.targets))}
    if outcome.before_recovery is not None:
        pruned = outcome.before_recovery
        outputs["before_recovery"] = run(model_session(pruned, job.cores, job.targets))
    if outcome.finished.floats is not None:
        floats = outcome.finished.floats
        outputs["before_quantization"] = run(model_session(floats, job.cores, job.targets))
    outputs["after_recovery"] = run(file_session(job.output, job.cores, job.targets))
    unrecovered = outputs.get("before_quantization", outputs["after_recovery"])
    outputs.setdefault("before_recovery", unrecovered)
    return outputs


def _measure(
    targets: list[Target], outputs: dict[str, dict[str, np.ndarray]], data: CalibrationData
) -> tuple[dict[str, Fidelity], dict[str, Accuracy]]:
    """Compare the models before and after recovery with the dense one on ``data``."""
    fidelity = {
        stage: compare(targets, outputs["dense"], outputs[stage])
        for stage in outputs
        if stage != "dense"
    }
    accuracy = {
        stage: measured
        for stage, values in outputs.items()
        if (measured := measure_accuracy(targets, values, data.labels)) is not None
    }
    return fidelity, accuracy


def _harm(fidelity: Mapping[str, Fidelity], accuracy: Mapping[str, Accuracy]) -> str:
    """Say in what the model after recovery is certainly worse than before it, if in anything.

    What quantising cost comes later.
    """
    recovered = "before_quantization" if "before_quantization" in fidelity else "after_recovery"
    stages = ("before_recovery", recovered)
    if accuracy:
        before, after = (accuracy[stage] for stage in stages)
        worse = after.interval[1] < before.interval[0]
        return f"accuracy {after.value:.2%}, without it {before.value:.2%}" if worse else ""
    before_it, after_it = (fidelity[stage] for stage in stages)
    if (after_it.agreement or 0) > (before_it.agreement or 0):
        return ""
    most = max(before_it.divergence * CERTAINLY_WORSE, NOTHING)
    if after_it.divergence <= most:
        return ""
    return f"divergence {after_it.divergence:.3g}, without it {before_it.divergence:.3g}"


def _figures(
    job: Job,
    sparse: dict[str, np.ndarray],
    outputs: dict[str, dict[str, np.ndarray]],
    data: CalibrationData,
) -> dict[str, Any]:
    classes = next((t for t in job.targets if t.kind == "classes"), None)
    dense, after = (
        None if classes is None else classes.scores(outputs[stage][classes.measured])
        for stage in ("dense", "after_recovery")
    )
    picked = picked_samples(dense, after, len(data))
    inputs = data.batch(np.array(picked))
    return {
        "histograms": weight_histograms(read_tensors(job.dense, job.keys), sparse),
        "samples": output_samples(inputs, job.targets, outputs, data.labels, picked),
    }


def _sample(count: int) -> np.ndarray:
    """Return the indices, int64, of the samples to measure on where there are ``count``."""
    return np.sort(np.random.default_rng(0).permutation(count)[:COMPARED_SAMPLES])


def search_facts(found: SearchOutcome) -> dict[str, Any]:
    """Return what a report tells of a search."""
    return {
        "evaluations": found.evaluations,
        "images": found.images,
        "best_by_generation": found.best_by_generation,
    }


def data_facts(data: CalibrationData) -> dict[str, Any]:
    """Return what a report tells of data."""
    return {"description": data.description, "samples": len(data), "skipped": data.skipped}
