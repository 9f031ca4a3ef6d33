"""The student starts as the dense model, in whatever form its exporter left it, and goes back."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_networks import (
    CLASSIFIER,
    NORMALIZED,
    PERCEPTRON,
    classifier,
    classifier_tensors,
    images,
    network,
    normalized,
    outputs,
    perceptron,
    saved,
)

from onnx_unipts.calibration import CalibrationData, input_signature, load_calibration_data
from onnx_unipts.graph.errors import UnsupportedModelError
from onnx_unipts.graph.model import load_model, read_tensors, save_model, serialize
from onnx_unipts.graph.prunable import find_prunable
from onnx_unipts.patterns import magnitude_mask
from onnx_unipts.recipe import Training
from onnx_unipts.student import Student, batches_of, build_student, recalibrate, write_back
from onnx_unipts.training.ort import inference_session

pytestmark = pytest.mark.usefixtures("quick_simplification")

TENSORS = classifier_tensors()


def without(*names: str, **more: np.ndarray) -> dict[str, np.ndarray]:
    return {name: value for name, value in TENSORS.items() if name not in names} | more


def edited(*changes: tuple[str, str]) -> str:
    text = CLASSIFIER
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def constants() -> onnx.ModelProto:
    """Return the classifier with Constant nodes in place of initializers."""
    model = classifier()
    nodes = [
        onnx.helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in model.graph.initializer
    ]
    nodes += model.graph.node
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def two_normalisations_of_the_same_tensors() -> onnx.ModelProto:
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in normalized().graph.initializer}
    shared = {n: t for n, t in tensors.items() if n not in ("s2", "b2", "m2", "v2")}
    return network(NORMALIZED.replace("s2, b2, m2, v2", "s1, b1, m1, v1"), shared)


def one_scale_for_two_normalisations() -> onnx.ModelProto:
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in normalized().graph.initializer}
    del tensors["s2"]
    return network(NORMALIZED.replace("s2,", "s1,"), tensors)


FORMS: dict[str, Callable[[], onnx.ModelProto]] = {
    "folded normalisations": classifier,
    "kept normalisations": normalized,
    "matrix products": perceptron,
    "no bias": lambda: network(edited(("(x, w1, b1)", "(x, w1)")), without("b1")),
    "a bias added behind, as TensorFlow exports": lambda: network(
        edited(("c1 = Conv <pads = [1,1,1,1]> (x, w1, b1)",
                "c0 = Conv <pads = [1,1,1,1]> (x, w1) c1 = Add (c0, b)")),
        without("b1", b=TENSORS["b1"].reshape(1, 8, 1, 1)),
    ),
    "a bias through Identity": lambda: network(
        edited(("c1 =", "b = Identity (b1) c1 ="), ("w1, b1", "w1, b")), TENSORS
    ),
    "a filter through Identity": lambda: network(
        edited(("c1 =", "w = Identity (w1) c1 ="), ("w1, b1", "w, b1")), TENSORS
    ),
    "a filter through Identity, no bias": lambda: network(
        edited(("c1 =", "w = Identity (w1) c1 ="), ("w1, b1", "w")), without("b1")
    ),
    "a filter through Transpose, no bias": lambda: network(
        edited(("c1 =", "w = Transpose <perm = [3,2,0,1]> (wt) c1 ="), ("w1, b1", "w")),
        without("b1", "w1", wt=TENSORS["w1"].transpose(2, 3, 1, 0).copy()),
    ),
    "a bias shared by two": lambda: network(edited(("w2, b2", "w2, b1")), without("b2")),
    "a filter shared by two": lambda: network(
        edited(("r2 = Relu (c2)", "r3 = Relu (c2) c3 = Conv <pads = [1,1,1,1]> (r3, w2, b2) "
                "r2 = Relu (c3)")),
        TENSORS,
    ),
    "normalisations that share their scale": one_scale_for_two_normalisations,
    "normalisations that share all tensors": two_normalisations_of_the_same_tensors,
    "a convolution that is an output": lambda: network(
        edited(("float[N,4] y", "float[N,4] y, float[N,8,8,8] c1")), TENSORS
    ),
    "a normalised value that is an output": lambda: onnx_with_output(normalized(), "n1"),
    "constant nodes": constants,
    "softmax at the end": lambda: network(
        edited(("y = Gemm", "z = Gemm"), ("w3, b3)", "w3, b3) y = Softmax <axis = 1> (z)")), TENSORS
    ),
    "scores and their softmax": lambda: network(
        edited(("float[N,4] y", "float[N,4] y, float[N,4] q"),
               ("w3, b3)", "w3, b3) q = Softmax <axis = 1> (y)")),
        TENSORS,
    ),
    "dead filters": lambda: network(
        CLASSIFIER, without(w1=TENSORS["w1"] * (np.arange(8) > 2)[:, None, None, None])
    ),
    "an old IR version, no bias": lambda: network(
        edited(("(x, w1, b1)", "(x, w1)"),
               ("8] x)", "8] x, float[8,3,3,3] w1, float[8,8,3,3] w2, float[8] b2, "
                         "float[4,8] w3, float[4] b3)")),
        without("b1"), opset=11, ir_version=3,
    ),
    "a fixed batch of one": lambda: network(CLASSIFIER.replace("[N,", "[1,"), TENSORS),
    "a fixed batch of four": lambda: network(CLASSIFIER.replace("[N,", "[4,"), TENSORS),
    "a fixed batch in constant shapes": lambda: network(
        edited(("[N,3,8,8] x", "[2,3,8,8] x"), ("[N,4]", "[2,4]"),
               ("f = Flatten (p)", "s = Constant <value_ints = [2, -1]> () f = Reshape (p, s)")),
        TENSORS,
    ),
    "double precision": lambda: network(
        PERCEPTRON.replace("float[", "double["),
        {
            tensor.name: onnx.numpy_helper.to_array(tensor).astype(np.float64)
            for tensor in perceptron().graph.initializer
        },
    ),
    "weights of half precision": lambda: network(
        edited(("c1 =", "w = Cast <to = 1> (w1) c1 ="), ("w1, b1", "w")),
        without("b1", w1=TENSORS["w1"].astype(np.float16)),
    ),
    "dynamic height and width": lambda: network(edited(("[N,3,8,8]", "[N,3,H,W]")), TENSORS),
    "half precision": lambda: network(
        CLASSIFIER.replace("float[", "float16["),
        {name: value.astype(np.float16) for name, value in TENSORS.items()},
    ),
}  # fmt: skip


def onnx_with_output(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    inferred = onnx.shape_inference.infer_shapes(model)
    model.graph.output.extend(v for v in inferred.graph.value_info if v.name == name)
    return model


def feeds_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    kind = model.graph.input[0].type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    if kind.shape.dim[1].dim_value == 10:
        return {"x": np.random.default_rng(0).standard_normal((48, 10)).astype(dtype)}
    return {"x": images().astype(dtype)}


Built = tuple[Path, Student]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Built]:
    """Return what makes the model file of a form and its student; each is made once."""
    directory = tmp_path_factory.mktemp("forms")

    @functools.cache
    def build(form: str, filter_scale: str = "he") -> Built:
        path = saved(FORMS[form](), directory, f"{len(list(directory.iterdir()))}.onnx")
        return path, student_of(path, filter_scale)

    return build


def data_of(path: Path) -> CalibrationData:
    return load_calibration_data(feeds_of(onnx.load(path)), input_signature(load_model(path)))


def student_of(path: Path, filter_scale: str = "he") -> Student:
    model = load_model(path)
    keys = [weight.key for weight in find_prunable(model) if weight.pruned]
    settings = Training(filter_scale=filter_scale, augment=False)
    return build_student(model, keys, data_of(path), settings)


def run_all(
    model: bytes | Path, feeds: dict[str, np.ndarray], names: list[str]
) -> list[np.ndarray]:
    """Run a model on every sample, in batches of the size that it takes."""
    session = inference_session(str(model) if isinstance(model, Path) else model)
    batch = session.get_inputs()[0].shape[0]
    size = batch if isinstance(batch, int) else len(feeds["x"])
    parts = [
        session.run(names, {"x": feeds["x"][start : start + size]})
        for start in range(0, len(feeds["x"]), size)
    ]
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    tolerance = 3e-2 if expected.dtype == np.float16 else 1e-4
    scale = np.abs(expected.astype(np.float64)).max()
    np.testing.assert_allclose(actual, expected, atol=tolerance * scale)


# To the student and back


@pytest.mark.parametrize("form", FORMS)
def test_the_student_computes_what_the_dense_model_does(form: str, built: Callable[..., Built]):
    path, student = built(form)
    feeds = feeds_of(onnx.load(path))
    plain = [target for target in student.targets if target.value == target.output]
    names = [target.output for target in plain]
    if names:
        found = run_all(student.with_tensors(student.tensors), feeds, names)
        for value, expected in zip(found, run_all(path, feeds, names), strict=True):
            assert_close(value, expected)
    values = [target.value for target in student.targets]
    taught = run_all(student.teacher("running"), feeds, values)
    found = run_all(student.with_tensors(student.tensors), feeds, values)
    for value, expected in zip(found, taught, strict=True):
        assert_close(value, expected)


def test_a_teacher_by_batches_normalises_by_these_and_nothing_else(tmp_path: Path):
    # Not scaled, a normalisation's bias equals its mean: of equal constants the runtime makes one.
    model = load_model(saved(classifier(), tmp_path))
    data = load_calibration_data({"x": images(32)}, input_signature(model))
    keys = [weight.key for weight in find_prunable(model)]
    student = build_student(model, keys, data, Training(filter_scale="none"))
    values = [target.value for target in student.targets]
    feeds = {"x": images(16)}
    (taught,) = inference_session(student.teacher("batch")).run(values, feeds)
    fed = inference_session(student.with_batch_statistics())
    (expected,) = fed.run(values, {**student.dense, **feeds})
    np.testing.assert_allclose(taught, expected, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_written_back_untrained_the_model_computes_what_it_did(
    form: str, built: Callable[..., Built], tmp_path: Path
):
    path, student = built(form)
    model = load_model(path)
    write_back(student, model, student.tensors)
    save_model(model, tmp_path / "back.onnx")
    names = [value.name for value in onnx.load(path).graph.output]
    feeds = feeds_of(onnx.load(path))
    for value, expected in zip(
        run_all(tmp_path / "back.onnx", feeds, names), run_all(path, feeds, names), strict=True
    ):
        assert_close(value, expected)


@pytest.mark.parametrize("form", ["folded normalisations", "no bias", "kept normalisations"])
@pytest.mark.parametrize("filter_scale", ["none", "unit-variance", "he"])
def test_zeros_survive_the_way_back_and_no_weight_is_lost(
    form: str, filter_scale: str, built: Callable[..., Built], tmp_path: Path
):
    path, student = built(form, filter_scale)
    masks = {name: magnitude_mask(student.tensors[name], 17) for name in student.prunable}
    tensors = student.tensors | {name: student.tensors[name] * masks[name] for name in masks}
    tensors |= recalibrate(student, tensors, data_of(path), 16)
    model = load_model(path)
    write_back(student, model, tensors)
    save_model(model, tmp_path / "back.onnx")
    written = {t.name: t for t in onnx.load(tmp_path / "back.onnx").graph.initializer}
    for name, mask in masks.items():
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(written[name]) != 0, mask)
    (found,) = run_all(tmp_path / "back.onnx", {"x": images()}, ["y"])
    (expected,) = run_all(student.with_tensors(tensors), {"x": images()}, ["y"])
    assert_close(found, expected)


def test_the_student_holds_every_parameter_in_its_place(built: Callable[..., Built]):
    _, student = built("folded normalisations")
    assert student.prunable == ("w1", "w2", "w3")
    first, second = student.normalizations
    assert [(norm.weight, norm.conv_bias) for norm in (first, second)] == [
        ("w1", "b1"),
        ("w2", "b2"),
    ]
    # The bias before a normalisation is absorbed by it, and statistics are measured.
    assert set(student.trained) == {"w1", "w2", "w3", "b3", *first.trained, *second.trained}
    assert {"b1", "b2", *first.statistics, *second.statistics} < student.tensors.keys()
    assert all(tensor.dtype == np.float32 for tensor in student.tensors.values())


def test_normalisations_of_the_export_are_used_and_none_is_added(built: Callable[..., Built]):
    _, student = built("kept normalisations")
    assert [norm.weight for norm in student.normalizations] == [None, None]
    assert [norm.statistics for norm in student.normalizations] == [("m1", "v1"), ("m2", "v2")]
    assert {"s1", "b1", "s2", "b2"} < set(student.trained)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("ones, zeros, zeros, ones", "ones, zeros, zeros, ones"),
        ("ones, b1, m1, v1", "s2, b2, m2, alike"),
        ("s1, b1, zeros, v1", "s2, zeros, m2, v2"),
    ],
    ids=["all of both", "the scale of one, the variance of another", "a bias and a mean"],
)
def test_what_is_trained_in_one_normalisation_and_measured_in_another_stays(
    first: str, second: str, tmp_path: Path
):
    """Exporters merge equal tensors, and pass the one that is left on."""
    text = NORMALIZED.replace("s1, b1, m1, v1", first).replace("s2, b2, m2, v2", second)
    text = text.replace("c2 = Conv", "alike = Identity (ones) c2 = Conv")
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in normalized().graph.initializer}
    tensors |= {"ones": np.ones(8, np.float32), "zeros": np.zeros(8, np.float32)}
    student = student_of(saved(network(text, tensors), tmp_path))
    assert set(student.tensors) == set(student.trained) == {"w1", "w2", "w3", "b3"}


def test_the_bias_of_an_excluded_layer_is_left_alone(tmp_path: Path):
    path = saved(classifier(), tmp_path)
    student = build_student(load_model(path), ["w1", "w3"], data_of(path), Training())
    assert "w2" not in student.tensors
    assert "b2" not in student.tensors


def test_a_bias_that_the_graph_holds_otherwise_is_left_alone(tmp_path: Path):
    """The bias of a convolution may be computed; then nothing absorbs it."""
    text = edited(
        ("c1 =", "m = ReduceMean <axes = [0,2,3], keepdims = 0> (x) "
                 "k = ReduceSum (m) b = Add (b1, k) c1 ="),
        ("w1, b1)", "w1, b)"),
    )  # fmt: skip
    path = saved(network(text, TENSORS), tmp_path)
    student = student_of(path)
    (found,) = run_all(student.with_tensors(student.tensors), {"x": images()}, ["y"])
    assert_close(found, run_all(path, {"x": images()}, ["y"])[0])


def test_a_batch_that_the_graph_fixes_stays_fixed(tmp_path: Path):
    text = edited(
        ("[N,", "[1,"),
        ("c1 =", "i = Constant <value_int = 0> () z = Gather <axis = 0> (x, i) "
                 "a = Constant <value_ints = [0]> () u = Unsqueeze (z, a) c1 ="),
        ("(x, w1", "(u, w1"),
    )  # fmt: skip
    path = saved(network(text, TENSORS), tmp_path)
    student = student_of(path)
    assert student.batching.size == 1
    assert "fixed batch size 1" in student.batching.reason
    assert not student.normalizations
    runs = student.batching.runs({"x": images()})
    session = inference_session(student.with_tensors(student.tensors))
    found = [session.run(["y"], run) for run in runs]
    expected = run_all(path, {"x": images()}, ["y"])[0]
    assert_close(student.batching.joined(found, len(images()))[0], expected)


def test_a_student_comes_whole_out_of_another_process(tmp_path: Path):
    student = student_of(saved(classifier(), tmp_path))
    again = pickle.loads(pickle.dumps(student))
    assert serialize(again.model) == serialize(student.model)
    assert again.tensors.keys() == student.tensors.keys()
    for value, before in zip(again.model.graph.inputs, student.model.graph.inputs, strict=True):
        assert (value.const_value is None) == (before.name not in student.dense)


def test_a_type_that_cannot_be_trained_is_refused_by_name(tmp_path: Path):
    model = perceptron()
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        tensor.CopyFrom(
            onnx.helper.make_tensor(
                tensor.name, onnx.TensorProto.FLOAT8E4M3FN, values.shape, values.ravel()
            )
        )
    path = saved(model, tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"w1 is stored as FLOAT8E4M3FN"):
        build_student(load_model(path), ["w1", "w2"], Numbers(4), Training())


def test_no_weight_is_lost_to_half_precision(built: Callable[..., Built], tmp_path: Path):
    path, student = built("half precision")
    tensors = student.tensors | {"w3": student.tensors["w3"] * np.float32(1e-12)}
    model = load_model(path)
    write_back(student, model, tensors)
    assert np.count_nonzero(read_tensors(model, ["w3"])["w3"]) == tensors["w3"].size


@pytest.mark.parametrize("sign", [1, -1])
def test_what_half_precision_would_lose_becomes_the_least_that_it_holds(
    sign: int, built: Callable[..., Built]
):
    path, student = built("half precision")
    tiny = np.float32(sign * 1e-12) * np.abs(student.tensors["w3"])
    tiny[0] = 0
    model = load_model(path)
    write_back(student, model, student.tensors | {"w3": tiny})
    written = read_tensors(model, ["w3"])["w3"]
    assert not written[0].any()
    assert (written[1:] == sign * np.finfo(np.float16).smallest_subnormal).all()


def test_an_added_bias_gets_a_name_that_is_free(tmp_path: Path):
    model = network(edited(("(x, w1, b1)", "(x, w1)")), without("b1"))
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["w1/bias" if name == "r2" else name for name in names]
    path = saved(model, tmp_path)
    student, back = student_of(path), load_model(path)
    assert "w1/bias_1" in write_back(student, back, student.tensors)
    save_model(back, tmp_path / "back.onnx")
    (found,) = run_all(tmp_path / "back.onnx", {"x": images()}, ["y"])
    assert_close(found, run_all(path, {"x": images()}, ["y"])[0])


def test_normalisations_of_the_same_tensors_are_averaged(built: Callable[..., Built]):
    path, student = built("normalisations that share all tensors")
    data = data_of(path)
    found = recalibrate(student, student.tensors, data, 48)
    assert found.keys() == {"m1", "v1"}
    session = inference_session(student.with_batch_statistics())
    feeds = {**student.tensors, **next(batches_of(data, 48))}
    means = session.run([norm.observed[0] for norm in student.normalizations], feeds)
    assert len(means) == 2
    np.testing.assert_allclose(found["m1"], np.mean(means, axis=0), rtol=1e-4, atol=1e-5)


# Statistics


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_recalibrated_statistics_are_the_mean_over_batches(built: Callable[..., Built], cores: int):
    path, student = built("kept normalisations")
    data = data_of(path)
    tensors = {n: t * 1.1 if n == "w1" else t for n, t in student.tensors.items()}
    found = recalibrate(student, tensors, data, 16, cores=cores)
    assert found.keys() == {"m1", "v1", "m2", "v2"}
    entering = [
        outputs(network(NORMALIZED, tensors), batch, ["c1"])[0] for batch in batches_of(data, 16)
    ]
    assert len(entering) == 3
    means = [value.mean(axis=(0, 2, 3)) for value in entering]
    variances = [value.var(axis=(0, 2, 3)) for value in entering]
    np.testing.assert_allclose(found["m1"], np.mean(means, axis=0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found["v1"], np.mean(variances, axis=0), rtol=1e-3)


def test_a_later_normalisation_is_measured_behind_recalibrated_ones(built: Callable[..., Built]):
    """Else the statistics would be those of a model that never exists."""
    path, student = built("kept normalisations")
    data = data_of(path)
    tensors = student.tensors | {"w1": student.tensors["w1"] * 3}
    found = recalibrate(student, tensors, data, 48)
    # A filter three times as strong changes nothing behind its normalisation.
    before = recalibrate(student, student.tensors, data, 48)
    np.testing.assert_allclose(found["v1"], 9 * before["v1"], rtol=1e-3)
    np.testing.assert_allclose(found["m2"], before["m2"], rtol=1e-3, atol=1e-3)


def test_a_model_without_normalisations_has_nothing_to_recalibrate(built: Callable[..., Built]):
    path, student = built("matrix products")
    assert student.normalizations == ()
    assert recalibrate(student, student.tensors, data_of(path), 16) == {}


# Batches


class Numbers(CalibrationData):
    """Samples that are their own index."""

    def __init__(self, count: int) -> None:
        super().__init__({"x": np.arange(count)}, description="numbers")

    def batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        return {"x": np.asarray(indices)}


@given(st.integers(1, 100), st.integers(1, 40), st.none() | st.integers(1, 120))
def test_batches_are_equal_disjoint_and_always_the_same(count: int, size: int, limit: int | None):
    batches = [batch["x"].tolist() for batch in batches_of(Numbers(count), size, limit)]
    wanted = min(count, limit or count)
    assert len(batches) == max(wanted // size, 1)
    assert {len(batch) for batch in batches} == {min(size, wanted)}
    flat = [index for batch in batches for index in batch]
    assert len(flat) == len(set(flat))
    assert batches == [batch["x"].tolist() for batch in batches_of(Numbers(count), size, limit)]


def test_batches_of_sorted_data_are_mixed():
    first = next(batches_of(Numbers(1000), 100))["x"]
    assert first.min() < 200
    assert first.max() > 800
