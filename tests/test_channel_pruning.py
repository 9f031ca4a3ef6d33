"""Channel pruning: groups over the graph, the target reached by whole channels, a smaller file."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import (
    CLASSIFIER,
    classifier,
    classifier_tensors,
    draw,
    images,
    network,
    normalized,
    outputs,
    saved,
    working_model,
)

from onnx_unipts import api
from onnx_unipts.channels.allocation import SLACK, WORK, alive_channels, fitted
from onnx_unipts.channels.groups import Channels, find_channels
from onnx_unipts.channels.scores import channel_scores, stand_ins
from onnx_unipts.channels.update import Update
from onnx_unipts.graph.errors import UnsupportedModelError, UsageError
from onnx_unipts.graph.model import load_model, read_tensors
from onnx_unipts.graph.prunable import find_prunable
from onnx_unipts.patterns import Layout, parse_pattern

pytestmark = pytest.mark.usefixtures("quick_simplification")

SHARED = Path(__file__).parents[2] / "shared"
RESNET20 = SHARED / "models/cifar10/resnet20_folded.onnx"
QUICK: dict[str, Any] = {
    "pattern": "channel",
    "training.adaptation": 0,
    "training.epochs": 1,
    "training.batch_size": 16,
    "allocation.method": "uniform",
    "allocation.search.population": 4,
    "allocation.search.generations": 1,
    "allocation.search.parents": 2,
    "allocation.search.samples": 32,
}

RESIDUAL = """net (float[N,3,8,8] x) => (float[N,4] y) {
    c = Conv <pads = [1,1,1,1]> (x, w1, b1)
    r = Relu (c)
    d = Conv <pads = [1,1,1,1]> (r, w2)
    e = Relu (d)
    g = Conv <pads = [1,1,1,1]> (e, w3)
    s = Add (g, r)
    p = GlobalAveragePool (s)
    f = Flatten (p)
    y = Gemm <transB = 1> (f, w4, b4)
}"""
RESIDUAL_SHAPES = {
    "w1": (32, 3, 3, 3),
    "b1": (32,),
    "w2": (48, 32, 3, 3),
    "w3": (32, 48, 3, 3),
    "w4": (4, 32),
    "b4": (4,),
}


def residual() -> ir.Model:
    return ir.from_proto(network(RESIDUAL, draw(0, **RESIDUAL_SHAPES)))


def channels_of(model: ir.Model, *exclude: str) -> Channels:
    return find_channels(model, find_prunable(model, exclude))


def shapes_in(path: Path | None) -> dict[str, tuple[int, ...]]:
    assert path is not None
    return {t.name: tuple(t.dims) for t in onnx.load(path).graph.initializer}


# Groups


def test_spaces_are_the_residual_stream_and_the_inside_of_the_block():
    channels = channels_of(residual())
    assert [len(space.members) for space in channels.spaces] == [32, 48]
    stream, inside = channels.spaces
    assert stream.cost == 3 * 9 + 48 * 9 + 48 * 9 + 4
    assert inside.cost == 2 * 32 * 9
    masks = channels.masks(np.arange(channels.count) != stream.members[5])
    assert not masks["w1"][5].any()
    assert not masks["w2"][:, 5].any()
    assert not masks["w3"][5].any()
    assert not masks["w4"][:, 5].any()
    total = sum(mask.size for mask in masks.values())
    assert sum(int(mask.sum()) for mask in masks.values()) == total - stream.cost


def test_channels_of_excluded_weights_stay():
    channels = channels_of(residual(), "w4")
    assert [len(space.members) for space in channels.spaces] == [48]


def test_a_model_without_free_channels_is_refused():
    model = network(
        "net (float[N,3,8,8] x) => (float[N,4,8,8] y) { y = Conv <pads = [1,1,1,1]> (x, w) }",
        draw(0, w=(4, 3, 3, 3)),
    )
    with pytest.raises(UnsupportedModelError, match="no channel can be removed"):
        channels_of(ir.from_proto(model))


# The target


@given(
    sparsity=st.integers(5, 80).map(lambda n: n / 100),
    shares=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)),
)
@settings(max_examples=40)
def test_at_least_the_target_is_removed_and_no_step_less_would_do(
    sparsity: float, shares: tuple[float, float]
):
    channels = channels_of(residual())
    kept = {
        space.name: share * space.cost * len(space.members)
        for space, share in zip(channels.spaces, shares, strict=True)
    }
    counts = fitted(channels, kept, sparsity)
    scores = np.zeros(channels.count)
    weights, _work = channels.left(alive_channels(channels, counts, scores))
    assert weights <= 1 - sparsity + 1e-9
    for space in channels.spaces:
        count = counts[space.name]
        if sparsity < 0.7:  # above, there would be too much left
            assert count % space.multiple == 0
        if count == len(space.members):
            continue
        more = counts | {space.name: count + space.multiple}
        left = channels.left(alive_channels(channels, more, scores))
        assert left[0] > 1 - sparsity - SLACK
        assert left[0] > 1 - sparsity or left[1] > WORK * (1 - sparsity)


def test_the_share_left_is_that_of_the_masks():
    channels = channels_of(residual())
    alive = np.random.default_rng(0).random(channels.count) < 0.6
    masks = channels.masks(alive)
    left = sum(int(mask.sum()) for mask in masks.values()) / sum(m.size for m in masks.values())
    assert channels.left(alive)[0] == pytest.approx(left)


def test_a_target_out_of_reach_is_refused():
    channels = channels_of(residual())
    kept = {space.name: 1.0 for space in channels.spaces}
    with pytest.raises(UsageError, match="cannot be reached by removing channels"):
        fitted(channels, kept, 0.999)


def test_scores_rank_by_all_weights_that_go_with_a_channel():
    model = residual()
    channels = channels_of(model)
    weights = {k: v.copy() for k, v in read_tensors(model, list(channels.axes)).items()}
    weights["w1"][7] *= 0.01
    weights["w2"][:, 7] *= 0.01
    weights["w3"][7] *= 0.01
    weights["w4"][:, 7] *= 0.01
    scores = channel_scores(channels, weights)
    stream = channels.spaces[0].members
    assert stream[np.argmin(scores[stream])] == stream[7]
    tensors = stand_ins(channels, weights)
    assert [t.shape for t in tensors.values()] == [(32, channels.spaces[0].cost), (48, 576)]
    assert np.argmin(tensors[channels.spaces[0].name][:, 0]) == 7


# The update


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_channel_that_others_predict_is_replaced_by_them_exactly(kernel: int):
    """Channel 2 is twice channel 0 less channel 1, so that its reader needs it no more."""
    pads = kernel // 2
    shapes = {"w1": (4, 3, 1, 1), "b1": (4,), "w2": (5, 4, kernel, kernel), "b2": (5,)}
    tensors = draw(1, **shapes, w3=(5, 4))
    tensors["w1"][2] = 2 * tensors["w1"][0] - tensors["w1"][1]
    tensors["b1"][2] = 2 * tensors["b1"][0] - tensors["b1"][1]
    body = f"""c = Conv (x, w1, b1)
        d = Conv <pads = [{pads},{pads},{pads},{pads}]> (c, w2, b2)
        r = Relu (d)
        p = GlobalAveragePool (r)
        f = Flatten (p)
        y = MatMul (f, w3)"""
    model = working_model(body, tensors)
    stored = ir.from_proto(
        network(f"net (float[N,3,8,8] x) => (float[N,4] y) {{ {body} }}", tensors)
    )
    channels = channels_of(stored)
    gone = channels.axes["w1"][0][2]
    alive = np.arange(channels.count) != gone
    update = Update(model, tensors, channels, [{"x": images(32)}])
    masks = channels.masks(alive)
    names = {"x": images(8)}
    (before,) = outputs(ir.to_proto(model), names | tensors)
    changed = tensors | update(alive)
    (after,) = outputs(
        ir.to_proto(model), names | {n: t * masks.get(n, np.float32(1)) for n, t in changed.items()}
    )
    (without,) = outputs(
        ir.to_proto(model), names | {n: t * masks.get(n, np.float32(1)) for n, t in tensors.items()}
    )
    error = np.abs(after - before).max()
    assert error < 0.1 * np.abs(without - before).max()
    if kernel == 1:
        assert error < 0.01 * np.abs(before).max()


# From the model to the file


@pytest.mark.parametrize("make", [classifier, normalized])
@pytest.mark.parametrize("method", ["uniform", "global", "evolutionary"])
def test_the_written_file_is_smaller_and_all_of_it_is_used(make: Any, method: str, tmp_path: Path):
    path = saved(make(), tmp_path)
    settings = QUICK | {"allocation.method": method}
    data = {"x": images()}
    result = api.compress(path, sparsity=0.4, settings=settings, data=data, jobs=1)
    assert result.output is not None
    onnx.checker.check_model(onnx.load(result.output), full_check=True)
    shapes = shapes_in(result.output)
    assert result.output.stat().st_size < 0.9 * path.stat().st_size
    assert result.report["sparsity"]["achieved"] >= 0.4
    left = sum(math.prod(shapes[name]) for name in ("w1", "w2", "w3"))
    assert left <= 0.6 * 824
    assert result.report["dead_channels"]["removed"] > 0
    assert not any("when packed" in text for text in result.report["warnings"])
    model = load_model(result.output)
    for weight in read_tensors(model, ["w1", "w2", "w3"]).values():
        assert np.count_nonzero(weight) == weight.size
    (y,) = outputs(result.output, {"x": images(7)})
    assert y.shape == (7, 4)
    assert np.isfinite(y).all()


def test_training_keeps_what_is_gone_gone_and_changes_the_rest(tmp_path: Path):
    path = saved(network(RESIDUAL, draw(0, **RESIDUAL_SHAPES)), tmp_path)
    data = {"x": images()}
    pruned, trained = (
        api.compress(
            path,
            sparsity=0.5,
            output=tmp_path / f"{epochs}.onnx",
            settings=QUICK | {"training.epochs": epochs},
            data=data,
            jobs=1,
        )
        for epochs in (0, 2)
    )
    assert shapes_in(pruned.output) == shapes_in(trained.output)
    before, after = (read_tensors(load_model(r.output), ["w2"])["w2"] for r in (pruned, trained))
    assert not np.array_equal(before, after)


def test_what_says_nothing_of_channels_is_refused(tmp_path: Path):
    path = saved(network(CLASSIFIER, classifier_tensors()), tmp_path)
    plan = tmp_path / "allocation.json"
    plan.write_text("{}")
    for extra, message in (
        ({"allocation.method": str(plan)}, "a file says nothing of channels"),
        ({"allocation.method": "fitted-sensitivity"}, "masks layers one by one"),
        ({"layer_sparsity": {"w1": 0.5}}, "pattern channel"),
    ):
        with pytest.raises(UsageError, match=message):
            api.compress(path, sparsity=0.5, settings=QUICK | extra, data={"x": images()})


def test_what_is_advised_for_channels_is_possible(tmp_path: Path):
    path = saved(network(CLASSIFIER, classifier_tensors()), tmp_path)
    plan = tmp_path / "allocation.json"
    plan.write_text("{}")
    with pytest.raises(UsageError) as refusal:
        api.compress(path, settings=QUICK | {"allocation.method": str(plan)}, sparsity=0.5)
    advised = str(refusal.value).rpartition(" one of ")[2].split(", ")
    assert {"evolutionary", "lamp", "sensitivity"} <= set(advised)
    for method in advised:
        settings = QUICK | {"allocation.method": method}
        api.compress(path, sparsity=0.5, settings=settings, data={"x": images()}, dry_run=True)


def test_scattered_zeros_break_the_pattern():
    pattern = parse_pattern("channel")
    tensor = np.ones((4, 4, 3, 3), np.float32)
    tensor[1] = 0
    tensor[:, 2] = 0
    assert pattern.violation(tensor, Layout(0, 1)) == ""
    tensor[0, 0, 0, 0] = 0
    assert pattern.violation(tensor, Layout(0, 1)) == "1 zeros lie in channels that stay"


@pytest.mark.skipif(not RESNET20.is_file(), reason="the shared models are not there")
def test_half_of_resnet20_is_found_to_be_removable():
    model = load_model(RESNET20)
    channels = channels_of(model)
    assert [len(space.members) for space in channels.spaces].count(64) == 3
    assert channels.count == 400
    kept = {space.name: float(space.cost * len(space.members)) for space in channels.spaces}
    counts = fitted(channels, kept, 0.5)
    weights, work = channels.left(alive_channels(channels, counts, np.zeros(400)))
    assert 0.5 - SLACK < weights <= 0.5
    assert work <= WORK * 0.5


def test_as_few_channels_as_fit_are_left_where_work_would_not_be_less():
    channels = channels_of(residual())
    kept = {space.name: 1.0 for space in channels.spaces}
    fewest = None
    for percent in range(99, 0, -1):
        try:
            counts = fitted(channels, kept, percent / 100)
        except UsageError:
            continue
        fewest = channels.left(alive_channels(channels, counts, np.zeros(channels.count)))[0]
        break
    assert fewest is not None
    with pytest.raises(UsageError, match="cannot be reached") as refusal:
        fitted(channels, kept, (percent + 1) / 100)
    left = float(re.search(r"([\d.]+)% would be left", str(refusal.value))[1])  # type: ignore[index]
    assert left > 100 - (percent + 1)
