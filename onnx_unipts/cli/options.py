"""Options that commands share, in groups."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from onnx_unipts.cli.arguments import (
    DataArguments,
    MethodArguments,
    RunArguments,
    ShowArguments,
    StorageArguments,
    WeightArguments,
    WritingArguments,
)
from onnx_unipts.cli.command import Decorator, Numbers, PluginName, Share, option

__all__ = [
    "VERBOSE",
    "compression_options",
    "data_options",
    "method_options",
    "model_argument",
    "output_option",
    "pair_options",
    "run_options",
    "show_options",
    "storage_options",
    "weight_options",
]

VERBOSE = "onnx_unipts.verbose"


def model_argument(name: str = "model") -> Decorator:
    """Return the decorator that adds the path of a model file that exists."""
    return click.argument(name, type=click.Path(exists=True, dir_okay=False, path_type=Path))


def output_option(help: str) -> Decorator:
    """Return the decorator that adds the path of the file to write."""
    return option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        metavar="FILE",
        heading="Output",
        help=help,
    )


def _verbose(ctx: click.Context, parameter: click.Parameter, value: bool) -> bool:
    ctx.meta[VERBOSE] = value
    return value


def _formats() -> Iterable[str]:
    from onnx_unipts.export import FORMATS

    return FORMATS


def _encodings() -> Iterable[str]:
    from onnx_unipts.graph.packing import choices

    return choices()


def _shares(
    ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, float]:
    """Return the number behind the last equals sign of each value by what stands before it."""
    shares = {}
    for value in values:
        pattern, equals, number = value.rpartition("=")
        try:
            shares[pattern] = float(number)
        except ValueError:
            equals = ""
        if not equals or not pattern:
            raise click.BadParameter(f"{value!r} is not REGEX=SHARE, as in '^head=0.5'")
    return shares


def _group(name: str, arguments: type, *decorators: Decorator) -> Decorator:
    """Add options whose values reach the command together, as ``name``: an ``arguments`` object."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_object(**values: Any) -> Any:
            own = {field.name: values.pop(field.name) for field in fields(arguments)}
            return command(**{name: arguments(**own)}, **values)

        decorated: Callable[..., Any] = with_object
        for decorator in reversed(decorators):
            decorated = decorator(decorated)
        return decorated

    return decorate


_data = functools.partial(option, heading="Data")
_method = functools.partial(option, heading="Method")
eval_data_option = option(
    "--eval-data",
    metavar="SOURCE",
    heading="Data",
    help="Data to measure on, else the calibration data; labels give the accuracy.",
)
_run = functools.partial(option, heading="Run")
_show = functools.partial(option, heading="Output")
data_options = _group(
    "inputs",
    DataArguments,
    _data(
        "--data",
        metavar="SOURCE",
        help="Calibration data: a directory of images (one subdirectory per class carries labels), "
        "x.npz with one array per input name, x.npy, x.csv, .wav files, x.txt with a tokenizer, or "
        "script.py:function. Without it, or as 'synthetic', inputs are made up, at a loss of "
        "accuracy.",
    ),
    _data(
        "--preprocessing",
        "preset",
        metavar="NAME",
        help="How pixels become values: imagenet, imagenet-tf, cifar10, zero-one, minus-one-one or "
        "zero-255; default: zero-one.",
    ),
    _data("--mean", type=Numbers(), metavar="X,X,X", help="Subtracted from pixels of 0 to 1."),
    _data("--std", type=Numbers(), metavar="X,X,X", help="Divides pixels after the mean."),
    _data(
        "--channel-order",
        type=click.Choice(["rgb", "bgr"]),
        help="Order in which the model takes the channels of images; default: rgb.",
    ),
    _data(
        "--resize", type=click.IntRange(1), metavar="N", help="Resize the shorter side to N pixels."
    ),
    _data(
        "--crop", type=click.IntRange(1), metavar="N", help="Cut out the centre of N x N pixels."
    ),
    _data(
        "--layout",
        type=click.Choice(["nchw", "nhwc"]),
        help="Axes of images; read from the model if not given.",
    ),
    _data(
        "--tokenizer",
        metavar="FILE",
        help="tokenizer.json for a text; default: the one beside the text.",
    ),
    _data(
        "--input-shape",
        multiple=True,
        metavar="NAME:1,3,224,224",
        help="Shape of an input with dynamic axes; repeat for several inputs.",
    ),
)
_WEIGHTS = (
    _method(
        "--exclude",
        multiple=True,
        metavar="REGEX",
        help="Leave the weights whose name matches; may be repeated.",
    ),
    _method(
        "--include",
        multiple=True,
        type=click.Choice(["optional", "quantised", "recurrent"]),
        help="Prune these kinds of weights, too; may be repeated.",
    ),
    _method(
        "--only",
        multiple=True,
        metavar="REGEX",
        help="Prune only the weights whose name matches; may be repeated.",
    ),
)
weight_options = _group("weights", WeightArguments, *_WEIGHTS)
method_options = _group(
    "method",
    MethodArguments,
    _method(
        "--sparsity",
        type=Share(),
        metavar="SHARE",
        help="Share of the weights to set to zero, between 0 and 1, e.g. 0.9 or 90%.",
    ),
    _method(
        "--recipe",
        default="unipts",
        show_default=True,
        metavar="NAME|FILE",
        help="The method with its settings; see 'onnx-unipts recipes'.",
    ),
    _method(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Change one setting of the recipe, e.g. training.momentum=0.95; may be repeated.",
    ),
    _method(
        "--allocation",
        metavar="NAME|FILE",
        help="How sparsity is shared out among layers: auto, tempered-lamp, evolutionary, "
        "sensitivity, fitted-sensitivity, lamp, erk, global, uniform, or an allocation.json.",
    ),
    _method(
        "--pattern",
        metavar="NAME",
        help="Which weights may be zero together: unstructured, N:M (such as 2:4), blocks of "
        "outputs x inputs (such as 4x1), or channel, which cuts whole channels out.",
    ),
    _method(
        "--eliminate-dead-channels/--no-eliminate-dead-channels",
        default=None,
        help="Remove channels that nothing depends on after training; the outputs stay the same. "
        "Default: where a quarter of them or more would go, but not with N:M and blocks, which "
        "would fall apart, nor in dense format, where all weights keep their shapes.",
    ),
    *_WEIGHTS,
    _method(
        "--layer-sparsity",
        multiple=True,
        callback=_shares,
        metavar="REGEX=SHARE",
        help="Sparsity of the weights whose name matches, e.g. '^head=0.5'; the others make up for "
        "it; may be repeated.",
    ),
    _method("--epochs", type=int, metavar="N", help="Passes of training over the data."),
    _method("--lr", type=float, metavar="X", help="Peak learning rate."),
    _method(
        "--loss",
        multiple=True,
        metavar="OUTPUT=kl|mse",
        help="How an output is compared, if not as its shape says; may be repeated.",
    ),
    _method("--batch-size", type=int, metavar="N", help="Samples per training step."),
    _method("--num-samples", type=int, metavar="N", help="Calibration samples to use; else all."),
    _method("--seed", type=int, metavar="N", help="Random seed; the same seed, the same result."),
)
run_options = _group(
    "run",
    RunArguments,
    _run(
        "--run-dir",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Journal, checkpoints and report; default: <output stem>.run beside the output.",
    ),
    _run("--resume", is_flag=True, help="Go on with the run that was interrupted."),
    _run(
        "--jobs",
        type=click.IntRange(1),
        metavar="N",
        help="Workers of the search and replicas in training; default: one per core.",
    ),
    _run(
        "--backend",
        type=click.Choice(["threading", "loky"]),
        default="threading",
        show_default=True,
        help="Workers of the search: threads, or processes.",
    ),
    _run("--dry-run", is_flag=True, help="Check everything, show what would be pruned, and stop."),
)
storage_options = _group(
    "storage",
    StorageArguments,
    _show(
        "--pack",
        type=PluginName(_encodings),
        default="delta8",
        show_default=True,
        metavar="NAME",
        help="Encoding of packed weights: delta8, which loads fastest, bitmask, nibble, or "
        "smallest, the best of all for each weight.",
    ),
    _show(
        "--values",
        type=click.Choice(["stored", "float16"]),
        default="stored",
        show_default=True,
        help="Values of packed weights: as the model stores them, or rounded to half precision.",
    ),
)
format_option = _show(
    "--format",
    "file_format",
    type=PluginName(_formats),
    metavar="NAME",
    help="How zeros are stored: packed (the default: small, unpacked by any runtime when it loads "
    "the model), dense, sparse-initializer (onnxruntime only), or ort (for onnxruntime mobile, "
    "with its operator configuration).",
)
writing_options = _group(
    "writing",
    WritingArguments,
    _show(
        "--quantize",
        type=click.Choice(["int8"]),
        help="Quantise the sparse model on the calibration data before it is stored: weights and "
        "activations in 8 bits, zeros stay zero.",
    ),
    _show(
        "--save-recipe",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Write the recipe with all settings, for --recipe; that of a --sweep has no sparsity.",
    ),
    _show(
        "--report",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Copy report.html and report.json of the run to this directory.",
    ),
)
show_options = _group(
    "show",
    ShowArguments,
    _show("--json", is_flag=True, help="Print JSON, and nothing else, on standard output."),
    _show("-q", "--quiet", is_flag=True, help="No progress and no tables."),
    _show(
        "-v",
        "--verbose",
        is_flag=True,
        is_eager=True,
        callback=_verbose,
        help="Show the traceback of an error.",
    ),
)


def pair_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what commands take that compare two models: DENSE, SPARSE, their inputs, the output."""
    decorators = (model_argument("dense"), model_argument("sparse"), show_options, data_options)
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


def compression_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every command that writes a sparse model."""
    output = output_option(
        "The sparse model; default: <model stem>.sparse.onnx beside the model, or .sparse.ort."
    )
    options = (
        output, format_option, storage_options, writing_options, show_options, method_options,
        data_options, eval_data_option, run_options,
    )  # fmt: skip
    for decorator in reversed(options):
        command = decorator(command)
    return command
