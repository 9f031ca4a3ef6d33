"""Options that commands share, in groups: each group reaches its command as one object."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnx_unipts.cli.defaults import environment_name, given_elsewhere

if TYPE_CHECKING:
    from onnx_unipts.calibration import Preprocessing
    from onnx_unipts.progress import Progress
    from onnx_unipts.recipe import Recipe

__all__ = [
    "Command",
    "DataArguments",
    "MethodArguments",
    "Numbers",
    "RunArguments",
    "ShowArguments",
    "StorageArguments",
    "WeightArguments",
    "data_options",
    "examples",
    "method_options",
    "model_argument",
    "option",
    "output_option",
    "pair_options",
    "run_options",
    "show_options",
    "storage_options",
    "weight_options",
]

VERBOSE = "onnx_unipts.verbose"
COMMAND = "onnx_unipts.command"
PREPROCESSING = (
    "preset", "mean", "std", "channel_order", "resize", "crop", "layout", "tokenizer"
)  # fmt: skip
HEADINGS = ("Method", "Data", "Output", "Run", "Help")

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Command(click.Command):
    """A command whose help shows its options under headings."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Add to the command line for the report what it does not say itself."""
        rest = super().parse_args(ctx, args)
        elsewhere = given_elsewhere(ctx)
        if elsewhere and COMMAND in ctx.meta:
            ctx.meta[COMMAND] += f" {elsewhere}"
        return rest

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section of help per heading."""
        sections: dict[str, list[tuple[str, str]]] = {heading: [] for heading in HEADINGS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if isinstance(parameter, click.Option) and record is not None:
                sections[getattr(parameter, "heading", HEADINGS[-1])].append(record)
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


class Option(click.Option):
    """An option that stands under a ``heading`` of its command's help."""

    def __init__(self, *names: Any, heading: str, **settings: Any) -> None:
        spelt = [name for name in names[0] if name.startswith("-")]
        super().__init__(*names, envvar=environment_name(*spelt), **settings)
        self.heading = heading


class Numbers(click.ParamType):
    """Numbers separated by commas, e.g. ``.485,.456,.406``."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Return the numbers; fail with what was expected."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(number) for number in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as .485,.456,.406", param, ctx)


class Share(click.ParamType):
    """A share between 0 and 1, e.g. ``0.9`` or ``90%``."""

    name = "share"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the share; fail with what was expected."""
        text = str(value).strip()
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            self.fail(f"{text!r} is not a number such as 0.9 or 90%", param, ctx)
        if not 0 < share < 1:
            instead = f"; for {text} percent give {text}%" if 1 < share < 100 else ""
            self.fail(f"{text} is not between 0 and 1{instead}", param, ctx)
        return share


@dataclass(frozen=True)
class DataArguments:
    """Where inputs come from and how they are prepared."""

    data: str | None
    preset: str | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    channel_order: str | None
    resize: int | None
    crop: int | None
    layout: str | None
    tokenizer: str | None
    input_shape: tuple[str, ...]

    def preprocessing(self) -> Preprocessing:
        """Return the preprocessing object. Raises `UsageError`."""
        from onnx_unipts.calibration import Preprocessing

        said: dict[str, Any] = {name: getattr(self, name) for name in PREPROCESSING}
        return Preprocessing(**said)

    def settings(self) -> dict[str, Any]:
        """Return what was said about preprocessing as settings of a recipe."""
        said = {f"preprocessing.{name}": getattr(self, name) for name in PREPROCESSING}
        return {key: value for key, value in said.items() if value is not None}

    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the given shapes by input name. Raises `UsageError`."""
        from onnx_unipts.calibration import parse_input_shapes

        return parse_input_shapes(self.input_shape)

    def keywords(self) -> dict[str, Any]:
        """Return what the functions that compare two models take of it. Raises `UsageError`."""
        return {
            "data": self.data,
            "preprocessing": self.preprocessing(),
            "input_shapes": self.input_shapes(),
        }


@dataclass(frozen=True)
class WeightArguments:
    """Which weights are pruned."""

    exclude: tuple[str, ...]
    include: tuple[str, ...]
    only: tuple[str, ...]


@dataclass(frozen=True)
class MethodArguments(WeightArguments):
    """The recipe, and the options that stand for single settings of it."""

    sparsity: float | None
    recipe: str
    settings: tuple[str, ...]
    pattern: str | None
    eliminate_dead_channels: bool | None
    allocation: str | None
    layer_sparsity: dict[str, float]
    epochs: int | None
    lr: float | None
    loss: tuple[str, ...]
    batch_size: int | None
    num_samples: int | None
    seed: int | None

    def load(self, *, sparsity_needed: bool = True) -> Recipe:
        """Read the recipe and apply every setting.

        Raises `UsageError`, also without a sparsity where it is needed.
        """
        from onnx_unipts.patterns import parse_pattern, target_sparsity
        from onnx_unipts.recipe import load_recipe, parse_settings

        settings = parse_settings(self.settings) | self._shortcuts()
        recipe = load_recipe(self.recipe).with_settings(settings)
        if sparsity_needed:
            target_sparsity(parse_pattern(recipe.pattern), recipe.sparsity)
        return recipe

    def _shortcuts(self) -> dict[str, Any]:
        values = {
            "sparsity": self.sparsity,
            "pattern": self.pattern,
            "eliminate_dead_channels": self.eliminate_dead_channels,
            "allocation.method": self.allocation,
            "exclude": self.exclude or None,
            "include": self.include or None,
            "only": self.only or None,
            "layer_sparsity": self.layer_sparsity or None,
            "training.epochs": self.epochs,
            "training.learning_rate": self.lr,
            "training.losses": self._losses() or None,
            "training.batch_size": self.batch_size,
            "num_samples": self.num_samples,
            "seed": self.seed,
        }
        return {key: value for key, value in values.items() if value is not None}

    def _losses(self) -> dict[str, str]:
        """Return the loss by output: what follows the last equals sign, names may hold others."""
        pairs = (text.rpartition("=") for text in self.loss)
        return {name: loss for name, _, loss in pairs}


@dataclass(frozen=True)
class RunArguments:
    """How a long run is held and resumed."""

    run_dir: Path | None
    resume: bool
    jobs: int | None
    backend: str
    dry_run: bool


@dataclass(frozen=True)
class StorageArguments:
    """How weights are packed."""

    pack: str
    values: str


@dataclass(frozen=True)
class ShowArguments:
    """What the user sees."""

    json: bool
    quiet: bool
    verbose: bool

    def progress(self) -> Progress:
        """Return what shows progress on standard error."""
        from onnx_unipts.progress import make_progress

        return make_progress(quiet=self.quiet)

    def result(self, document: Mapping[str, Any], table: Callable[[Any], None]) -> None:
        """Print ``document`` on standard output: as JSON, as a ``table``, or not at all."""
        if self.json:
            from onnx_unipts.json_text import to_json

            click.echo(to_json(document))
        elif not self.quiet:
            table(document)


def option(*names: str, heading: str, **settings: Any) -> Decorator:
    """Return the decorator that adds an option under ``heading``."""
    return click.option(*names, cls=Option, heading=heading, **settings)


def examples(*pairs: tuple[str, str]) -> str:
    """Return the end of a command's help: what each example does, and its command line."""
    lines = [line for title, command in pairs for line in (f"# {title}", command, "")]
    return "\n".join(["\b", "Examples:", *(f"  {line}" if line else "" for line in lines)]).replace(
        "\n\n", "\n\n\b\n"
    )


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
        "sensitivity, lamp, erk, global, uniform, or an allocation.json.",
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
        "Default: on, but not with N:M and blocks, which would fall apart, nor in dense format, "
        "where all weights keep their shapes.",
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
        type=click.Choice(["delta8", "bitmask", "nibble", "smallest"]),
        default="delta8",
        show_default=True,
        help="Encoding of packed weights: delta8 loads fastest, smallest is the best of all for "
        "each weight.",
    ),
    _show(
        "--values",
        type=click.Choice(["stored", "float16"]),
        default="stored",
        show_default=True,
        help="Values of packed weights: as the model stores them, or rounded to half precision.",
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
