"""PAR and the tilt by hand, and what each promises."""

from __future__ import annotations

import numpy as np
import pytest

from preferent.core.best_of_n import expected_best
from preferent.core.errors import ConfigError
from preferent.optimize.shaping import par, tilt


def test_par_by_hand_and_bounded() -> None:
    # Reward log 3 above its only reference: sigmoid(log 3) = 3/4. Between references 0 and 2 log 3 it is even.
    assert par([[np.log(3.0)]], [[0.0]]) == pytest.approx(np.array([[0.75]]))
    assert par([[np.log(3.0)]], [[0.0, 2 * np.log(3.0)]]) == pytest.approx(np.array([[0.5]]))
    assert par([[1e6, -1e6]], [[0.0]]) == pytest.approx(np.array([[1.0, 0.0]]))


def test_par_keeps_the_order_so_best_of_n_stays() -> None:
    rng = np.random.default_rng(0)
    reward, gold = rng.normal(size=(5, 40)), rng.normal(size=(5, 40))
    shaped = par(reward, reward[:, :3])
    assert expected_best(shaped, gold, [1, 4, 16]) == pytest.approx(expected_best(reward, gold, [1, 4, 16]))


def test_tilt_by_hand() -> None:
    # exp(log 3 / 1) : exp(0) = 3 : 1; KL = 3/4 log(3/2) + 1/4 log(1/2).
    weight, kl = tilt([[np.log(3.0), 0.0]], 1.0)
    assert weight == pytest.approx(np.array([[0.75, 0.25]]))
    assert kl == pytest.approx([0.75 * np.log(1.5) + 0.25 * np.log(0.5)])


def test_tilt_is_the_optimum_of_its_objective() -> None:
    rng = np.random.default_rng(1)
    reward, beta = rng.normal(size=(1, 30)), 0.7
    weight, kl = tilt(reward, beta)
    best = float((weight * reward).sum() - beta * kl[0])
    for _ in range(200):
        other = rng.dirichlet(np.ones(30) * 3) * 0.2 + weight[0] * 0.8
        assert float(other @ reward[0]) - beta * float((other * np.log(other * 30)).sum()) <= best + 1e-9


def test_tilt_at_the_ends() -> None:
    reward = np.array([[0.0, 1.0, 5.0, 2.0]])
    weight, kl = tilt(reward, 1e-3)
    assert weight == pytest.approx(np.array([[0.0, 0.0, 1.0, 0.0]]))
    assert kl == pytest.approx([np.log(4)])
    assert tilt(reward, 1e9)[1] == pytest.approx([0.0], abs=1e-9)


def test_bad_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="beta=0"):
        tilt([[1.0]], 0.0)
    with pytest.raises(ConfigError, match="references"):
        par([[1.0]], np.zeros((1, 0)))
