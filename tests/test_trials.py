"""Goals and sweeps: several compressions of one model, the best of which is written."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from compression import UNTRAINED, saved_externally
from small_networks import classifier, images, saved

import onnx_unipts
from onnx_unipts import trials
from onnx_unipts.approach import corrected_sparsity, next_density, next_sparsity
from onnx_unipts.bounds import HIGHEST_SPARSITY, Bounds, bounds_of
from onnx_unipts.cli import main
from onnx_unipts.external_data import data_files
from onnx_unipts.goal import Goal, drop_of, parse_goal
from onnx_unipts.graph.errors import TargetMissedError, UsageError
from onnx_unipts.graph.model import load_model, read_tensors
from onnx_unipts.graph.prunable import find_prunable
from onnx_unipts.recipe import load_recipe

pytestmark = pytest.mark.usefixtures("quick_simplification")

EXAMPLE = Path(__file__).parents[1] / "examples" / "digits"
# Without search and training a trial takes a second.
QUICK = {
    "training.epochs": 0,
    "training.reconstruction": False,
    "allocation.method": "lamp",
    "num_samples": 200,
}
KEPT_WHOLE = {**QUICK, "eliminate_dead_channels": False}
DATA = {"data": EXAMPLE / "calibration.npz", "eval_data": EXAMPLE / "test.npz"}


def call(*arguments: object) -> Result:
    quick = [word for key, value in QUICK.items() for word in ("--set", f"{key}={value}")]
    data = ["--data", DATA["data"], "--eval-data", DATA["eval_data"]]
    words = ["compress", EXAMPLE / "digits.onnx", *data, *quick, *arguments]
    words += ["--no-eliminate-dead-channels"]
    return CliRunner().invoke(main, [str(word) for word in words])


def zeros(path: Path) -> int:
    """Count the zeros of a file, packed or not, in the weights that are pruned."""
    model = load_model(path)
    keys = [weight.key for weight in find_prunable(model) if weight.pruned]
    return sum(int((weight == 0).sum()) for weight in read_tensors(model, keys).values())


@pytest.mark.parametrize(
    ("text", "kind", "limit"),
    [
        ("drop=1%", "drop", 0.01),
        ("drop = 0.02", "drop", 0.02),
        ("size=2MB", "size", 2e6),
        ("size=1.5 MiB", "size", 1.5 * 2**20),
        ("zipped=500kB", "zipped", 5e5),
    ],
)
def test_a_target_is_read(text: str, kind: str, limit: float):
    assert parse_goal(text) == Goal(kind, pytest.approx(limit))


@pytest.mark.parametrize(
    "text", ["speed=2", "drop", "drop=x", "drop=120%", "drop=-1%", "size=2XB", "size=0", "size=MB"]
)
def test_another_target_is_refused(text: str):
    with pytest.raises(UsageError, match="target"):
        parse_goal(text)


def test_a_drop_is_of_agreement_where_there_is_no_accuracy():
    fidelity = {"after_recovery": {"agreement": 0.98, "divergence": 0.1}}
    assert drop_of({"accuracy": None, "fidelity": fidelity}) == pytest.approx(0.02)
    with pytest.raises(UsageError, match="needs class scores"):
        drop_of({"accuracy": None, "fidelity": {"after_recovery": {"agreement": None}}})


def test_a_drop_of_what_is_no_class_score_is_refused_before_any_trial(tmp_path: Path):
    path = saved(classifier(), tmp_path)
    settings = {**UNTRAINED, "training.losses": {"y": "mse"}}
    with pytest.raises(UsageError, match="target drop needs class scores"):
        onnx_unipts.compress_to(path, "drop=1%", data={"x": images()}, settings=settings)
    assert [each.name for each in tmp_path.iterdir()] == ["m.onnx"]


def test_the_highest_sparsity_that_keeps_the_drop_is_found(tmp_path: Path):
    output = tmp_path / "small.onnx"
    result = onnx_unipts.compress_to(
        EXAMPLE / "digits.onnx", "drop=2%", output=output, settings=KEPT_WHOLE, **DATA
    )
    goal, accuracy = result.report["goal"], result.report["accuracy"]
    drops = {trial["sparsity"]: trial["measured"] for trial in goal["trials"]}
    assert goal["sparsity"] == max(s for s, drop in drops.items() if drop <= 0.02)
    assert any(drop > 0.02 for s, drop in drops.items() if s > goal["sparsity"])
    assert accuracy["dense"] - accuracy["after_recovery"] == goal["reached"] <= 0.02
    # The next sparsity that failed is close by.
    worse = min(s for s, drop in drops.items() if drop > 0.02)
    assert (1 - goal["sparsity"]) / (1 - worse) < 1.25
    assert zeros(output) == result.report["sparsity"]["zeros"]
    assert result.report["output"]["path"] == str(output)
    assert json.loads((result.run_dir / "report.json").read_text("utf-8")) == result.report
    assert 'id="goal"' in (result.run_dir / "report.html").read_text("utf-8")


def test_what_does_not_depend_on_the_sparsity_is_done_and_told_once(tmp_path: Path):
    result = call(
        *("-o", tmp_path / "small.onnx", "--sweep", "0.5,0.8"),
        *("--set", "training.epochs=1", "--set", "training.adaptation=5"),
    )
    assert result.exit_code == 0, result.output
    assert result.stderr.count("calibration data: ") == 1
    assert result.stderr.count("adaptation 5/5") == 1
    assert result.stderr.count("epoch 1: accuracy") == 2
    alone = call(
        *("-o", tmp_path / "alone.onnx", "--sparsity", "0.8"),
        *("--set", "training.epochs=1", "--set", "training.adaptation=5"),
    )
    assert alone.exit_code == 0, alone.output
    assert (tmp_path / "alone.onnx").read_bytes() == (tmp_path / "small-0.8.onnx").read_bytes()


def test_another_run_prepares_nothing(tmp_path: Path):
    options = {"output": tmp_path / "first.onnx", "data": DATA["data"]}
    first = onnx_unipts.compress(EXAMPLE / "digits.onnx", sparsity=0.5, settings=QUICK, **options)
    with pytest.raises(UsageError, match=r"holds a run of something else: recipe\.seed was 0"):
        onnx_unipts.compress(
            EXAMPLE / "digits.onnx",
            sparsity=0.8,
            settings={**QUICK, "seed": 1},
            prepared_by=first.run_dir,
            output=tmp_path / "second.onnx",
            data=DATA["data"],
        )


@pytest.mark.parametrize(
    ("drops", "following"),
    [
        ({0.1: 0.005}, 0.05),  # kept: fewer weights
        ({0.1: 0.02}, 0.2),  # not kept: more
        ({0.1: 0.02, 0.2: 0.011, 0.4: 0.012}, np.sqrt(0.4)),
        ({0.1: 0.0025, 0.05: 0.04}, np.sqrt(0.1 * 0.05)),  # drop by the fourth power
        ({0.1: 0.009, 0.05: 0.06}, 0.1 / 1.1),  # no nearer than a tenth
        # What loses nothing, or gains, counts as a tenth of what may be lost.
        ({0.4: 0.0, 0.1: 0.2}, 0.4 * 0.25 ** (np.log(10) / np.log(200))),
        ({0.4: -0.02, 0.1: 0.2}, 0.4 * 0.25 ** (np.log(10) / np.log(200))),
        ({0.1: 0.009, 0.095: 0.011}, None),
        ({0.005: 0.001}, None),  # as sparse as is tried
    ],
)
def test_densities_that_are_tried(drops: dict[float, float], following: float | None):
    density = next_density(drops, Goal("drop", 0.01))
    assert density == (following if following is None else pytest.approx(following))


@pytest.mark.parametrize(
    ("sizes", "following"),
    [
        ({0.9: 2e6}, 0.93),  # too large: fewer weights
        ({0.9: 0.5e6}, 0.87),  # room for more
        ({0.9: 2e6, 0.8: 3e6}, HIGHEST_SPARSITY),  # on the line through both, within bounds
        ({0.9: 0.8e6, 0.8: 1.3e6}, 0.86),
        ({0.9: 0.8e6, 0.8: 1.3e6, 0.1: 9e6}, 0.86),  # of the two that come closest
        ({0.9: 2e6, 0.95: 2e6}, 0.9),  # nothing follows from these
    ],
)
def test_sparsities_that_are_tried_for_a_size(sizes: dict[float, float], following: float):
    assert next_sparsity(sizes, 1e6) == following


@pytest.mark.parametrize(
    ("sizes", "following"),
    [
        ({0.9: 990e3}, None),  # as large as may be
        ({0.9: 0.95e6}, None),  # hardly worth another trial
        ({0.9: 0.5e6}, 0.802),  # twice the weights have room
        ({0.9: 1.1e6}, 0.91),  # too large: fewer weights
        ({0.9: 0.5e6, 0.8: 1.1e6}, 0.818),  # on the line through both
        ({0.9: 0.5e6, 0.8: 0.7e6}, 0.655),
        ({0.9: 1.2e6, 0.92: 1.1e6}, 0.942),
        ({0.9: 0.98e6, 0.895: 1.1e6}, None),
        ({0.995: 2e6}, None),  # as sparse as is tried
    ],
)
def test_sparsities_that_are_tried_behind_a_trial_for_a_size(
    sizes: dict[float, float], following: float | None
):
    assert corrected_sparsity(sizes, Goal("size", 1e6)) == following


def test_a_file_that_came_out_smaller_than_asked_is_made_less_sparse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trials, "SIZE_ESTIMATES", 0)
    monkeypatch.setattr(trials, "SIZE_TRIALS", 2)
    path = saved(classifier(), tmp_path)
    options = {"data": {"x": images()}, "settings": UNTRAINED | {"pattern": "channel"}}
    goal = onnx_unipts.compress_to(path, "size=2kB", **options).report["goal"]
    first, second = goal["trials"]
    assert first["measured"] < second["measured"] == goal["reached"] <= 2000
    assert first["sparsity"] > second["sparsity"] == goal["sparsity"]


def test_a_drop_on_calibration_data_is_warned_of(tmp_path: Path):
    result = onnx_unipts.compress_to(
        EXAMPLE / "digits.onnx",
        "drop=90%",
        output=tmp_path / "small.onnx",
        data=DATA["data"],
        settings=QUICK,
        sparsity=0.99,
    )
    assert "on which the model was trained" in result.report["warnings"][-1]


def test_a_file_becomes_as_small_as_asked_once_zipped(tmp_path: Path):
    output = tmp_path / "small.onnx"
    result = call("-o", output, "--target", "zipped=30kB", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert 25_000 < report["output"]["bytes_zipped"] <= 30_000
    assert report["goal"]["sparsity"] == report["sparsity"]["target"]


def test_a_target_out_of_reach_ends_with_its_own_exit_code(tmp_path: Path):
    output = tmp_path / "small.onnx"
    result = call("-o", output, "--target", "zipped=500B")
    assert result.exit_code == TargetMissedError.exit_code == 5
    assert "allow a larger file" in result.stderr
    assert not output.exists()


def test_a_dense_file_has_no_smaller_size(tmp_path: Path):
    result = call("-o", tmp_path / "small.onnx", "--format", "dense", "--target", "size=30kB")
    assert result.exit_code == 2
    assert "--target zipped=" in result.stderr


@pytest.mark.parametrize(
    ("settings", "options", "target"),
    [
        ({"pattern": "channel"}, {}, "size=2kB"),
        ({"eliminate_dead_channels": True}, {}, "size=3kB"),
        ({}, {"quantize": "int8"}, "size=5kB"),
    ],
)
def test_a_dense_file_that_loses_channels_or_bits_has_a_smaller_size(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    options: dict[str, Any],
    target: str,
):
    monkeypatch.setattr(trials, "SIZE_ESTIMATES", 0)
    path = saved(classifier(), tmp_path)
    options |= {"data": {"x": images()}, "settings": UNTRAINED | settings, "format": "dense"}
    result = onnx_unipts.compress_to(path, target, sparsity=0.95, **options)
    goal = result.report["goal"]
    assert goal["limit"] / 5 < goal["reached"] <= goal["limit"]


def test_no_more_channels_are_removed_than_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trials, "SIZE_ESTIMATES", 0)
    path = saved(classifier(), tmp_path)
    settings = {**UNTRAINED, "pattern": "channel"}
    # Two spaces of 8 channels: 1 of each leaves 3 * 9 + 9 + 4 of 824 weights.
    assert bounds_of(path, load_recipe("unipts").with_settings(settings)).highest == 0.951
    told = r"0\.951 is the highest that removing channels reaches"
    with pytest.raises(TargetMissedError, match=told):
        onnx_unipts.compress_to(
            path, "size=100B", sparsity=0.96, data={"x": images()}, settings=settings
        )


def test_a_sweep_makes_every_model_and_a_page(tmp_path: Path):
    result = call("-o", tmp_path / "small.onnx", "--sweep", "0.5,0.8", "--json")
    assert result.exit_code == 0, result.output
    runs = json.loads(result.stdout)["runs"]
    assert [run["name"] for run in runs] == ["0.5", "0.8"]
    for run, sparsity in zip(runs, (0.5, 0.8), strict=True):
        assert run["sparsity"] == pytest.approx(sparsity, abs=1e-4)
        assert zeros(tmp_path / f"small-{sparsity}.onnx") == np.floor(33_424 * sparsity)
        assert (tmp_path / f"small-{sparsity}.run" / "report.html").is_file()
    page = (tmp_path / "small.sweep.html").read_text("utf-8")
    assert "What sparsity costs" in page


@pytest.mark.parametrize("options", [("--sparsity", "0.5"), ("--target", "drop=1%")])
def test_a_sweep_takes_no_other_sparsity(tmp_path: Path, options: tuple[str, str]):
    result = call("-o", tmp_path / "small.onnx", "--sweep", "0.5,0.8", *options)
    assert result.exit_code == 2
    assert "--sweep gives the sparsities" in result.stderr


@pytest.mark.parametrize("shares", ["0.5,1.5", "0.5,0.5", "0"])
def test_a_sweep_needs_different_shares(tmp_path: Path, shares: str):
    result = call("-o", tmp_path / "small.onnx", "--sweep", shares)
    assert result.exit_code == 2
    assert "a sweep needs" in result.stderr


def test_a_target_that_is_refused_leaves_the_run_before(tmp_path: Path):
    output = tmp_path / "small.onnx"
    assert call("-o", output, "--sparsity", "0.5").exit_code == 0
    before = sorted(file.name for file in (tmp_path / "small.run").iterdir())
    result = call("-o", output, "--target", "drop=1%", "--data", tmp_path / "missing.npz")
    assert result.exit_code == 2
    assert sorted(file.name for file in (tmp_path / "small.run").iterdir()) == before


def test_a_size_below_that_of_the_highest_sparsity_says_what_was_tried(tmp_path: Path):
    result = call("-o", tmp_path / "small.onnx", "--target", "zipped=500B")
    assert "0.995 is the highest that is tried, --sparsity takes more" in result.stderr


@pytest.mark.parametrize(
    ("drops", "following"),
    [
        ({0.35: 0.005}, None),  # as sparse as can be
        ({0.5: 0.005}, 0.35),
        ({0.35: 0.02}, np.sqrt(0.35)),
        ({0.5: 0.02}, 0.65),  # as dense as can be, and not beyond
        ({0.5: 0.02, 0.65: 0.02}, None),
    ],
)
def test_densities_that_prescribed_layers_allow(drops: dict[float, float], following: float | None):
    density = next_density(
        drops, Goal("drop", 0.01), Bounds(0.35, 0.65, "with the layers as prescribed")
    )
    assert density == (following if following is None else pytest.approx(following))


def test_a_search_stays_within_what_prescribed_layers_leave(tmp_path: Path):
    path = saved(classifier(), tmp_path)
    options: dict[str, Any] = {"data": {"x": images()}, "jobs": 1}
    # 288 zeros of 824 weights, and 248 more at most.
    options["settings"] = {**UNTRAINED, "layer_sparsity": {"w2": 0.5}}
    dropped = onnx_unipts.compress_to(path, "drop=99%", **options)
    assert dropped.report["goal"]["sparsity"] == 0.65
    told = r"sparsity 0\.65 it is .*; 0\.65 is the highest with the layers as prescribed"
    with pytest.raises(TargetMissedError, match=told):
        onnx_unipts.compress_to(path, "zipped=50B", **options)


def test_prescribed_layers_that_leave_nothing_to_search_are_refused(tmp_path: Path):
    settings = {**UNTRAINED, "layer_sparsity": {"w": 0.5}}
    with pytest.raises(UsageError, match=r"make the sparsity 0\.5000, and leave none to search"):
        onnx_unipts.compress_to(saved(classifier(), tmp_path), "drop=1%", settings=settings)


def test_a_sweep_looks_at_every_sparsity_first(tmp_path: Path):
    path = saved(classifier(), tmp_path)
    settings = {**UNTRAINED, "layer_sparsity": {"w2": 0.5}}
    with pytest.raises(UsageError, match=r"sparsity 0\.8 cannot be met"):
        onnx_unipts.sweep(
            path, [0.5, 0.8], data={"x": images()}, settings=settings, save_recipe=tmp_path / "r"
        )
    assert [each.name for each in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("option", [("--target", "drop=1%"), ("--sweep", "0.5,0.8")])
def test_an_allocation_in_a_file_is_for_one_sparsity(tmp_path: Path, option: tuple[str, str]):
    file = tmp_path / "allocation.json"
    file.write_text("{}", encoding="utf-8")
    result = call("-o", tmp_path / "small.onnx", *option, "--allocation", file)
    assert result.exit_code == 2
    assert f"the allocation {file} is for one sparsity; leave the {option[0][2:]}" in result.stderr
    assert list(tmp_path.iterdir()) == [file]
    misspelt = call("-o", tmp_path / "small.onnx", *option, "--allocation", "lampp")
    assert "unknown allocation 'lampp' (did you mean lamp?)" in misspelt.stderr


def test_the_recipe_of_a_goal_is_that_of_its_best_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trials, "DROP_TRIALS", 2)
    path, file = saved(classifier(), tmp_path), tmp_path / "r.yaml"
    options: dict[str, Any] = {"data": {"x": images()}, "settings": UNTRAINED, "jobs": 1}
    result = onnx_unipts.compress_to(path, "drop=30%", sparsity=0.95, save_recipe=file, **options)
    goal = result.report["goal"]
    assert [trial["sparsity"] for trial in goal["trials"]] == [0.95, 0.975]
    assert load_recipe(file).sparsity == goal["sparsity"] == 0.95
    with pytest.raises(UsageError, match=r"--save-recipe .* is the model itself"):
        onnx_unipts.compress_to(path, "drop=30%", save_recipe=path, **options)


def test_the_recipe_of_a_sweep_has_no_sparsity(tmp_path: Path):
    path, file = saved(classifier(), tmp_path), tmp_path / "r.yaml"
    options: dict[str, Any] = {"data": {"x": images()}, "settings": UNTRAINED, "dry_run": True}
    onnx_unipts.sweep(path, [0.5, 0.7], save_recipe=file, **options)
    assert load_recipe(file).sparsity is None
    assert load_recipe(file).training.epochs == 0
    with pytest.raises(UsageError, match=r"--save-recipe .* is the model itself"):
        onnx_unipts.sweep(path, [0.5, 0.7], save_recipe=path, **options)


def test_a_size_is_that_of_the_written_file_with_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(trials, "SIZE_ESTIMATES", 0)
    monkeypatch.setattr(trials, "SIZE_TRIALS", 1)
    path, output = saved_externally(classifier(), tmp_path), tmp_path / "a-long-name.onnx"
    options: dict[str, Any] = {"data": {"x": images()}, "settings": UNTRAINED, "output": output}
    options["format"] = "dense"
    result = onnx_unipts.compress_to(path, "zipped=1MB", **options)
    (trial,) = result.report["goal"]["trials"]
    size = sum(len(zlib.compress(file.read_bytes())) for file in (output, *data_files(output)))
    assert trial["measured"] < size == result.report["goal"]["reached"]
    before = output.read_bytes()
    limit = Goal("zipped", trial["measured"])
    with pytest.raises(TargetMissedError, match=r"give a shorter name than a-long-name\.onnx"):
        onnx_unipts.compress_to(path, limit, run_dir=tmp_path / "again", **options)
    assert output.read_bytes() == before
