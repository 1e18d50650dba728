import gzip
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pair_worlds import planted
from scipy.optimize import check_grad

from preferent.annotators import annotator_slope as likelihood
from preferent.annotators.annotator_slope import PairModel, Spreads
from preferent.annotators.bradley_terry import Z95, Banded, Settings, fit_pairs, outcome_probabilities
from preferent.annotators.crowd_bt import CrowdPrior, crowd_objective, fit_crowd
from preferent.annotators.graph import pair_table, pair_votes
from preferent.annotators.pair_flags import annotator_rows, opposed
from preferent.core.errors import ConfigError

TIGHT = Settings(tolerance=1e-12)
PLAIN = PairModel(slope=False, learn_spreads=False)
FULL = PairModel(ties="davidson", position="annotator", length="annotator", learn_spreads=False)


def _with_lengths(world, seed=0):
    lengths = np.random.default_rng(seed).uniform(5, 500, world.votes.n_items)
    return pair_votes(world.items_V2, world.outcome_V, annotator_V=world.annotator_V, shown_first_V=world.items_V2[:, 0], lengths_I=lengths)


@pytest.mark.parametrize(
    "model",
    [
        PLAIN,
        FULL,
        PairModel(ties="davidson", tie="shared", position="shared", length="annotator"),
        PairModel(slope=False, ties="davidson", position="annotator", length="shared"),
    ],
)
def test_the_gradient_is_the_derivative(model):
    table = pair_table(_with_lengths(planted(1, (8, 5, 60), tie=-0.3)))
    rng = np.random.default_rng(2)
    point = rng.normal(0, 0.5, len(likelihood.start(table, model).flat()))
    blur_A = rng.uniform(0, 2, 5) if model.slope else None
    args = (table, model, blur_A)
    error = check_grad(lambda x: likelihood.objective(x, *args)[0], lambda x: likelihood.objective(x, *args)[1], point)
    assert error < 1e-4 * np.linalg.norm(likelihood.objective(point, *args)[1])


def test_the_gradient_of_crowd_bt_is_the_derivative():
    table = pair_table(planted(1, (8, 5, 60)).votes)
    point = np.random.default_rng(3).normal(0, 0.5, 13)
    error = check_grad(lambda x: crowd_objective(x, table, CrowdPrior())[0], lambda x: crowd_objective(x, table, CrowdPrior())[1], point)
    assert error < 1e-4


def test_two_items_by_hand():
    # 3 wins of 4, prior N(0, 1) on both: s_0 = -s_1 = s solves 3 - 4 sigma(2 s) = s; at s = 0.34: sigma(0.68) = 0.6637, 3 - 2.655 = 0.345.
    model = PairModel(slope=False, learn_spreads=False, spreads=Spreads(score=1.0))
    fit = fit_pairs(pair_votes([[0, 1]] * 4, [1, 1, 1, 0]), model, TIGHT)
    s = fit.scores.value[0]
    assert 3 - 4 / (1 + np.exp(-2 * s)) == pytest.approx(s, abs=1e-5)
    assert fit.scores.value[1] == pytest.approx(-s, abs=1e-6)
    assert fit.p_a.value[0] == pytest.approx(1 / (1 + np.exp(-2 * s)), abs=1e-6)
    # Precision [[w + 1, -w], [-w, w + 1]] with w = 4 p (1 - p): the gap has variance 2 / (1 + 2 w).
    w = 4 * fit.p_a.value[0] * (1 - fit.p_a.value[0])
    assert (fit.gap.high - fit.gap.low)[0] / 2 / 1.959964 == pytest.approx(np.sqrt(2 / (1 + 2 * w)), rel=1e-6)


def test_davidson_by_hand():
    # One pair, 2 wins each and 4 ties: no gap, P(tie) = nu / (2 + nu) = 1/2 without a prior, so log nu = log 2.
    votes = pair_votes([[0, 1]] * 80, [1, 0, 0.5, 0.5] * 20)
    fit = fit_pairs(votes, PairModel(slope=False, ties="davidson", tie="shared", learn_spreads=False), TIGHT)
    assert fit.gap.value[0] == pytest.approx(0.0, abs=1e-4)
    assert fit.means["tie"] == pytest.approx(np.log(2), abs=0.02)
    np.testing.assert_allclose(outcome_probabilities(fit, votes)[0], [0.25, 0.5, 0.25], atol=0.005)


@pytest.mark.parametrize("model", [PLAIN, FULL, PairModel(position="annotator")])
def test_rows_sides_and_names_do_not_matter(model):
    world = planted(4, (12, 6, 300), tie=-0.5)
    lengths = np.random.default_rng(5).uniform(5, 500, 12)
    rng = np.random.default_rng(6)
    rows, item_name, who_name = rng.permutation(300), rng.permutation(12), rng.permutation(6)
    base = fit_pairs(_with_lengths(world, 5), model, TIGHT)
    moved = pair_votes(
        item_name[world.items_V2[rows][:, ::-1]],
        1 - world.outcome_V[rows],
        annotator_V=who_name[world.annotator_V[rows]],
        shown_first_V=item_name[world.items_V2[rows, 0]],
        lengths_I=lengths[np.argsort(item_name)],
    )
    again = fit_pairs(moved, model, TIGHT)
    np.testing.assert_allclose(again.scores.value[item_name], base.scores.value, atol=2e-3)
    for name, trait in base.traits.items():
        np.testing.assert_allclose(again.traits[name].value[who_name], trait.value, atol=2e-3)
    assert again.log_likelihood == pytest.approx(base.log_likelihood, rel=1e-4)


def test_swapped_sides_mirror_the_answer_exactly():
    world = planted(4, (12, 6, 300))
    one = fit_pairs(world.votes, PairModel(position="annotator"))
    swapped = pair_votes(world.items_V2[:, ::-1], 1 - world.outcome_V, annotator_V=world.annotator_V, shown_first_V=world.items_V2[:, 0])
    np.testing.assert_array_equal(fit_pairs(swapped, PairModel(position="annotator")).scores.value, one.scores.value)


def test_duplicated_data_sharpen_the_answer_and_keep_its_sign():
    world = planted(7, (10, 5, 400))
    items, outcome = np.tile(world.items_V2, (4, 1)), np.tile(world.outcome_V, 4)
    one, four = fit_pairs(world.votes, PLAIN, TIGHT), fit_pairs(pair_votes(items, outcome), PLAIN, TIGHT)
    np.testing.assert_array_equal(np.argsort(one.scores.value), np.argsort(four.scores.value))
    ratio = (four.gap.high - four.gap.low) / (one.gap.high - one.gap.low)
    assert np.all((ratio > 0.45) & (ratio < 0.65))  # half as wide, less what the prior gave


def test_adversaries_count_against_what_they_say_and_are_named():
    world = planted(8, (60, 40, 12_000), adversaries=4, spreads=(1.2, 0.2, 0.3))
    fit = fit_pairs(world.votes, PairModel(position="annotator"))
    assert fit.converged
    plain = fit_pairs(world.votes, PairModel(slope=False))
    assert np.corrcoef(fit.scores.value, world.scores_I)[0, 1] > np.corrcoef(plain.scores.value, world.scores_I)[0, 1]
    flagged = [
        row.annotator for row in annotator_rows(fit, world.votes) if any(flag.startswith("adversary: slope -") for flag in row.flags)
    ]
    assert flagged == [0, 1, 2, 3]


def test_who_always_clicks_left_is_named_and_drowns_nobody():
    world = planted(9, (30, 10, 2000), spreads=(1.2, 0.2, 0.1))
    outcome = np.where(world.annotator_V == 3, 1.0, world.outcome_V)  # item i is shown first throughout
    votes = pair_votes(world.items_V2, outcome, annotator_V=world.annotator_V, shown_first_V=world.items_V2[:, 0])
    fit = fit_pairs(votes, PairModel(position="annotator"))
    flags = {row.annotator: row.flags for row in annotator_rows(fit, votes) if row.flags}
    assert set(flags) == {3}
    assert any(flag.startswith("always first: ") for flag in flags[3])
    assert any(flag.startswith("position bias: +") for flag in flags[3])
    assert fit.traits["slope"].value[3] < 0.5


def test_length_bias_is_told_from_quality():
    rng = np.random.default_rng(10)
    lengths, scores = rng.uniform(10, 1000, 40), rng.normal(0, 1, 40)
    i = rng.integers(0, 40, 6000)
    j = (i + rng.integers(1, 40, 6000)) % 40
    d = scores[i] - scores[j] + 0.6 * np.log(lengths[i] / lengths[j])
    outcome = (rng.random(6000) < 1 / (1 + np.exp(-d))).astype(float)
    votes = pair_votes(np.stack([i, j], 1), outcome, annotator_V=rng.integers(0, 10, 6000), lengths_I=lengths)
    # One crowd-wide length effect is score and length at once; only the prior on scores separates them, and says .6 within the noise.
    fit = fit_pairs(votes, PairModel(slope=False, length="shared"))
    assert fit.means["length"] == pytest.approx(0.6, abs=0.35)


def test_undefeated_and_scattered_items_stay_finite_and_are_named():
    fit = fit_pairs(pair_votes([[0, 1], [0, 2], [3, 4]], [1, 1, 1]), PairModel(slope=False))
    assert np.isfinite(fit.scores.value).all()
    assert np.isfinite(fit.scores.high - fit.scores.low).all()
    said = "\n".join(fit.notes)
    assert "2 components" in said
    assert "never lost" in said


def test_a_model_without_its_column_is_refused():
    with pytest.raises(ConfigError, match="shown first"):
        fit_pairs(pair_votes([[0, 1]], [1]), PairModel(position="shared"))
    with pytest.raises(ConfigError, match="lengths"):
        fit_pairs(pair_votes([[0, 1]], [1]), PairModel(length="annotator"))
    with pytest.raises(ConfigError, match="tie"):
        PairModel(ties="davidson", tie="none")


def test_unconverged_is_said():
    fit = fit_pairs(planted(11).votes, PairModel(position="annotator"), Settings(max_iterations=2, spread_rounds=1))
    assert not fit.converged
    assert "not converged in 2 steps" in "\n".join(fit.notes)


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ({"spreads": (1.2, 0.0, 0.0)}, PairModel(slope=False)),
        ({}, PairModel(position="annotator")),
        ({"shape": (40, 100, 1500)}, PairModel(position="annotator")),
        ({"tie": 0.0}, PairModel(position="annotator", ties="davidson", tie="shared")),
    ],
)
def test_intervals_cover_the_planted_truth(kind, model):
    covered: dict[str, list[float]] = {"gap": [], "scores": [], "slope": []}
    for seed in range(40):
        world = planted(100 + seed, **kind)
        fit = fit_pairs(world.votes, model)
        truth = {"gap": world.scores_I[fit.lo_P] - world.scores_I[fit.hi_P], "scores": world.scores_I, "slope": world.slope_A}
        bands = {"gap": fit.gap, "scores": fit.scores} | {name: fit.traits[name] for name in fit.traits if name == "slope"}
        for name, one in bands.items():
            covered[name].append(float(np.mean((one.low < truth[name]) & (truth[name] < one.high))))
    for name, shares in covered.items():
        if shares:
            assert 0.93 <= np.mean(shares) <= 0.97, (name, np.mean(shares))


def test_crowd_bt_finds_the_liars():
    world = planted(12, (60, 40, 12_000), adversaries=4, spreads=(1.2, 0.1, 0.0))
    fit = fit_crowd(world.votes)
    assert fit.converged
    assert np.flatnonzero(fit.honesty.high < 0.5).tolist() == [0, 1, 2, 3]
    assert np.corrcoef(fit.scores.value, world.scores_I)[0, 1] > 0.97


def _ukp() -> tuple:
    root = Path(os.environ.get("PREFERENT_SHARED_DATA", Path(__file__).parents[2] / "../shared/data"))
    path = root / "ukpconvarg1_crowd.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    items: dict[tuple[str, str], int] = {}
    who: dict[str, int] = {}
    pairs: dict[str, int] = {}
    rows = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in map(json.loads, lines):
            topic, two = line["item"].rsplit("/", 1)
            i, j = (items.setdefault((topic, name), len(items)) for name in two.split("_"))
            win = {"a1": 1.0, "equal": 0.5, "a2": 0.0}[line["label"]]
            rows.append((i, j, who.setdefault(line["annotator"], len(who)), pairs.setdefault(line["item"], len(pairs)), win))
    columns = np.array(rows)
    whole = columns[:, :4].astype(np.int64)
    return whole[:, :2], columns[:, 4], whole[:, 2], whole[:, 3]


def test_real_votes_with_one_held_out_per_pair_are_foretold_better_than_by_shares():
    items, outcome, who, pair = _ukp()
    votes = pair_votes(items, outcome, annotator_V=who, shown_first_V=items[:, 0])
    order = np.lexsort((np.random.default_rng(0).random(len(outcome)), pair))
    held = np.zeros(len(outcome), dtype=bool)
    held[order[np.concatenate([[True], np.diff(pair[order]) != 0])]] = True
    counts = np.ones((pair.max() + 1, 3))  # one pseudo-vote each: the best smoothing in steps of 2
    np.add.at(counts, (pair[~held], (2 * outcome[~held]).astype(int)), 1)
    shares = (counts / counts.sum(1, keepdims=True))[pair[held]]
    fit = fit_pairs(votes.take(~held), PairModel(ties="davidson"))
    ours, truth = outcome_probabilities(fit, votes.take(held)), (2 * outcome[held]).astype(int)

    def judge(p):
        return np.mean(p.argmax(1) == truth), -np.mean(np.log(p[np.arange(len(truth)), truth]))

    (accuracy, nll), (share_accuracy, share_nll) = judge(ours), judge(shares)
    assert accuracy >= share_accuracy + 0.04
    assert nll <= share_nll - 0.08


def test_calls_of_adversaries_are_many_and_few_are_wrong():
    """A sparse world: 300 people of uneven activity, one in ten against what they see; prompts of four responses, five votes a pair."""
    rng = np.random.default_rng(0)
    prompts, n_people = 1500, 300
    first, second = np.triu_indices(4, 1)
    one, two = ((4 * np.arange(prompts)[:, None] + side).ravel() for side in (first, second))
    scores = rng.normal(0, 1.5, 4 * prompts)
    slope = rng.lognormal(0, 0.5, n_people) * np.where(np.arange(n_people) < 30, -1.0, 1.0)
    activity = rng.lognormal(0, 0.8, n_people)
    pair = np.repeat(np.arange(len(one)), 5)
    who = rng.choice(n_people, len(pair), p=activity / activity.sum())
    d = slope[who] * (scores[one] - scores[two])[pair]
    outcome = (rng.random(len(d)) < 1 / (1 + np.exp(-d))).astype(float)
    votes = pair_votes(np.stack([one[pair], two[pair]], 1), outcome, annotator_V=who, counts=(4 * prompts, n_people))
    fit = fit_pairs(votes, PairModel())
    called = opposed(fit, np.bincount(who, minlength=n_people) > 0) > 0
    assert called[:30].mean() >= 0.95
    assert called[30:].mean() <= 0.01


def test_the_calls_stay_within_what_may_be_wrong():
    # Slopes -2, -1, -.9 and 1 with sd 1: chances of being negative .977, .841, .816, .159. A crowd of four may hold .04 wrong calls: the
    # first (1 - .977 = .023) fits, the second (.159 more) does not. Among 4,000 people 40 wrong calls are allowed.
    value = np.array([-2.0, -1.0, -0.9, 1.0])

    def called(n: int) -> list[int]:
        slope = np.concatenate([value, np.full(n - 4, 1.0)])
        fit = SimpleNamespace(traits={"slope": Banded(slope, slope - Z95, slope + Z95)})
        return np.flatnonzero(opposed(fit, np.ones(n, dtype=bool))).tolist()  # type: ignore[arg-type]

    assert called(4) == [0]
    assert called(4000) == [0, 1, 2]
