"""The rehearsal: both ways are gone on some of the samples, and the one that leads nearer wins."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from compression import compress, job_of
from small_networks import draw, network, perceptron

from onnx_unipts import estimate, rehearsal
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.model import read_tensors, write_tensors
from onnx_unipts.job import Job
from onnx_unipts.progress import Lines
from onnx_unipts.rehearsal import is_rehearsed, rehearsed
from onnx_unipts.run_directory import RunDirectory

AUTOENCODER = """net (float[N,10] x) => (float[N,10] y) {
    a = MatMul (x, w1)
    b = Add (a, b1)
    c = Relu (b)
    d = MatMul (c, w2)
    e = Add (d, b2)
    f = Reshape (e, s)
    y = Flatten (f)
}"""
# 64 steps.
SETTINGS = {"training.epochs": 4, "training.batch_size": 8, "training.adaptation": 0}

End = Callable[[Job, RunDirectory], ir.Model]


def open_job(directory: Path, samples: int = 96, **settings: Any) -> Job:
    """Return a job that does not say whether layers are fitted; its teacher does not adapt."""
    return job_of(directory, samples, **{"reconstruction": None, "adaptation": 0} | settings)


def end_with(noise: dict[bool, float], gone: list[Job] | None = None) -> End:
    """Return a way that ends at the dense model with noise, by whether layers are fitted."""

    def go(job: Job, run: RunDirectory) -> ir.Model:
        if gone is not None:
            gone.append(job)
        model = job.load()
        rng = np.random.default_rng(0)
        scale = noise[bool(job.recipe.training.reconstruction)]
        stored = read_tensors(model, job.keys)
        write_tensors(
            model,
            {
                key: w + (scale * rng.standard_normal(w.shape)).astype(w.dtype)
                for key, w in stored.items()
            },
        )
        return model

    return go


def is_fitted(job: Job, directory: Path, go: End, resume: bool = False) -> bool | None:
    with RunDirectory.open(directory / "r.run", {}, resume=resume) as run:
        return rehearsed(job, run, go).recipe.training.reconstruction


@pytest.mark.parametrize("nearer", [True, False])
def test_the_way_that_ends_nearer_to_the_dense_model_is_gone(nearer: bool, tmp_path: Path):
    go = end_with({nearer: 0.01, not nearer: 0.1})
    assert is_fitted(open_job(tmp_path), tmp_path, go) is nearer
    assert not (tmp_path / "r.run" / "rehearsal").exists()


def test_layers_are_not_fitted_for_nothing(tmp_path: Path):
    assert is_fitted(open_job(tmp_path), tmp_path, end_with({True: 0.0, False: 0.0})) is False


@pytest.mark.parametrize(
    ("fitted", "trained", "wins"),
    [((0.1, 0.9), (0.2, 0.8), True), ((0.1, 0.7), (0.2, 0.8), False),
     ((0.3, 0.9), (0.2, 0.8), False), ((0.1, None), (0.2, None), True)],
)  # fmt: skip
def test_fitted_layers_have_to_agree_as_often_too(
    fitted: tuple[float, float | None], trained: tuple[float, float | None], wins: bool
):
    ends = (rehearsal.Fidelity(8, *each) for each in (fitted, trained))
    assert rehearsal._is_nearer(*ends) is wins


def test_both_ways_see_three_of_four_samples_and_are_judged_on_the_others(tmp_path: Path):
    gone: list[Job] = []
    is_fitted(open_job(tmp_path), tmp_path, end_with({True: 0.0, False: 0.1}, gone))
    assert [job.recipe.training.reconstruction for job in gone] == [False, True]
    for job in gone:
        assert job.eval_data is not None
        seen, unseen = (set(data._rows.tolist()) for data in (job.data, job.eval_data))
        assert (len(seen), len(unseen), seen & unseen) == (72, 24, set())


@pytest.mark.parametrize("impossible", [True, False])
def test_a_way_that_cannot_be_gone_is_not(
    impossible: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def go(job: Job, run: RunDirectory) -> ir.Model:
        if bool(job.recipe.training.reconstruction) is impossible:
            raise UnsupportedModelError("not this way")
        return job.load()

    job = replace(open_job(tmp_path), progress=Lines(sys.stdout))
    assert is_fitted(job, tmp_path, go) is not impossible
    assert "divergence" not in capsys.readouterr().out


def test_a_resumed_run_does_not_rehearse_again(tmp_path: Path):
    gone: list[Job] = []
    job = open_job(tmp_path)
    assert is_fitted(job, tmp_path, end_with({True: 0.0, False: 0.1}, gone)) is True
    assert is_fitted(job, tmp_path, end_with({True: 0.1, False: 0.0}, gone), resume=True) is True
    assert len(gone) == 2


@pytest.mark.parametrize("said", [True, False])
def test_nothing_is_rehearsed_where_it_is_said(said: bool, tmp_path: Path):
    assert is_fitted(job_of(tmp_path, reconstruction=said), tmp_path, end_with({})) is said
    assert not is_rehearsed(open_job(tmp_path, epochs=0))


def test_what_was_found_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    job = replace(open_job(tmp_path), progress=Lines(sys.stdout))
    is_fitted(job, tmp_path, end_with({True: 0.0, False: 0.1}))
    told = capsys.readouterr().out
    assert "rehearsal 2/2" in told
    assert "layers are fitted before training: divergence" in told
    assert "on 24 samples held out" in told


def test_its_time_is_estimated(tmp_path: Path):
    job = open_job(tmp_path)
    ways = [estimate.estimate(way) for way in rehearsal.ways_of(job)]
    both = estimate.estimate(job)
    assert both["rehearsal_seconds"] > 0 == ways[0]["rehearsal_seconds"]
    assert both["total_seconds"] > both["rehearsal_seconds"] + estimate.START_SECONDS
    assert both["reconstruction_seconds"] > 0  # of the way that takes longer


def test_a_small_network_is_fitted_first_and_says_so(tmp_path: Path):
    rng = np.random.default_rng(1)
    values = rng.standard_normal((128, 3)) @ rng.standard_normal((3, 10))
    data = {"x": values.astype(np.float32)}
    tensors = draw(0, w1=(10, 32), b1=(32,), w2=(32, 10), b2=(10,))
    model = network(AUTOENCODER, tensors | {"s": np.array([0, 2, 5])})
    ended = {
        first: compress(
            model, tmp_path, {**SETTINGS, "training.reconstruction": first}, data=data,
            output=tmp_path / f"{first}.onnx", format="dense",
        ).report
        for first in (None, False)
    }  # fmt: skip
    rehearsing, training = ended[None], ended[False]
    assert rehearsing["recipe"]["training"]["reconstruction"] is None
    assert rehearsing["training"]["reconstruction"] is True
    assert rehearsing["time"]["rehearsal_seconds"] > 0 == training["time"]["rehearsal_seconds"]
    near, far = (
        each["fidelity"]["after_recovery"]["divergence"] for each in (rehearsing, training)
    )
    assert near < far


@pytest.mark.parametrize("settings", [{"training.recovery": "static-mask"}, {"pattern": "channel"}])
def test_other_recoveries_and_channels_are_not_fitted(settings: dict[str, str], tmp_path: Path):
    report = compress(
        perceptron(), tmp_path, SETTINGS | settings, dry_run=True,
        data={"x": np.random.default_rng(0).standard_normal((128, 10)).astype(np.float32)},
    ).report  # fmt: skip
    assert report["recipe"]["training"]["reconstruction"] is False
    assert report["estimate"]["rehearsal_seconds"] == 0


def test_made_up_samples_are_not_rehearsed(tmp_path: Path):
    report = compress(perceptron(), tmp_path, SETTINGS, dry_run=True, data="synthetic").report
    assert report["estimate"]["rehearsal_seconds"] == 0
