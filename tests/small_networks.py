"""Small ONNX models for the tests: graphs written as text, weights drawn by a seed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import onnxsim

from onnx_unipts.calibration import CalibrationData, input_signature, load_calibration_data
from onnx_unipts.graph.model import load_model
from onnx_unipts.graph.prunable import find_prunable
from onnx_unipts.graph.simplification import SKIPPED
from onnx_unipts.patterns import Layout, Masking, parse_pattern
from onnx_unipts.recipe import Training
from onnx_unipts.reconstruction import Moments
from onnx_unipts.student import Student, build_student

CLASSIFIER = """net (float[N,3,8,8] x) => (float[N,4] y) {
    c1 = Conv <pads = [1,1,1,1]> (x, w1, b1)
    r1 = Relu (c1)
    c2 = Conv <pads = [1,1,1,1]> (r1, w2, b2)
    r2 = Relu (c2)
    p = GlobalAveragePool (r2)
    f = Flatten (p)
    y = Gemm <transB = 1> (f, w3, b3)
}"""

NORMALIZED = """net (float[N,3,8,8] x) => (float[N,4] y) {
    c1 = Conv <pads = [1,1,1,1]> (x, w1)
    n1 = BatchNormalization (c1, s1, b1, m1, v1)
    r1 = Relu (n1)
    c2 = Conv <pads = [1,1,1,1]> (r1, w2)
    n2 = BatchNormalization (c2, s2, b2, m2, v2)
    r2 = Relu (n2)
    p = GlobalAveragePool (r2)
    f = Flatten (p)
    y = Gemm <transB = 1> (f, w3, b3)
}"""

PERCEPTRON = """net (float[N,10] x) => (float[N,4] y) {
    a = MatMul (x, w1)
    b = Add (a, b1)
    c = Relu (b)
    d = MatMul (c, w2)
    y = Add (d, b2)
}"""


def network(
    text: str, tensors: Mapping[str, np.ndarray], *, opset: int = 17, ir_version: int = 8
) -> onnx.ModelProto:
    """Return the checked model of the graph ``text`` with ``tensors`` as initializers."""
    header = f'<ir_version: {ir_version}, opset_import: ["" : {opset}, "ai.onnx.ml" : 3]>\n'
    model = onnx.parser.parse_model(header + text)
    for name, array in tensors.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    onnx.checker.check_model(model)
    return model


def working_model(
    body: str,
    tensors: Mapping[str, np.ndarray],
    signature: str = "float[N,3,8,8] x => float[N,4] y",
) -> ir.Model:
    """Return a model whose ``tensors`` are graph inputs, as `graph.cleanup.clean` makes them."""
    given, made = signature.split("=>")
    inputs = [f"float[{','.join(map(str, t.shape))}] {name}" for name, t in tensors.items()]
    header = '<ir_version: 8, opset_import: ["" : 17]>\n'
    text = f"{header} net ({', '.join([given, *inputs])}) => ({made}) {{ {body} }}"
    return ir.from_proto(onnx.parser.parse_model(text))


def draw(seed: int, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Draw tensors by name: filters and matrices as He et al. initialise them, vectors small."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes.items():
        fan_in = np.prod(shape[1:]) if len(shape) > 1 else 50
        tensors[name] = (rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)
    return tensors


def classifier_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    """Draw the tensors of `CLASSIFIER`, its scores well apart."""
    tensors = draw(seed, w1=(8, 3, 3, 3), b1=(8,), w2=(8, 8, 3, 3), b2=(8,), w3=(4, 8), b3=(4,))
    return tensors | {"w3": 4 * tensors["w3"]}


def classifier(seed: int = 0) -> onnx.ModelProto:
    """Return `CLASSIFIER` with drawn weights: 824 of them prunable."""
    return network(CLASSIFIER, classifier_tensors(seed))


def balanced(seed: int = 0) -> onnx.ModelProto:
    """Return `classifier` with other biases: it answers every class about as often to `images`."""
    tensors = classifier_tensors(seed)
    (scores,) = outputs(network(CLASSIFIER, tensors), {"x": images(128)})
    return network(CLASSIFIER, tensors | {"b3": tensors["b3"] - scores.mean(axis=0)})


def normalized(seed: int = 0) -> onnx.ModelProto:
    """Return `NORMALIZED` whose running statistics are those of `images`."""
    tensors = classifier_tensors(seed)
    plain = {k: v for k, v in tensors.items() if k in ("w1", "w2", "w3", "b3")}
    rng = np.random.default_rng(seed)
    for part in ("1", "2"):
        plain |= {
            f"s{part}": rng.uniform(0.5, 1.5, 8).astype(np.float32),
            f"b{part}": tensors[f"b{part}"],
            f"m{part}": np.zeros(8, np.float32),
            f"v{part}": np.ones(8, np.float32),
        }
    for part in ("1", "2"):
        (entering,) = outputs(network(NORMALIZED, plain), {"x": images()}, [f"c{part}"])
        plain[f"m{part}"] = entering.mean(axis=(0, 2, 3))
        plain[f"v{part}"] = entering.var(axis=(0, 2, 3))
    return network(NORMALIZED, plain)


def perceptron(seed: int = 0) -> onnx.ModelProto:
    """Return `PERCEPTRON` with drawn weights: 224 of them prunable."""
    return network(PERCEPTRON, draw(seed, w1=(10, 16), b1=(16,), w2=(16, 4), b2=(4,)))


def images(count: int = 48, seed: int = 0, channels: int = 3, size: int = 8) -> np.ndarray:
    """Return ``count`` smooth random images: float32 (count, channels, size, size)."""
    rng = np.random.default_rng([seed, 7])
    coarse = rng.standard_normal((count, channels, size // 2, size // 2)) * 1.5
    return np.kron(coarse, np.ones((2, 2))).astype(np.float32) + rng.standard_normal(
        (count, channels, size, size)
    ).astype(np.float32)


def saved(model: onnx.ModelProto, directory: Path, name: str = "m.onnx") -> Path:
    """Write ``model`` into ``directory`` and return its path."""
    onnx.save(model, directory / name)
    return directory / name


STUDENT_SETTINGS = Training(batch_size=16, augment=False, filter_scale="none")


def prepared(
    model: onnx.ModelProto,
    directory: Path,
    x: np.ndarray,
    pattern: str = "unstructured",
    **losses: str,
) -> tuple[Student, CalibrationData]:
    """Return the student of ``model``, which masks by ``pattern``, and ``x`` as its data."""
    loaded = load_model(saved(model, directory))
    weights = [weight for weight in find_prunable(loaded) if weight.pruned]
    data = load_calibration_data({"x": x}, input_signature(loaded, {}))
    settings = STUDENT_SETTINGS.model_copy(update={"losses": losses})
    student = build_student(loaded, [weight.key for weight in weights], data, settings)
    layouts = {weight.key: Layout.of(weight) for weight in weights}
    student.masking = Masking(pattern=parse_pattern(pattern), layouts=layouts)
    return student, data


def moments_of(x: np.ndarray, y: np.ndarray | None = None) -> Moments:
    """Return the moments of rows (groups, rows, K) of a dense model and a student, or of both."""
    y = x if y is None else y
    return Moments(y.swapaxes(1, 2) @ y, x.swapaxes(1, 2) @ y, x.shape[1])


def largest(scores: np.ndarray, kept: int) -> np.ndarray:
    """Return the mask of the ``kept`` largest of ``scores``."""
    order = np.argsort(-scores, axis=None, kind="stable")
    mask = np.zeros(scores.size, bool)
    mask[order[:kept]] = True
    return mask.reshape(scores.shape)


def outputs(
    model: onnx.ModelProto | bytes | Path,
    feeds: Mapping[str, np.ndarray],
    names: list[str] | None = None,
) -> list[np.ndarray]:
    """Run a model unoptimised; ``names`` may be any values of its graph."""
    if isinstance(model, Path):
        model = onnx.load(model)
    if isinstance(model, bytes):
        model = onnx.load_model_from_string(model)
    if names is not None:
        model = onnx.shape_inference.infer_shapes(model)
        kinds = {v.name: v for v in (*model.graph.output, *model.graph.value_info)}
        del model.graph.output[:]
        model.graph.output.extend(kinds[name] for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    known = {value.name for value in session.get_inputs()}
    return session.run(None, {n: v for n, v in feeds.items() if n in known})


def simplify_here(model: onnx.ModelProto, optimize: bool) -> onnx.ModelProto:
    """Simplify as `graph.simplification.run_onnxsim` does, without the second of a new process."""
    simplified, _ = onnxsim.simplify(
        model, perform_optimization=optimize, skipped_optimizers=list(SKIPPED)
    )
    return simplified
