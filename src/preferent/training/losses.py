"""Ranking losses: pure functions of tensors that know no tokenizer, model or trainer.

Every loss comes back unreduced, one number per edge or per ranking, so that a loop can multiply by weights, sum over its
micro-batches and processes, and divide by the global weight once. All arithmetic is in fp32 (fp64 stays fp64) whatever comes in;
losses and gradients are finite for reward differences of ±1e4 and beyond.

Orientation: `p` is the probability that response i is preferred to response j, the difference is `d = reward_i - reward_j`,
higher rewards are better. Outcomes of an edge are ordered (i wins, tie, j wins).

Legend: E edges, N items in all rankings together, G rankings, K items of the longest ranking.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

# softplus of less than this is 0 in fp32, and its logarithm would be minus infinity.
_RAW_FLOOR = -60.0


def _wide(x: Tensor) -> Tensor:
    """At least fp32: differences of half-precision rewards are taken after widening, not before."""
    return x if x.dtype == torch.float64 else x.float()


def label_smoothing(p_E: Tensor, eps: float) -> Tensor:
    """The label as it looks when it was flipped with probability `eps`: `p + eps (1 - 2p)`, shape (E,).

    0.5 stays exactly 0.5. Raises ValueError unless 0 <= eps < 0.5.
    """
    if not 0.0 <= eps < 0.5:
        raise ValueError(f"label smoothing must be at least 0 and below 0.5, got {eps!r}")
    p_E = _wide(p_E)
    return p_E + eps * (1.0 - 2.0 * p_E)


def bradley_terry(reward_i_E: Tensor, reward_j_E: Tensor, p_E: Tensor, *, margin_E: Tensor | None = None) -> Tensor:
    """Cross entropy of the label p against sigma(d), shape (E,) (Bradley and Terry 1952; soft p).

    A margin m >= 0 is subtracted from the difference of whichever side is preferred (Touvron et al. 2023, eq. 2), outcome by
    outcome: `-p log sigma(d - m) - (1 - p) log sigma(-d - m)`. With p = 1 this is their loss; with a soft p it is the mean of their
    loss over labels drawn from p. So it is linear in p: one edge with the mean label equals the edges it was merged from.
    """
    d_E = _wide(reward_i_E) - _wide(reward_j_E)
    p_E = p_E.to(d_E)
    margin_E = torch.zeros_like(d_E) if margin_E is None else margin_E.to(d_E)
    return -p_E * logsigmoid(d_E - margin_E) - (1.0 - p_E) * logsigmoid(-d_E - margin_E)


def scaled(loss_E: Tensor, magnitude_E: Tensor) -> Tensor:
    """`magnitude loss`, shape (E,): scaled Bradley-Terry, a strong preference counts as that many (Wang et al. 2024,
    "HelpSteer2-Preference", eq. 3). Unlike a margin it does not ask for a larger difference than the label's own odds."""
    return magnitude_E.to(loss_E) * loss_E


def squared_error(value_M: Tensor, rating_M: Tensor) -> Tensor:
    """`(value - rating)^2`, shape (M,): the regression of ratings (Wang et al. 2023, "HelpSteer", eq. 1)."""
    return (_wide(value_M) - rating_M.to(_wide(value_M))).square()


def step_cross_entropy(logit_S: Tensor, label_S: Tensor) -> Tensor:
    """Cross entropy of soft labels against sigma(logit), shape (S,): `-y log sigma(z) - (1 - y) log sigma(-z)`.

    label: the probability that a step is right, in [0, 1] (Lightman et al. 2023 with 0 and 1; Wang et al. 2024, "Math-Shepherd", eq. 6,
    whose soft labels are shares of rollouts that come out right). A step without a label is not among the S.
    """
    logit_S = _wide(logit_S)
    label_S = label_S.to(logit_S)
    return -label_S * logsigmoid(logit_S) - (1.0 - label_S) * logsigmoid(-logit_S)


def annotator_logits(d_E: Tensor, slope_E: Tensor, position_E: Tensor, first_E: Tensor) -> Tensor:
    """What an annotator makes of a reward difference, shape (E,): `slope d + position first`.

    slope: 1 is the crowd's mean, 0 does not look, below 0 answers the opposite. position: logits for whatever is shown first;
    first_E is 1 where i was, -1 where j was, 0 where that is not known. The model of `annotators.annotator_slope`, with a network in
    the place of the scores (Raykar et al. 2010, "Learning from crowds"; Rodrigues and Pereira 2018).
    """
    d_E = _wide(d_E)
    return slope_E.to(d_E) * d_E + position_E.to(d_E) * first_E.to(d_E)


def annotator_prior(deviation_A2: Tensor, sd_2: Tensor) -> Tensor:
    """Minus log density, up to a constant, of normal priors on (slope - 1, position) of every annotator: a scalar.

    It also fixes the scale of the rewards, which slopes and network could otherwise trade between them.
    """
    deviation_A2 = _wide(deviation_A2)
    return 0.5 * (deviation_A2 / sd_2.to(deviation_A2)).square().sum()


def centring(reward_i_E: Tensor, reward_j_E: Tensor, coefficient: float) -> Tensor:
    """`coefficient (reward_i + reward_j)^2`, shape (E,): added to a loss it pins the free constant of the rewards at 0.

    Eisenstein et al. 2023 ("Helping or Herding?"), who take 0.01. Independent of the label.
    """
    return coefficient * (_wide(reward_i_E) + _wide(reward_j_E)).square()


def outcomes(p_E: Tensor, tie_E: Tensor | None = None) -> Tensor:
    """Targets (win, tie, loss), shape (E, 3), for the losses that know ties; every row sums to 1.

    `tie_E` is the share of ties where it is known (votes). Without it an exact 0.5 is a tie and any other p has no tie in it.
    Then win = p - tie/2 and loss = 1 - p - tie/2, so that p stays win + tie/2. A share of ties larger than p allows is cut to
    2 min(p, 1 - p).
    """
    p_E = _wide(p_E)
    tie_E = (p_E == 0.5).to(p_E) if tie_E is None else tie_E.to(p_E)
    tie_E = torch.minimum(tie_E, 2.0 * torch.minimum(p_E, 1.0 - p_E))
    win_E = p_E - 0.5 * tie_E
    return torch.stack([win_E, tie_E, 1.0 - tie_E - win_E], dim=-1)


def davidson_log_probabilities(d_E: Tensor, log_nu: Tensor) -> Tensor:
    """log P(win, tie, loss), shape (E, 3), with ties as in Davidson 1970.

    With worths e^reward the odds win : tie : loss are e^(d/2) : nu : e^(-d/2). `log_nu` is a scalar tensor, any real number; at 0
    equals tie with probability 1/3, towards minus infinity the model is Bradley-Terry.
    """
    half_E = 0.5 * _wide(d_E)
    log_nu_E = log_nu.to(half_E).expand_as(half_E)
    return torch.log_softmax(torch.stack([half_E, log_nu_E, -half_E], dim=-1), dim=-1)


def rao_kupper_log_probabilities(d_E: Tensor, raw_theta: Tensor) -> Tensor:
    """log P(win, tie, loss), shape (E, 3), with ties as in Rao and Kupper 1967.

    eta = softplus(raw_theta) > 0 is the difference below which a judge sees none (their log theta):
    P(win) = sigma(d - eta), P(loss) = sigma(-d - eta), P(tie) = (e^(2 eta) - 1) P(win) P(loss).
    `raw_theta` is a scalar tensor, any real number (below -60 it acts as -60); at 0 equals tie with probability 1/3.
    """
    d_E = _wide(d_E)
    eta = softplus(raw_theta.to(d_E).clamp(min=_RAW_FLOOR))
    win_E = logsigmoid(d_E - eta)
    loss_E = logsigmoid(-d_E - eta)
    # log(e^(2 eta) - 1) without overflow for large eta and without cancellation for small.
    log_factor = 2.0 * eta + torch.log(-torch.expm1(-2.0 * eta))
    return torch.stack([win_E, log_factor + win_E + loss_E, loss_E], dim=-1)


def davidson(d_E: Tensor, outcome_E3: Tensor, *, log_nu: Tensor) -> Tensor:
    """Cross entropy of `outcomes(...)` against Davidson's probabilities, shape (E,). No margins: none is defined for this model."""
    log_p_E3 = davidson_log_probabilities(d_E, log_nu)
    return -(outcome_E3.to(log_p_E3) * log_p_E3).sum(dim=-1)


def rao_kupper(d_E: Tensor, outcome_E3: Tensor, *, raw_theta: Tensor) -> Tensor:
    """Cross entropy of `outcomes(...)` against Rao and Kupper's probabilities, shape (E,). No margins: none is defined for this model."""
    log_p_E3 = rao_kupper_log_probabilities(d_E, raw_theta)
    return -(outcome_E3.to(log_p_E3) * log_p_E3).sum(dim=-1)


def plackett_luce(reward_N: Tensor, rank_N: Tensor, *, ranking_N: Tensor | None = None, n_rankings: int | None = None) -> Tensor:
    """Minus log likelihood of rankings, shape (G,): the best item is drawn first, then the best of the rest (Plackett 1975).

    rank_N: 1 is best; only the order matters. ranking_N: which ranking (0..G-1) each item belongs to, in any order; None: all
    one ranking. `n_rankings` is G where the last rankings may be empty; an empty or one-item ranking costs 0.

    Ties: items of equal rank are an unordered set whose draws share one denominator, the sum over that set and everything below
    it (as Breslow 1974 for the partial likelihood). The very last draw of a ranking has one item left and is no choice, so the
    last set counts one draw less. A ranking of K items is K - 1 choices: divide by that for a mean per choice. For K = 2 this is
    `bradley_terry` with p = 1, 0.5 or 0.

    Memory is G K^2 numbers.
    """
    reward_N = _wide(reward_N)
    if ranking_N is None:
        ranking_N = torch.zeros(len(reward_N), dtype=torch.long, device=reward_N.device)
    if len(reward_N) == 0:
        return reward_N.new_zeros(n_rankings or 0)
    size_G = torch.bincount(ranking_N, minlength=n_rankings or 0)
    place_GK, held_GK = _places(ranking_N, size_G)
    # Padding points at item 0 and is masked out below.
    reward_GK, rank_GK = reward_N[place_GK], rank_N[place_GK]
    below_GKK = (rank_GK[:, None, :] >= rank_GK[:, :, None]) & held_GK[:, None, :]
    # A padded row of the matrix sees itself only, so that no row is empty: an empty logsumexp has a NaN gradient.
    below_GKK = torch.where(held_GK[:, :, None], below_GKK, torch.eye(held_GK.shape[1], dtype=torch.bool, device=held_GK.device))
    log_sum_GK = torch.logsumexp(reward_GK[:, None, :].masked_fill(~below_GKK, -torch.inf), dim=-1)
    draws_GK = _draws(rank_GK, held_GK, reward_N.dtype)
    return (draws_GK * (log_sum_GK - reward_GK)).sum(dim=-1)


def _places(ranking_N: Tensor, size_G: Tensor) -> tuple[Tensor, Tensor]:
    """Where the items of each ranking lie in the flat tensors, and which cells hold an item: both shape (G, K)."""
    order_N = torch.argsort(ranking_N, stable=True)
    start_G = torch.cumsum(size_G, 0) - size_G
    column_K = torch.arange(int(size_G.max()), device=ranking_N.device)
    held_GK = column_K < size_G[:, None]
    return order_N[torch.where(held_GK, start_G[:, None] + column_K, 0)], held_GK


def _draws(rank_GK: Tensor, held_GK: Tensor, dtype: torch.dtype) -> Tensor:
    """How many draws each item stands for: 1, in the last set of c items (c - 1)/c each, padding 0."""
    worst_G = torch.where(held_GK, rank_GK, rank_GK.min()).amax(dim=-1, keepdim=True)
    last_GK = held_GK & (rank_GK == worst_G)
    count_G = last_GK.sum(dim=-1, keepdim=True).clamp(min=1).to(dtype)
    return torch.where(last_GK, (count_G - 1) / count_G, held_GK.to(dtype))
