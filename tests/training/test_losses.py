"""Losses against worked examples, finite differences, and the symmetries that a ranking loss must have."""

import itertools
import math

import pytest
import torch
from torch.autograd import gradcheck

from preferent.training.losses import (
    bradley_terry,
    centring,
    davidson,
    davidson_log_probabilities,
    label_smoothing,
    outcomes,
    plackett_luce,
    rao_kupper,
    rao_kupper_log_probabilities,
)

HALF = [torch.float16, torch.bfloat16]


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def random(*shape, seed=0, scale=1.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def labels(n, seed=1):
    """Soft labels with an exact win, tie and loss among them."""
    p = torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    p[:3] = double(0.0, 0.5, 1.0)
    return p


# Bradley-Terry


def test_bradley_terry_worked_example():
    # d = 2 - 1 = 1. log(1 + e^-1) = 0.313262, log(1 + e^1) = 1.313262.
    # p = 1: 0.313262; p = 0: 1.313262; p = 0.7: 0.7 * 0.313262 + 0.3 * 1.313262 = 0.613262.
    loss_E = bradley_terry(double(2, 2, 2), double(1, 1, 1), double(1, 0, 0.7))
    torch.testing.assert_close(loss_E, double(0.313262, 1.313262, 0.613262), atol=1e-6, rtol=0)


def test_margin_is_subtracted_from_the_preferred_side():
    # d = 1, m = 0.5. i preferred: log(1 + e^-0.5) = 0.474077; j preferred: -1 - 0.5 = -1.5, log(1 + e^1.5) = 1.701413.
    # p = 0.7: 0.7 * 0.474077 + 0.3 * 1.701413 = 0.842278. A margin of 0 is none.
    margin_E = double(0.5, 0.5, 0.5, 0)
    loss_E = bradley_terry(double(2, 2, 2, 2), double(1, 1, 1, 1), double(1, 0, 0.7, 1), margin_E=margin_E)
    torch.testing.assert_close(loss_E, double(0.474077, 1.701413, 0.842278, 0.313262), atol=1e-6, rtol=0)


def test_soft_label_is_the_mean_over_drawn_labels_with_and_without_margin():
    r_i, r_j, p, m = random(40), random(40, seed=1), labels(40), random(40, seed=2).abs()
    for margin_E in (None, m):
        win, loss = (bradley_terry(r_i, r_j, torch.full_like(p, side), margin_E=margin_E) for side in (1.0, 0.0))
        torch.testing.assert_close(bradley_terry(r_i, r_j, p, margin_E=margin_E), p * win + (1 - p) * loss)


def test_bradley_terry_symmetries():
    r_i, r_j, p, m = random(40), random(40, seed=1), labels(40), random(40, seed=2).abs()
    here = bradley_terry(r_i, r_j, p, margin_E=m)
    torch.testing.assert_close(bradley_terry(r_j, r_i, 1 - p, margin_E=m), here)
    torch.testing.assert_close(bradley_terry(r_i + 7, r_j + 7, p, margin_E=m), here)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(bradley_terry(r_i[order], r_j[order], p[order], margin_E=m[order]), here[order])


def test_bradley_terry_is_least_at_the_log_odds_of_the_label():
    p = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    d = torch.logit(p).requires_grad_()
    bradley_terry(d, torch.zeros_like(d), p).sum().backward()
    assert d.grad is not None
    torch.testing.assert_close(d.grad, torch.zeros_like(d), atol=1e-12, rtol=0)


def test_label_smoothing():
    # Flipped with probability 0.1: 1 -> 0.9, 0 -> 0.1, 0.8 -> 0.8 * 0.9 + 0.2 * 0.1 = 0.74, and a tie stays exactly a tie.
    smooth = label_smoothing(double(1, 0, 0.8, 0.5), 0.1)
    torch.testing.assert_close(smooth, double(0.9, 0.1, 0.74, 0.5))
    assert label_smoothing(torch.tensor([0.5]), 0.37).item() == 0.5
    for eps in (-0.1, 0.5, float("nan")):
        with pytest.raises(ValueError, match="label smoothing"):
            label_smoothing(double(1), eps)


def test_centring_worked_example():
    # 0.01 * (1 + 2)^2 = 0.09; opposite rewards cost nothing.
    torch.testing.assert_close(centring(double(1, 3), double(2, -3), 0.01), double(0.09, 0))


# Ties


def test_outcomes():
    # No shares known: an exact half is a tie, anything else has none. A known share of 0.4 at p = 0.7: 0.5, 0.4, 0.1.
    # A share of 1 at p = 0.7 is cut to 2 * 0.3 = 0.6: 0.4, 0.6, 0.
    torch.testing.assert_close(outcomes(double(0.5, 0.7)), double(0, 1, 0, 0.7, 0, 0.3).view(2, 3))
    torch.testing.assert_close(outcomes(double(0.7, 0.7), double(0.4, 1.0)), double(0.5, 0.4, 0.1, 0.4, 0.6, 0).view(2, 3))
    p, tie = labels(50), torch.rand(50, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    target = outcomes(p, tie)
    assert (target >= 0).all()
    torch.testing.assert_close(target.sum(-1), torch.ones_like(p))
    torch.testing.assert_close(target[:, 0] + target[:, 1] / 2, p)
    torch.testing.assert_close(outcomes(1 - p, tie), target.flip(-1), atol=1e-15, rtol=1e-9)


def test_davidson_worked_example():
    # Worths 4 and 1 (d = log 4), nu = 1: 4 : sqrt(4 * 1) = 2 : 1 of 7.
    p = davidson_log_probabilities(double(math.log(4)), double(0).squeeze()).exp()
    torch.testing.assert_close(p, double(4, 2, 1)[None] / 7)
    loss = davidson(double(math.log(4)), double(0.5, 0.25, 0.25)[None], log_nu=double(0).squeeze())
    expected = -(0.5 * math.log(4 / 7) + 0.25 * math.log(2 / 7) + 0.25 * math.log(1 / 7))
    torch.testing.assert_close(loss, double(expected))


def test_rao_kupper_worked_example():
    # Worths 4 and 1, theta = 2 (raw 0: eta = log 2): win 4 / (4 + 2) = 2/3, loss 1 / (1 + 8) = 1/9, tie 1 - 2/3 - 1/9 = 2/9.
    p = rao_kupper_log_probabilities(double(math.log(4)), double(0).squeeze()).exp()
    torch.testing.assert_close(p, double(6, 2, 1)[None] / 9)
    loss = rao_kupper(double(math.log(4)), double(0, 1, 0)[None], raw_theta=double(0).squeeze())
    torch.testing.assert_close(loss, double(-math.log(2 / 9)))


@pytest.mark.parametrize("log_probabilities", [davidson_log_probabilities, rao_kupper_log_probabilities])
@pytest.mark.parametrize("parameter", [-70.0, -8.0, -1.0, 0.0, 1.0, 8.0])
def test_three_outcomes_are_probabilities(log_probabilities, parameter):
    d = torch.cat([random(50, scale=5), double(0, 30, -30, 200)])
    p = log_probabilities(d, torch.tensor(parameter, dtype=torch.float64)).exp()
    torch.testing.assert_close(p.sum(-1), torch.ones_like(d))
    torch.testing.assert_close(log_probabilities(-d, torch.tensor(parameter, dtype=torch.float64)).exp(), p.flip(-1))
    # Equals tie a third of the time at 0, and more with a larger parameter.
    equals = log_probabilities(double(0), torch.tensor(parameter, dtype=torch.float64)).exp()[0, 1]
    assert (equals - 1 / 3).sign() == round(math.copysign(1, parameter)) * (parameter != 0) or abs(equals - 1 / 3) < 1e-12


@pytest.mark.parametrize(("loss", "name"), [(davidson, "log_nu"), (rao_kupper, "raw_theta")])
def test_without_ties_both_are_bradley_terry(loss, name):
    d, p = random(30, scale=3), labels(30).clamp(0.01, 0.49)
    plain = bradley_terry(d, torch.zeros_like(d), p)
    torch.testing.assert_close(loss(d, outcomes(p), **{name: double(-50).squeeze()}), plain)


@pytest.mark.parametrize(
    ("loss", "name", "log_p"), [(davidson, "log_nu", davidson_log_probabilities), (rao_kupper, "raw_theta", rao_kupper_log_probabilities)]
)
def test_planted_tie_parameter_is_learned(loss, name, log_p):
    # The cross entropy of the true probabilities is least at the true parameter.
    d, truth = random(200, scale=2), double(0.8).squeeze()
    target = log_p(d, truth).exp()
    parameter = double(-1.0).squeeze().requires_grad_()
    optimizer = torch.optim.LBFGS([parameter], max_iter=50, line_search_fn="strong_wolfe", tolerance_grad=1e-10, tolerance_change=1e-14)

    def closure():
        optimizer.zero_grad()
        value = loss(d, target, **{name: parameter}).mean()
        value.backward()
        return value

    optimizer.step(closure)
    assert parameter.item() == pytest.approx(0.8, abs=1e-5)


# Plackett-Luce


def by_hand(reward, ranks):
    """Minus log likelihood by drawing the best first; a tied set shares one denominator, a last single item is no choice."""
    total = 0.0
    for rank in sorted(set(ranks)):
        tied = [r for r, k in zip(reward, ranks, strict=True) if k == rank]
        rest = [r for r, k in zip(reward, ranks, strict=True) if k >= rank]
        draws = len(tied) - (len(tied) == len(rest))
        total += draws * (math.log(sum(map(math.exp, rest))) - sum(tied) / len(tied))
    return total


def test_plackett_luce_worked_example():
    # Worths 3, 2, 1 in that order: 3/6 * 2/3 * 1 = 1/3. The other way round: 1/6 * 2/5 = 1/15.
    reward = double(3, 2, 1).log()
    torch.testing.assert_close(plackett_luce(reward, torch.tensor([1, 2, 3])), double(math.log(3)))
    torch.testing.assert_close(plackett_luce(reward, torch.tensor([3, 2, 1])), double(math.log(15)))
    # 3 and 2 tied above 1: both draws out of 6: 3/6 * 2/6 = 1/6. 3 above the tied 2 and 1: 3/6, then one draw out of 3 whose
    # reward is the mean of the two: sqrt(2 * 1) / 3; together sqrt(2) / 6.
    torch.testing.assert_close(plackett_luce(reward, torch.tensor([1, 1, 2])), double(math.log(6)))
    torch.testing.assert_close(plackett_luce(reward, torch.tensor([1, 2, 2])), double(math.log(6 / math.sqrt(2))))


def test_orders_of_strict_rankings_are_probabilities():
    reward = random(4)
    chances = [plackett_luce(reward, torch.tensor(order)).neg().exp().item() for order in itertools.permutations(range(4))]
    assert sum(chances) == pytest.approx(1.0)


def test_two_items_are_bradley_terry():
    reward = random(60)
    rank, ranking = torch.tensor([1, 2, 2, 1, 5, 5] * 10), torch.arange(30).repeat_interleave(2)
    p = double(1, 0, 0.5).repeat(10)
    torch.testing.assert_close(plackett_luce(reward, rank, ranking_N=ranking), bradley_terry(reward[::2], reward[1::2], p))


def test_many_rankings_at_once_are_each_alone_in_any_order():
    generator = torch.Generator().manual_seed(3)
    ranking = torch.randint(0, 8, (60,), generator=generator)
    rank = torch.randint(1, 5, (60,), generator=generator)
    reward = random(60, seed=5, scale=2)
    together = plackett_luce(reward, rank, ranking_N=ranking, n_rankings=9)
    expected = [by_hand(reward[ranking == g].tolist(), rank[ranking == g].tolist()) for g in range(9)]
    torch.testing.assert_close(together, double(*expected))
    assert together[8] == 0
    order = torch.randperm(60, generator=generator)
    torch.testing.assert_close(plackett_luce(reward[order], rank[order], ranking_N=ranking[order], n_rankings=9), together)
    # Only differences of rewards and the order of ranks count.
    torch.testing.assert_close(plackett_luce(reward + 5, rank.double() ** 2 - 7, ranking_N=ranking, n_rankings=9), together)


def test_items_that_are_all_tied_are_pulled_together():
    reward = random(5, seed=2).requires_grad_()
    plackett_luce(reward, torch.ones(5)).sum().backward()
    assert reward.grad is not None
    assert torch.dot(reward.grad, reward.detach() - reward.detach().mean()) > 0
    equal = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    plackett_luce(equal, torch.ones(5)).sum().backward()
    torch.testing.assert_close(equal.grad, torch.zeros(5, dtype=torch.float64))


def test_no_items():
    empty = torch.zeros(0)
    assert plackett_luce(empty, empty).shape == (0,)
    assert plackett_luce(empty, empty, ranking_N=empty.long(), n_rankings=2).tolist() == [0, 0]


# Derivatives and range


def test_finite_differences():
    def free(*shape, seed=0):
        return random(*shape, seed=seed, scale=2).requires_grad_()

    p, m = labels(6), random(6, seed=9).abs()
    parameter = double(0.3).squeeze().requires_grad_()
    ranking, rank = torch.tensor([0, 0, 0, 1, 1, 1, 1, 3]), torch.tensor([1, 2, 2, 3, 1, 1, 2, 1])
    assert gradcheck(lambda a, b: bradley_terry(a, b, p, margin_E=m), (free(6), free(6, seed=1)))
    assert gradcheck(lambda a, b: centring(a, b, 0.1), (free(6), free(6, seed=1)))
    assert gradcheck(lambda d, nu: davidson(d, outcomes(p), log_nu=nu), (free(6), parameter))
    assert gradcheck(lambda d, raw: rao_kupper(d, outcomes(p), raw_theta=raw), (free(6), parameter))
    assert gradcheck(lambda r: plackett_luce(r, rank, ranking_N=ranking), (free(8),))


def every_loss(reward_i, reward_j, p):
    """(name, loss per edge) of all losses on the same edges."""
    p = p.to(reward_i)
    d = reward_i.float() - reward_j.float()
    one = torch.ones_like(p)
    flat, members = torch.stack([reward_i, reward_j], 1).flatten(), torch.arange(len(p)).repeat_interleave(2)
    for raw in (-1e4, 0.0, 1e4):
        yield f"davidson {raw}", davidson(d, outcomes(p), log_nu=torch.tensor(raw, requires_grad=True))
        yield f"rao_kupper {raw}", rao_kupper(d, outcomes(p), raw_theta=torch.tensor(raw, requires_grad=True))
    yield "bradley_terry", bradley_terry(reward_i, reward_j, p)
    yield "margin", bradley_terry(reward_i, reward_j, p, margin_E=one)
    yield "centring", centring(reward_i, reward_j, 0.01)
    yield "plackett_luce", plackett_luce(flat, torch.stack([one, 2 - p.round()], 1).flatten(), ranking_N=members)


@pytest.mark.parametrize("dtype", [*HALF, torch.float32])
def test_half_precision_at_huge_differences(dtype):
    values = torch.tensor([0.0, 1e-3, 1.0, 50.0, 1e4, -1e4, -50.0, -1.0, 5e3, -5e3], dtype=dtype)
    i, j = (values[list(k)].clone().requires_grad_() for k in zip(*itertools.product(range(10), repeat=2), strict=True))
    for label in (0.0, 0.3, 0.5, 1.0):
        for name, loss_E in every_loss(i, j, torch.full((100,), label)):
            assert loss_E.dtype == torch.float32, name
            assert torch.isfinite(loss_E).all(), name
            gradients = torch.autograd.grad(loss_E.sum(), (i, j), allow_unused=True)
            assert all(torch.isfinite(g).all() for g in gradients if g is not None), name


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_is_widened_before_the_difference(dtype):
    # 2048 + 1 is 2048 in fp16 and 256 + 1 is 256 in bf16; the difference of two halves must not round again.
    big = {torch.float16: 2048.0, torch.bfloat16: 256.0}[dtype]
    i, j = torch.tensor([big], dtype=dtype), torch.tensor([-1.0], dtype=dtype)
    assert bradley_terry(i, j, torch.zeros(1)).item() == big + 1


def test_gradients_of_huge_differences_are_the_limits():
    # A pair that is 1e4 apart the right way pulls with 0, the wrong way with 1.
    i, j = torch.tensor([1e4, -1e4], requires_grad=True), torch.zeros(2)
    bradley_terry(i, j, torch.ones(2)).sum().backward()
    assert i.grad is not None
    assert i.grad.tolist() == [0.0, -1.0]


def test_tie_parameters_keep_a_finite_gradient_at_extremes():
    for loss, name in ((davidson, "log_nu"), (rao_kupper, "raw_theta")):
        for value in (-1e4, -80.0, 0.0, 80.0, 1e4):
            parameter = torch.tensor(value, requires_grad=True)
            loss(torch.tensor([1e4, 0.0, -1e4]), outcomes(torch.tensor([0.2, 0.5, 0.2])), **{name: parameter}).sum().backward()
            assert parameter.grad is not None
            assert torch.isfinite(parameter.grad), (name, value)
