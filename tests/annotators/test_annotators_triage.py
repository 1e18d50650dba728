"""Labels to ask about again: the arithmetic, planted wrong labels, and why scores must be cross-fitted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import rankdata

from preferent.annotators.triage import surprise, triage
from preferent.core.errors import DataError


def auroc(score_N: Any, wrong_N: Any) -> float:
    """Chance that a wrong label ranks above a right one (Mann and Whitney)."""
    ranks_N, wrong_N = rankdata(score_N), np.asarray(wrong_N, dtype=bool)
    n = wrong_N.sum()
    return float((ranks_N[wrong_N].sum() - n * (n + 1) / 2) / (n * (~wrong_N).sum()))


def test_surprise_of_a_hard_label_is_minus_the_log_of_its_probability() -> None:
    """Logits log 3 and 0 are probabilities 3/4 and 1/2, of which the mean is 5/8: -log(5/8) for a, -log(3/8) for b."""
    margin_M2 = np.log([[3.0, 3.0], [1.0, 1.0]])
    assert surprise([1.0, 0.0], margin_M2) == pytest.approx([-np.log(5 / 8), -np.log(3 / 8)])


def test_surprise_of_a_soft_label_is_a_divergence() -> None:
    """KL(0.7 || 0.2) = 0.7 log 3.5 + 0.3 log 0.375; 0 where the models say the same."""
    assert surprise([0.7, 0.5], [[np.log(0.25), 0.0]]) == pytest.approx([0.7 * np.log(3.5) + 0.3 * np.log(0.375), 0.0])


def test_surprise_stays_exact_for_rewards_far_apart_and_does_not_know_sides() -> None:
    assert surprise([0.0, 1.0], [[800.0, 800.0]]) == pytest.approx([800.0, 0.0])
    p_N, margin_MN = np.array([0.9, 0.3]), np.random.default_rng(0).normal(size=(3, 2))
    assert surprise(1 - p_N, -margin_MN) == pytest.approx(surprise(p_N, margin_MN))


def test_reasons_shares_and_order() -> None:
    margin_MN = np.array([[2.0, -3.0, 0.1, 4.0, -1.0], [2.0, -3.0, 0.1, 4.0, 2.0]])
    found = triage([1.0, 1.0, 1.0, 0.5, 1.0], margin_MN, list("abcde"), n=4, random_share=0.0, rng=np.random.default_rng(0))
    rows = {suspect.row: suspect for suspect in found.suspects}
    # Surprises: -log sigmoid(-3) = 3.05; of the tie 1.33; -log sigmoid(0.1) = 0.64; -log((sigmoid(-1) + sigmoid(2))/2) = 0.55; and 0.13.
    assert [suspect.row for suspect in found.suspects] == [1, 3, 2, 4]
    assert rows[1].surprise == pytest.approx(3.0486, abs=1e-4)
    assert (rows[1].reason, rows[1].against) == ("against", 1.0)
    assert (rows[3].reason, rows[3].against) == ("against", None)
    assert (rows[2].reason, rows[2].against) == ("unsure", 0.0)
    assert (rows[4].reason, rows[4].against) == ("unsure", 0.5)
    assert rows[4].spread == pytest.approx(3 / np.sqrt(2))
    assert found.contradicted.value == 0.25
    assert found.contradicted.n == 4


def test_some_are_drawn_from_the_rest_and_none_twice() -> None:
    rng = np.random.default_rng(1)
    p_N, margin_N = (rng.random(200) < 0.5).astype(float), rng.normal(size=200)
    found = triage(p_N, margin_N, range(200), n=50, random_share=0.2, rng=rng)
    reasons = [suspect.reason for suspect in found.suspects]
    assert len({suspect.row for suspect in found.suspects}) == 50
    assert reasons[-10:] == ["random"] * 10
    assert "random" not in reasons[:40]
    assert len(triage(p_N, margin_N, range(200), n=500, random_share=0.2, rng=rng).suspects) == 200


def test_what_cannot_be() -> None:
    with pytest.raises(DataError, match="one label"):
        triage([1.0], [[1.0, 2.0]], ["a"], n=1, rng=np.random.default_rng(0))
    with pytest.raises(DataError, match="finite"):
        triage([1.0], [[np.nan]], ["a"], n=1, rng=np.random.default_rng(0))
    with pytest.raises(DataError, match="one label"):
        triage([], [[]], [], n=1, rng=np.random.default_rng(0))


def _fit(x_NF: np.ndarray, p_N: np.ndarray, ridge: float = 1.0) -> np.ndarray:
    w_F = np.zeros(x_NF.shape[1])
    for _ in range(40):
        q_N = expit(x_NF @ w_F)
        hessian = (x_NF * (q_N * (1 - q_N))[:, None]).T @ x_NF + ridge * np.eye(len(w_F))
        w_F = w_F + np.linalg.solve(hessian, x_NF.T @ (p_N - q_N) - ridge * w_F)
    return w_F


def test_planted_flips_are_found_by_a_cross_fitted_ensemble() -> None:
    """600 pairs, truth linear in 12 of 60 features, 15 % of the labels flipped. Five bootstrap members, five folds."""
    rng = np.random.default_rng(3)
    x_NF, truth_F = rng.normal(size=(600, 60)), rng.normal(size=60) * (np.arange(60) < 12)
    clean_N = (x_NF @ truth_F > 0).astype(float)
    flipped_N = rng.random(600) < 0.15
    label_N = np.where(flipped_N, 1 - clean_N, clean_N)
    fold_N = rng.integers(0, 5, 600)
    margin_MN = np.zeros((5, 600))
    for member in range(5):
        own = rng.integers(0, 600, 600)
        for fold in range(5):
            kept = own[fold_N[own] != fold]
            margin_MN[member, fold_N == fold] = x_NF[fold_N == fold] @ _fit(x_NF[kept], label_N[kept])
    assert 0.82 < auroc(surprise(label_N, margin_MN), flipped_N) < 0.98
    asked = triage(label_N, margin_MN, range(600), n=90, random_share=0.0, rng=rng).suspects
    # Far above the 15 % there are, and far from all: what an automatic flip would have got wrong.
    assert 0.4 < np.mean([flipped_N[suspect.row] for suspect in asked]) < 0.9


def test_a_model_that_remembers_its_labels_contradicts_few_of_the_wrong_ones() -> None:
    """A smoother over near neighbours, so narrow that a pair's own label speaks loudest; scored with and without that label."""
    rng = np.random.default_rng(0)
    x_ND, truth_D = rng.normal(size=(500, 3)), rng.normal(size=3)
    clean_N = (x_ND @ truth_D > 0).astype(float)
    flipped_N = rng.random(500) < 0.15
    label_N = np.where(flipped_N, 1 - clean_N, clean_N)
    near_NN = np.exp(-((x_ND[:, None] - x_ND[None]) ** 2).sum(-1) / 0.03)

    def margin(near_NN: np.ndarray) -> np.ndarray:
        return np.log((near_NN @ label_N + 0.01) / (near_NN @ (1 - label_N) + 0.01))

    inside_N, crossed_N = (np.atleast_2d(margin(kernel)) for kernel in (near_NN, near_NN * (1 - np.eye(500))))
    assert auroc(surprise(label_N, crossed_N), flipped_N) > 0.8
    assert auroc(surprise(label_N, inside_N), flipped_N) < auroc(surprise(label_N, crossed_N), flipped_N) - 0.02
    inside, crossed = (triage(label_N, m_N, range(500), n=1, rng=rng).contradicted.value for m_N in (inside_N, crossed_N))
    assert crossed > 0.15 > 2 * inside
