"""Converting the opset of a model, around what the converter of the onnx package cannot do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir

from onnx_unipts.graph.model import from_proto, proto_graphs, to_proto
from onnx_unipts.graph.nodes import input_at

__all__ = ["convert_opset", "is_standard", "through_proto"]

_Array = np.ndarray | np.generic

# Where operators hide from tools that do not know them.
ASIDE = "onnx_unipts.aside"


def convert_opset(model: ir.Model, target: int) -> ir.Model:
    """Return ``model`` in opset ``target`` of the standard operators.

    Operators that do not exist in the opset the model declares, as files written by onnxruntime
    have them (LayerNormalization in opset 14), stay as they are. Upsample and the Resize of opset
    10 become a Resize that samples as they did, which the converter of the onnx package gets wrong;
    Affine, Crop and ImageScaler become operators that still exist. Operators that ``target`` does
    not have yet, such as Attention and RMSNormalization, become the function that defines them.

    Raises whatever the converter raises for an operator it cannot convert.
    """
    opset = model.opset_imports.get("", 1)
    if opset == target:
        return model

    def is_special(node: ir.Node) -> bool:
        if node.op_type == "Resize":
            return opset <= 10
        return node.op_type in _REPLACEMENTS or not is_standard(node, opset)

    def convert(proto: onnx.ModelProto) -> onnx.ModelProto:
        proto = onnx.shape_inference.infer_shapes(_without_newer(proto, opset, target))
        return onnx.version_converter.convert_version(proto, target)

    converted = through_proto(model, convert, hidden=is_special)
    for node in list(_all_nodes(converted)):
        if node.op_type == "Resize" and opset > 10:
            continue
        if not node.domain and (replace := _REPLACEMENTS.get(node.op_type)):
            replace(converted, node)
    return converted


def is_standard(node: ir.Node, opset: int) -> bool:
    """Tell whether a node of the standard domain is an operator of ``opset``."""
    return _exists(node.op_type, opset)


def through_proto(
    model: ir.Model,
    transform: Callable[[onnx.ModelProto], onnx.ModelProto],
    hidden: Callable[[ir.Node], bool],
) -> ir.Model:
    """Return ``model`` transformed by a tool that works on protos.

    Nodes of the standard domain for which ``hidden`` says so go through it in a domain of their
    own, as operators that the tool knows nothing about.
    """
    model = model.clone()
    for node in _all_nodes(model):
        if not node.domain and hidden(node):
            node.domain = ASIDE
            model.opset_imports[ASIDE] = 1
    result = from_proto(transform(to_proto(model)))
    for node in _all_nodes(result):
        if node.domain == ASIDE:
            node.domain = ""
    result.opset_imports.pop(ASIDE, None)
    return result


def _without_newer(proto: onnx.ModelProto, opset: int, target: int) -> onnx.ModelProto:
    """Inline the operators of ``opset`` that ``target`` does not have, and those in them."""
    seen: set[str] = set()
    while newer := _newer_functions(proto, opset, target) - seen:
        seen |= newer
        typed = onnx.shape_inference.infer_shapes(proto)
        _spell_out_defaults(typed, newer, opset)
        # Inlining needs every type; inference leaves those of initializers out.
        for graph in proto_graphs(typed):
            if isinstance(graph, onnx.GraphProto):
                graph.value_info.extend(
                    onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims)
                    for t in graph.initializer
                )
        functions = [("", name) for name in sorted(newer)]
        proto = onnx.inliner.inline_selected_functions(
            typed, functions, inline_schema_functions=True
        )
    return proto


def _spell_out_defaults(proto: onnx.ModelProto, names: set[str], opset: int) -> None:
    """Give nodes the attributes that they leave out: functions refer to them, default or not."""
    for graph in proto_graphs(proto):
        for node in graph.node:
            if node.domain or node.op_type not in names:
                continue
            given = {attribute.name for attribute in node.attribute}
            known = onnx.defs.get_schema(node.op_type, opset, "").attributes
            node.attribute.extend(
                attribute.default_value
                for name, attribute in known.items()
                if name not in given and attribute.default_value.name
            )


def _newer_functions(proto: onnx.ModelProto, opset: int, target: int) -> set[str]:
    names = {
        node.op_type for graph in proto_graphs(proto) for node in graph.node if not node.domain
    }
    return {name for name in names if _exists(name, opset) and not _exists(name, target)}


def _exists(op_type: str, opset: int) -> bool:
    try:
        onnx.defs.get_schema(op_type, opset, "")
    except onnx.defs.SchemaError:
        return False
    return True


def _all_nodes(model: ir.Model) -> Iterator[ir.Node]:
    for graph in model.graphs():
        yield from graph


def _replace_sampling(model: ir.Model, node: ir.Node) -> None:
    """Turn Upsample (opset 7 and 9) or the Resize of opset 10 into the Resize of opset 13.

    They sample at output position / scale, which is the asymmetric mode of today. Nearest rounds
    down, and up where the image shrinks: no specification says so, onnxruntime does.
    """
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "nearest"
    scales = input_at(node, 1)
    if scales is None:
        numbers = np.array(node.attributes["scales"].as_floats(), np.float32)
        scales = _constant(model, node, "scales", numbers)
    attributes = {"mode": mode, "coordinate_transformation_mode": "asymmetric"}
    if mode == "nearest":
        attributes["nearest_mode"] = "ceil" if _shrinks(scales) else "floor"
    _replace(node, ir.node("Resize", [node.inputs[0], None, scales], attributes))


def _shrinks(scales: ir.Value) -> bool:
    tensor = ir.convenience.get_const_tensor(scales)
    return tensor is not None and bool(tensor.numpy().max() <= 1 and tensor.numpy().min() < 1)


def _replace_image_scaler(model: ir.Model, node: ir.Node) -> None:
    """Write scale * x + bias; the bias is one number per channel of an image (N, C, H, W)."""
    scale = node.attributes["scale"].as_float() if "scale" in node.attributes else 1.0
    bias = np.array(node.attributes["bias"].as_floats(), np.float32).reshape(1, -1, 1, 1)
    _replace_linear(model, node, np.float32(scale), bias)


def _replace_affine(model: ir.Model, node: ir.Node) -> None:
    """Write alpha * x + beta."""
    alpha, beta = (
        np.float32(node.attributes[name].as_float() if name in node.attributes else default)
        for name, default in (("alpha", 1.0), ("beta", 0.0))
    )
    _replace_linear(model, node, alpha, beta)


def _replace_linear(model: ir.Model, node: ir.Node, scale: _Array, bias: _Array) -> None:
    product = ir.node("Mul", [node.inputs[0], _constant(model, node, "scale", scale)])
    total = ir.node("Add", [product.outputs[0], _constant(model, node, "bias", bias)])
    _replace(node, product, total)


def _replace_crop(model: ir.Model, node: ir.Node) -> None:
    """Slice an image (N, C, H, W) by its border: left, top, right, bottom; or to size ``scale``."""
    left, top, right, bottom = node.attributes["border"].as_ints()
    starts = np.array([top, left])
    if "scale" in node.attributes:
        ends = starts + node.attributes["scale"].as_ints()
    else:
        whole = np.iinfo(np.int64).max
        ends = np.array([-bottom if bottom else whole, -right if right else whole])
    bounds = {"starts": starts, "ends": ends, "axes": np.array([2, 3])}
    constants = [_constant(model, node, name, array) for name, array in bounds.items()]
    _replace(node, ir.node("Slice", [node.inputs[0], *constants]))


# What the converter of the onnx package gets wrong, and experimental operators that are gone.
_REPLACEMENTS: dict[str, Callable[[ir.Model, ir.Node], None]] = {
    "Affine": _replace_affine,
    "Crop": _replace_crop,
    "ImageScaler": _replace_image_scaler,
    "Resize": _replace_sampling,
    "Upsample": _replace_sampling,
}


def _replace(node: ir.Node, *by: ir.Node) -> None:
    """Put nodes in place of ``node``; the only output of the last takes over."""
    old, new = node.outputs[0], by[-1].outputs[0]
    new.name, new.type, new.shape = old.name, old.type, old.shape
    node.append(by)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    assert node.graph is not None
    node.graph.remove(node, safe=True)


def _constant(model: ir.Model, node: ir.Node, suffix: str, array: _Array) -> ir.Value:
    """Add an initializer of the main graph for ``node``."""
    tensor = ir.tensor(np.asarray(array))
    value = ir.Value(
        name=f"{node.outputs[0].name}_{suffix}",
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape(tensor.shape.numpy()),
        const_value=tensor,
    )
    model.graph.register_initializer(value)
    return value
