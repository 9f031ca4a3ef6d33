"""Ten wrong uses, each with a message that names the mistake and the fix."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from small_networks import network, perceptron, saved

from onnx_unipts.cli import main
from onnx_unipts.recipe import load_recipe

SHARED = Path(__file__).parents[2] / "shared"
DIGITS = Path(__file__).parents[1] / "examples" / "digits"
RESNET = SHARED / "models" / "cifar10" / "resnet20_folded.onnx"
CIFAR = SHARED / "data" / "cifar10" / "calibration"
needs_shared = pytest.mark.skipif(not RESNET.exists(), reason="needs the shared models")


def said(*arguments: object) -> str:
    """Return what a dry run tells on standard error, in one line."""
    result = CliRunner().invoke(
        main, ["compress", *map(str, arguments), "--sparsity", "0.5", "--dry-run", "--json"]
    )
    return " ".join(result.stderr.split())


@pytest.fixture(scope="module")
def fruit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that tells red from green, given pixels of -1..1, and images of both."""
    folder = tmp_path_factory.mktemp("fruit")
    weights = np.array([[9, -9, 0], [-9, 9, 0], [0, 0, 0]], np.float32)
    # The third class is what is neither.
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "w", "b"], ["c"]),
            helper.make_node("GlobalAveragePool", ["c"], ["p"]),
            helper.make_node("Flatten", ["p"], ["scores"]),
        ],
        "fruit",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3])],
        [
            numpy_helper.from_array(weights[:, :, None, None], "w"),
            numpy_helper.from_array(np.array([0, 0, 2], np.float32), "b"),
        ],
    )
    proto = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(proto, folder / "fruit.onnx")
    rng = np.random.default_rng(0)
    for number in range(80):
        label = number % 2
        pixels = rng.integers(0, 60, (8, 8, 3), np.uint8)
        pixels[:, :, label] += 150
        path = folder / "images" / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


def test_right_preprocessing_raises_no_doubt(fruit: Path):
    told = said(fruit / "fruit.onnx", "--data", fruit / "images", "--preprocessing", "imagenet-tf")
    assert "in 2 classes" in told
    assert "mean 0.5, std 0.5 (imagenet-tf)" in told
    assert "image: float32 of 3x8x8, values -1 to 0.6" in told
    assert "Warning" not in told


def test_a_wrong_mean_and_std(fruit: Path):
    told = said(fruit / "fruit.onnx", "--data", fruit / "images", "--mean", "0.9", "--std", "4")
    assert "makes more of the data with --preprocessing" in told
    assert "is the preprocessing right?" in told


def test_swapped_channels(fruit: Path):
    told = said(
        fruit / "fruit.onnx", "--data", fruit / "images", "--preprocessing", "imagenet-tf",
        "--channel-order", "bgr",
    )  # fmt: skip
    assert "makes more of the data with --channel-order rgb" in told
    assert "is the preprocessing right?" in told


def test_larger_values_that_only_make_the_model_surer_are_no_doubt(tmp_path: Path):
    model = onnx.load(DIGITS / "digits.onnx")
    for tensor in model.graph.initializer:
        if tensor.name.startswith("classifier"):
            softer = numpy_helper.to_array(tensor) * np.float32(0.2)
            tensor.CopyFrom(numpy_helper.from_array(softer, tensor.name))
    onnx.save(model, tmp_path / "softer.onnx")
    told = said(tmp_path / "softer.onnx", "--data", DIGITS / "calibration.npz")
    assert "values 0 to 1" in told
    assert "Warning" not in told


@needs_shared
@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        # The values of imagenet and cifar10 are too close for a few samples to tell them apart.
        ([], "--preprocessing (imagenet|cifar10)"),
        (["--preprocessing", "minus-one-one"], "--preprocessing (imagenet|cifar10)"),
        (["--preprocessing", "zero-255"], "--preprocessing (imagenet|cifar10)"),
        (["--preprocessing", "imagenet", "--channel-order", "bgr"], "--channel-order rgb"),
        (["--preprocessing", "imagenet"], None),
    ],
)
def test_preprocessing_of_a_real_model(options: list[str], remedy: str | None):
    told = said(RESNET, "--data", CIFAR, "--num-samples", 512, *options)
    if remedy is None:
        assert "Warning" not in told
    else:
        assert re.search(f"more of the data with {remedy}: on 512 samples", told)


def test_a_wrong_layout(fruit: Path, tmp_path: Path):
    told = said(fruit / "fruit.onnx", "--data", fruit / "images", "--layout", "nhwc")
    assert "--layout nhwc contradicts the model's input image (float32 [N, 3, 8, 8])" in told
    assert "leave --layout out" in told
    np.save(tmp_path / "x.npy", np.zeros((64, 8, 8, 3), np.float32))
    told = said(fruit / "fruit.onnx", "--data", tmp_path / "x.npy")
    assert "has shape [64, 8, 8, 3], expected [N, 3, 8, 8]" in told
    assert "array.transpose(0, 3, 1, 2) would fit" in told


def test_a_missing_option(fruit: Path):
    result = CliRunner().invoke(main, ["compress", str(fruit / "fruit.onnx")])
    assert result.exit_code == 2
    assert "--sparsity is missing; give a share such as --sparsity 0.9" in result.stderr


def test_a_misspelt_option(fruit: Path):
    result = CliRunner().invoke(main, ["compress", str(fruit / "fruit.onnx"), "--sparcity", "0.5"])
    assert result.exit_code == 2
    assert "No such option" in result.stderr
    assert "--sparsity" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--recipe", "unipst"], "unknown recipe 'unipst' (did you mean unipts?)"),
        (["--allocation", "evolutionry"], "did you mean evolutionary?"),
        (["--preprocessing", "imagnet"], "unknown preprocessing preset 'imagnet' (did you mean"),
        (["--set", "preprocessing.man=[0.5]"], "did you mean preprocessing.mean?"),
    ],
)
def test_an_unknown_name(fruit: Path, options: list[str], message: str):
    assert message in said(fruit / "fruit.onnx", *options)


def test_a_wrong_dtype(fruit: Path, tmp_path: Path):
    np.save(tmp_path / "x.npy", np.zeros((64, 3, 8, 8), np.int64))
    told = said(fruit / "fruit.onnx", "--data", tmp_path / "x.npy")
    assert "input 'image' has dtype int64, expected float32; convert the array with" in told
    np.save(tmp_path / "x.npy", np.zeros((64, 3, 8, 8), np.uint8))
    assert "normalise the pixels as in training" in said(
        fruit / "fruit.onnx", "--data", tmp_path / "x.npy"
    )


@pytest.mark.parametrize("shift", [1, -1])
def test_labels_off_by_one(tmp_path: Path, shift: int):
    data = dict(np.load(DIGITS / "calibration.npz"))
    test = dict(np.load(DIGITS / "test.npz"))
    test["labels"] = np.clip(test["labels"] - shift, 0, 9)
    np.savez(tmp_path / "test.npz", **test)
    np.savez(tmp_path / "data.npz", **data)
    told = said(
        DIGITS / "digits.onnx", "--data", tmp_path / "data.npz", "--eval-data",
        tmp_path / "test.npz",
    )  # fmt: skip
    assert "evaluation data: the labels are off by one" in told
    assert f"with 1 {'added to' if shift == 1 else 'taken from'} every label" in told
    assert "give them in labels.csv, or correct the array of labels" in told


def test_labels_in_another_order_and_out_of_range(tmp_path: Path):
    test = dict(np.load(DIGITS / "test.npz"))
    labels = test["labels"]
    test["labels"] = labels + 5
    np.savez(tmp_path / "test.npz", **test)
    told = said(DIGITS / "digits.onnx", "--data", tmp_path / "test.npz")
    assert "the labels are 5 to 14, but the dense model has 10 classes, 0 to 9" in told
    test["labels"] = np.array([3, 6, 0, 8, 1, 9, 2, 5, 4, 7])[labels]
    np.savez(tmp_path / "test.npz", **test)
    assert "in another order than the model's" in said(
        DIGITS / "digits.onnx", "--data", tmp_path / "test.npz"
    )


def test_too_small_a_directory(fruit: Path, tmp_path: Path):
    for number in range(3):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / f"{number}.png")
    told = said(fruit / "fruit.onnx", "--data", tmp_path)
    assert "too few samples for one batch: found 3 images" in told
    assert "give more data, or --batch-size 3 or smaller" in told


def test_output_into_a_missing_directory(fruit: Path, tmp_path: Path):
    told = said(fruit / "fruit.onnx", "-o", tmp_path / "missing" / "out.onnx")
    assert f"the directory {tmp_path / 'missing'} does not exist; create it" in told


def test_data_on_which_the_model_answers_one_class_or_nothing_at_all(fruit: Path, tmp_path: Path):
    red = np.full((64, 3, 8, 8), -1, np.float32)
    red[:, 0] = np.random.default_rng(0).uniform(0, 1, (64, 1, 1))
    np.save(tmp_path / "x.npy", red)
    told = said(fruit / "fruit.onnx", "--data", tmp_path / "x.npy")
    assert "the dense model answers class 0 for all of 64 samples; likely causes are" in told
    np.save(tmp_path / "x.npy", np.zeros((64, 3, 8, 8), np.float32))
    told = said(fruit / "fruit.onnx", "--data", tmp_path / "x.npy")
    assert "output 'scores' is the same for all of 64 samples" in told
    assert "which are fed as they are" in told
    assert "--channel-order" not in told
    for number in range(32):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / f"{number}.png")
    told = said(fruit / "fruit.onnx", "--data", tmp_path, "--batch-size", "8")
    assert "output 'scores' is the same for all of 32 samples" in told
    assert "--channel-order" in told


def test_values_that_rise_and_fall_together_are_hardly_scores(tmp_path: Path):
    rng = np.random.default_rng(0)
    tensors = {"w": rng.standard_normal((6, 4)).astype(np.float32)}
    text = "net (float[N,6] x) => (float[N,4] y) {{ y = MatMul (x, {}) }}"
    np.save(tmp_path / "x.npy", rng.standard_normal((64, 6)).astype(np.float32))
    tensors["w"] -= tensors["w"].mean(axis=1, keepdims=True)
    scores = saved(network(text.format("w"), tensors), tmp_path, "scores.onnx")
    assert "rise and fall together" not in said(scores, "--data", tmp_path / "x.npy")
    tensors["w"] += 3 * rng.standard_normal((6, 1)).astype(np.float32)
    levels = saved(network(text.format("w"), tensors), tmp_path, "levels.onnx")
    told = said(levels, "--data", tmp_path / "x.npy")
    assert "but its values rise and fall together from sample to sample" in told
    assert "compress with --loss y=mse" in told
    assert "--loss" not in said(levels, "--data", tmp_path / "x.npy", "--loss", "y=mse")


def test_values_that_stand_for_missing_ones(tmp_path: Path):
    model = saved(perceptron(), tmp_path)
    x = np.random.default_rng(0).standard_normal((200, 10)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    assert "missing" not in said(Path(model), "--data", tmp_path / "x.npy")
    x[150, 3] = x[170, 1] = 1e20
    np.save(tmp_path / "x.npy", x)
    told = said(Path(model), "--data", tmp_path / "x.npy")
    assert "input 'x' holds 1e+20 (sample 150; 2 such in all): if that stands for a missing" in told
    x[:, 2] = -1e20  # a mask
    np.save(tmp_path / "x.npy", x)
    assert "missing" not in said(Path(model), "--data", tmp_path / "x.npy")


def test_a_model_hardly_surer_than_chance(fruit: Path, tmp_path: Path):
    grey = np.random.default_rng(0).normal(0, 0.01, (64, 10)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["scores"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 10])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(np.random.default_rng(1).normal(size=(10, 10)).astype("f"), "w")],
    )
    proto = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(proto, tmp_path / "linear.onnx")
    np.save(tmp_path / "x.npy", grey)
    told = said(tmp_path / "linear.onnx", "--data", tmp_path / "x.npy")
    assert "hardly surer than chance: its top class gets 10." in told
    assert "if 'scores' holds no scores of classes, compress with --loss scores=mse" in told


def test_preprocessing_in_a_recipe_is_that_of_the_options(fruit: Path, tmp_path: Path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("preprocessing:\n  preset: imagenet-tf\n  channel_order: bgr\n")
    told = said(fruit / "fruit.onnx", "--data", fruit / "images", "--recipe", recipe)
    assert "NCHW, BGR, mean 0.5, std 0.5 (imagenet-tf)" in told
    told = said(
        fruit / "fruit.onnx", "--data", fruit / "images", "--recipe", recipe, "--channel-order",
        "rgb", "--save-recipe", tmp_path / "saved.yaml",
    )  # fmt: skip
    assert "NCHW, mean 0.5, std 0.5 (imagenet-tf)" in told
    saved = load_recipe(tmp_path / "saved.yaml").preprocessing
    assert (saved.preset, saved.channel_order) == ("imagenet-tf", "rgb")


def test_evaluate_looks_at_the_data_too(fruit: Path):
    model = str(fruit / "fruit.onnx")
    options = ["--preprocessing", "imagenet-tf", "--channel-order", "bgr", "--json"]
    result = CliRunner().invoke(
        main, ["evaluate", model, model, "--data", str(fruit / "images"), *options]
    )
    assert "makes more of the data with --channel-order rgb" in result.stderr
    assert any("channel-order rgb" in line for line in json.loads(result.stdout)["warnings"])
