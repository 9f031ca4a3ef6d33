"""How long a run takes, estimated before it starts: what fitting layers adds to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from compression import job_of
from small_networks import classifier, images, saved

from onnx_unipts import api, estimate, fit_cost
from onnx_unipts.calibration import CalibrationData
from onnx_unipts.calibration.data import ArrayColumn
from onnx_unipts.fit_cost import fit_seconds, mask_search_seconds
from onnx_unipts.layer_scoring import LEAST_SCORED, SCORED_SAMPLES, scored_samples
from onnx_unipts.reconstruction import moments, support

# Each weight times the inputs of its layer: two convolutions and a Gemm.
PRODUCTS = 216 * 27 + 576 * 72 + 32 * 8
# The cube of the inputs of the Gemm, which scores classes.
SCORED = fit_cost.SCORED * 8**3


def planned(
    directory: Path, samples: int, verb: Callable[..., api.Result] = api.compress, **settings: Any
) -> dict[str, float]:
    document = verb(
        saved(classifier(), directory), sparsity=0.5, data={"x": images(samples)}, dry_run=True,
        settings={f"training.{k}": v for k, v in settings.items()}, jobs=1,
    ).report  # fmt: skip
    return document["estimate"]


def test_layers_that_are_fitted_first_are_part_of_the_training(tmp_path: Path):
    few = planned(tmp_path, 20)
    many = planned(tmp_path, 128, adaptation=0, reconstruction=False)
    assert 0 < few["reconstruction_seconds"] < few["training_seconds"]
    assert few["search_seconds"] > 0
    assert many["reconstruction_seconds"] == many["search_seconds"] == 0 < many["training_seconds"]


def test_fitting_without_training_is_all_that_takes_time(tmp_path: Path):
    alone = planned(tmp_path, 32, epochs=0, reconstruction=True)
    assert alone["training_seconds"] == alone["reconstruction_seconds"] > 0


def test_a_search_alone_neither_trains_nor_fits_nor_measures(tmp_path: Path):
    for samples in (20, 128):
        found = planned(tmp_path, samples, api.search)
        assert found["reconstruction_seconds"] == found["training_seconds"] == 0
        assert found["search_seconds"] > 0
        assert found["total_seconds"] == estimate.START_SECONDS + found["search_seconds"]


def test_the_teacher_of_a_search_adapts_before_it(tmp_path: Path):
    none, many = (
        planned(tmp_path, 128, api.search, adaptation=n, reconstruction=False) for n in (0, 9000)
    )
    assert many["search_seconds"] > none["search_seconds"] + 8000 * estimate.STEP_SECONDS


def test_only_adaptation_takes_batches_of_training_into_a_search(tmp_path: Path):
    frozen, adapted = (
        estimate._memory(
            job_of(tmp_path, reconstruction=False, batch_size=1 << 14, adaptation=n), True
        )
        for n in (0, 1)
    )
    assert adapted > frozen + 100_000_000


@pytest.mark.parametrize(
    ("fits", "searches", "settings"),
    [
        (2, True, {}),
        (2, False, {"reconstruction_masks": "fixed"}),
        (2, False, {"recovery": "static-mask"}),
        (1, False, {"synthetic": True}),
        (1, False, {"epochs": 0}),
        (1, True, {"epochs": 0, "reconstruction_masks": "searched"}),
        (0, False, {"reconstruction": False}),
    ],
)
def test_layers_are_fitted_as_often_as_a_run_fits_them(
    fits: int, searches: bool, settings: dict[str, Any], tmp_path: Path
):
    job = job_of(tmp_path, **settings)
    once = fit_seconds(job, 0.01) + (mask_search_seconds(job) if searches else 0.0)
    assert estimate._reconstruction_seconds(job, 0.01) == pytest.approx(fits * once)


def test_a_fit_takes_runs_and_products_of_weights_and_inputs(tmp_path: Path):
    few, many = (job_of(tmp_path, samples) for samples in (16, 64))
    assert fit_seconds(few, 0.0) == pytest.approx(fit_cost.SOLVED * PRODUCTS + SCORED)
    walked = fit_seconds(many, 0.01) - fit_seconds(few, 0.01)
    assert walked == pytest.approx(48 * fit_cost.WALKED * 0.01)
    assert mask_search_seconds(few) == pytest.approx(fit_cost.CHOSEN * PRODUCTS + SCORED)


def test_layers_too_large_to_be_fitted_take_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(moments, "PRODUCTS_MEMORY", 8 * 27**2)
    assert fit_seconds(job_of(tmp_path), 0.0) == pytest.approx(
        fit_cost.SOLVED * (PRODUCTS - 576 * 72) + SCORED
    )


def test_layers_too_large_for_it_have_no_search_for_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(support, "MOST_INPUTS", 27)
    assert mask_search_seconds(job_of(tmp_path)) == pytest.approx(
        fit_cost.CHOSEN * (PRODUCTS - 576 * 72) + SCORED
    )


@pytest.mark.parametrize(
    ("samples", "multiplications", "expected"),
    [
        (3, 1, 0),
        (64, 1, 16),
        (10_000, 1, SCORED_SAMPLES),
        (10_000, 10**9, 66),
        (10_000, 10**13, LEAST_SCORED),
    ],
)
def test_layers_are_scored_on_some_of_the_samples(
    samples: int, multiplications: int, expected: int
):
    assert scored_samples(samples, 50, multiplications) == expected


def test_parts_of_few_images_are_looked_at_as_well(tmp_path: Path):
    job, same = job_of(tmp_path), job_of(tmp_path, augment=False)
    assert fit_cost.views_to_fit(job) == 1
    for each in (job, same):
        each.data = CalibrationData({"x": ArrayColumn(images(64), "nchw")}, description="images")
    assert [fit_cost.views_to_fit(each) for each in (job, same)] == [6, 1]
    parts = fit_seconds(job, 0.01, 3) - fit_seconds(job, 0.01)
    assert parts == pytest.approx(2 * 64 * fit_cost.WALKED * 0.01)


def test_a_fit_takes_memory_up_to_a_bound(tmp_path: Path):
    fitting, not_fitting = (job_of(tmp_path, 1024, reconstruction=on) for on in (True, False))
    more = estimate._memory(fitting, False) - estimate._memory(not_fitting, False)
    values = estimate._values_per_sample(fitting) * estimate.FLOAT_BYTES
    assert 0 < more <= fit_cost.fit_bytes(fitting, values)
    assert fit_cost.fit_bytes(fitting, 1000) == pytest.approx(12 * 1024 * 1000)
    assert fit_cost.fit_bytes(fitting, 10**6) == fit_cost.fit_bytes(fitting, 10**9) < 6e9


def test_measuring_statistics_takes_a_batch_for_each_core(tmp_path: Path):
    job = job_of(tmp_path, 512)
    once = estimate._built_bytes(job, 1000)
    assert once == pytest.approx(estimate.OBSERVED * 1000 * 128)
    job.cores = 2
    assert estimate._built_bytes(job, 1000) == 2 * once
    job.cores = 64
    assert estimate._built_bytes(job, 1000) == 4 * once  # no more batches than that


def test_what_the_whole_model_takes_limits_the_samples(tmp_path: Path):
    job = job_of(tmp_path)
    assert fit_cost.sample_multiplications(job) == 64 * (216 + 576) + 32
