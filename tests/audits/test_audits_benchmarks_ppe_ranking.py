"""PPE's ranking of models: worked examples, and that names, sides and the order of rows do not matter."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from preferent.audits.benchmarks import ppe
from preferent.audits.benchmarks.ppe_ranking import NAMES, PRIOR, ModelPairs, _kendall, _spearman, ranking_metrics, strengths
from preferent.audits.benchmarks.result import Bootstrap


def boot() -> Bootstrap:
    return Bootstrap(np.random.default_rng(0), 200)


def world(n: int, scorer_gap: float, *, seed: int = 0, models: int = 6) -> ModelPairs:
    """Models of strengths 0, .6, 1.2, ...; people judge by them, the scorer by `scorer_gap` times them."""
    rng = np.random.default_rng(seed)
    a, b = np.array([rng.choice(models, 2, replace=False) for _ in range(n)]).T
    gap = 0.6 * (a - b)
    people, scorer = ((rng.random(n) < 1 / (1 + np.exp(-scale * gap))).astype(float) for scale in (1.0, scorer_gap))
    return ModelPairs([f"m{k}" for k in range(models)], a, b, people, scorer, list(range(n)))


def test_strengths_of_two_models_are_the_log_odds() -> None:
    """3 wins to 1, and PRIOR each way: log(3.1 / 1.1), split evenly around 0."""
    wins = np.array([[[0.0, 3.0], [1.0, 0.0]]])
    half = np.log((3 + PRIOR) / (1 + PRIOR)) / 2
    assert strengths(wins)[0] == pytest.approx([half, -half])


def test_strengths_are_where_wins_are_as_expected() -> None:
    rng = np.random.default_rng(0)
    wins = rng.integers(0, 9, (3, 5, 5)).astype(float) * (1 - np.eye(5))
    found = strengths(wins)
    counts = wins + PRIOR * (1 - np.eye(5))
    met = counts + counts.transpose(0, 2, 1)
    expected = (met / (1 + np.exp(found[:, None, :] - found[:, :, None]))).sum(axis=2) - np.diagonal(met, axis1=1, axis2=2) / 2
    assert expected == pytest.approx(counts.sum(axis=2), abs=1e-5)


def test_a_good_scorer_a_random_one_and_its_opposite() -> None:
    good, none, bad = (ranking_metrics(world(3000, gap), boot()) for gap in (1.5, 0.0, -1.5))
    assert [good[name].value for name in ("Spearman", "Kendall", "confidence agreement")] == pytest.approx([1.0, 1.0, 1.0])
    assert good["row-wise Pearson"].value > 0.95
    assert good["separability"].value == 1.0
    assert good["Brier score"].value < 0.01
    assert none["separability"].value < 0.4
    assert none["confidence agreement"].value == pytest.approx(0.0, abs=0.35)
    assert [bad[name].value for name in ("Spearman", "Kendall", "confidence agreement")] == pytest.approx([-1.0, -1.0, -1.0])
    assert bad["Brier score"].value > 0.99
    assert tuple(good) == NAMES
    assert good["Spearman"].low <= 1.0 == pytest.approx(good["Spearman"].high)
    assert np.isnan(good["separability"].low)


def test_names_sides_and_order_do_not_matter() -> None:
    made = world(400, 1.0)
    turned = ModelPairs(made.names, made.b_N, made.a_N, 1 - made.people_N, 1 - made.scorer_N, made.prompts)
    renamed = ModelPairs(made.names, 5 - made.a_N, 5 - made.b_N, made.people_N, made.scorer_N, made.prompts)
    order = np.random.default_rng(1).permutation(400)
    mixed = ModelPairs(
        made.names, made.a_N[order], made.b_N[order], made.people_N[order], made.scorer_N[order], [made.prompts[k] for k in order]
    )
    first = ranking_metrics(made, boot())
    for other in (turned, renamed):
        found = ranking_metrics(other, boot())
        assert {name: value.value for name, value in found.items()} == pytest.approx({name: value.value for name, value in first.items()})
    again = ranking_metrics(mixed, boot())
    assert [again[name].value for name in NAMES[:3]] == pytest.approx([first[name].value for name in NAMES[:3]])


def test_from_rows_and_with_too_few_models() -> None:
    def row(a: str, b: str, winner: str, k: int) -> dict[str, object]:
        return {"prompt": f"p{k}", "response_1": a, "response_2": b, "winner": winner, "model_a": a, "model_b": b}

    rows = [row(a, b, winner, k) for k, (a, b, winner) in enumerate([("x", "y", "model_a"), ("y", "z", "model_a"), ("x", "z", "tie")] * 5)]
    items = ppe.rows_to_items([(f"f:{k + 1}", one) for k, one in enumerate(rows)])
    rank = {"x": 3.0, "y": 2.0, "z": 1.0}
    rewards = [np.array([rank[text] for text in item.responses]) for item in items]
    result = ppe.score(items, rewards, boot())
    assert result.numbers["models: Spearman"].value == pytest.approx(1.0)
    assert result.numbers["human accuracy"].value == 1.0
    assert any("3 models are ranked by 15 pairs" in note for note in result.notes)
    two = ppe.score(items[:1], rewards[:1], boot())
    assert two.numbers["models: Kendall"].method == "2 models; a ranking needs 3"
    unnamed = ppe.rows_to_items([("f:1", {name: value for name, value in rows[0].items() if not name.startswith("model")})])
    assert not [name for name in ppe.score(unnamed, rewards[:1], boot()).numbers if name.startswith("models")]


def test_rank_correlations_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        one, other = rng.integers(0, 5, 8).astype(float), rng.integers(0, 5, 8).astype(float)
        assert _kendall(one, other) == pytest.approx(stats.kendalltau(one, other)[0])
        assert _spearman(one, other) == pytest.approx(stats.spearmanr(one, other)[0])
    assert _kendall(np.zeros(3), np.arange(3.0)) == _spearman(np.zeros(3), np.arange(3.0)) == 0.0
