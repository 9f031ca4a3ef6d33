"""Made-up images: their statistics, and what refining them by gradient does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from small_networks import classifier, normalized, perceptron, saved

from onnx_unipts import api
from onnx_unipts.calibration import CalibrationData, input_signature, load_calibration_data
from onnx_unipts.calibration.structured_images import StructuredImages
from onnx_unipts.graph.cleanup import clean
from onnx_unipts.progress import Quiet
from onnx_unipts.recipe import Synthetic
from onnx_unipts.synthesis import refine_images
from onnx_unipts.synthesis.loss import WANTED, image_gradients
from onnx_unipts.synthesis.refinement import balanced_classes
from onnx_unipts.targets import choose_targets, log_softmax
from onnx_unipts.training.ort import GradientSession, file_session


def made_up(model: ir.Model, count: int = 32, seed: int = 0) -> CalibrationData:
    return load_calibration_data("synthetic", input_signature(model), num_samples=count, seed=seed)


def scores(path: Path, data: CalibrationData) -> np.ndarray:
    (values,) = file_session(path).run(None, data.batch(np.arange(len(data))))
    return np.asarray(values)


class TestImages:
    def test_each_image_is_its_own_whatever_was_asked_for_before(self) -> None:
        whole = StructuredImages((6, 3, 16, 12), "nchw", seed=1)[np.arange(6)]
        one_by_one = StructuredImages((6, 3, 16, 12), "nchw", seed=1)
        for row in (4, 1, 4):
            np.testing.assert_array_equal(one_by_one[np.array([row])][0], whole[row])
        last = StructuredImages((6, 16, 12, 3), "nhwc", seed=1)[np.arange(6)]
        np.testing.assert_array_equal(last.transpose(0, 3, 1, 2), whole)
        other = StructuredImages((6, 3, 16, 12), "nchw", seed=2)[np.arange(6)]
        assert not np.array_equal(other, whole)
        assert len(np.unique(whole, axis=0)) == 6

    @pytest.mark.parametrize("channels", [1, 3])
    def test_the_spectrum_falls_as_that_of_photographs(self, channels: int) -> None:
        images = StructuredImages((64, channels, 64, 64), "nchw", seed=0)[np.arange(64)] / 255
        power = np.square(np.abs(np.fft.fft2(images))).mean(axis=(0, 1))
        along = (power[0, 1:24] + power[1:24, 0]) / 2
        slope = np.polyfit(np.log(np.arange(1, 24)), np.log(along), 1)[0]
        # About -2 for photographs (Field, 1987), 0 for noise.
        assert -2.8 < slope < -1.4


class TestBalance:
    def test_classes_become_equally_frequent(self) -> None:
        drawn = np.random.default_rng(0).normal([3, 0, 0, 0, -2], 2, (200, 5))
        plan = balanced_classes(drawn)
        np.testing.assert_allclose(plan.sum(axis=1), 1)
        np.testing.assert_allclose(plan.sum(axis=0), 40, rtol=1e-3)

    def test_what_is_balanced_stays(self) -> None:
        sure = np.repeat(np.eye(4), 8, axis=0) * 9
        np.testing.assert_allclose(balanced_classes(sure), np.exp(log_softmax(sure)), atol=1e-6)


class TestLoss:
    def test_gradients_agree_with_finite_differences(self) -> None:
        model = clean(ir.from_proto(normalized()), [])
        target = choose_targets(model)[0]
        graph = image_gradients(model, target, ["x"], 4)
        assert graph is not None
        session = GradientSession(graph)
        rng = np.random.default_rng(0)
        x = rng.standard_normal((4, 3, 8, 8)).astype(np.float32)
        feeds = {WANTED: np.full((4, 4), 0.25, np.float32)}
        _, gradients, _ = session.run({**feeds, "x": x})
        direction = gradients["x"] / np.linalg.norm(gradients["x"])
        step = np.float32(1e-2)
        ahead, behind = (session.run({**feeds, "x": x + s * direction})[0] for s in (step, -step))
        slope = (ahead - behind) / (2 * step)
        assert slope == pytest.approx(float(np.linalg.norm(gradients["x"])), rel=0.02)

    def test_statistics_that_are_met_cost_nothing(self) -> None:
        model = clean(ir.from_proto(normalized()), [])
        graph = image_gradients(model, None, ["x"], 8)
        assert graph is not None
        x = np.random.default_rng(0).standard_normal((8, 3, 8, 8)).astype(np.float32)
        before = GradientSession(graph).run({"x": x})[0]
        assert before > 0
        assert GradientSession(graph).run({"x": 9 * x + 5})[0] > before

    def test_without_scores_and_normalisations_there_is_nothing_to_lower(self) -> None:
        assert image_gradients(clean(ir.from_proto(classifier()), []), None, ["x"], 4) is None


class TestRefinement:
    settings = Synthetic(refinement=6, rate=8.0)

    def refined(self, proto: Any, **options: Any) -> tuple[CalibrationData, CalibrationData]:
        model = ir.from_proto(proto)
        data = made_up(model, **options)
        pixels = refine_images(model, data, self.settings, 0, 2, Quiet())
        assert pixels["x"].dtype == np.uint8
        return data, data.with_pixels(pixels)

    @pytest.mark.parametrize("network", [classifier, normalized])
    def test_answers_become_more_diverse(self, tmp_path: Path, network: Any) -> None:
        path = saved(network(), tmp_path)
        before, after = (scores(path, data) for data in self.refined(network(), count=100))
        logarithms = [log_softmax(each) for each in (before, after)]
        information = [
            float((np.exp(each) * (each - np.log(np.exp(each).mean(axis=0)))).sum(axis=1).mean())
            for each in logarithms
        ]
        assert information[1] > 1.2 * information[0]

    def test_images_stay_near_and_smooth(self) -> None:
        before, after = self.refined(classifier(), count=64)
        rows = np.arange(64)
        old, new = (data.column("x").pixels[rows].astype(float) for data in (before, after))  # type: ignore[attr-defined]
        change = new - old
        assert 1 < np.sqrt(np.square(change).mean()) < 6 * 8
        assert np.diff(change, axis=3).std() < 0.7 * change.std()

    def test_it_is_a_matter_of_the_seed_and_not_of_the_cores(self) -> None:
        model = ir.from_proto(normalized())
        runs = [
            refine_images(model, made_up(model), self.settings, seed, cores, Quiet())["x"]
            for seed, cores in ((0, 1), (0, 2), (1, 2))
        ]
        np.testing.assert_array_equal(runs[0], runs[1])
        assert not np.array_equal(runs[1], runs[2])

    def test_what_is_no_image_stays(self) -> None:
        model = ir.from_proto(perceptron())
        assert refine_images(model, made_up(model), self.settings, 0, 2, Quiet()) == {}


def test_a_run_without_data_keeps_its_images_for_a_resume(tmp_path: Path) -> None:
    path = saved(normalized(), tmp_path)
    settings = {
        "num_samples": 64,
        "training.epochs": 1,
        "training.batch_size": 16,
        "allocation.method": "lamp",
        "synthetic.refinement": 2,
    }
    runs = []
    for resume in (False, True):
        result = api.compress(
            path, sparsity=0.5, data="synthetic", settings=settings, resume=resume
        )
        assert result.output is not None
        runs.append(result.output.read_bytes())
    assert runs[0] == runs[1]
    assert (result.run_dir / "checkpoint-synthetic.npz").exists()
