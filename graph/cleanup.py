"""Bringing any graph into the form that training works on, each step checked by running it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from onnx_unipts.graph.equivalence import Equivalence, batch_names, is_batch, is_known
from onnx_unipts.graph.model import from_proto, stored_tensors, to_proto
from onnx_unipts.graph.opset_conversion import convert_opset, is_standard, through_proto
from onnx_unipts.graph.sequence_inputs import forget_sequences
from onnx_unipts.graph.simplification import run_onnxsim

__all__ = ["clean", "freeze_batch", "runnable"]

logger = logging.getLogger(__name__)

OPSETS = range(17, 22)
IR_VERSIONS = range(8, 11)

Step = Callable[[ir.Model], ir.Model]


def clean(model: ir.Model, parameters: Collection[str]) -> ir.Model:
    """Return a new model that computes the same from plain operators, ready to be differentiated.

    ``parameters`` are keys of stored tensors (``name``, or ``scope:name``). They become inputs of
    the graph under that key, behind the model's own inputs, so that nothing folds, renames or fuses
    them; the value they have in the file stays with them as ``const_value``. Functions are inlined,
    Constant nodes become initializers, the opset comes into 17..21 and the IR version into 8..10,
    and onnxsim simplifies the rest without fusing BatchNormalization. Names of inputs and outputs
    and dynamic dimensions stay.

    Each step is verified by running the model before and after on random inputs in onnxruntime. A
    step that fails or changes an output by more than 1e-4 of its largest value is left out, so the
    opset of the result is outside the range where it could not be brought in.

    Raises `KeyError` for a parameter that is not a stored tensor.
    """
    exposed = _expose(model.clone(), parameters)
    steps = (*_conversion(), (_spell_out_transposes,), (_simplify, _fold_constants))
    return _apply(exposed, steps, Equivalence(exposed))


def runnable(model: ir.Model) -> ir.Model:
    """Return ``model``, or an equal one of older IR version and opset if the runtime needs it.

    It takes the inputs of ``model``: one whose file has sequence inputs is another model, too.
    """
    opset = model.opset_imports.get("", 1)
    if model.ir_version <= IR_VERSIONS[-1] and opset <= OPSETS[-1]:
        return forget_sequences(model)
    exposed = _expose(model.clone(), [])
    check, converted = Equivalence(exposed), _with_first(_conversion(), exposed)
    # Seldom more than that is needed; simplifying takes seconds.
    if check.objection(converted) is None:
        return forget_sequences(converted)
    cleaned = clean(model, [])
    # Where neither loads, what the converted one lacks says more than that the other is new.
    useless = not check.loads and cleaned.opset_imports.get("", 1) not in OPSETS
    return forget_sequences(converted if useless else cleaned)


def _conversion() -> Sequence[Sequence[Step]]:
    """Return the steps that bring a model into the opsets and IR versions of the runtime."""
    return ((_raise_ir_version,), (_lift_constants,), (_convert_opset,))


def freeze_batch(
    model: ir.Model, batch: int, shapes: Mapping[str, Sequence[int]] | None = None
) -> ir.Model:
    """Return a new model with static shapes: what was computed from shapes is constant in it.

    Every dynamic first dimension of an input becomes ``batch``, and so does every other dimension
    of the same name; ``shapes`` gives the whole shape of inputs that are dynamic beyond that. The
    shapes inside are inferred anew. Where inputs stay dynamic, what depends on them does, too.
    """
    frozen = model.clone()
    names = batch_names(frozen)
    for value in frozen.graph.inputs:
        value.shape = _frozen_shape(value, batch, names, shapes or {})
    for value in frozen.graph.outputs:
        value.shape = _named_shape(value, batch, names)
    for graph in frozen.graphs():
        for node in graph:
            for value in node.outputs:
                if not value.is_graph_output():
                    value.shape = None
    check = Equivalence(frozen)
    _set_output_shapes(frozen, check)
    steps: list[Sequence[Step]] = [(_infer_shapes,)]
    if any(node.op_type in ("Shape", "Size") for graph in frozen.graphs() for node in graph):
        steps += [(_spell_out_transposes,), (_simplify, _fold_constants), (_infer_shapes,)]
    result = _apply(frozen, steps, check)
    _observe_shapes(result, check)
    return result


def _observe_shapes(model: ir.Model, check: Equivalence) -> None:
    """Set types and shapes that could not be inferred, as behind operators of onnxruntime's own."""
    inputs = [value.shape for value in model.graph.inputs]
    if not all(shape is not None and all(map(is_known, shape)) for shape in inputs):
        return
    unknown = {
        str(value.name): value
        for node in model.graph
        for value in node.outputs
        if value.name and (value.dtype is None or value.shape is None)
    }
    for name, array in check.observed(model, list(unknown)).items():
        value = unknown[name]
        if array.dtype.kind in "fiub":
            value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
            value.shape = ir.Shape(array.shape)


def _apply(model: ir.Model, steps: Sequence[Sequence[Step]], check: Equivalence) -> ir.Model:
    """Apply every step, or the next alternative where one fails; keep only what computes the same.

    Running the model is what takes time, so it is run once, behind all steps, and only if that
    shows a difference behind each.
    """
    result = _with_first(steps, model)
    if check.objection(result) is None:
        return result
    result = model
    if not check.loads:
        return result
    for alternatives in steps:
        for step in alternatives:
            changed = _attempt(step, result)
            if changed is result:
                continue
            if (objection := check.objection(changed)) is None:
                result = changed
                break
            logger.info("clean-up step %s left out: %s", _name(step), objection)
    return result


def _with_first(steps: Sequence[Sequence[Step]], model: ir.Model) -> ir.Model:
    """Return what the first alternative of each step makes of ``model``, one after the other."""
    for first, *_ in steps:
        model = _attempt(first, model)
    return model


def _attempt(step: Step, model: ir.Model) -> ir.Model:
    """Return what ``step`` makes of a copy, or ``model`` itself where it fails."""
    try:
        return step(model.clone())
    except Exception as error:
        logger.info("clean-up step %s left out: %s", _name(step), error)
        return model


def _name(step: Step) -> str:
    return getattr(step, "__name__", repr(step)).strip("_").replace("_", " ")


# Parameters


def _expose(model: ir.Model, parameters: Collection[str]) -> ir.Model:
    """Inline the functions and turn the parameters into inputs of the main graph.

    The values are marked first: inlining gives each call of a function its own copies.
    """
    stored = stored_tensors(model)
    for key in parameters:
        stored[key].value.meta["parameter"] = key
    common.RemoveInitializersFromInputsPass()(model)
    common.InlinePass()(model)
    inputs = {key: _input_like(stored[key].tensor) for key in parameters}
    for copy in stored_tensors(model).values():
        if (marked := copy.value.meta.get("parameter")) is not None:
            _replace(copy.value, inputs[marked])
    for key, value in inputs.items():
        value.name = key
        model.graph.inputs.append(value)
    # Not before: an unused parameter is an input, too. onnxruntime refuses unused initializers
    # of which the graph says nothing else.
    common.RemoveUnusedNodesPass()(model)
    return model


def _input_like(tensor: ir.TensorProtocol) -> ir.Value:
    shape = ir.Shape(tensor.shape.numpy())
    return ir.Value(type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor)


def _replace(value: ir.Value, by: ir.Value) -> None:
    """Use ``by`` in place of an initializer or the output of a Constant node, and remove that."""
    graph, node = value.graph, value.producer()
    value.replace_all_uses_with(by, replace_graph_outputs=True)
    if node is not None:
        assert node.graph is not None
        node.graph.remove(node, safe=True)
    elif isinstance(graph, ir.Graph) and value.name is not None:
        del graph.initializers[value.name]


# Steps


def _raise_ir_version(model: ir.Model) -> ir.Model:
    """Bring the IR version into the range: below 4, every initializer has to be an input."""
    model.ir_version = min(max(model.ir_version or 0, IR_VERSIONS[0]), IR_VERSIONS[-1])
    return model


def _lift_constants(model: ir.Model) -> ir.Model:
    common.TopologicalSortPass()(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.RemoveUnusedOpsetsPass()(model)
    return model


def _convert_opset(model: ir.Model) -> ir.Model:
    opset = model.opset_imports.get("", 1)
    target = min(max(opset, OPSETS[0]), OPSETS[-1])
    return _with_interface(convert_opset(model, target), model)


def _spell_out_transposes(model: ir.Model) -> ir.Model:
    """Give each Transpose the permutation that is the default: onnxsim stops at its absence."""
    short = [n for n in model.graph if n.op_type == "Transpose" and "perm" not in n.attributes]
    if not short:
        return model
    ranks = {
        value.name: value.shape.rank()
        for node in _infer_shapes(model).graph
        for value in node.inputs
        if value is not None and value.shape is not None
    }
    for node in short:
        source = node.inputs[0]
        rank = ranks.get(source.name) if source is not None else None
        if rank is not None:
            node.attributes["perm"] = ir.AttrInt64s("perm", range(rank)[::-1])
    return model


def _simplify(model: ir.Model) -> ir.Model:
    return _onnxsim(model, optimize=True)


def _fold_constants(model: ir.Model) -> ir.Model:
    return _onnxsim(model, optimize=False)


def _onnxsim(model: ir.Model, optimize: bool) -> ir.Model:
    opset = model.opset_imports.get("", 1)
    simplified = through_proto(
        model,
        lambda proto: run_onnxsim(proto, optimize),
        hidden=lambda node: not is_standard(node, opset),
    )
    return _with_interface(simplified, model)


def _infer_shapes(model: ir.Model) -> ir.Model:
    inferred = onnx.shape_inference.infer_shapes(to_proto(model), data_prop=True)
    return _with_interface(from_proto(inferred), model)


def _with_interface(model: ir.Model, original: ir.Model) -> ir.Model:
    """Give inputs and outputs what a proto does not hold again; their names must be as before."""
    for now, before in (
        (model.graph.inputs, original.graph.inputs),
        (model.graph.outputs, original.graph.outputs),
    ):
        if [value.name for value in now] != [value.name for value in before]:
            raise ValueError("the names of inputs or outputs changed")
        for value, old in zip(now, before, strict=True):
            value.type, value.shape, value.const_value = old.type, old.shape, old.const_value
            value.meta.update(old.meta)
    return model


# Static shapes


def _frozen_shape(
    value: ir.Value, batch: int, names: set[str], shapes: Mapping[str, Sequence[int]]
) -> ir.Shape | None:
    if (given := shapes.get(value.name or "")) is not None:
        return ir.Shape(given)
    if value.shape is None:
        return None
    dims = enumerate(value.shape)
    return ir.Shape([batch if is_batch(dim, axis, names) else dim for axis, dim in dims])


def _named_shape(value: ir.Value, batch: int, names: set[str]) -> ir.Shape | None:
    """Return the shape of an output, whose first axis may be of another length than the batch."""
    if value.shape is None:
        return None
    named = (isinstance(dim, ir.SymbolicDim) and dim.value in names for dim in value.shape)
    dims = zip(value.shape, named, strict=True)
    return ir.Shape([batch if is_named else dim for dim, is_named in dims])


def _set_output_shapes(model: ir.Model, check: Equivalence) -> None:
    """Give the outputs the shapes they had in the run, if the inputs left no choice in it."""
    shapes = [value.shape for value in model.graph.inputs]
    static = all(shape is not None and all(map(is_known, shape)) for shape in shapes)
    if check.outputs is None or not static:
        return
    for value, array in zip(model.graph.outputs, check.outputs, strict=True):
        if isinstance(array, np.ndarray):
            value.shape = ir.Shape(array.shape)
