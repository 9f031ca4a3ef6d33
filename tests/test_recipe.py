"""Recipes are checked key by key, and read back as they were written."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnx_unipts.graph.errors import UsageError
from onnx_unipts.recipe import Recipe, Training, list_recipes, load_recipe, parse_settings


@pytest.mark.parametrize("name", list_recipes())
def test_shipped_recipes_load_and_describe_themselves(name: str):
    assert load_recipe(name).name == name
    assert list_recipes()[name]


def test_the_paper_recipe_has_the_hyperparameters_of_the_published_code():
    recipe = load_recipe("unipts-paper")
    search, training = recipe.allocation.search, recipe.training
    assert recipe.num_samples == 10240
    assert (search.population, search.generations, search.parents) == (25, 25, 10)
    assert (search.crossovers, search.mutations) == (12, 12)
    assert search.mutation == "relative"
    assert search.mutation_rate == 0.1
    assert search.reduction == 0.05
    assert search.noise == 1e-6
    assert search.fitness == "accuracy"
    assert (training.epochs, training.batch_size, training.learning_rate) == (100, 64, 0.01)
    assert (training.momentum, training.weight_decay, training.pruned_decay) == (0.9, 1e-4, 5e-5)
    assert training.objective == "base-decayed-kl"
    assert training.student_temperature == 8
    assert training.base_decay == 0.99


@given(
    epochs=st.integers(0, 1000),
    rate=st.floats(1e-6, 10),
    sparsity=st.none() | st.floats(0.01, 0.99),
    exclude=st.lists(st.text(max_size=8), max_size=3),
    fitness=st.sampled_from(["divergence", "accuracy", "2:4", "1e-3", "on"]),
)
def test_yaml_reads_back_to_an_equal_recipe(
    tmp_path_factory, epochs, rate, sparsity, exclude, fitness
):
    recipe = Recipe().with_settings(
        {
            "training.epochs": epochs,
            "training.learning_rate": rate,
            "sparsity": sparsity,
            "exclude": exclude,
            "allocation.search.fitness": fitness,
        }
    )
    path = tmp_path_factory.mktemp("recipe") / "mine.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(path) == recipe


def test_a_file_changes_only_what_it_names(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nnum_samples: 64\ntraining:\n  learning_rate: 1e-3\n")
    recipe = load_recipe(path)
    assert recipe == Recipe(name="mine").with_settings(
        {"num_samples": 64, "training.learning_rate": 0.001}
    )


def test_what_a_file_leaves_out_is_that_of_its_base(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nbase: unipts-paper\nlayer_sparsity: {a: 0.5}\ntraining:\n  epochs: 7\n"
    )
    expected = load_recipe("unipts-paper").with_settings(
        {"name": "mine", "training.epochs": 7, "layer_sparsity": {"a": 0.5}}
    )
    assert load_recipe(path) == expected


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("a=1e-3", 0.001),
        ("a=.5", 0.5),
        ("a=-3", -3),
        ("a=2:4", "2:4"),
        ("a=[lamp, erk]", ["lamp", "erk"]),
        ("a=true", True),
        ("a=null", None),
        ("a=x=y", "x=y"),
    ],
)
def test_settings_are_read_as_yaml(assignment, value):
    assert parse_settings([assignment]) == {"a": value}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.epochs=-1", "training.epochs is -1; allowed: an integer at least 0"),
        ("training.epochs=true", "training.epochs is True; allowed: an integer at least 0"),
        ("sparsity=true", "sparsity is True; allowed: a number"),
        ("training.epochs=many", "training.epochs is 'many'; allowed: an integer at least 0"),
        ("training.momentum=1", "training.momentum is 1; allowed: a number at least 0 and below 1"),
        ("training.learning_rate=nan", "learning_rate is 'nan'; allowed: a number above 0"),
        ("sparsity=1.5", "sparsity is 1.5; allowed: a number above 0 and below 1, or null"),
        ("training.augment=maybe", "training.augment is 'maybe'; allowed: true or false"),
        ("exclude=conv1", "exclude is 'conv1'; allowed: a list of strings"),
        ("exclude=[a, 1]", "exclude is 1; allowed: a list of strings"),
        ("include=[foo]", "include is 'foo'; allowed: a list of optional, quantised, recurrent"),
        ("preprocessing.mean=[a]", "mean is 'a'; allowed: a list of numbers, or null"),
        (
            "training.losses={logits: foo}",
            "training.losses is 'foo'; allowed: a mapping with one of kl, mse for each key",
        ),
        (
            "layer_sparsity={a: 1}",
            "layer_sparsity is 1; allowed: a mapping with a number at least 0 and below 1 for each",
        ),
        ("training=3", "training is 3; allowed: a mapping"),
        ("training.teacher_statistics=x", "is 'x'; allowed: one of batch, running"),
        ("epochs=3", "unknown key epochs (did you mean training.epochs?); allowed here: name,"),
        ("training.momentun=1", "did you mean training.momentum?); allowed here: epochs,"),
        ("search.population=3", "unknown key search.population"),
        ("name.x=3", "unknown key name.x"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(setting: str, message: str):
    with pytest.raises(UsageError) as refused:
        load_recipe("unipts").with_settings(parse_settings([setting]))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("assignment", ["training.epochs", "=3", "a=[1"])
def test_a_setting_that_is_no_assignment_is_refused(assignment: str):
    with pytest.raises(UsageError, match="setting "):
        parse_settings([assignment])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainin:\n  epochs: 1\n", "unknown key trainin;"),
        ("training:\n  epoch: 1\n", "unknown key training.epoch (did you mean training.epochs?)"),
        ("training:\n  warmup: 2\n", "key training.warmup is 2; allowed: a number at least 0"),
        ("base: unipst\n", "key base is 'unipst'; allowed: one of"),
        ("base: unipts\ntraining: 3\n", "key training is 3; allowed: a mapping"),
        ("- a\n", "expected a mapping"),
        ("", "expected a mapping"),
        ("a: [1\n", "not valid YAML at line 2"),
        ("1: 2\n", "unknown key 1;"),
        ("seed: !!python/object:os.system {}\n", "not valid YAML"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_key(tmp_path: Path, text: str, message: str):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        load_recipe(path)
    assert str(path) in str(refused.value)
    assert message in str(refused.value)


def test_an_unknown_recipe_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match=r"unknown recipe 'unipst'.* unipts, unipts-paper"):
        load_recipe("unipst")


def test_a_binary_file_is_refused(tmp_path: Path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x07\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        load_recipe(path)


def test_a_section_of_settings_leaves_the_rest_of_it():
    recipe = load_recipe("unipts")
    whole = recipe.with_settings(
        {"training": {"epochs": 3}, "allocation": {"search": {"elite": 1}}}
    )
    single = recipe.with_settings({"training.epochs": 3, "allocation.search.elite": 1})
    assert whole == single
    assert whole.training.learning_rate == recipe.training.learning_rate
    assert recipe.with_settings({"training": Training()}).training == Training()
    named = recipe.with_settings({"layer_sparsity": {"a": 0.5}})
    assert named.with_settings({"layer_sparsity": {"b": 0.1}}).layer_sparsity == {"b": 0.1}
    with pytest.raises(UsageError, match=r"unknown key training\.nope"):
        recipe.with_settings({"training": {"nope": 1}})
    with pytest.raises(UsageError, match="key training is 2; allowed: a mapping"):
        recipe.with_settings({"training": 2, "training.epochs": 1})


def test_a_key_that_is_given_twice_is_refused(tmp_path: Path):
    path = tmp_path / "r.yaml"
    path.write_text("sparsity: .9\ntraining: {epochs: 1, epochs: 2}\n")
    with pytest.raises(UsageError, match="not valid YAML at line 2"):
        load_recipe(path)


@pytest.mark.parametrize("text", ["a: " + "[" * 5000, "a: " + "9" * 5000])
def test_what_no_reader_takes_is_refused(text: str, tmp_path: Path):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match="not valid YAML"):
        load_recipe(path)


def test_what_is_merged_is_not_given_twice(tmp_path: Path):
    path = tmp_path / "r.yaml"
    path.write_text("training: &a {<<: &b {epochs: 1}, epochs: 2}\nallocation: {method: lamp}\n")
    assert load_recipe(path).training.epochs == 2
