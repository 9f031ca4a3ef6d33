"""A pattern keeps as many weights as it can of those asked for, and the ones of largest score."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnx_unipts.allocation import ALLOCATORS, Problem
from onnx_unipts.allocation.file import allocate, allocation_document
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.prunable import PrunableWeight
from onnx_unipts.json_text import to_json
from onnx_unipts.patterns import (
    Layout,
    Masking,
    Pattern,
    keep_largest,
    magnitude_mask,
    parse_pattern,
    target_sparsity,
)

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, max_side=6)
# Few distinct values, so that ties and zeros are the rule.
VALUES = st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0, 2.0, 100.0])
SCORES = hnp.arrays(st.sampled_from([np.float16, np.float32, np.float64]), SHAPES, elements=VALUES)
FEW = settings(max_examples=25)
STRUCTURED = ("2:4", "1:4", "4:8", "1:3", "4x1", "1x4", "2x2", "16x1", "3x2")


@st.composite
def laid_out(draw: st.DrawFn) -> tuple[np.ndarray, Layout]:
    """Draw scores of 2 to 4 axes, any two of which are the channels."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=4, max_side=9))
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    out_axis, in_axis = draw(st.permutations(range(len(shape))))[:2]
    groups = draw(st.sampled_from([g for g in (1, 2, 3) if shape[in_axis] % g == 0]))
    scores = draw(hnp.arrays(dtype, shape, elements=VALUES))
    return scores, Layout(out_axis, in_axis, groups)


def slots(pattern: str, shape: tuple[int, ...], layout: Layout) -> list[list[tuple[int, ...]]]:
    """List the indices of the weights in each group or block, worked out one by one."""
    out_axis, in_axis = layout.out_axis, layout.in_axis
    assert out_axis is not None
    assert in_axis is not None
    span = shape[in_axis] // layout.in_groups
    slots: dict[tuple, list[tuple[int, ...]]] = {}
    for index in itertools.product(*map(range, shape)):
        place = list(index)
        if ":" in pattern:
            group, rest = divmod(index[in_axis], span)
            place[in_axis] = (group, rest // int(pattern.split(":")[1]))
        else:
            rows, columns = map(int, pattern.split("x"))
            place[out_axis] //= rows
            place[in_axis] //= columns
        slots.setdefault(tuple(place), []).append(index)
    return list(slots.values())


@given(SCORES, st.data())
def test_exactly_as_many_stay_as_asked_for(scores: np.ndarray, data: st.DataObject):
    kept = data.draw(st.integers(0, scores.size))
    mask = keep_largest(scores, kept)
    assert mask.dtype == bool
    assert mask.shape == scores.shape
    assert mask.sum() == kept


@given(SCORES, st.data())
def test_nothing_removed_scores_higher_than_what_stays(scores: np.ndarray, data: st.DataObject):
    kept = data.draw(st.integers(1, scores.size))
    mask = keep_largest(scores, kept)
    if not mask.all():
        assert scores[mask].min() >= scores[~mask].max()


@pytest.mark.parametrize("name", ["unstructured", *STRUCTURED])
@FEW
@given(laid_out(), st.data())
def test_the_same_scores_give_the_same_mask_and_are_left_as_they_are(
    name: str, case: tuple[np.ndarray, Layout], data: st.DataObject
):
    scores, layout = case
    before = scores.copy()
    kept = data.draw(st.integers(0, scores.size))
    mask = parse_pattern(name).mask(scores, kept, layout)
    assert mask.dtype == bool
    assert mask.shape == scores.shape
    np.testing.assert_array_equal(mask, parse_pattern(name).mask(scores.copy(), kept, layout))
    np.testing.assert_array_equal(scores, before)


def test_magnitude_has_no_sign():
    weight = np.array([[-3.0, 1.0], [0.5, -2.0]], np.float32)
    np.testing.assert_array_equal(magnitude_mask(weight, 2), [[True, False], [False, True]])


@pytest.mark.parametrize("kept", [0, 1])
def test_a_layer_of_one_weight_is_kept_or_removed(kept: int):
    assert magnitude_mask(np.array([[[[0.5]]]], np.float32), kept).sum() == kept


def test_transposed_weights_are_masked_where_they_stand():
    weight = np.arange(6, dtype=np.float32).reshape(2, 3).T
    np.testing.assert_array_equal(magnitude_mask(weight, 3), weight >= 3)


# N:M


@pytest.mark.parametrize("name", [name for name in STRUCTURED if ":" in name])
@FEW
@given(laid_out())
def test_every_group_keeps_its_n_largest(name: str, case: tuple[np.ndarray, Layout]):
    scores, layout = case
    pattern = parse_pattern(name)
    n = int(name.split(":")[0])
    full = pattern.limit(np.ones_like(scores), layout)
    mask = pattern.mask(scores, full, layout)
    assert mask.sum() == full
    for slot in slots(name, scores.shape, layout):
        stayed = [scores[i] for i in slot if mask[i]]
        gone = [scores[i] for i in slot if not mask[i]]
        assert len(stayed) == min(n, len(slot))
        assert not gone or min(stayed) >= max(gone)
    assert not pattern.violation(mask.astype(np.float32), layout)


@pytest.mark.parametrize("name", [name for name in STRUCTURED if ":" in name])
@FEW
@given(laid_out(), st.data())
def test_less_than_all_groups_hold_is_kept_exactly_and_within_them(
    name: str, case: tuple[np.ndarray, Layout], data: st.DataObject
):
    scores, layout = case
    pattern = parse_pattern(name)
    kept = data.draw(st.integers(0, pattern.limit(np.ones_like(scores), layout)))
    mask = pattern.mask(scores, kept, layout)
    assert mask.sum() == kept
    assert not pattern.violation(mask.astype(np.float32), layout)


@pytest.mark.parametrize("name", [name for name in STRUCTURED if ":" in name])
@FEW
@given(laid_out(), st.data())
def test_while_sparsity_grows_each_mask_holds_the_final_one(
    name: str, case: tuple[np.ndarray, Layout], data: st.DataObject
):
    scores, layout = case
    pattern = parse_pattern(name)
    full = pattern.limit(np.ones_like(scores), layout)
    kept = data.draw(st.integers(full, scores.size))
    mask = pattern.mask(scores, kept, layout)
    assert mask.sum() == kept
    assert mask[pattern.mask(scores, full, layout)].all()


@pytest.mark.parametrize("name", [name for name in STRUCTURED if ":" in name])
@FEW
@given(laid_out())
def test_zeros_of_the_dense_model_need_not_be_kept(name: str, case: tuple[np.ndarray, Layout]):
    weight, layout = case
    pattern = parse_pattern(name)
    mask = pattern.mask(np.abs(weight), pattern.limit(weight, layout), layout)
    assert (weight[mask] != 0).all()


def test_groups_run_along_the_input_channels_of_each_kernel_position():
    scores = np.random.default_rng(0).random((3, 8, 3, 3))
    mask = parse_pattern("2:4").mask(scores, scores.size // 2, Layout(0, 1))
    assert (mask.reshape(3, 2, 4, 3, 3).sum(axis=2) == 2).all()


def test_groups_do_not_cross_the_groups_of_a_transposed_convolution():
    scores = np.random.default_rng(0).random((12, 5, 3, 3))
    pattern, layout = parse_pattern("2:4"), Layout(1, 0, 2)
    mask = pattern.mask(scores, pattern.limit(scores, layout), layout)
    halves = mask.reshape(2, 6, 5, 3, 3)
    assert (halves[:, :4].sum(axis=1) == 2).all()
    assert halves[:, 4:].all()


@pytest.mark.parametrize(("length", "n", "objects"), [(1, 2, True), (2, 2, True), (3, 2, False)])
def test_too_short_a_reduction_stays_dense(length: int, n: int, objects: bool):
    pattern = parse_pattern(f"{n}:4")
    weight = weight_of((8, length, 3, 3), 0, 1)
    assert bool(pattern.objection(weight)) == objects


@pytest.mark.parametrize("name", STRUCTURED)
def test_weights_without_known_channels_stay_dense(name: str):
    assert f"for the pattern {name}" in parse_pattern(name).objection(weight_of((64,), None, None))


def weight_of(shape: tuple[int, ...], out_axis: int | None, in_axis: int | None) -> PrunableWeight:
    count = int(np.prod(shape))
    return PrunableWeight(
        "w", "", "Conv", ("c",), shape, "FLOAT", count, out_axis, in_axis, True, None, "", ()
    )


# Blocks


@pytest.mark.parametrize("name", [name for name in STRUCTURED if "x" in name])
@FEW
@given(laid_out(), st.data())
def test_blocks_stay_or_go_as_a_whole_and_to_within_one_block(
    name: str, case: tuple[np.ndarray, Layout], data: st.DataObject
):
    scores, layout = case
    pattern = parse_pattern(name)
    kept = data.draw(st.integers(0, scores.size))
    mask = pattern.mask(scores, kept, layout)
    for slot in slots(name, scores.shape, layout):
        assert len({bool(mask[index]) for index in slot}) == 1
    assert kept - pattern.step < mask.sum() <= kept
    assert not pattern.violation(mask.astype(np.float32), layout)
    counts = pattern.counts(scores.shape, layout)
    assert counts is not None
    assert int(mask.sum()) in counts
    assert pattern.mask(scores, int(mask.sum()), layout).sum() == mask.sum()


@pytest.mark.parametrize("name", [name for name in STRUCTURED if "x" in name])
@FEW
@given(laid_out(), st.data())
def test_no_removed_block_scores_higher_than_one_of_its_size_that_stays(
    name: str, case: tuple[np.ndarray, Layout], data: st.DataObject
):
    scores, layout = case
    mask = parse_pattern(name).mask(scores, data.draw(st.integers(0, scores.size)), layout)
    means: dict[tuple[int, bool], list[float]] = {}
    for slot in slots(name, scores.shape, layout):
        stays = bool(mask[slot[0]])
        mean = float(np.mean([float(scores[i]) for i in slot]))
        means.setdefault((len(slot), stays), []).append(mean)
    for size in {size for size, _ in means}:
        stayed, gone = means.get((size, True), []), means.get((size, False), [])
        assert not stayed or not gone or min(stayed) >= max(gone) - 1e-4


@pytest.mark.parametrize("name", [name for name in STRUCTURED if "x" in name])
@FEW
@given(laid_out())
def test_a_block_that_is_zero_need_not_be_kept(name: str, case: tuple[np.ndarray, Layout]):
    weight, layout = case
    pattern = parse_pattern(name)
    limit = pattern.limit(weight, layout)
    living = sum(len(s) for s in slots(name, weight.shape, layout) if any(weight[i] for i in s))
    assert living - pattern.step < limit <= living


@pytest.mark.parametrize("name", STRUCTURED)
@FEW
@given(laid_out(), st.integers(0, 2**32 - 1))
def test_a_broken_pattern_is_noticed(name: str, case: tuple[np.ndarray, Layout], seed: int):
    scores, layout = case
    rng = np.random.default_rng(seed)
    tensor = (rng.random(scores.shape) < 0.5).astype(np.float32)
    broken = False
    for slot in slots(name, scores.shape, layout):
        kept = sum(int(tensor[i]) for i in slot)
        broken |= kept > int(name.split(":")[0]) if ":" in name else 0 < kept < len(slot)
    assert bool(parse_pattern(name).violation(tensor, layout)) == broken


# Allocation


NETWORK = {
    "a": np.random.default_rng(0).standard_normal((16, 3, 3, 3)).astype(np.float32),
    "b": np.random.default_rng(1).standard_normal((30, 16, 3, 3)).astype(np.float32),
    "c": np.random.default_rng(2).standard_normal((30, 7)).astype(np.float32),
}
LAYOUTS = {"a": Layout(0, 1), "b": Layout(0, 1), "c": Layout(1, 0)}


def problem(name: str, sparsity: float) -> Problem:
    pattern = parse_pattern(name)
    return Problem(NETWORK, sparsity, masking=Masking(pattern, LAYOUTS))


@pytest.mark.parametrize("name", [name for name in STRUCTURED if "x" in name])
@pytest.mark.parametrize("method", ["uniform", "erk", "global", "lamp"])
@FEW
@given(sparsity=st.floats(0.01, 0.99))
def test_blocks_hit_the_total_to_within_one_of_them(name: str, method: str, sparsity: float):
    wanted = problem(name, sparsity)
    kept = allocate(method, wanted)
    assert wanted.total - wanted.masking.pattern.step < sum(kept.values()) <= wanted.total
    for key, weight in NETWORK.items():
        assert wanted.masking.mask(key, weight, kept[key]).sum() == kept[key]


@FEW
@given(sparsity=st.floats(0.5, 0.95))
def test_no_layer_loses_its_last_block(sparsity: float):
    kept = allocate("global", problem("16x1", sparsity))
    assert min(kept.values()) > 0


@pytest.mark.parametrize("method", ["uniform", "erk", "global", "lamp"])
def test_a_pattern_that_prescribes_its_sparsity_leaves_no_choice(method: str):
    wanted = problem("2:4", 0.5)
    kept = ALLOCATORS[method](wanted)
    # Of 3 input channels two stay, of 7 four and of the rest two.
    assert kept == {"a": 16 * 2 * 9, "b": 30 * 8 * 9, "c": 7 * (7 * 2 + 2)}


def test_an_allocation_of_blocks_reads_back(tmp_path):
    wanted = problem("4x1", 0.83)
    kept = allocate("lamp", wanted)
    path = tmp_path / "allocation.json"
    path.write_text(to_json(allocation_document(0.83, "lamp", kept, wanted.counts)))
    assert allocate(str(path), wanted) == kept
    document = allocation_document(0.83, "lamp", {**kept, "b": kept["b"] - 1}, wanted.counts)
    path.write_text(to_json(document))
    with pytest.raises(UsageError, match="the pattern 4x1 allows"):
        allocate(str(path), wanted)


# Names


@pytest.mark.parametrize("name", ["unstructured", *STRUCTURED])
def test_a_pattern_goes_by_the_name_it_was_found_by(name: str):
    pattern: Pattern = parse_pattern(name)
    assert pattern.name == name


@pytest.mark.parametrize("name", ["nonesuch", "", "2:4:8", "x4", "-1:4", "2 : 4"])
def test_an_unknown_pattern_is_refused_with_what_there_is(name: str):
    with pytest.raises(UsageError, match=r"known: N:M \(such as 2:4\), RxC .*, unstructured"):
        parse_pattern(name)


@pytest.mark.parametrize("name", ["4:2", "4:4", "0:4", "0x4", "1x1", "2:9999", "9999x1"])
def test_a_pattern_that_makes_no_sense_says_what_would(name: str):
    with pytest.raises(UsageError, match=f"pattern {name}: "):
        parse_pattern(name)


@given(st.integers(1, 20), st.integers(2, 30))
def test_the_sparsity_of_n_of_m_may_be_left_out_or_fit(n: int, m: int):
    assume(n < m)
    pattern = parse_pattern(f"{n}:{m}")
    share = 1 - n / m
    assert target_sparsity(pattern, None) == pytest.approx(share)
    assert target_sparsity(pattern, round(share, 4)) == pytest.approx(share)
    with pytest.raises(UsageError, match=f"does not fit the pattern {n}:{m}.*leave --sparsity out"):
        target_sparsity(pattern, share + 0.01 if share < 0.9 else share - 0.01)


@pytest.mark.parametrize("name", ["unstructured", "4x1"])
def test_the_sparsity_of_other_patterns_must_be_given(name: str):
    assert target_sparsity(parse_pattern(name), 0.75) == 0.75
    with pytest.raises(UsageError, match="--sparsity is missing"):
        target_sparsity(parse_pattern(name), None)
