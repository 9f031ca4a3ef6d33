"""Every allocation hits the total exactly; the search never loses what it found."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onnx_unipts.allocation import ALLOCATORS, SEARCHES, Problem, distribute
from onnx_unipts.allocation.automatic import allocator_for
from onnx_unipts.allocation.evolutionary import decode, encode
from onnx_unipts.allocation.file import allocation_document, kept_in, read_allocation
from onnx_unipts.allocation.halving import Stage, halve, stage_ends
from onnx_unipts.allocation.prescribed import allocate_rest, check_prescribed
from onnx_unipts.allocation.problem import History, zeros_for
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.patterns import Layout, Masking, parse_pattern
from onnx_unipts.recipe import Search, load_recipe

ANALYTIC = ("uniform", "erk", "tempered-lamp", "global", "lamp")


def layers(*shapes: tuple[int, ...], seed: int = 0) -> dict[str, np.ndarray]:
    """Return normal weights whose spread differs from layer to layer."""
    rng = np.random.default_rng(seed)
    return {
        f"layer{i}": (rng.standard_normal(shape) * rng.uniform(0.1, 2)).astype(np.float32)
        for i, shape in enumerate(shapes)
    }


NETWORK = layers((16, 3, 3, 3), (16, 16, 3, 3), (32, 16, 1, 1), (10, 32))

shapes = st.lists(
    st.one_of(
        st.tuples(st.integers(1, 20), st.integers(1, 20)),
        st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3)),
    ),
    min_size=1,
    max_size=7,
)


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    """Draw layers of any size, some of them with zeros, one perhaps all zero, and a sparsity."""
    weights = layers(*draw(shapes), seed=draw(st.integers(0, 1000)))
    for name, weight in weights.items():
        share = draw(st.sampled_from([0.0, 0.0, 0.0, 0.3, 1.0]))
        weights[name] = np.where(np.abs(weight) <= np.quantile(np.abs(weight), share), 0, weight)
    return Problem(weights, draw(st.floats(0.001, 0.999)))


def check(problem: Problem, kept: Mapping[str, int]) -> None:
    """Exactly the total is kept, in the order of the layers, and no zero among it."""
    assert list(kept) == list(problem.weights)
    assert sum(kept.values()) == problem.total
    assert all(0 <= kept[name] <= problem.limits[name] for name in kept)
    assert all(type(count) is int for count in kept.values())


@pytest.mark.parametrize("name", ANALYTIC)
@pytest.mark.parametrize("minimum", [0.0, 0.01, 0.05])
def test_layers_too_small_for_their_minimum_do_not_vanish(name: str, minimum: float):
    # Of the hundredth that stays of all, one weight of each small layer is more than its share.
    weights = layers((100, 100), (20, 10), *[(2, 2)] * 4)
    problem = Problem(weights, 0.99, minimum=minimum)
    kept = ALLOCATORS[name](problem)
    check(problem, kept)
    assert min(kept.values()) >= 1
    if minimum == 0.01:
        assert kept["layer0"] >= 0.9 * minimum * 10_000


@given(problems(), st.sampled_from(ANALYTIC), st.floats(0, 0.9))
def test_every_layer_keeps_its_minimum_where_the_total_allows_it(problem, name, minimum):
    problem = replace(problem, minimum=minimum)
    kept = ALLOCATORS[name](problem)
    check(problem, kept)
    ones = sum(limit > 0 for limit in problem.limits.values())
    if problem.total >= ones:
        assert all(kept[n] >= min(1, problem.limits[n]) for n in kept)
    wanted = {n: max(min(1, problem.limits[n]), problem.floors[n]) for n in kept}
    if sum(wanted.values()) <= problem.total:
        assert all(kept[n] >= wanted[n] for n in kept)


@pytest.mark.parametrize("name", ANALYTIC)
def test_a_minimum_above_the_density_leaves_every_layer_the_density(name: str):
    problem = Problem(layers((20, 20), (10, 10)), 0.9, minimum=0.5)
    assert ALLOCATORS[name](problem) == {"layer0": 40, "layer1": 10}


# Files


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"sparsity": 0.9}, "keeps 30 of 60, which is no sparsity of 0.9; what counts is kept"),
        ({"kept": 10.5}, "keeps 10.5; allowed: a whole number"),
        ({"kept": float("nan")}, "keeps nan; allowed: a whole number"),
        ({"name": "b"}, "layer 'b' stands there twice"),
    ],
)
def test_an_edit_that_says_two_things_is_refused(edit, message, tmp_path: Path):
    with pytest.raises(UsageError, match=message):
        kept_in(str(edited(edit, tmp_path)))


@pytest.mark.parametrize("edit", [{"kept": 30.0}, {"sparsity": 0.5004}, {"note": "by hand"}])
def test_an_edit_that_says_one_thing_is_read(edit, tmp_path: Path):
    assert kept_in(str(edited(edit, tmp_path))) == {"a": 30, "b": 20}


def edited(edit: Mapping[str, object], directory: Path) -> Path:
    document = allocation_document(0.5, "lamp", {"a": 30, "b": 20}, {"a": 60, "b": 40})
    document["layers"][0] |= edit
    del document["layers"][1]["sparsity"]
    (directory / "a.json").write_text(json.dumps(document))
    return directory / "a.json"


# The total


@given(st.floats(0.001, 0.999), st.integers(1, 10**8))
@example(0.29, 100)  # 0.29 * 100 is 28.999999999999996
@example(0.9, 268336)
@example(0.7654321, 9_999_676)  # 7654072.9999996
def test_the_zeros_are_the_floor_of_the_product_as_written(sparsity: float, count: int):
    assert zeros_for(sparsity, count) == int(Fraction(repr(sparsity)) * count)


@given(
    st.lists(st.tuples(st.floats(0, 1e9), st.integers(0, 10**7)), min_size=1, max_size=30),
    st.floats(0, 1),
)
def test_shares_become_integers_of_the_exact_sum_within_limits(
    layers: list[tuple[float, int]], share: float
):
    wanted = {str(i): w for i, (w, _) in enumerate(layers)}
    limits = {str(i): n for i, (_, n) in enumerate(layers)}
    total = int(share * sum(limits.values()))
    kept = distribute(wanted, limits, total)
    assert sum(kept.values()) == total
    assert all(0 <= kept[name] <= limits[name] for name in limits)
    if total >= sum(limit > 0 for limit in limits.values()):
        assert all(kept[name] >= 1 for name in limits if limits[name])


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=10), st.data())
def test_integers_within_limits_stay_as_they_are(counts: list[int], data: st.DataObject):
    wanted = {str(i): float(max(n, 1)) for i, n in enumerate(counts)}
    limits = {name: int(n) + data.draw(st.integers(0, 9)) for name, n in wanted.items()}
    assert distribute(wanted, limits, int(sum(wanted.values()))) == wanted


def test_what_exceeds_a_limit_goes_to_the_others_in_proportion():
    kept = distribute({"a": 60.0, "b": 20.0, "c": 20.0}, {"a": 10, "b": 100, "c": 100}, 100)
    assert kept == {"a": 10, "b": 45, "c": 45}


def test_fewer_weights_than_layers_can_be_kept():
    kept = distribute({"a": 5.0, "b": 3.0, "c": 1.0}, {"a": 9, "b": 9, "c": 9}, 2)
    assert sum(kept.values()) == 2


def test_more_than_there_is_cannot_be_kept():
    with pytest.raises(UsageError, match="cannot keep 11 weights of 10"):
        distribute({"a": 1.0}, {"a": 10}, 11)


def test_zeros_of_the_dense_model_count_towards_the_target():
    problem = Problem({"a": np.array([[0, 0, 0, 1]], np.float32)}, 0.5)
    assert problem.total == 1


# The analytic allocators


@pytest.mark.parametrize("name", ANALYTIC)
@given(problem=problems())
@settings(max_examples=60, deadline=None)
def test_an_allocator_hits_the_total_for_any_layers(name: str, problem: Problem):
    check(problem, ALLOCATORS[name](problem))


def test_uniform_keeps_the_same_share_everywhere():
    problem = Problem(NETWORK, 0.9)
    for name, kept in ALLOCATORS["uniform"](problem).items():
        assert abs(kept - 0.1 * problem.counts[name]) < 1


def test_erk_keeps_in_proportion_to_the_sum_of_the_shape():
    problem = Problem(NETWORK, 0.95)
    kept = ALLOCATORS["erk"](problem)
    ratios = [kept[name] / sum(weight.shape) for name, weight in NETWORK.items()]
    np.testing.assert_allclose(ratios, ratios[0], rtol=0.05)


def test_global_keeps_the_largest_of_the_model():
    problem = Problem(NETWORK, 0.8)
    everything = np.sort(np.concatenate([np.abs(w).ravel() for w in NETWORK.values()]))
    threshold = everything[-problem.total]
    expected = {n: int((np.abs(w) >= threshold).sum()) for n, w in NETWORK.items()}
    assert ALLOCATORS["global"](problem) == expected


def test_tempered_lamp_lies_between_lamp_and_uniform():
    lamp, tempered = (
        np.array(list(ALLOCATORS[name](Problem(NETWORK, 0.5)).values()), np.float64)
        for name in ("lamp", "tempered-lamp")
    )
    counts = np.array([weight.size for weight in NETWORK.values()])
    wide, narrow = (np.log(kept / counts) for kept in (lamp, tempered))
    np.testing.assert_allclose(np.diff(narrow), 0.7 * np.diff(wide), rtol=0.05, atol=0.02)


@pytest.mark.parametrize(("sparsity", "spared"), [(0.5, True), (0.7, True), (0.95, False)])
def test_tempered_lamp_spares_depthwise_layers_while_they_are_a_small_part(sparsity, spared):
    problem = Problem(layers((96, 32, 1, 1), (96, 1, 3, 3), (96, 96, 1, 1)), sparsity)
    depthwise = problem.counts["layer1"]
    assert (depthwise <= problem.total / 4) == spared
    kept = ALLOCATORS["tempered-lamp"](problem)
    check(problem, kept)
    assert (kept["layer1"] == depthwise) == spared


def test_what_has_one_channel_follows_from_the_layout():
    # A transposed convolution with one output channel, whose filters see 96.
    weights = layers((96, 96, 1, 1), (96, 1, 3, 3))
    masking = Masking(layouts={"layer0": Layout(0, 1), "layer1": Layout(1, 0)})
    kept = ALLOCATORS["tempered-lamp"](Problem(weights, 0.5, masking=masking))
    assert kept["layer1"] < weights["layer1"].size


def test_filters_in_as_many_groups_as_channels_see_one_each_and_matrices_are_no_filters():
    weights = layers((8, 1, 3, 3), (64, 64, 3, 3), (64, 1))
    layouts = {
        "layer0": Layout(out_axis=1, in_axis=0, in_groups=8),  # transposed
        "layer1": Layout(out_axis=0, in_axis=1),
        "layer2": Layout(out_axis=0, in_axis=1),
    }
    kept = ALLOCATORS["tempered-lamp"](Problem(weights, 0.5, masking=Masking(layouts=layouts)))
    assert {name for name, count in kept.items() if count == weights[name].size} == {"layer0"}


def test_auto_searches_only_for_weights_that_stay_as_they_are():
    assert allocator_for("auto", as_it_is=True) == "evolutionary"
    assert allocator_for("auto", as_it_is=False) == "tempered-lamp"
    assert allocator_for("lamp", as_it_is=True) == "lamp"


def test_lamp_keeps_the_largest_scores_of_its_formula():
    problem = Problem(NETWORK, 0.8)
    scores = {}
    for name, weight in NETWORK.items():
        w2 = weight.astype(np.float64).ravel() ** 2
        scores[name] = np.array([w / w2[w2 >= w].sum() for w in w2])
    threshold = np.sort(np.concatenate(list(scores.values())))[-problem.total]
    expected = {n: int((s >= threshold).sum()) for n, s in scores.items()}
    assert ALLOCATORS["lamp"](problem) == expected


@pytest.mark.parametrize("name", [*ANALYTIC, "evolutionary"])
def test_a_layer_of_zeros_or_of_one_weight_is_no_trouble(name: str):
    weights = {
        "one": np.ones((1, 1, 1, 1), np.float32),
        "zeros": np.zeros((4, 4), np.float32),
        "other": np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32),
    }
    problem = Problem(weights, 0.7, search=SMALL, score=lambda c: [0.0] * len(c))
    kept = ALLOCATORS[name](problem)
    check(problem, kept)
    assert kept["zeros"] == 0
    assert kept["one"] == 1


@pytest.mark.parametrize("name", [*ANALYTIC, "evolutionary"])
def test_fewer_kept_weights_than_layers_are_no_trouble(name: str):
    weights = layers(*[(2, 2)] * 5)
    problem = Problem(weights, 0.9, search=SMALL, score=lambda c: [0.0] * len(c))
    check(problem, ALLOCATORS[name](problem))


# The search

SMALL = Search(population=8, generations=6, parents=4, crossovers=3, mutations=3, elite=2)
PAPER = load_recipe("unipts-paper").allocation.search


def towards(best: Mapping[str, int]) -> Callable[[Sequence[Mapping[str, int]]], list[float]]:
    """Return a fitness that is 0 at ``best`` and falls with the distance from it."""

    def score(candidates: Sequence[Mapping[str, int]]) -> list[float]:
        return [-float(sum(abs(c[n] - best[n]) for n in best)) for c in candidates]

    return score


@given(
    problem=problems(),
    reduction=st.floats(0.01, 1),
    genes=st.lists(st.floats(-50, 50), min_size=7, max_size=7),
)
@settings(max_examples=150, deadline=None)
def test_any_genome_decodes_to_the_exact_total(
    problem: Problem, reduction: float, genes: list[float]
):
    problem = Problem(problem.weights, problem.sparsity, search=Search(reduction=reduction))
    check(problem, decode(problem, np.array(genes[: len(problem.weights)])))


@given(problem=problems(), name=st.sampled_from(ANALYTIC))
@settings(max_examples=150, deadline=None)
def test_an_allocation_survives_encoding_where_layers_are_reduced_to_nothing(
    problem: Problem, name: str
):
    kept = ALLOCATORS[name](problem)
    if all(kept[n] > 0 for n in kept):
        assert decode(problem, encode(problem, kept)) == kept


def test_every_layer_keeps_what_the_reduction_leaves():
    problem = Problem(NETWORK, 0.8, search=Search(reduction=0.05))
    kept = decode(problem, np.array([50.0, 0.0, 0.0, 0.0]))
    for name, count in problem.counts.items():
        assert kept[name] >= int(count * 0.15) - 1


@pytest.mark.parametrize("recipe", [SMALL, PAPER.model_copy(update={"generations": 3})])
@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.95, 0.99])
def test_the_search_hits_the_total(recipe: Search, sparsity: float):
    problem = Problem(NETWORK, sparsity, search=recipe, score=lambda c: [0.0] * len(c))
    check(problem, ALLOCATORS["evolutionary"](problem))


def test_the_search_is_never_worse_than_its_starts_and_gets_better():
    best = ALLOCATORS["erk"](Problem(NETWORK, 0.9)) | {"layer1": 200, "layer2": 20}
    score = towards(best)
    history = History()
    problem = Problem(NETWORK, 0.9, 0, SMALL, score, history)
    found = ALLOCATORS["evolutionary"](problem)
    starts = [ALLOCATORS[name](problem) for name in SMALL.starts]
    assert score([found])[0] > max(score(starts))
    per_generation = [record["best"] for record in history.generations]
    assert per_generation == sorted(per_generation)


def test_without_elite_the_best_of_all_generations_is_returned():
    history = History()
    score = towards(ALLOCATORS["lamp"](Problem(NETWORK, 0.9)))
    lossy = SMALL.model_copy(update={"elite": 0, "generations": 8, "mutation_rate": 1.0})
    found = ALLOCATORS["evolutionary"](Problem(NETWORK, 0.9, 0, lossy, score, history))
    assert score([found]) == [max(record["best"] for record in history.generations)]


def test_no_candidate_is_scored_twice():
    asked: list[tuple[int, ...]] = []

    def score(candidates: Sequence[Mapping[str, int]]) -> list[float]:
        asked.extend(tuple(c.values()) for c in candidates)
        return [float(c["layer0"]) for c in candidates]

    history = History()
    ALLOCATORS["evolutionary"](Problem(NETWORK, 0.9, 0, SMALL, score, history))
    assert len(asked) == len(set(asked))
    assert len(asked) == sum(record["evaluations"] for record in history.generations)


def staged(best: Mapping[str, int], asked: list[int], noise: float = 0.0) -> list[Stage]:
    """Return stages of 10, 10 and 20 samples that note how many candidates each was asked for."""
    score = towards(best)

    def stage(number: int, candidates: Sequence[Mapping[str, int]]) -> list[float]:
        asked.append(len(candidates))
        rng = np.random.default_rng(number)
        return [fitness + noise * rng.standard_normal() for fitness in score(candidates)]

    return [Stage(partial(stage, i), samples) for i, samples in enumerate((10, 10, 20))]


def test_each_stage_scores_the_better_half_of_the_stage_before():
    asked: list[int] = []
    stages = staged({"a": 0}, asked)
    scores = halve(stages, [{"a": value} for value in (5, 1, 9, 3, 7)])
    assert asked == [5, 3, 2]
    assert scores == [(20, -5.0), (40, -1.0), (10, -9.0), (40, -3.0), (10, -7.0)]
    assert max(scores) == (40, -1.0)


@pytest.mark.parametrize(("parts", "ends"), [(1, [1]), (2, [1, 2]), (5, [1, 2, 4, 5])])
def test_stages_double_the_samples(parts: int, ends: list[int]):
    assert stage_ends(parts) == ends


def test_a_search_by_halving_finds_what_one_on_all_samples_finds_for_half_the_images():
    best = ALLOCATORS["erk"](Problem(NETWORK, 0.9)) | {"layer1": 200, "layer2": 20}
    history, asked = History(), []
    problem = Problem(NETWORK, 0.9, 0, SMALL, history=history, stages=staged(best, asked, 0.5))
    problem = replace(problem, score=towards(best))
    found = ALLOCATORS["evolutionary"](problem)
    plain = ALLOCATORS["evolutionary"](Problem(NETWORK, 0.9, 0, SMALL, towards(best)))
    fitness = {name: towards(best)([kept])[0] for name, kept in (("h", found), ("p", plain))}
    assert fitness["h"] >= 1.3 * fitness["p"]
    images = sum(record["images"] for record in history.generations)
    evaluations = sum(record["evaluations"] for record in history.generations)
    assert images < 0.65 * 40 * evaluations
    per_generation = [record["best"] for record in history.generations]
    assert per_generation == sorted(per_generation)


@pytest.mark.parametrize("finished", range(SMALL.generations + 1))
def test_a_search_goes_on_from_any_generation_to_the_same_end(finished: int):
    score = towards(ALLOCATORS["erk"](Problem(NETWORK, 0.9)) | {"layer1": 200})
    whole = History()
    expected = ALLOCATORS["evolutionary"](Problem(NETWORK, 0.9, 3, SMALL, score, whole))
    rest = History()
    # As the journal gives them back.
    rest.generations = json.loads(json.dumps(whole.generations[:finished]))
    found = ALLOCATORS["evolutionary"](Problem(NETWORK, 0.9, 3, SMALL, score, rest))
    assert found == expected
    assert json.dumps(rest.generations) == json.dumps(whole.generations)


def test_the_seed_decides_the_search():
    def genomes(seed: int) -> list:
        history = History()
        score = towards(ALLOCATORS["uniform"](Problem(NETWORK, 0.9)))
        ALLOCATORS["evolutionary"](Problem(NETWORK, 0.9, seed, SMALL, score, history))
        return history.generations

    assert genomes(1) == genomes(1)
    assert genomes(1) != genomes(2)


def test_candidates_that_fail_do_not_end_the_search():
    def score(candidates: Sequence[Mapping[str, int]]) -> list[float]:
        return [float("-inf") if c["layer0"] % 2 else float(c["layer1"]) for c in candidates]

    check(
        Problem(NETWORK, 0.9),
        ALLOCATORS["evolutionary"](Problem(NETWORK, 0.9, 0, SMALL, score)),
    )


def test_a_population_smaller_than_the_starts_is_kept():
    history = History()
    tiny = Search(population=2, generations=2, parents=2)
    score = towards(ALLOCATORS["uniform"](Problem(NETWORK, 0.9)))
    ALLOCATORS["evolutionary"](Problem(NETWORK, 0.9, 0, tiny, score, history))
    assert [len(record["population"]) for record in history.generations] == [2, 2, 2]


@pytest.mark.parametrize(("elite", "scored"), [(0, 4), (2, 2), (9, 0)])
def test_crossovers_and_mutations_share_what_the_elite_leaves(elite: int, scored: int):
    """Where a generation is too small for all, none of the three is left out in silence."""
    small = SMALL.model_copy(update={"population": 4, "elite": elite, "generations": 1})
    history = History()
    score = towards(ALLOCATORS["uniform"](Problem(NETWORK, 0.9)))
    ALLOCATORS["evolutionary"](Problem(NETWORK, 0.9, 0, small, score, history))
    first, second = history.generations
    assert len(second["population"]) == 4
    assert sum(genome not in first["population"] for genome in second["population"]) == scored


def test_the_search_needs_something_that_scores():
    with pytest.raises(UsageError, match="needs calibration data"):
        ALLOCATORS["evolutionary"](Problem(NETWORK, 0.9))


@pytest.mark.parametrize("start", ["evolutionary", "nonesuch"])
def test_a_start_that_is_no_analytic_allocation_is_a_usage_error(start: str):
    wrong = SMALL.model_copy(update={"starts": (start,)})
    with pytest.raises(UsageError, match=start):
        ALLOCATORS["evolutionary"](Problem(NETWORK, 0.9, 0, wrong, lambda c: [0.0] * len(c)))


class CountedLayers:
    """Scores layers alike; ``asked`` are the levels scored."""

    samples = 1

    def __init__(self) -> None:
        self.asked = list[int]()

    def __call__(self, name: str, levels: Sequence[int]) -> list[float]:
        self.asked.extend(levels)
        return [0.0] * len(levels)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_says_how_many_candidates_it_scores(name: str):
    layer_score, asked = CountedLayers(), list[Mapping[str, int]]()

    def score(candidates: Sequence[Mapping[str, int]]) -> list[float]:
        asked.extend(candidates)
        return [float(candidate["layer0"]) for candidate in candidates]

    problem = Problem(NETWORK, 0.9, 0, SMALL, score, layer_score=layer_score)
    ALLOCATORS[name](problem)
    scored = len(layer_score.asked if SEARCHES[name].layer_by_layer else asked)
    assert 0.7 * SEARCHES[name].candidates(problem) <= scored
    assert scored <= SEARCHES[name].candidates(problem)


# Files


def test_an_allocation_file_reads_back(tmp_path: Path):
    problem = Problem(NETWORK, 0.9)
    kept = ALLOCATORS["lamp"](problem)
    document = allocation_document(0.9, "lamp", kept, problem.counts)
    (tmp_path / "allocation.json").write_text(json.dumps(document))
    assert read_allocation(str(tmp_path / "allocation.json"), problem) == kept
    assert document["achieved"] == pytest.approx(0.9, abs=1e-3)


def test_what_is_achieved_is_counted_and_not_what_was_asked_for():
    document = allocation_document(0.5, "lamp", {"a": 4, "b": 4}, {"a": 10, "b": 10})
    assert (document["target"], document["achieved"]) == (0.5, pytest.approx(0.6))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", "is not an allocation"),
        ("[1]", "is not an allocation"),
        ('{"layers": [{"name": "a"}]}', "is not an allocation"),
        ('{"layers": [{"name": "b", "kept": 1}]}', "layers differ from the model's, first 'a'"),
        (
            '{"layers": [{"name": "a", "kept": 5}, {"name": "b", "kept": 0}]}',
            "layers differ from the model's, first 'b'",
        ),
        ('{"layers": [{"name": "a", "kept": 11}]}', "'a' keeps 11 of 10"),
        ('{"layers": [{"name": "a", "kept": -1}]}', "'a' keeps -1 of 10"),
        (
            '{"layers": [{"name": "a", "kept": 6}]}',
            "keeps 6 .*, 1 too many: sparsity 0.5 keeps 5 of 10",
        ),
    ],
)
def test_a_wrong_allocation_file_is_named(tmp_path: Path, content: str, message: str):
    path = tmp_path / "allocation.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=message):
        read_allocation(str(path), Problem({"a": np.ones(10, np.float32)}, 0.5))


def test_an_allocation_file_keeps_no_zeros(tmp_path: Path):
    path = tmp_path / "allocation.json"
    path.write_text('{"layers": [{"name": "a", "kept": 1}, {"name": "b", "kept": 4}]}')
    weights = {"a": np.ones(7, np.float32), "b": np.array([1, 0, 0], np.float32)}
    with pytest.raises(UsageError, match="'b' keeps 4 of 1"):
        read_allocation(str(path), Problem(weights, 0.5))


def test_an_unknown_allocation_names_the_known_ones():
    with pytest.raises(UsageError, match=r"neither a file nor one of .*lamp"):
        read_allocation("nonesuch", Problem(NETWORK, 0.5))


# Layers whose sparsity is prescribed.


def test_prescribed_layers_are_held_and_the_others_make_up_for_them():
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((16, 10)) for name in ("a", "b", "c", "d")}
    for method in ("uniform", "lamp", "erk", "global"):
        kept = allocate_rest(method, Problem(weights, 0.75), {"b": 0.5, "d": 0.99})
        assert list(kept) == list(weights)
        assert (kept["b"], kept["d"]) == (80, 160 - 158)
        assert sum(kept.values()) == 160


def test_a_search_scores_whole_allocations_of_prescribed_layers():
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((16, 10)) for name in ("a", "b", "c")}
    seen = []

    def score(candidates: Sequence[dict[str, int]]) -> list[float]:
        seen.extend(candidates)
        return [float(kept["a"]) for kept in candidates]

    settings = Search(population=6, parents=2, generations=2)
    problem = Problem(weights, 0.75, search=settings, score=score)
    kept = allocate_rest("evolutionary", problem, {"b": 0.5})
    assert {candidate["b"] for candidate in seen} == {80}
    assert all(set(candidate) == set(weights) for candidate in seen)
    assert kept["a"] == max(candidate["a"] for candidate in seen)


def test_all_layers_may_be_prescribed_if_they_add_up():
    weights = {"a": np.ones((10, 10)), "b": np.ones((10, 10))}
    prescribed = {"a": 0.5, "b": 0.9}
    assert allocate_rest("lamp", Problem(weights, 0.7), prescribed) == {"a": 50, "b": 10}
    with pytest.raises(UsageError, match=r"between 0\.7000 and 0\.7000"):
        allocate_rest("lamp", Problem(weights, 0.8), prescribed)


def test_a_prescription_that_cannot_be_met_is_refused_at_once():
    counts = {"a": 100, "b": 100}
    pattern = parse_pattern("unstructured")
    with pytest.raises(UsageError, match=r"between 0\.2500 and 0\.7500"):
        check_prescribed("lamp", pattern, counts, 0.8, {"a": 0.5})
    with pytest.raises(UsageError, match=r"pattern 2:4 gives every layer"):
        check_prescribed("lamp", parse_pattern("2:4"), counts, 0.5, {"a": 0.5})
    with pytest.raises(UsageError, match=r"allocation file\.json gives every layer"):
        check_prescribed("file.json", pattern, counts, 0.5, {"a": 0.5})
