"""Which way is gone: layers fitted before training, carefully or not, or neither."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from compression import job_of
from small_networks import classifier

from onnx_unipts import ways
from onnx_unipts.graph.model import load_model
from onnx_unipts.job import Job
from onnx_unipts.ways import chosen_way


def way(job: Job, unfilled: bool = False) -> tuple[bool | None, bool | None]:
    chosen = chosen_way(job, unfilled).training
    return chosen.reconstruction, chosen.careful


def open_job(directory: Path, samples: int = 96, **settings: Any) -> Job:
    """Return a job that does not say which way; the dense model teaches as it is."""
    return job_of(directory, samples, **{"reconstruction": None, "adaptation": 0} | settings)


def scoring_job(directory: Path, samples: int = 96, alike: float = 0.0, **settings: Any) -> Job:
    """Return one whose dense model adapts; with ``alike`` its outputs rise and fall together."""
    job = job_of(directory, samples, **{"reconstruction": None} | settings)
    model = classifier()
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "w3")
    rows = onnx.numpy_helper.to_array(weight)
    rows = alike * rows[:1] + (1 - 0.9 * alike) * rows
    weight.CopyFrom(onnx.numpy_helper.from_array(rows, "w3"))
    onnx.save(model, job.path)
    job.dense = load_model(job.path)
    return job


def test_few_steps_fit_layers_and_go_on_carefully(tmp_path: Path):
    assert way(open_job(tmp_path, epochs=63)) == (True, True)


def test_more_steps_are_rehearsed(tmp_path: Path):
    assert way(open_job(tmp_path, epochs=64)) == (None, True)


def test_samples_of_which_three_quarters_fill_no_batch_are_not(tmp_path: Path):
    assert way(open_job(tmp_path, 80, epochs=64)) == (False, True)


def test_neither_is_what_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ways, "MOST_MULTIPLICATIONS", 10**7)
    assert way(open_job(tmp_path, epochs=64)) == (False, True)


def test_where_scores_are_learned_from_an_adapted_model_training_is_bold(tmp_path: Path):
    assert way(scoring_job(tmp_path, epochs=3)) == (True, False)
    assert way(scoring_job(tmp_path, epochs=ways.ENOUGH_STEPS - 1)) == (True, False)


def test_with_many_steps_it_needs_no_fitted_layers(tmp_path: Path):
    assert way(scoring_job(tmp_path, epochs=ways.ENOUGH_STEPS)) == (False, False)


def test_outputs_that_rise_and_fall_together_are_no_scores(tmp_path: Path):
    assert way(scoring_job(tmp_path, alike=1.0, epochs=64)) == (None, True)


def test_few_samples_for_many_weights_are_careful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert way(scoring_job(tmp_path), unfilled=True) == (True, True)
    monkeypatch.setattr(ways, "WEIGHTS_PER_SAMPLE", 5)
    assert way(scoring_job(tmp_path, epochs=64)) == (True, True)


@pytest.mark.parametrize("settings", [{"recovery": "static-mask"}, {"synthetic": True}])
def test_other_recoveries_and_made_up_samples_are_not_fitted(
    settings: dict[str, Any], tmp_path: Path
):
    assert way(open_job(tmp_path, epochs=3, **settings))[0] is False


@pytest.mark.parametrize("said", [True, False])
def test_what_the_recipe_says_holds(said: bool, tmp_path: Path):
    job = scoring_job(tmp_path, reconstruction=said, careful=said, epochs=3)
    assert way(job) == (said, said)


def test_only_bold_training_from_fitted_layers_has_a_teacher_that_adapts(tmp_path: Path):
    for careful, adapts in ((True, False), (False, True)):
        job = scoring_job(tmp_path, reconstruction=True, careful=careful)
        assert (job.adaptation > 0) is adapts


def test_without_training_nothing_is_chosen(tmp_path: Path):
    assert way(open_job(tmp_path, epochs=0)) == (None, None)
