"""The Python interface, which the command line mirrors: compress, search, evaluate, inspect."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from onnx_unipts.arguments import (
    ModelPath,
    at_least,
    check_kinds,
    check_losses,
    cores_of,
    model_file,
    model_path,
)
from onnx_unipts.calibration import (
    Preprocessing,
    input_signature,
    is_synthetic,
    load_calibration_data,
)
from onnx_unipts.call_text import call_text
from onnx_unipts.callbacks import Callbacks, Epoch, Generation
from onnx_unipts.data_check import check_outputs, value_ranges
from onnx_unipts.environment import check_training_runtime
from onnx_unipts.estimate import estimate
from onnx_unipts.evaluation import (
    compare,
    measure_accuracy,
    outputs_of,
)
from onnx_unipts.export import choose_storage, default_output, default_run_directory
from onnx_unipts.external_data import data_files
from onnx_unipts.graph.dynamic_batch import batching_of
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.isolation import isolated
from onnx_unipts.graph.model import load_model, writing
from onnx_unipts.graph.prunable import find_prunable, with_last_resort
from onnx_unipts.graph.sequence_inputs import declared_inputs
from onnx_unipts.job import Job
from onnx_unipts.linear_algebra import on_one_thread
from onnx_unipts.output_file import (
    atomic_path,
    check_apart,
    check_output_directory,
    check_output_file,
)
from onnx_unipts.pipeline import (
    PREPARATION,
    run_compression,
    run_search,
)
from onnx_unipts.preparation import prepare_job
from onnx_unipts.progress import Progress, Quiet
from onnx_unipts.quantization import check_quantizable
from onnx_unipts.recipe import Recipe, load_recipe
from onnx_unipts.report.document import evaluation_document, inspection_document, report_document
from onnx_unipts.report.files import describe_file
from onnx_unipts.report.runs import copy_report, write_report_page
from onnx_unipts.report.zeros import zeros_against
from onnx_unipts.reporting import data_facts, finished_report, planned_report, search_facts
from onnx_unipts.result import Result
from onnx_unipts.run_directory import RunDirectory, check_own
from onnx_unipts.run_files import ALLOCATION, FIGURES, REPORT
from onnx_unipts.same_signature import check_same_signature
from onnx_unipts.targets import choose_targets
from onnx_unipts.training.ort import file_session

__all__ = ["Result", "compress", "evaluate", "inspect", "search", "write_recipe"]

# What the preparation does not depend on.
NOT_OF_PREPARATION = ("sparsity", "recipe.sparsity")


def compress(
    model: ModelPath,
    *,
    sparsity: float | None = None,
    output: ModelPath | None = None,
    data: Any = None,
    eval_data: Any = None,
    recipe: str | os.PathLike[str] | Recipe = "unipts",
    settings: Mapping[str, Any] | None = None,
    preprocessing: Preprocessing | str | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    run_dir: ModelPath | None = None,
    resume: bool = False,
    prepared_by: ModelPath | None = None,
    jobs: int | None = None,
    backend: str = "threading",
    format: str | None = None,
    pack: str = "delta8",
    values: str = "stored",
    quantize: str | None = None,
    save_recipe: ModelPath | None = None,
    report: ModelPath | None = None,
    dry_run: bool = False,
    command: str | None = None,
    progress: Progress | None = None,
    on_generation: Callable[[Generation], object] | None = None,
    on_epoch: Callable[[Epoch], object] | None = None,
) -> Result:
    """Make the model in the file ``model`` sparse and write it to ``output``.

    ``sparsity`` is the share of the prunable weights to set to zero, in (0, 1). ``data`` is what
    `onnx_unipts.calibration.load_calibration_data` accepts (None: synthetic inputs), ``eval_data``
    the same, used only to measure. ``preprocessing`` says how pixels become values, or is the name
    of a preset; the recipe's holds if it is None. ``recipe`` is a name, a YAML file or a `Recipe`;
    ``settings`` change single keys of it, as in ``{"training.epochs": 3}``. ``output`` defaults to
    ``<model>.sparse.onnx`` beside the model, ``run_dir`` to ``<output stem>.run`` beside the
    output. With ``resume`` a killed run goes on, to the same result as an unbroken one.
    ``prepared_by`` is the run directory of the same compression at another sparsity: the dense
    model is not adapted to the data again. ``jobs`` is the number of cores to use. ``format`` is
    how zeros are stored: packed (the default where the model allows it), dense, sparse-initializer
    or ort; ``pack`` and ``values`` are what the options ``--pack`` and ``--values`` say of packed
    weights. ``quantize`` is None or int8: the sparse model is then quantised with the calibration
    data before it is stored. ``save_recipe`` names a file for the recipe with all settings.
    ``report`` names a directory that report.html and report.json of the run are copied to.
    ``dry_run`` checks everything and writes nothing else. ``on_generation`` and ``on_epoch`` are
    called after every generation of the search and every epoch of training; what they raise ends
    the run.

    Raises `UsageError`, `UnsupportedModelError`, `BrokenEnvironmentError` or `TargetMissedError`,
    each with one clear line.
    """
    command = command or call_text(compress, locals())
    check_kinds(locals())
    began = time.monotonic()
    model = model_file(model)
    output = default_output(model, format) if output is None else Path(output)
    if model.is_file():
        check_output_file(output, model=model)
    job, directory = _prepare(
        model, sparsity, output, data, eval_data, recipe, settings, preprocessing, input_shapes,
        run_dir, jobs, backend, command, progress,
    )  # fmt: skip
    check_apart(
        {"output": job.output, "recipe to save": save_recipe, "run directory": directory},
        {"model": model, "data": data, "evaluation data": eval_data},
    )
    job.callbacks = Callbacks(on_generation, on_epoch)
    job.storage, warning = choose_storage(
        job.dense, job.path, job.output, format, pack, values, quantize
    )
    if warning:
        job.warn(warning)
    check_quantizable(job)
    if save_recipe is not None:
        write_recipe(job.recipe, save_recipe)
    if report is not None:
        check_output_directory(report, "report")
    if dry_run:
        return _planned(job, directory)
    before = time.monotonic() - began
    with _opened(job, directory, resume) as run, on_one_thread():
        if prepared_by is not None:
            run.inherit(PREPARATION, prepared_by, differing=NOT_OF_PREPARATION)
        facts, figures = finished_report(job, run_compression(job, run))
        prepared, total = (before + run.times.seconds(each) for each in ("preparation", "total"))
        facts.time = {
            "preparation_seconds": prepared,
            "rehearsal_seconds": run.times.seconds("rehearsal"),
            **facts.time,
            "total_seconds": total,
        }
        document = report_document(facts)
        run.write_json(FIGURES, figures)
        run.write_json(REPORT, document)
        write_report_page(run.path)
    if report is not None:
        copy_report(run.path, report)
    return Result(document, job.output, directory)


def search(
    model: ModelPath,
    *,
    sparsity: float | None = None,
    output: ModelPath | None = None,
    data: Any = None,
    recipe: str | os.PathLike[str] | Recipe = "unipts",
    settings: Mapping[str, Any] | None = None,
    preprocessing: Preprocessing | str | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    run_dir: ModelPath | None = None,
    resume: bool = False,
    jobs: int | None = None,
    backend: str = "threading",
    dry_run: bool = False,
    command: str | None = None,
    progress: Progress | None = None,
    on_generation: Callable[[Generation], object] | None = None,
) -> Result:
    """Find how sparse each layer should be, and write ``allocation.json`` to the run directory.

    The arguments are those of `compress`, which goes on from here with ``resume=True``.
    """
    command = command or call_text(search, locals())
    check_kinds(locals())
    began = time.monotonic()
    job, directory = _prepare(
        model, sparsity, output, data, None, recipe, settings, preprocessing, input_shapes,
        run_dir, jobs, backend, command, progress,
    )  # fmt: skip
    if job.quantised:
        raise UnsupportedModelError(
            f"{job.path}: quantised weights are integers, which no search scores; compress prunes "
            "them by an allocation of its own"
        )
    job.callbacks = Callbacks(on_generation)
    if dry_run:
        return _planned(job, directory, searching=True)
    before = time.monotonic() - began
    with _opened(job, directory, resume) as run, on_one_thread():
        found = run_search(job, run)
        allocation = run.read_json(ALLOCATION)
        prepared, total = (before + run.times.seconds(each) for each in ("preparation", "total"))
    report = report_document(planned_report(job))
    report["allocation"] = allocation
    report["search"] = search_facts(found)
    report["time"] = {
        "preparation_seconds": prepared,
        "search_seconds": found.seconds,
        "total_seconds": total,
    }
    return Result(report, None, directory)


def evaluate(
    dense: ModelPath,
    sparse: ModelPath,
    *,
    data: Any = None,
    preprocessing: Preprocessing | str | None = None,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    num_samples: int | None = None,
    seed: int = 0,
    losses: Mapping[str, str] | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare the model files ``dense`` and ``sparse`` on ``data``; return the document of it.

    ``losses`` are those of a recipe: ``kl`` or ``mse`` for outputs that are not compared as their
    shapes say. Raises `UsageError` for the data or a loss of no output.
    """
    check_training_runtime()
    check_kinds({"input_shapes": input_shapes})
    at_least(0, "seed", seed)
    if num_samples is not None:
        at_least(1, "num_samples", num_samples)
    cores = cores_of(jobs)
    dense, sparse = model_file(dense), model_file(sparse)
    model, other = load_model(dense), load_model(sparse)
    batching = isolated(batching_of, model)
    loaded = load_calibration_data(
        data,
        input_signature(model, input_shapes or {}, batching.whole),
        preprocessing,
        num_samples=num_samples,
        seed=seed,
    )
    shown = progress or Quiet()
    shown.message(f"data: {loaded.description}")
    for line in value_ranges(loaded):
        shown.message(line)
    targets = choose_targets(model, check_losses(losses or {}))
    if not is_synthetic(data):
        found = check_outputs(file_session(dense, cores, targets), targets, loaded)
        loaded.warnings += found
    for warning in loaded.warnings:
        shown.warning(warning)
    check_same_signature(model, other, sparse)
    fed = None if batching.size is None else batching
    sessions = (file_session(path, cores, targets) for path in (dense, sparse))
    outputs = [outputs_of(session, targets, loaded, fed) for session in sessions]
    measured = [measure_accuracy(targets, values, loaded.labels) for values in outputs]
    accuracy = {
        name: value
        for name, value in zip(("dense", "sparse"), measured, strict=True)
        if value is not None
    }
    return evaluation_document(
        describe_file(dense, data_files(dense)),
        describe_file(sparse, data_files(sparse)),
        zeros_against(model, other),
        compare(targets, *outputs),
        accuracy,
        data_facts(loaded),
        loaded.warnings,
    )


def inspect(
    model: ModelPath,
    *,
    exclude: Sequence[str] = (),
    include: Sequence[str] = (),
    only: Sequence[str] = (),
) -> dict[str, Any]:
    """Return every weight of the model file with its verdict, and the model's signature.

    ``exclude``, ``include`` and ``only`` are those of a recipe. ``last_resort`` is the kind of
    weights that `compress` prunes unasked because there are no others.
    """
    chosen = {"exclude": exclude, "include": include, "only": only}
    recipe = Recipe().with_settings(chosen)
    loaded = load_model(model_path(model))
    inputs = [v for v in declared_inputs(loaded) if v.name not in loaded.graph.initializers]
    found = partial(find_prunable, loaded, recipe.exclude, only=recipe.only)
    _, last_resort = with_last_resort(lambda kinds: found(include=kinds), recipe.include)
    weights = found(include=recipe.include)
    return inspection_document(model, weights, inputs, list(loaded.graph.outputs), last_resort)


def _prepare(
    model: ModelPath,
    sparsity: float | None,
    output: ModelPath | None,
    data: Any,
    eval_data: Any,
    recipe: str | os.PathLike[str] | Recipe,
    settings: Mapping[str, Any] | None,
    preprocessing: Preprocessing | str | None,
    input_shapes: Mapping[str, tuple[int, ...]] | None,
    run_dir: ModelPath | None,
    jobs: int | None,
    backend: str,
    command: str,
    progress: Progress | None,
) -> tuple[Job, Path]:
    check_training_runtime()
    given = load_recipe(recipe)
    if sparsity is not None:
        given = given.with_settings({"sparsity": sparsity})
    given = given.with_settings(settings or {})
    model = model_file(model)
    output = Path(output) if output is not None else default_output(model)
    job = prepare_job(
        model,
        output,
        given,
        data=data,
        eval_data=eval_data,
        preprocessing=preprocessing,
        input_shapes=input_shapes or {},
        cores=cores_of(jobs),
        backend=backend,
        command=command,
        progress=progress or Quiet(),
    )
    return job, Path(run_dir) if run_dir is not None else default_run_directory(output)


def _planned(job: Job, directory: Path, searching: bool = False) -> Result:
    check_own(directory)
    document = report_document(planned_report(job))
    return Result({**document, "estimate": estimate(job, searching)}, None, directory)


def _opened(job: Job, directory: Path, resume: bool) -> RunDirectory:
    """Return the run directory of ``job``, and tell the user of what is there to go on with."""
    given = job.allocation_file
    spared = [] if given is None else [given]
    run = RunDirectory.open(directory, job.fingerprint(), resume=resume, spared=spared)
    if run.resumed:
        job.progress.message(f"going on with the run in {run.path}")
    elif resume:
        job.progress.message(f"no run to go on with in {run.path}: starting afresh")
    earlier = [entry["text"] for entry in run.entries("warning")]
    job.warnings += [text for text in earlier if text not in job.warnings]
    job.keep_warning = lambda text: run.append("warning", text=text)
    return run


def write_recipe(recipe: Recipe, path: ModelPath) -> None:
    """Write ``recipe`` with all its settings to ``path``; raises as `writing` does."""
    path = check_output_file(path, "--save-recipe")
    with writing(path), atomic_path(path) as temporary:
        temporary.write_text(recipe.to_yaml(), encoding="utf-8")
