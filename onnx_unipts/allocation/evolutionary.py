"""The reducing-regrowing evolutionary search of UniPTS, with elitism and analytic starts.

A genome holds one gene per layer. All layers are first reduced to the sparsity Pe > P; the softmax
of the genes shares out among them what grows back until the model has sparsity P (UniPTS, arXiv
2405.18810, section 3.3). Unlike there, what a layer cannot take goes to the others, so that the
target is hit exactly, the best genomes survive, and only the better ones are scored on all samples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnx_unipts.allocation.halving import Score, halve
from onnx_unipts.allocation.kept import Kept
from onnx_unipts.allocation.problem import (
    History,
    Problem,
    analytic_allocator,
    register_search,
)
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.recipe import Search

__all__ = ["decode", "encode", "evolutionary"]

Genome = np.ndarray  # float64 (layers,)


def _candidates(problem: Problem) -> int:
    """Return how many candidates are scored: the first population, then all but the elite."""
    settings = problem.search
    fresh = max(settings.population - settings.elite, 0)
    return settings.population + settings.generations * fresh


@register_search("evolutionary", _candidates)
def evolutionary(problem: Problem) -> Kept:
    """Search the allocation of best fitness; go on after the last generation in the history."""
    if problem.score is None:
        raise UsageError("allocation evolutionary needs calibration data to score candidates")
    history = problem.history or History()
    settings = problem.search
    rounds, done = settings.generations + 1, len(history.generations)
    with problem.progress.phase("search", rounds, done) as phase:
        for generation in range(done, rounds):
            record = _one_generation(problem, generation, history)
            history.append(record)
            best = max(_known(history).values())
            phase.advance(generation=generation, best_fitness=best.fitness)
    return _best(problem, history)


def decode(problem: Problem, genome: Genome) -> Kept:
    """Return how many weights each layer keeps under ``genome``."""
    reduced = _reduced(problem)
    budget = problem.total - sum(reduced.values())
    shares = np.exp(genome - genome.max())
    grown = budget * shares / shares.sum()
    limits = problem.limits
    room = {name: limits[name] - reduced[name] for name in reduced}
    regrown = _regrow(dict(zip(reduced, grown, strict=True)), room, budget)
    return problem.distribute({name: reduced[name] + regrown[name] for name in reduced})


def encode(problem: Problem, kept: Kept) -> Genome:
    """Return the genome that decodes to ``kept``, or to what is nearest to it."""
    reduced = _reduced(problem)
    grown = np.array([max(kept[name] - reduced[name], 0.5) for name in reduced])
    genes = np.log(grown)
    return np.asarray(genes - genes.mean())


def _one_generation(problem: Problem, generation: int, history: History) -> dict:
    rng = np.random.default_rng([problem.seed, generation])
    if generation == 0:
        population = _first_population(problem, rng)
    else:
        population = _next_population(problem, history, rng)
    known = _known(history)
    candidates = [decode(problem, genome) for genome in population]
    new = list({_key(kept): kept for kept in candidates if _key(kept) not in known}.values())
    fresh = dict(zip(map(_key, new), _scores(problem, new), strict=True))
    scores = [(known | fresh)[_key(kept)] for kept in candidates]
    return {
        "generation": generation,
        "population": [genome.tolist() for genome in population],
        "kept": [list(kept.values()) for kept in candidates],
        "fitness": [score.fitness for score in scores],
        "samples": [score.samples for score in scores],
        "best": max(scores).fitness,
        "evaluations": len(new),
        "images": sum(score.samples for score in fresh.values()),
    }


def _scores(problem: Problem, candidates: list[Kept]) -> list[Score]:
    if not candidates:
        return []
    if problem.stages:
        return halve(problem.stages, candidates)
    assert problem.score is not None
    return [Score(1, fitness) for fitness in problem.score(candidates)]


def _first_population(problem: Problem, rng: np.random.Generator) -> list[Genome]:
    settings = problem.search
    starts = [encode(problem, analytic_allocator(name)(problem)) for name in settings.starts]
    starts = starts[: settings.population]
    wanted = settings.population - len(starts)
    if not starts:
        return [rng.standard_normal(len(problem.weights)) for _ in range(wanted)]
    return starts + [_mutate(problem, starts[i % len(starts)], rng) for i in range(wanted)]


def _next_population(problem: Problem, history: History, rng: np.random.Generator) -> list[Genome]:
    settings = problem.search
    last = history.generations[-1]
    scores = _scores_of(last)
    order = sorted(range(len(scores)), key=lambda i: scores[i], reverse=True)
    ranked = [np.array(last["population"][i]) for i in order]
    parents = ranked[: settings.parents]
    elite = ranked[: min(settings.elite, settings.population)]
    crossovers, mutations = _births(settings, settings.population - len(elite))
    cross = CROSSOVERS[settings.crossover]
    children = elite + [cross(settings, parents, rng) for _ in range(crossovers)]
    children += [
        _mutate(problem, parents[rng.integers(len(parents))], rng) for _ in range(mutations)
    ]
    missing = settings.population - len(children)
    return children + [rng.standard_normal(len(problem.weights)) for _ in range(missing)]


def _births(settings: Search, room: int) -> tuple[int, int]:
    """Return the numbers of crossovers and mutations, in proportion where ``room`` is too small."""
    wanted = settings.crossovers + settings.mutations
    if wanted <= room:
        return settings.crossovers, settings.mutations
    crossovers = round(room * settings.crossovers / wanted)
    return crossovers, room - crossovers


def _uniform_crossover(settings: Search, parents: list[Genome], rng: np.random.Generator) -> Genome:
    """Each gene from one of two parents."""
    mother, father = (parents[i] for i in rng.choice(len(parents), 2, replace=False))
    return np.where(rng.random(len(mother)) < 0.5, mother, father)


def _weighted_recombination(
    settings: Search, parents: list[Genome], rng: np.random.Generator
) -> Genome:
    """The mean of all parents, the better the more, plus noise on every gene.

    The weights are those of CMA-ES (Hansen, arXiv 1604.00772, equation 49): averaging keeps what
    the parents have in common and cancels their noise.
    """
    count = len(parents)
    weights = np.log(count + 0.5) - np.log(np.arange(1, count + 1))
    mean = np.average(parents, axis=0, weights=weights)
    noise = settings.mutation_strength * rng.standard_normal(len(mean))
    return np.asarray(mean + noise)


CROSSOVERS: dict[str, Callable[[Search, list[Genome], np.random.Generator], Genome]] = {
    "uniform": _uniform_crossover,
    "weighted": _weighted_recombination,
}


def _mutate(problem: Problem, genome: Genome, rng: np.random.Generator) -> Genome:
    settings = problem.search
    mutated = rng.random(len(genome)) < settings.mutation_rate
    noise = settings.mutation_strength * rng.standard_normal(len(genome))
    changed = MUTATIONS[settings.mutation](genome, noise)
    return np.where(mutated, changed, genome)


MUTATIONS: dict[str, Callable[[Genome, np.ndarray], Genome]] = {
    "additive": lambda genome, noise: genome + noise,
    "relative": lambda genome, noise: genome * (1 + noise),
}


def _reduced(problem: Problem) -> dict[str, int]:
    """What each layer keeps at the sparsity Pe, before anything grows back."""
    density = max(1 - problem.sparsity - problem.search.reduction, 0.0)
    limits = problem.limits
    return {name: min(int(density * n), limits[name]) for name, n in problem.counts.items()}


def _regrow(wanted: dict[str, float], room: dict[str, int], budget: int) -> dict[str, float]:
    """Hand out ``budget`` as wanted; what a layer has no room for goes to the others."""
    names = list(wanted)
    share = np.array([wanted[n] for n in names])
    limit = np.array([room[n] for n in names], dtype=float)
    given = np.minimum(share, limit)
    for _ in range(len(names)):
        spare = budget - given.sum()
        free = np.where(given < limit, np.maximum(share, 1e-9), 0.0)
        if spare < 0.5 or free.sum() == 0:
            break
        given = np.minimum(given + spare * free / free.sum(), limit)
    return dict(zip(names, given.tolist(), strict=True))


def _known(history: History) -> dict[tuple[int, ...], Score]:
    """Every score so far, by the allocation it belongs to: no candidate is paid for twice."""
    return {
        tuple(kept): score
        for record in history.generations
        for kept, score in zip(record["kept"], _scores_of(record), strict=True)
    }


def _scores_of(record: dict) -> list[Score]:
    return [Score(*pair) for pair in zip(record["samples"], record["fitness"], strict=True)]


def _best(problem: Problem, history: History) -> Kept:
    known = _known(history)
    best = max(known, key=lambda kept: known[kept])
    return dict(zip(problem.weights, best, strict=True))


def _key(kept: Kept) -> tuple[int, ...]:
    return tuple(kept.values())
