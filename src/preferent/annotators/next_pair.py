"""Which pairs to ask about next: those whose votes are expected to teach the scores most, spread so that a batch does not ask twice.

The state of knowledge is the Laplace posterior of a pairwise fit (`posterior.ScoreGraph`): each candidate pair has a gap with mean and
variance. A vote's expected information gain is the mutual information between the vote and the gap (Houlsby et al. 2011, "BALD"):

    H(E[p]) - E[H(p)],  p = sigma(gap), gap ~ N(mean, variance)

The top of that ranking repeats one question in many dresses, so a batch is spread out: a matching (pairs in falling order of gain, no
item twice before all have come once), or a spanning forest (no cycle; Li et al. 2018, "Hybrid-MST"). The strategy "order" instead
values a vote by what it teaches about every candidate whose order is in doubt (`next_order`). With 100 items and batches of 20 all of these
and "closest" need about three quarters of the votes that random choice needs; at 24 to 40 seeds they cannot be told apart there, save that
the unspread top of the ranking is worse (bench/pairwise.py prints it with standard errors).

Legend: Q candidate pairs, B batch, I items, A annotators, M members of an ensemble.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr, expit

from preferent.annotators.bradley_terry import PairFit
from preferent.annotators.graph import Ints
from preferent.annotators.next_cover import Ground, cover_batch, cover_values
from preferent.annotators.next_order import order_batch
from preferent.annotators.posterior import dense_covariance, spread
from preferent.core.errors import ConfigError, DataError
from preferent.core.records import Floats

Strategy = Literal["order", "information", "closest", "ensemble", "uncertainty", "coverage", "random"]
Shape = Literal["matching", "forest", "free"]
DENSE = 2000
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(21)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True, eq=False, slots=True)
class Knowledge:
    """What is known of candidate pairs: mean_Q and sd_Q of the gap (logits), votes_Q given so far. ensemble_MQ: gaps by the members of
    an ensemble of reward models, for the strategy "ensemble". uncertainty_Q: what a reward model does not know, for "uncertainty" (see
    `reward_uncertainty`). alike_Q: a code per candidate, equal for candidates that ask the same question. covariance_JJ and ends_Q2:
    posterior covariance of the items that occur and the rows of each candidate's ends in it, for "order"; None beyond DENSE items.
    ground: the comparison graph, for "coverage"; without it that goes by the votes on each pair alone."""

    pairs_Q2: Ints
    mean_Q: Floats
    sd_Q: Floats
    votes_Q: Ints
    ensemble_MQ: Floats | None = None
    covariance_JJ: Floats | None = None
    ends_Q2: Ints | None = None
    uncertainty_Q: Floats | None = None
    alike_Q: Ints | None = None
    ground: Ground | None = None

    def __len__(self) -> int:
        return len(self.pairs_Q2)


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """chosen_B: numbers of the candidates, in the order to ask. value_B: the strategy's value (nats per vote for "information").
    random_B: slots that were dealt at random, which keep audits of the data unbiased."""

    strategy: Strategy
    chosen_B: Ints
    value_B: Floats
    random_B: np.ndarray

    def __len__(self) -> int:
        return len(self.chosen_B)


def knowledge(fit: PairFit, pairs_Q2: ArrayLike, *, ensemble_MQ: ArrayLike | None = None, seed: int = 0) -> Knowledge:
    """What a fit knows about candidate pairs, shape (Q, 2), of its items; pairs without a vote are allowed.

    Raises DataError for pairs of other items or of an item with itself.
    """
    pairs = np.asarray(pairs_Q2, dtype=np.int64).reshape(-1, 2)
    n = len(fit.scores.value)
    bad_Q = (pairs.min(axis=1, initial=0) < 0) | (pairs.max(axis=1, initial=0) >= n) | (pairs[:, 0] == pairs[:, 1])
    if bad_Q.any():
        row = int(np.argmax(bad_Q))
        raise DataError(f"candidate {row}: {pairs[row].tolist()!r}, allowed are two different items from 0 to {n - 1}")
    found = spread(fit.score_graph, pairs, rng=np.random.default_rng(seed))
    ensemble = None if ensemble_MQ is None else np.asarray(ensemble_MQ, dtype=np.float64)
    if ensemble is not None and (ensemble.ndim != 2 or ensemble.shape[1] != len(pairs)):
        raise DataError(f"{len(pairs)} candidates but gaps of an ensemble of shape {ensemble.shape}, allowed is (members, candidates)")
    gap_Q = fit.scores.value[pairs[:, 0]] - fit.scores.value[pairs[:, 1]]
    covariance, ends = _covariance(fit, pairs)
    votes_Q, sd_Q = _votes(fit, pairs, n), np.sqrt(found.gap_variance_Q)
    ground = Ground(fit.graph.component_I, fit.graph.votes_I)
    return Knowledge(pairs, gap_Q, sd_Q, votes_Q, ensemble, covariance, ends, ground=ground)


def _covariance(fit: PairFit, pairs_Q2: Ints) -> tuple[Floats | None, Ints | None]:
    if fit.score_graph.n_items > DENSE:
        return None, None
    items_J, ends = np.unique(pairs_Q2, return_inverse=True)
    return dense_covariance(fit.score_graph)[np.ix_(items_J, items_J)], ends.reshape(pairs_Q2.shape)


def _votes(fit: PairFit, pairs_Q2: Ints, n: int) -> Ints:
    key_P = fit.lo_P * n + fit.hi_P  # sorted, as the fit's table is
    key_Q = pairs_Q2.min(axis=1) * n + pairs_Q2.max(axis=1)
    at_Q = np.minimum(np.searchsorted(key_P, key_Q), len(key_P) - 1)
    return np.where(key_P[at_Q] == key_Q, fit.n_votes_P[at_Q], 0)


def information_gain(mean_Q: ArrayLike, sd_Q: ArrayLike) -> Floats:
    """Mutual information in nats between one vote (slope 1) and a normal gap, by Gauss-Hermite quadrature, shape (Q,); at most log 2."""
    mean, sd = np.asarray(mean_Q, dtype=np.float64), np.asarray(sd_Q, dtype=np.float64)
    p_QN = expit(mean[:, None] + sd[:, None] * _NODES)
    return np.maximum(_entropy(p_QN @ _WEIGHTS) - _entropy(p_QN) @ _WEIGHTS, 0.0)


def ensemble_disagreement(gap_MQ: ArrayLike) -> Floats:
    """The same with the members of an ensemble of reward models in place of the posterior, in nats; 0 where all agree."""
    return reward_uncertainty(gap_MQ)


def reward_uncertainty(gap_MQ: ArrayLike, sd_MQ: ArrayLike | None = None) -> Floats:
    """What reward models do not know of a vote, in nats, shape (Q,): mutual information between the vote and the model.

    gap_MQ: reward differences in logits by M members; sd_MQ: the standard deviation that each member states of its gap. With one
    member that states none there is nothing to be unsure of, and all are 0: `vote_entropy` is then the nearest thing.
    """
    gap = np.atleast_2d(np.asarray(gap_MQ, dtype=np.float64))
    if sd_MQ is None:
        p_MNQ, weights_N = expit(gap)[:, None, :], np.ones(1)
    else:
        sd = np.atleast_2d(np.asarray(sd_MQ, dtype=np.float64))
        p_MNQ, weights_N = expit(gap[:, None, :] + sd[:, None, :] * _NODES[:, None]), _WEIGHTS
    mean_Q = np.einsum("mnq,n->q", p_MNQ, weights_N) / len(gap)
    return np.maximum(_entropy(mean_Q) - np.einsum("mnq,n->q", _entropy(p_MNQ), weights_N) / len(gap), 0.0)


def vote_entropy(gap_Q: ArrayLike) -> Floats:
    """Entropy of a vote at these gaps (logits), in nats: largest where a model's scores are closest, be it sure of that or not."""
    return _entropy(expit(np.asarray(gap_Q, dtype=np.float64)))


def _entropy(p: Floats) -> Floats:
    return entr(p) + entr(1.0 - p)


def values(known: Knowledge, strategy: Strategy) -> Floats:
    """How much the strategy wants each candidate, shape (Q,); only the order matters between strategies."""
    if strategy == "information":
        return information_gain(known.mean_Q, known.sd_Q)
    if strategy == "closest":
        return -np.abs(known.mean_Q)
    if strategy == "ensemble":
        if known.ensemble_MQ is None:
            raise ConfigError("strategy 'ensemble' needs the gaps of an ensemble (ensemble_MQ)", hint="use 'information' without one")
        return ensemble_disagreement(known.ensemble_MQ)
    if strategy == "uncertainty":
        if known.uncertainty_Q is None:
            raise ConfigError("strategy 'uncertainty' needs the scores of a reward model (uncertainty_Q)", hint="'information' needs none")
        return known.uncertainty_Q
    if strategy == "coverage":
        return cover_values(known.pairs_Q2, known.votes_Q, known.ground)
    if strategy == "random":
        return np.zeros(len(known))
    if strategy == "order":
        covariance_JJ, ends_Q2 = _dense(known)
        return order_batch(ends_Q2, known.mean_Q, covariance_JJ, 0)[1]
    raise ConfigError(f"strategy {strategy!r}, allowed are {', '.join(map(repr, get_args(Strategy)))}")


def _dense(known: Knowledge) -> tuple[Floats, Ints]:
    if known.covariance_JJ is None or known.ends_Q2 is None:
        raise ConfigError(f"strategy 'order' needs the covariance of all items, kept up to {DENSE} items", hint="use 'information' beyond")
    return known.covariance_JJ, known.ends_Q2


def next_batch(
    known: Knowledge,
    n: int,
    *,
    rng: np.random.Generator,
    strategy: Strategy | None = None,
    random_share: float = 0.2,
    shape: Shape = "matching",
) -> Batch:
    """Choose n different candidates, best first, then those dealt at random.

    strategy: "order" where the covariance is at hand, else "information", if left out. random_share: of the slots, dealt at random over
    all other candidates (0 turns it off). shape: how the rest is spread over the items ("order" and "coverage" spread themselves). Ties
    in value are broken at random. Of candidates that are alike (`known.alike_Q`) one at most is in a batch. Fewer than n questions are
    all taken. Raises ConfigError for settings out of range.
    """
    strategy = strategy or ("information" if known.covariance_JJ is None else "order")
    if n < 1 or not 0.0 <= random_share <= 1.0 or shape not in get_args(Shape):
        raise ConfigError(f"next_batch: n={n!r} (at least 1), random_share={random_share!r} (0 to 1), shape={shape!r} {get_args(Shape)}")
    alike_Q = np.arange(len(known)) if known.alike_Q is None else np.unique(known.alike_Q, return_inverse=True)[1]
    n = min(n, len(np.unique(alike_Q)))
    n_picked = 0 if strategy == "random" else n - round(random_share * n)
    shuffled_Q = rng.permutation(len(known))
    if strategy == "order":
        covariance_JJ, ends_Q2 = _dense(known)
        taken, worth = order_batch(ends_Q2[shuffled_Q], known.mean_Q[shuffled_Q], covariance_JJ, n_picked, alike_Q=alike_Q[shuffled_Q])
        picked, value_Q = shuffled_Q[taken], worth[np.argsort(shuffled_Q)]
    elif strategy == "coverage" and known.ground is not None:
        taken = cover_batch(
            known.pairs_Q2[shuffled_Q], known.votes_Q[shuffled_Q], n_picked, ground=known.ground, alike_Q=alike_Q[shuffled_Q]
        )
        picked, value_Q = shuffled_Q[taken], values(known, strategy)
    else:
        value_Q = values(known, strategy)
        order_Q = shuffled_Q[np.argsort(-value_Q[shuffled_Q], kind="stable")]
        picked = _spread_out(order_Q, known.pairs_Q2, alike_Q, n_picked, shape)
    fresh_Q = ~np.isin(alike_Q, alike_Q[picked])
    rest = rng.permutation(np.flatnonzero(fresh_Q))
    _, first = np.unique(alike_Q[rest], return_index=True)  # of the same question one form, dealt at random
    dealt = rest[np.sort(first)][: n - n_picked]
    chosen_B = np.concatenate([picked, dealt]).astype(np.int64)
    return Batch(strategy, chosen_B, value_Q[chosen_B], np.arange(n) >= n_picked)


def _spread_out(order_Q: Ints, pairs_Q2: Ints, alike_Q: Ints, n: int, shape: Shape) -> Ints:
    """The first n candidates in order that ask something new and join what the round has not joined: for a matching two items that it has
    not used, for a forest two trees. When nothing more fits, a new round begins on what is left."""
    chosen: list[int] = []
    asked: set[int] = set()
    left = order_Q.tolist()
    while len(chosen) < n and left:
        parent: dict[int, int] = {}
        used: set[int] = set()
        passed = []
        for q in left:
            one, two = (int(item) for item in pairs_Q2[q])
            if int(alike_Q[q]) in asked:
                continue
            fits = shape == "free" or (
                one not in used and two not in used if shape == "matching" else _root(parent, one) != _root(parent, two)
            )
            if not fits:
                passed.append(q)
                continue
            used |= {one, two}
            parent[_root(parent, one)] = _root(parent, two)
            asked.add(int(alike_Q[q]))
            chosen.append(q)
            if len(chosen) == n:
                break
        left = passed
    return np.array(chosen, dtype=np.int64)


def _root(parent: dict[int, int], item: int) -> int:
    while parent.setdefault(item, item) != item:
        parent[item] = parent[parent[item]]
        item = parent[item]
    return item
