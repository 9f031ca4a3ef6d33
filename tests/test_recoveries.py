"""What each recovery trains, what it leaves alone, and that all end at the exact sparsity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from compression import QUICK, compress
from small_networks import CLASSIFIER, classifier, classifier_tensors, images, network, saved

from onnx_unipts.calibration import CalibrationData, input_signature, load_calibration_data
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.model import load_model
from onnx_unipts.graph.prunable import find_prunable
from onnx_unipts.patterns import Layout, Masking, parse_pattern
from onnx_unipts.progress import Quiet
from onnx_unipts.recipe import Training
from onnx_unipts.student import Student, build_student
from onnx_unipts.training.recoveries.learned_thresholds import threshold_of
from onnx_unipts.training.recoveries.static_mask import scores_of
from onnx_unipts.training.recovery import RECOVERIES, Recovery
from onnx_unipts.training.trainer import Checkpoint, Trainer

pytestmark = pytest.mark.usefixtures("quick_simplification")

BASE = {
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 0.02,
    "features": 0.0,
    "adaptation": 0,
    "augment": False,
    "ramp": 0.0,
}


def prepared(directory: Path, recovery: str, pattern: str) -> tuple[Student, CalibrationData]:
    loaded = load_model(saved(classifier(), directory))
    weights = [weight for weight in find_prunable(loaded) if weight.pruned]
    data = load_calibration_data({"x": images(48)}, input_signature(loaded, {}))
    student = build_student(loaded, [w.key for w in weights], data, Training(**BASE))
    student.masking = Masking(parse_pattern(pattern), {w.key: Layout.of(w) for w in weights})
    student.trained = RECOVERIES[recovery].trained(student)
    return student, data


def trained(
    directory: Path, recovery: str, pattern: str = "unstructured", **changed
) -> tuple[Student, dict[str, np.ndarray], dict[str, int], dict[str, int]]:
    """Return the student, what training made of its tensors, and the counts before and after."""
    student, data = prepared(directory, recovery, pattern)
    weights = {name: student.tensors[name] for name in student.prunable}
    wanted = {name: weight.size // 4 for name, weight in weights.items()}
    limits = {name: student.masking.limit(name, weight) for name, weight in weights.items()}
    kept = limits if pattern == "2:4" else student.masking.rounded(wanted, weights, limits)
    settings = Training(**(BASE | {"recovery": recovery} | changed))
    trainer = Trainer(student, kept, data, settings, 0, 1)
    state = Checkpoint(0, {name: tensor.copy() for name, tensor in student.tensors.items()})
    for reached in trainer.epochs(state, Quiet()):
        state = reached
    return student, *trainer.recovery.settle(state.tensors), kept  # type: ignore[return-value]


def mask_of(student: Student, name: str, kept: dict[str, int]) -> np.ndarray:
    return student.masking.mask(name, student.tensors[name], kept[name])


@pytest.mark.parametrize("pattern", ["unstructured", "4x1", "2:4"])
@pytest.mark.parametrize("recovery", list(RECOVERIES))
def test_every_recovery_ends_at_the_sparsity_and_leaves_no_state(
    recovery: str, pattern: str, tmp_path: Path
):
    student, tensors, settled, kept = trained(tmp_path, recovery, pattern)
    assert tensors.keys() == student.tensors.keys()
    for name in student.prunable:
        assert np.count_nonzero(tensors[name]) == settled[name]
        assert not student.masking.violation(name, tensors[name])
    wanted, reached = sum(kept.values()), sum(settled.values())
    assert wanted - student.masking.pattern.step < reached <= wanted


def test_a_static_mask_stays_and_what_it_keeps_trains(tmp_path: Path):
    student, tensors, _, kept = trained(tmp_path, "static-mask", ramp=0.5)
    for name in student.prunable:
        mask = mask_of(student, name, kept)
        np.testing.assert_array_equal(tensors[name] != 0, mask)
        assert (tensors[name][mask] != student.tensors[name][mask]).mean() > 0.9


def test_dynamic_masks_move(tmp_path: Path):
    student, tensors, _, kept = trained(tmp_path, "dynamic", learning_rate=0.1)
    moved = [(tensors[n] != 0) != mask_of(student, n, kept) for n in student.prunable]
    assert any(m.any() for m in moved)


def test_with_scales_and_biases_only_the_weights_are_the_dense_ones(tmp_path: Path):
    student, tensors, _, kept = trained(tmp_path, "scale-and-bias-only")
    for name in student.prunable:
        expected = student.tensors[name] * mask_of(student, name, kept)
        np.testing.assert_array_equal(tensors[name], expected)
    assert student.trained
    for name in student.trained:
        assert (tensors[name] != student.tensors[name]).any(), name


def test_with_masks_only_every_kept_weight_is_the_dense_one(tmp_path: Path):
    student, tensors, _, kept = trained(
        tmp_path, "masks-only", learning_rate=1.0, weight_decay=0.0, pruned_decay=0.0
    )
    moved = 0
    for name, tensor in tensors.items():
        if name in student.prunable:
            stayed = tensor != 0
            np.testing.assert_array_equal(tensor[stayed], student.tensors[name][stayed])
            moved += int((stayed != mask_of(student, name, kept)).sum())
        else:
            np.testing.assert_array_equal(tensor, student.tensors[name])
    assert moved > 0


def test_learned_thresholds_move_weights_between_layers(tmp_path: Path):
    _, _, settled, kept = trained(tmp_path, "learned-thresholds", learning_rate=0.1)
    assert settled != kept
    assert sum(settled.values()) == sum(kept.values())
    assert min(settled.values()) > 0


def begun(directory: Path, name: str) -> tuple[Student, Recovery, dict[str, np.ndarray]]:
    """Return the student, a recovery at its first step, and its tensors."""
    student, _ = prepared(directory, name, "unstructured")
    kept = {n: student.tensors[n].size // 4 for n in student.prunable}
    recovery = RECOVERIES[name](student, kept)
    tensors = {n: tensor.copy() for n, tensor in student.tensors.items()}
    recovery.begin(tensors)
    return student, recovery, tensors


def test_a_threshold_falls_where_weights_are_missed(tmp_path: Path):
    student, recovery, tensors = begun(tmp_path, "learned-thresholds")
    gradients = {name: np.zeros_like(tensors[name]) for name in student.prunable}
    gradients["w1"] = -tensors["w1"]  # the loss falls as these weights grow
    updates = recovery.updates(tensors, gradients, recovery.masks(tensors))
    slopes = {name: float(updates[threshold_of(name)][0]) for name in student.prunable}
    assert {name for name, slope in slopes.items() if slope > 0} == {"w1"}
    assert max(map(abs, slopes.values())) == pytest.approx(1)


def test_the_score_of_a_mask_moves_by_gradient_times_weight(tmp_path: Path):
    student, recovery, tensors = begun(tmp_path, "masks-only")
    rng, masks = np.random.default_rng(0), recovery.masks(tensors)
    for name in student.prunable:
        weight, scores = student.tensors[name], tensors[scores_of(name)]
        assert np.square(scores).mean() == pytest.approx(1, rel=1e-3)
        gradient = rng.standard_normal(weight.shape).astype(np.float32)
        updates = recovery.updates(tensors, {name: gradient}, masks)
        np.testing.assert_allclose(updates[scores_of(name)], gradient * weight, rtol=1e-6)


def test_thresholds_have_nothing_to_learn_where_all_weights_are_zero(tmp_path: Path):
    tensors = classifier_tensors()
    zero = {name: np.zeros_like(tensors[name]) for name in ("w1", "w2", "w3")}
    settings = QUICK | {"training.recovery": "learned-thresholds"}
    result = compress(network(CLASSIFIER, tensors | zero), tmp_path, settings)
    assert result.report["sparsity"]["achieved"] == 1


@pytest.mark.parametrize("recovery", ["learned-thresholds", "of the user"])
def test_a_recovery_that_allocates_refuses_what_would_hold_it(
    recovery: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class OfTheUser(Recovery):
        allocates = True

    monkeypatch.setitem(RECOVERIES._plugins, "of the user", OfTheUser)
    for extra, message in (
        ({"layer_sparsity": {"w1": 0.5}}, "gives every layer its sparsity; leave out --layer-spa"),
        ({"pattern": "channel"}, "decides on single weights; with the pattern channel use another"),
    ):
        with pytest.raises(UsageError, match=f"^recovery {recovery} {message}"):
            compress(classifier(), tmp_path, QUICK | extra | {"training.recovery": recovery})


@pytest.mark.parametrize("recovery", list(RECOVERIES))
def test_a_resumed_recovery_ends_at_the_same_bits(recovery: str, tmp_path: Path):
    student, data = prepared(tmp_path, recovery, "unstructured")
    kept = {name: student.tensors[name].size // 4 for name in student.prunable}
    settings = Training(**(BASE | {"recovery": recovery}))

    def trainer() -> Trainer:
        return Trainer(student, kept, data, settings, 0, 1)

    state = Checkpoint(0, {name: tensor.copy() for name, tensor in student.tensors.items()})
    steps = trainer().epochs(state, Quiet())
    first = next(steps)
    saved_state = Checkpoint(
        first.epoch,
        {name: value.copy() for name, value in first.tensors.items()},
        {name: value.copy() for name, value in first.velocity.items()},
        list(first.losses),
    )
    for reached in steps:
        first = reached
    for reached in trainer().epochs(saved_state, Quiet()):
        saved_state = reached
    assert saved_state.losses == first.losses
    for name, value in first.tensors.items():
        assert value.tobytes() == saved_state.tensors[name].tobytes(), name
