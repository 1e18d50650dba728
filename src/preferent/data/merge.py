"""Which rows say the same: compact arrays of the first pass, about 40 bytes a row, and the groups found in them.

Legend: N records that passed the gate, in the order of the source; G groups of several records.

A pair is put in one orientation (the sides in the order of their texts), so that a row and its swap fall together. Two records
belong together when prompt, unordered responses and objective are equal, letter for letter.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from preferent.core.estimates import Estimate
from preferent.core.records import Floats, Preference, Prompt, Ranking

EXTRAS = 1
_MOST_PAIRS = 2**31 - 1


def digest(text: str) -> int:
    """64 bits of a text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def prompt_key(prompt: Prompt) -> int:
    """64 bits of a prompt."""
    if len(prompt) == 1:
        return digest(f"{prompt[0].role}\x00{prompt[0].content}")
    return digest("\x01".join([f"{message.role}\x00{len(message.content)}\x00{message.content}" for message in prompt]))


def turned(record: Preference) -> bool:
    """Whether the common orientation exchanges the sides of this record."""
    return record.response_b < record.response_a


def _pair_key(record: Preference) -> int:
    a, b = record.response_a, record.response_b
    first, second = (b, a) if b < a else (a, b)
    return digest(f"{record.objective or ''}\x00{len(first)}\x00{first}{second}")


def _ranking_key(record: Ranking) -> int:
    order = sorted(zip(record.ranks, record.responses, strict=True))
    return digest("r" + "\x01".join([f"{rank}\x00{len(text)}\x00{text}" for rank, text in order]))


class _Lengths(NamedTuple):
    """Pairs with two lengths and a preferred side, and in how many of these the longer is preferred."""

    pairs: int
    longer: int


def _ranking_lengths(record: Ranking) -> _Lengths:
    length_K = np.array([len(text) for text in record.responses])
    rank_K = np.array(record.ranks)
    pairs = longer = 0
    for k in range(len(length_K) - 1):
        agree = np.sign(length_K[k + 1 :] - length_K[k]) * np.sign(rank_K[k] - rank_K[k + 1 :])
        pairs += int(np.count_nonzero(agree))
        longer += int(np.count_nonzero(agree > 0))
    return _Lengths(min(pairs, _MOST_PAIRS), min(longer, _MOST_PAIRS))


@dataclass(frozen=True, slots=True)
class Merged:
    """What a group of records about one pair says together, in the orientation of its first record. `p_a` is None where all say the
    same, and for rankings."""

    p_a: float | None
    weight: float


@dataclass(frozen=True, slots=True)
class Groups:
    """first_N: whether a record is the first of its group (or alone). merged: index of such a first record -> what the group says,
    only for groups of several. group_of: index of every record of a group that carries votes, counts or margins -> its first."""

    first_N: NDArray[np.bool_]
    merged: dict[int, Merged]
    group_of: dict[int, int]
    exact: int
    agreeing: int
    contradictory: int
    contradictions: int
    preferences: int
    rankings: int
    ties: int
    longer: Estimate


class Rows:
    """What the first pass keeps of every record: two hashes, `p_a` in the common orientation, the weight, lengths."""

    def __init__(self) -> None:
        self._prompt, self._answers = array("Q"), array("Q")
        self._p, self._weight = array("d"), array("d")
        self._pairs, self._longer = array("i"), array("i")
        self._extras = bytearray()

    def __len__(self) -> int:
        return len(self._p)

    def add(self, record: Preference | Ranking) -> None:
        self._prompt.append(prompt_key(record.prompt))
        self._weight.append(record.weight)
        if isinstance(record, Ranking):
            self._answers.append(_ranking_key(record))
            self._p.append(float("nan"))
            lengths = _ranking_lengths(record)
            self._extras.append(2 * (len(set(record.ranks)) == 1))
        else:
            swap = turned(record)
            self._answers.append(_pair_key(record))
            self._p.append(1.0 - record.p_a if swap else record.p_a)
            difference = len(record.response_a) - len(record.response_b)
            lengths = _Lengths(int(difference != 0), int((difference < 0) if swap else (difference > 0)))
            self._extras.append(EXTRAS * bool(record.votes or record.n_judgments is not None or record.margin is not None))
        self._pairs.append(lengths.pairs)
        self._longer.append(lengths.longer)

    def groups(self, turned_at: bytearray) -> Groups:
        """Find the records that belong together. turned_at: per record, 1 where the common orientation exchanges its sides."""
        p_N, weight_N = np.frombuffer(self._p, np.float64), np.frombuffer(self._weight, np.float64)
        flags_N = np.frombuffer(self._extras, np.uint8)
        order, starts = sorted_groups(np.frombuffer(self._prompt, np.uint64), np.frombuffer(self._answers, np.uint64))
        first_N = np.zeros(len(p_N), dtype=np.bool_)
        first_N[order[starts]] = True
        p_merged_N = p_N.copy()
        merged: dict[int, Merged] = {}
        group_of: dict[int, int] = {}
        counts = {"exact": 0, "agreeing": 0, "contradictory": 0}
        contradictions = 0
        ends = np.append(starts[1:], len(order))
        for g in np.flatnonzero(ends - starts > 1):
            members = order[starts[g] : ends[g]]
            first = int(members[0])
            p, kind = _together(p_N[members], weight_N[members])
            p_merged_N[first] = p
            soft = None if kind == "exact" else round(1.0 - p, 12) if turned_at[first] else p
            merged[first] = Merged(soft, float(weight_N[members].sum()))
            counts[kind] += len(members) - 1
            contradictions += kind == "contradictory"
            if (flags_N[members] == EXTRAS).any():
                group_of.update(dict.fromkeys(members.tolist(), first))
        is_pair_N = first_N & ~np.isnan(p_N)
        ties = int((p_merged_N[is_pair_N] == 0.5).sum() + (flags_N[first_N] == 2).sum())
        n_pairs = int(is_pair_N.sum())
        return Groups(
            first_N=first_N,
            merged=merged,
            group_of=group_of,
            contradictions=contradictions,
            preferences=n_pairs,
            rankings=int(first_N.sum()) - n_pairs,
            ties=ties,
            longer=self._longer_share(first_N, p_merged_N),
            **counts,
        )

    def _longer_share(self, first_N: NDArray[np.bool_], p_N: Floats) -> Estimate:
        pairs_N = np.frombuffer(self._pairs, np.int32).astype(np.float64)
        longer_N = np.frombuffer(self._longer, np.int32).astype(np.float64)
        is_pair_N = ~np.isnan(p_N)
        # A pair counts where one side is preferred; `longer` says that the first side is the longer one.
        pairs_N[is_pair_N & (p_N == 0.5)] = 0
        flipped_N = is_pair_N & (p_N < 0.5)
        longer_N[flipped_N] = pairs_N[flipped_N] - longer_N[flipped_N]
        used_N = first_N & (pairs_N > 0)
        return clustered_share(longer_N[used_N], pairs_N[used_N], np.frombuffer(self._prompt, np.uint64)[used_N])


def sorted_groups(a_N: NDArray[np.uint64], b_N: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices with equal keys side by side, each group in the order of the source, and where groups start."""
    order = np.lexsort((b_N, a_N))
    changes = np.ones(len(order), dtype=np.bool_)
    changes[1:] = (a_N[order][1:] != a_N[order][:-1]) | (b_N[order][1:] != b_N[order][:-1])
    return order, np.flatnonzero(changes)


def _together(p_M: Floats, weight_M: Floats) -> tuple[float, str]:
    """Weighted mean of `p_a`, and how the rows agree. Values equal up to the rounding of 1 - p count as equal."""
    if np.isnan(p_M[0]) or (np.abs(p_M - p_M[0]) < 1e-12).all():
        return float(p_M[0]), "exact"
    # Weights as shares of the largest, so that no sum overflows.
    share_M = weight_M / weight_M.max()
    # Rounded, so that 0.1 and 0.9 of one weight meet at 0.5, which is a tie.
    p = round(float(np.clip((p_M * share_M).sum() / share_M.sum(), 0.0, 1.0)), 12)
    return p, "contradictory" if (p_M > 0.5).any() and (p_M < 0.5).any() else "agreeing"


def clustered_share(hits_N: Floats, of_N: Floats, clusters_N: NDArray[np.uint64]) -> Estimate:
    """sum(hits) / sum(of) with a 95 % Wilson interval at the effective number of observations under clustering by prompt.

    The effective number is p (1 - p) / v, where v is the linearised (Taylor) variance of a ratio over clusters (Korn and Graubard
    1998, Survey Methodology 24); the number of clusters where the share is 0 or 1. Closed form: a bootstrap over a million prompts
    would take longer than reading them.
    """
    total = float(of_N.sum())
    if total == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0, "no pair with a preferred side and two lengths")
    _, codes_N = np.unique(clusters_N, return_inverse=True)
    hits_C, of_C = np.bincount(codes_N, hits_N), np.bincount(codes_N, of_N)
    n_clusters = len(of_C)
    share = float(hits_C.sum() / total)
    if n_clusters < 2:
        return Estimate(share, float("nan"), float("nan"), int(total), "no interval: one prompt only")
    variance = n_clusters / (n_clusters - 1) * float(((hits_C - share * of_C) ** 2).sum()) / total**2
    n = share * (1 - share) / variance if variance > 0 and 0 < share < 1 else float(n_clusters)
    z = 1.959964
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half), int(total), f"Wilson, clustered by {n_clusters} prompts")
