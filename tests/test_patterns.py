"""A pattern keeps exactly as many weights as asked for, and the ones of largest score."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnx_unipts.patterns import magnitude_mask, unstructured

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, max_side=6)
# Few distinct values, so that ties and zeros are the rule.
SCORES = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64]),
    SHAPES,
    elements=st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0, 2.0, 100.0]),
)


@given(SCORES, st.data())
def test_exactly_as_many_stay_as_asked_for(scores: np.ndarray, data: st.DataObject):
    kept = data.draw(st.integers(0, scores.size))
    mask = unstructured(scores, kept)
    assert mask.dtype == bool
    assert mask.shape == scores.shape
    assert mask.sum() == kept


@given(SCORES, st.data())
def test_nothing_removed_scores_higher_than_what_stays(scores: np.ndarray, data: st.DataObject):
    kept = data.draw(st.integers(1, scores.size))
    mask = unstructured(scores, kept)
    if not mask.all():
        assert scores[mask].min() >= scores[~mask].max()


@given(SCORES, st.data())
def test_the_same_scores_give_the_same_mask(scores: np.ndarray, data: st.DataObject):
    kept = data.draw(st.integers(0, scores.size))
    np.testing.assert_array_equal(unstructured(scores, kept), unstructured(scores.copy(), kept))


@given(SCORES, st.data())
def test_the_scores_are_left_as_they_are(scores: np.ndarray, data: st.DataObject):
    before = scores.copy()
    unstructured(scores, data.draw(st.integers(0, scores.size)))
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
