"""Which runtimes gain from what was done to a model: a sentence for everything that was."""

from __future__ import annotations

import onnx_ir as ir

from onnx_unipts.graph.model import read_tensors
from onnx_unipts.graph.prunable import find_prunable
from onnx_unipts.patterns import Layout, Masking, Pattern, parse_pattern

__all__ = ["gains", "recognized"]

# What is looked for in a model that says nothing of its pattern; the rarer ones first.
RECOGNIZED = ("2:4", "1:4", "4:8", "4x1", "1x4", "2x1", "1x2")
QUANTIZED = (
    "8-bit integers make the file smaller for every runtime, and those faster that have kernels "
    "for them: onnxruntime on a processor with VNNI or dot products takes about half the time"
)


def gains(
    pattern: Pattern,
    *,
    cut: bool = False,
    quantized: str | None = None,
    ratio: float | None = None,
) -> list[str]:
    """Return the sentences for a model of ``pattern``, with channels ``cut`` out, ``quantized``.

    ``ratio`` is what one run takes of the dense model's time, None where that is not measured: it
    is said where something was done that may make this runtime faster.
    """
    sentences = [pattern.gain] if pattern.gain else []
    if cut and not pattern.whole_model:
        sentences.append(parse_pattern("channel").gain)
    if quantized is not None:
        sentences.append(QUANTIZED)
    if ratio is not None and (cut or pattern.whole_model or quantized is not None):
        sentences.append(_measured(ratio))
    return sentences


def _measured(ratio: float) -> str:
    said = f"measured here, one run takes {ratio:.2f} of the dense model's time"
    return said if ratio < 1 else f"{said}: no gain in speed with this runtime on this machine"


def recognized(model: ir.Model) -> Pattern:
    """Return the pattern that all zeros of ``model`` keep to, unstructured where there is none."""
    weights = [weight for weight in find_prunable(model) if weight.pruned]
    tensors = read_tensors(model, [weight.key for weight in weights])
    sparse = [weight for weight in weights if (tensors[weight.key] == 0).any()]
    for name in RECOGNIZED if sparse else ():
        pattern = parse_pattern(name)
        able = [weight for weight in sparse if not pattern.objection(weight)]
        masking = Masking(pattern, {weight.key: Layout.of(weight) for weight in able})
        if able and not any(masking.violation(w.key, tensors[w.key]) for w in able):
            return pattern
    return parse_pattern("unstructured")
