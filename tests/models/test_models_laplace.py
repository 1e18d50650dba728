"""The covariance of the last layer: against logistic regressions whose spread is known, and its properties."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from preferent.core.errors import FitError, ModelError
from preferent.models.laplace import fit_laplace, from_tensors


def world(rng: np.random.Generator, n_pairs: int, weight_W: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(features, pairs, p): every response is in one pair, labels are drawn from the model."""
    features_NW = rng.normal(size=(2 * n_pairs, len(weight_W)))
    pairs_E2 = np.arange(2 * n_pairs).reshape(-1, 2)
    x_EW = features_NW[pairs_E2[:, 0]] - features_NW[pairs_E2[:, 1]]
    return features_NW, pairs_E2, (rng.random(n_pairs) < expit(x_EW @ weight_W)).astype(float)


def maximum(features_NW: np.ndarray, pairs_E2: np.ndarray, p_E: np.ndarray, tau: float) -> np.ndarray:
    """The most probable weights under the prior, by Newton's method."""
    x_EW = features_NW[pairs_E2[:, 0]] - features_NW[pairs_E2[:, 1]]
    weight_W = np.zeros(x_EW.shape[1])
    for _ in range(30):
        win_E = expit(x_EW @ weight_W)
        slope = x_EW.T @ (p_E - win_E) - tau * weight_W
        weight_W = weight_W + np.linalg.solve((x_EW * (win_E * (1 - win_E))[:, None]).T @ x_EW + tau * np.eye(len(weight_W)), slope)
    return weight_W


def test_two_weights_by_hand() -> None:
    # At w = 0 every pair has s (1 - s) = 1/4. 40 pairs along the first axis, 20 along the second, tau = 5:
    # the curvature is 10 + 5 and 5 + 5, so the variances are 1/15 and 1/10.
    features_NW = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    pairs_E2 = np.array([[0, 1]] * 40 + [[2, 1]] * 20)
    found = fit_laplace(features_NW, pairs_E2, np.zeros(2), prior_precision=5.0)
    differences = found.difference_std(features_NW[[0, 2, 0]], features_NW[[1, 1, 2]])
    np.testing.assert_allclose(differences**2, [1 / 15, 1 / 10, 1 / 15 + 1 / 10], rtol=1e-6)
    # As the difference from the mean response, (1/3, 1/3).
    np.testing.assert_allclose(found.std(features_NW[:1]) ** 2, (2 / 3) ** 2 / 15 + (1 / 3) ** 2 / 10, rtol=1e-6)
    # Labels believed half as much (T = sqrt 2 halves the curvature), and each pair counted twice.
    cooler = fit_laplace(features_NW, pairs_E2, np.zeros(2), prior_precision=5.0, temperature=np.sqrt(2.0))
    np.testing.assert_allclose(cooler.difference_std(features_NW[:1], features_NW[1:2]) ** 2, 1 / 10, rtol=1e-6)
    twice = fit_laplace(features_NW, pairs_E2, np.zeros(2), weight_E=np.full(60, 2.0), prior_precision=5.0)
    again = fit_laplace(features_NW, np.concatenate([pairs_E2, pairs_E2[:, ::-1]]), np.zeros(2), prior_precision=5.0)
    np.testing.assert_allclose(twice.root_WW, again.root_WW)


def test_the_standard_deviation_is_that_of_the_error() -> None:
    """Labels drawn again and again: (estimated - true difference) / std has a standard deviation of 1."""
    rng = np.random.default_rng(0)
    true_W = np.array([1.0, -0.5, 0.25, 0.0])
    z = []
    for _ in range(150):
        features_NW, pairs_E2, p_E = world(rng, 200, true_W)
        weight_W = maximum(features_NW, pairs_E2, p_E, tau=0.01)
        found = fit_laplace(features_NW, pairs_E2, weight_W, prior_precision=0.01)
        new_NW, other_NW = rng.normal(size=(2, 20, 4))
        z.append((new_NW - other_NW) @ (weight_W - true_W) / found.difference_std(new_NW, other_NW))
    assert 0.93 < np.std(z) < 1.12


def test_less_data_is_less_sure_and_the_evidence_finds_the_prior() -> None:
    rng = np.random.default_rng(1)
    weight_W = rng.normal(size=30) / np.sqrt(10.0)  # a prior precision of 10
    large = world(rng, 2000, weight_W)
    fitted_W = maximum(*large, tau=10.0)
    found = fit_laplace(large[0], large[1], fitted_W)
    assert found.spec.chosen == "the highest evidence"
    assert 4.0 < found.spec.prior_precision < 25.0
    few = fit_laplace(large[0], large[1][:200], fitted_W, prior_precision=10.0)
    new_NW, other_NW = rng.normal(size=(2, 50, 30))
    assert (few.difference_std(new_NW, other_NW) > 1.5 * found.difference_std(new_NW, other_NW)).all()
    assert (found.difference_std(new_NW, new_NW) == 0.0).all()


def test_a_checkpoint_holds_it() -> None:
    rng = np.random.default_rng(2)
    features_NW, pairs_E2, _ = world(rng, 60, np.ones(5))
    found = fit_laplace(features_NW, pairs_E2, np.ones(5))
    tensors = found.tensors()
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {"root": (15,), "mean": (5,)}
    again = from_tensors(found.spec, tensors)
    np.testing.assert_array_equal(again.std(features_NW), found.std(features_NW))
    with pytest.raises(ModelError, match="does not fit its card"):
        from_tensors(found.spec.model_copy(update={"width": 6}), tensors)


def test_what_has_no_answer() -> None:
    features_NW, pairs_E2, _ = world(np.random.default_rng(3), 60, np.ones(5))
    with pytest.raises(FitError, match="19 comparisons, needs 20"):
        fit_laplace(features_NW, pairs_E2[:19], np.ones(5))
    with pytest.raises(FitError, match="never differ"):
        fit_laplace(np.ones_like(features_NW), pairs_E2, np.ones(5))
