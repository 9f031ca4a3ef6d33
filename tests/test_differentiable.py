"""Rewritten operators compute the same and have the gradient that finite differences show.

Each case is a small graph. Without its rule, onnxruntime-training has no gradient for it, a wrong
one, or dies: that is measured too, in a process of its own, so that no rule outlives its reason.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from gradient_checks import TOLERANCE, measured_error, proto_of, run
from operator_cases import CASES

from onnx_unipts.graph.differentiable import RULES, make_differentiable


@pytest.mark.parametrize("name", CASES)
def test_a_rewritten_operator_computes_the_same(name):
    case = CASES[name]
    proto = proto_of(case, case.body)
    model = ir.from_proto(proto)
    make_differentiable(model)
    before, after = run(proto, case.values), run(ir.to_proto(model), case.values)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5 * max(1, abs(before).max()))


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_of_a_rewritten_operator_is_right(name):
    assert measured_error(CASES[name], rewrite=True) < TOLERANCE


def needs_its_rule(name: str) -> bool:
    """Behind step functions the builder lets no gradient pass, with or without a rule."""
    return CASES[name].broken and not name.endswith("passes-no-gradient")


@pytest.mark.parametrize("name", [name for name in CASES if needs_its_rule(name)])
def test_without_the_rule_the_gradient_is_missing_or_wrong(name):
    error = in_a_child(lambda: measured_error(CASES[name], rewrite=False))
    assert error is None or not error < 5 * TOLERANCE


def in_a_child(function: Callable[[], float]) -> float | None:
    """Return what ``function`` returns in a process of its own, None if it fails or dies."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("needs fork, as a case is not worth the start of an interpreter")
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def work() -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        sender.send(function())

    process = context.Process(target=work, daemon=True)
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        return None
    finally:
        process.join()


def test_every_rule_has_a_case():
    bodies = " ".join(case.body for case in CASES.values())
    called = {word.lstrip(",") for word in bodies.split()}
    assert [name for name in RULES if name not in called] == []


def test_every_rule_says_what_the_operator_becomes():
    assert all((rule.__doc__ or "").splitlines()[0].strip() for rule in RULES.values())
