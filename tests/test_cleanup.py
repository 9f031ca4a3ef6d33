"""Cleaning and freezing graphs: the same outputs, the user's interface, parameters as inputs."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import numpy_helper, parser

from onnx_unipts.graph import cleanup
from onnx_unipts.graph.cleanup import clean, freeze_batch
from onnx_unipts.graph.equivalence import Equivalence
from onnx_unipts.graph.model import from_proto, load_model, read_tensors, serialize
from onnx_unipts.graph.prunable import find_prunable
from onnx_unipts.graph.simplification import run_onnxsim

SHARED = Path(__file__).parents[2] / "shared" / "models"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="needs the shared models")


def parse(text: str, opset: int = 17, ir_version: int = 8, **arrays: np.ndarray) -> ir.Model:
    """Parse a model in ONNX's text form and add ``arrays`` as initializers."""
    header = f'<ir_version: {ir_version}, opset_import: ["" : {opset}, "loc" : 1]>\n'
    proto = parser.parse_model(header + text)
    for name, array in arrays.items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return from_proto(proto)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32) / 4


def run(model: ir.Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(serialize(model), options).run(None, feeds)


def parameters(model: ir.Model) -> list[str]:
    return [weight.key for weight in find_prunable(model) if weight.pruned]


def operators(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def interface(values) -> list[tuple[str, str, str]]:
    return [(value.name, str(value.type), str(value.shape)) for value in values]


CLASSIFIER = """
    g (float[n,3,8,8] x) => (float[n,5] y) {
        c = Conv <pads = [1, 1, 1, 1]> (x, w)
        b = BatchNormalization (c, scale, bias, mean, var)
        r = Relu (b)
        p = GlobalAveragePool (r)
        s = Shape (x)
        zero = Constant <value_int = 0> ()
        d = Gather (s, zero)
        axes = Constant <value_ints = [0]> ()
        u = Unsqueeze (d, axes)
        rest = Constant <value_ints = [-1]> ()
        t = Concat <axis = 0> (u, rest)
        f = Reshape (p, t)
        v = Transpose <perm = [1, 0]> (head)
        y = MatMul (f, v)
    }
"""


@pytest.fixture(scope="module")
def classifier() -> ir.Model:
    ones, zeros = np.ones(6, np.float32), np.zeros(6, np.float32)
    return parse(
        CLASSIFIER,
        w=normal(6, 3, 3, 3),
        scale=ones * 1.5,
        bias=ones / 3,
        mean=zeros + 0.1,
        var=ones * 2,
        head=normal(5, 6),
    )


@pytest.fixture(scope="module")
def cleaned(classifier) -> ir.Model:
    return clean(classifier, ["w", "head"])


def test_parameters_become_inputs_that_carry_their_values(classifier, cleaned):
    assert [value.name for value in cleaned.graph.inputs] == ["x", "w", "head"]
    assert not {"w", "head"} & set(cleaned.graph.initializers)
    for name, array in read_tensors(classifier, ["w", "head"]).items():
        value = next(value for value in cleaned.graph.inputs if value.name == name)
        np.testing.assert_array_equal(value.const_value.numpy(), array)
        assert value.shape == array.shape


def test_a_cleaned_model_computes_the_same_for_any_batch(classifier, cleaned):
    weights = read_tensors(classifier, ["w", "head"])
    for batch in (1, 5):
        x = np.random.default_rng(1).standard_normal((batch, 3, 8, 8)).astype(np.float32)
        (expected,) = run(classifier, {"x": x})
        (actual,) = run(cleaned, {"x": x, **weights})
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


def test_the_interface_stays_and_the_original_is_untouched(classifier, cleaned):
    assert interface(cleaned.graph.inputs[:1]) == interface(classifier.graph.inputs)
    assert interface(cleaned.graph.outputs) == interface(classifier.graph.outputs)
    assert [value.name for value in classifier.graph.inputs] == ["x"]
    assert operators(classifier)["Constant"] == 3
    assert "w" in classifier.graph.initializers


def test_batch_normalization_is_kept_and_constants_are_not_nodes(cleaned):
    assert operators(cleaned)["BatchNormalization"] == 1
    assert not operators(cleaned)["Constant"]
    assert cleaned.opset_imports == {"": 17}


def test_freezing_folds_what_is_computed_from_shapes(classifier, cleaned):
    frozen = freeze_batch(cleaned, 4)
    assert not operators(frozen) & Counter(["Shape", "Gather", "Concat", "Unsqueeze"])
    assert all(
        value.shape is not None and value.shape.is_static()
        for node in frozen.graph
        for value in node.outputs
    )
    assert interface(frozen.graph.outputs) == [("y", "FLOAT", "[4,5]")]
    assert [value.name for value in frozen.graph.inputs] == ["x", "w", "head"]
    x = np.random.default_rng(1).standard_normal((4, 3, 8, 8)).astype(np.float32)
    (expected,) = run(classifier, {"x": x})
    (actual,) = run(frozen, {"x": x, **read_tensors(classifier, ["w", "head"])})
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)
    assert str(cleaned.graph.inputs[0].shape) == "[n,3,8,8]"


def test_freezing_takes_the_shapes_of_other_dynamic_dimensions():
    model = parse(
        "g (float[n,3,h,w] x, float[4,n,2] s) => (float[n,2,a,b] y, float[4,n,2] t)"
        "{y = Conv (x, k) t = Relu (s)}",
        k=normal(2, 3, 3, 3),
    )
    partly = freeze_batch(model, 2)
    assert [str(value.shape) for value in partly.graph.inputs] == ["[2,3,h,w]", "[4,2,2]"]
    whole = freeze_batch(model, 2, {"x": (2, 3, 10, 12)})
    assert [str(value.shape) for value in whole.graph.outputs] == ["[2,2,8,10]", "[4,2,2]"]


@needs_shared
@pytest.mark.parametrize("name", ["resnet20_folded", "resnet20_bn"])
def test_the_residual_networks_are_free_of_shape_arithmetic_when_frozen(name):
    model = load_model(SHARED / "cifar10" / f"{name}.onnx")
    cleaned = clean(model, parameters(model))
    assert operators(cleaned)["BatchNormalization"] == operators(model)["BatchNormalization"]
    frozen = freeze_batch(cleaned, 8)
    # Two slices are left: the shortcuts between stages take every other pixel.
    assert not operators(frozen) & Counter(["Shape", "Gather", "Concat", "Cast", "ConstantOfShape"])
    assert operators(frozen)["Slice"] == 2
    assert {value.name for value in frozen.graph.inputs[1:]} == set(parameters(model))
    images = np.random.default_rng(0).standard_normal((8, 3, 32, 32)).astype(np.float32)
    (expected,) = run(model, {model.graph.inputs[0].name: images})
    feeds = {model.graph.inputs[0].name: images, **read_tensors(model, parameters(model))}
    np.testing.assert_allclose(run(frozen, feeds)[0], expected, rtol=1e-3, atol=1e-3)


@needs_shared
@pytest.mark.parametrize(
    "name",
    [
        "forms/trap_function_protos",
        "forms/trap_if_loop_scan",
        "forms/trap_ir3_inputs",
        "forms/trap_multi_use",
        "forms/trap_storage_forms",
        "real/fastestdet",
        "exported/post_ortopt_ext_vit",
    ],
)
def test_awkward_files_become_the_same_in_range(name):
    model = load_model(SHARED / f"{name}.onnx")
    keys = parameters(model)
    cleaned = clean(model, keys)
    assert cleaned.opset_imports[""] in cleanup.OPSETS
    assert cleaned.ir_version in cleanup.IR_VERSIONS
    assert not cleaned.functions
    assert [value.name for value in cleaned.graph.inputs if value.const_value is not None] == keys
    assert Equivalence(model).objection(with_values_inside(cleaned)) is None


def with_values_inside(model: ir.Model) -> ir.Model:
    """Turn the parameters back into initializers, to be fed the inputs of the original."""
    model = model.clone()
    for value in [value for value in model.graph.inputs if value.const_value is not None]:
        model.graph.inputs.remove(value)
        model.graph.register_initializer(value)
    return model


# Steps that fail


def test_a_step_that_changes_the_outputs_is_left_out(classifier, monkeypatch):
    def break_the_model(model, optimize):
        next(node for node in model.graph if node.op_type == "Relu").op_type = "Sigmoid"
        return model

    monkeypatch.setattr(cleanup, "_onnxsim", break_the_model)
    cleaned = clean(classifier, ["w", "head"])
    assert operators(cleaned)["Relu"] == 1
    assert not operators(cleaned)["Constant"]


def test_a_step_that_fails_is_left_out(classifier, monkeypatch):
    def fail(model, optimize):
        raise RuntimeError("no such luck")

    monkeypatch.setattr(cleanup, "run_onnxsim", fail)
    cleaned = clean(classifier, ["w", "head"])
    assert [value.name for value in cleaned.graph.inputs] == ["x", "w", "head"]
    assert operators(cleaned)["Shape"] == 1


def test_onnxsim_reports_its_failure_in_one_line():
    broken = parser.parse_model(
        '<ir_version: 2, opset_import: ["" : 17]> g (float[n] x) => (float[n] y) {y = Relu (x)}'
    )
    with pytest.raises(RuntimeError, match="onnxsim failed") as caught:
        run_onnxsim(broken, optimize=True)
    assert "\n" not in str(caught.value)


def test_an_unknown_parameter_is_an_error(classifier):
    with pytest.raises(KeyError):
        clean(classifier, ["no such weight"])
