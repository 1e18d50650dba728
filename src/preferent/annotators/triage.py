"""Which labels to ask about again: those that reward models did not expect. Nothing is flipped, dropped or reweighted here.

An ensemble finds wrong labels well (Wang et al. 2024, "Secrets of RLHF II", arXiv 2401.06080, by the mean difference of rewards over
members), and its own word in their place is wrong too often: so a person is asked.

The models must not have been trained on the labels they are held against: a model that fits them closely remembers the wrong ones
too: it contradicts few of them, and ranks them less well. Score with models of other data, or cross-fitted (each pair by models
trained without its prompt).

Legend: N pairs, M members of the ensemble, D pairs whose label is not a tie.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, xlogy

from preferent.core.errors import DataError
from preferent.core.estimates import Estimate, clustered_mean
from preferent.core.records import Floats

Reason = Literal["against", "unsure", "random"]


@dataclass(frozen=True, slots=True)
class Suspect:
    """One label to ask about again. row: the pair's place in the input. p_a: the label. p_model: the members' mean probability of a.
    members_M: each one's. surprise: Kullback-Leibler divergence of p_model from the label, in nats (for a hard label: minus the log of
    its probability). spread: standard deviation of the members' logits, None with one member. against: share of the members that order
    the pair the other way, None for a tie. reason: "against" (their mean orders the pair the other way; of a tie: a surprise above log 2,
    that of a coin), "unsure" (it does not, but gives the label little margin), "random" (drawn to check the labels at large)."""

    row: int
    p_a: float
    p_model: float
    members_M: tuple[float, ...]
    surprise: float
    spread: float | None
    against: float | None
    reason: Reason

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the row."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "row"} | {"members_M": list(self.members_M)}


@dataclass(frozen=True, slots=True)
class Triage:
    """suspects: what to ask, the most surprising label first, then those drawn at random. surprise_N: of every pair. contradicted: share of
    the D labels that the ensemble orders the other way; that many are not wrong: models err too. members: M."""

    suspects: tuple[Suspect, ...]
    surprise_N: Floats
    contradicted: Estimate
    members: int


def surprise(p_a_N: ArrayLike, margin_MN: ArrayLike) -> Floats:
    """Kullback-Leibler divergence of the members' mean probability from the label in nats, shape (N,).

    margin_MN: reward of a minus reward of b in logits (divided by the member's temperature). Exact however large the margins are.
    """
    p_N, margin_MN = np.asarray(p_a_N, dtype=np.float64), np.atleast_2d(np.asarray(margin_MN, dtype=np.float64))
    log_m = np.log(len(margin_MN))
    log_a_N = np.logaddexp.reduce(-np.logaddexp(0.0, -margin_MN), axis=0) - log_m
    log_b_N = np.logaddexp.reduce(-np.logaddexp(0.0, margin_MN), axis=0) - log_m
    entropy_N = -xlogy(p_N, p_N) - xlogy(1.0 - p_N, 1.0 - p_N)
    return np.maximum(0.0, -p_N * log_a_N - (1.0 - p_N) * log_b_N - entropy_N)


def triage(
    p_a_N: ArrayLike,
    margin_MN: ArrayLike,
    prompts_N: Sequence[Hashable],
    *,
    n: int,
    random_share: float = 0.1,
    rng: np.random.Generator,
) -> Triage:
    """The `n` labels to ask about again, or all pairs where there are fewer: by `surprise`, and the share `random_share` of them drawn from
    the rest, so that what comes back also tells how good the labels are at large. prompts_N: the clusters of the interval.

    Raises DataError for no pairs, unequal shapes, labels outside [0, 1] or margins that are not finite.
    """
    p_N, margin_MN = np.asarray(p_a_N, dtype=np.float64), np.atleast_2d(np.asarray(margin_MN, dtype=np.float64))
    if not len(p_N) or margin_MN.shape[1:] != p_N.shape or len(prompts_N) != len(p_N):
        shapes = [p_N.shape, margin_MN.shape, (len(prompts_N),)]
        raise DataError(f"triage: needs one label, margin per member, and prompt per pair, got shapes {shapes}")
    if not (((p_N >= 0.0) & (p_N <= 1.0)).all() and np.isfinite(margin_MN).all()):
        raise DataError("triage: labels must lie in [0, 1] and margins be finite")
    surprise_N = surprise(p_N, margin_MN)
    order_N = np.argsort(-surprise_N, kind="stable")
    n = min(n, len(p_N))
    n_random = min(round(random_share * n), len(p_N) - n + round(random_share * n))
    ranked, rest = order_N[: n - n_random], order_N[n - n_random :]
    drawn = rng.permutation(rest)[:n_random]
    probability_MN = expit(margin_MN)
    p_model_N = probability_MN.mean(axis=0)
    members = len(margin_MN)

    def suspect(row: int, random: bool) -> Suspect:
        side = np.sign(p_N[row] - 0.5)
        votes_M = np.sign(margin_MN[:, row]) * side
        against = None if side == 0 else float((votes_M < 0).mean())
        contradicts = (p_model_N[row] - 0.5) * side < 0 if side else surprise_N[row] > np.log(2.0)
        return Suspect(
            row=row,
            p_a=float(p_N[row]),
            p_model=float(p_model_N[row]),
            members_M=tuple(probability_MN[:, row].tolist()),
            surprise=float(surprise_N[row]),
            spread=float(margin_MN[:, row].std(ddof=1)) if members > 1 else None,
            against=against,
            reason="random" if random else "against" if contradicts else "unsure",
        )

    decided = p_N != 0.5
    contradicted_D = ((p_model_N - 0.5) * (p_N - 0.5) < 0)[decided]
    own = [prompt for prompt, keep in zip(prompts_N, decided, strict=True) if keep]
    suspects = [suspect(int(row), False) for row in ranked] + [suspect(int(row), True) for row in drawn]
    return Triage(tuple(suspects), surprise_N, clustered_mean(contradicted_D, own, rng=rng), members)
