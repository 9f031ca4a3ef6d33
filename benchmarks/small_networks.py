"""What fitting layers first is worth in small networks that see few samples, and what it costs.

Networks are trained here by scikit-learn and compressed by training alone, from fitted layers, and
by default, which rehearses both. They are judged by what they are for, on samples held out.
Prints a table in Markdown.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import onnx
import onnxruntime
from sklearn.datasets import load_digits, make_friedman1
from sklearn.metrics import accuracy_score, r2_score
from sklearn.neural_network import MLPClassifier, MLPRegressor

import onnx_unipts

WAYS = {"training alone": False, "fitted first": True, "by default": None}
HELD_OUT = 500


@dataclass(frozen=True)
class Case:
    """A trained network: its weights and biases, its samples, and how right its outputs are."""

    layers: list[tuple[np.ndarray, np.ndarray]]
    x: np.ndarray
    right: Callable[[np.ndarray], float]


def autoencoder() -> Case:
    """Return a network that makes images of digits from 16 numbers each; R2."""
    x = load_digits().data.astype(np.float32) / 16
    net = MLPRegressor(hidden_layer_sizes=(64, 16, 64), max_iter=200, random_state=0).fit(
        x[HELD_OUT:], x[HELD_OUT:]
    )
    return Case(_layers(net), x, lambda y: r2_score(x[:HELD_OUT].ravel(), y.ravel()))


def regression() -> Case:
    """Return a network that learned a function of ten inputs; R2."""
    x, y = make_friedman1(1500, noise=0.1, random_state=0)
    y = (y - y.mean()) / y.std()
    net = MLPRegressor(hidden_layer_sizes=(96, 96), max_iter=400, random_state=0).fit(
        x[HELD_OUT:], y[HELD_OUT:]
    )
    return Case(_layers(net), x.astype(np.float32), lambda z: r2_score(y[:HELD_OUT], z))


def classifier() -> Case:
    """Return a network that tells digits; accuracy."""
    digits = load_digits()
    x = digits.data.astype(np.float32) / 16
    net = MLPClassifier(hidden_layer_sizes=(96, 64), random_state=0).fit(
        x[HELD_OUT:], digits.target[HELD_OUT:]
    )
    known = digits.target[:HELD_OUT]
    return Case(_layers(net), x, lambda scores: accuracy_score(known, scores.argmax(axis=1)))


CASES = {"autoencoder, R2": autoencoder, "regression, R2": regression, "digits": classifier}


@click.command()
@click.option("--sparsity", "sparsities", type=float, multiple=True, default=(0.8, 0.9))
@click.option("--epochs", type=int, multiple=True, default=(5, 60), show_default=True)
@click.option("--seed", "seeds", type=int, multiple=True, default=(0, 1, 2), show_default=True)
@click.option("--only", multiple=True, help="Cases to measure; else all.")
def main(
    sparsities: tuple[float, ...],
    epochs: tuple[int, ...],
    seeds: tuple[int, ...],
    only: tuple[str, ...],
) -> None:
    """Compress every network in every way; the mean over the seeds, and the seconds of a run."""
    print(f"| network | sparsity | steps | dense | {' | '.join(WAYS)} |", flush=True)
    print("|" + "---|" * (4 + len(WAYS)), flush=True)
    for name, make in CASES.items():
        if only and name not in only:
            continue
        for row in _rows(make(), sparsities, epochs, seeds):
            print(f"| {name} | {' | '.join(row)} |", flush=True)


def _rows(
    case: Case, sparsities: tuple[float, ...], epochs: tuple[int, ...], seeds: tuple[int, ...]
) -> Iterator[list[str]]:
    with tempfile.TemporaryDirectory() as directory:
        model, output = Path(directory, "dense.onnx"), Path(directory, "sparse.onnx")
        onnx.save(_model(case.layers), model)
        dense = case.right(_outputs(model, case.x[:HELD_OUT]))
        for sparsity in sparsities:
            for count in epochs:
                cells = []
                for first in WAYS.values():
                    found = [
                        _compressed(case, model, output, sparsity, count, first, seed)
                        for seed in seeds
                    ]
                    rights, seconds, steps = zip(*found, strict=True)
                    cells.append(f"{np.mean(rights):.3f} ({np.mean(seconds):.0f} s)")
                yield [f"{sparsity:g}", str(steps[0]), f"{dense:.3f}", *cells]


def _compressed(
    case: Case,
    model: Path,
    output: Path,
    sparsity: float,
    epochs: int,
    first: bool | None,
    seed: int,
) -> tuple[float, float, int]:
    report = onnx_unipts.compress(
        model,
        sparsity=sparsity,
        output=output,
        data={"x": case.x[HELD_OUT:]},
        settings={"training.epochs": epochs, "training.reconstruction": first, "seed": seed},
    ).report
    right = case.right(_outputs(output, case.x[:HELD_OUT]))
    return right, report["time"]["total_seconds"], report["training"]["steps"]


def _layers(net: MLPClassifier | MLPRegressor) -> list[tuple[np.ndarray, np.ndarray]]:
    return list(zip(net.coefs_, net.intercepts_, strict=True))


def _model(layers: list[tuple[np.ndarray, np.ndarray]]) -> onnx.ModelProto:
    """Return the network as a model: a Gemm for each layer, a Relu between two."""
    lines, stored, value = [], [], "x"
    for number, (weight, bias) in enumerate(layers):
        names = f"w{number}", f"b{number}"
        stored += zip(names, (weight, bias), strict=True)
        last = number == len(layers) - 1
        made = "y" if last else f"z{number}"
        lines.append(f"{made} = Gemm ({value}, {', '.join(names)})")
        if not last:
            value = f"a{number}"
            lines.append(f"{value} = Relu ({made})")
    inputs, outputs = layers[0][0].shape[0], layers[-1][0].shape[1]
    text = f"net (float[N,{inputs}] x) => (float[N,{outputs}] y) {{ {'; '.join(lines)}; }}"
    header = '<ir_version: 8, opset_import: ["" : 17]>\n'
    model = onnx.parser.parse_model(header + text.replace("; }", " }").replace("; ", "\n"))
    for name, array in stored:
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    return model


def _outputs(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["y"], {"x": x})[0]


if __name__ == "__main__":
    main()
