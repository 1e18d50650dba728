"""A reward model small enough to score hundreds of thousands of texts: Bradley-Terry on counts of words and word pairs.

It reads text and knows nothing of any world. Its reward is linear in three kinds of features of a response:

    count    how often each word and each pair of neighbouring words occurs
    shared   the same counts, of those that the prompt holds too: what is copied from the prompt
    asked    each word of the response together with each word of the last line of the prompt, where the request stands

So it can learn what a response says, whether that agrees with the prompt, and whether it was asked for. A hub model of the same data
is far better at language and far too slow for best-of-4096; this one stands for *a learned reward* where many are needed.

Legend: N exchanges or pairs, V n-grams, Q words of last lines, U words (the n-grams of length one).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit

from preferent.core.errors import ConfigError, DataError, FitError
from preferent.core.records import Exchange, Floats, Preference, Prompt, Scores

_WORD = re.compile(r"\w+|[^\w\s]")
Ids = NDArray[np.int64]
Csr = Any  # scipy's sparse matrices carry no useful types


@dataclass
class NgramCounts:
    """n-grams as numbers, and the counts of every text seen so far: texts scored by several models are read once."""

    ids: dict[str, int] = field(default_factory=dict)
    _texts: dict[str, tuple[Ids, Floats]] = field(default_factory=dict)

    def of(self, text: str) -> tuple[Ids, Floats]:
        """(sorted ids, counts) of the n-grams of `text`; new ones get the next numbers."""
        known = self._texts.get(text)
        if known is None:
            ids = np.array([self.ids.setdefault(gram, len(self.ids)) for gram in ngrams(text)], dtype=np.int64)
            unique, counts = np.unique(ids, return_counts=True)
            known = self._texts[text] = (unique, counts.astype(np.float64))
        return known

    def matrix(self, texts: Sequence[str], width: int | None = None) -> Csr:
        """Counts, shape (N, V); n-grams numbered `width` and above are left out."""
        rows = [self.of(text) for text in texts]
        pointer = np.concatenate([[0], np.cumsum([len(ids) for ids, _ in rows])]).astype(np.int64)
        ids = np.concatenate([ids for ids, _ in rows]) if rows else np.zeros(0, dtype=np.int64)
        counts = np.concatenate([counts for _, counts in rows]) if rows else np.zeros(0)
        full = sparse.csr_matrix((counts, ids, pointer), shape=(len(rows), len(self.ids)))
        return full if width is None else full[:, :width]


def ngrams(text: str) -> list[str]:
    """Words and punctuation in lower case, and neighbouring two joined by a space."""
    words = _WORD.findall(text.lower())
    return words + [f"{left} {right}" for left, right in pairwise(words)]


class NgramScorer:
    """The fitted model; the reward of an exchange depends on that exchange alone. n-grams that training never saw count nothing."""

    def __init__(self, counts: NgramCounts, weight_V: Floats, shared_V: Floats, asked_QV: Csr, asked: dict[str, int], *, name: str) -> None:
        self.name = name
        self.weight_V, self.shared_V, self.asked_QV = weight_V, shared_V, asked_QV
        self._counts, self._asked = counts, asked

    def score(self, exchanges: Sequence[Exchange]) -> Scores:
        """See `Scorer`."""
        reward_N = np.zeros(len(exchanges))
        rows_of: dict[Prompt, list[int]] = {}
        for row, exchange in enumerate(exchanges):
            rows_of.setdefault(exchange.prompt, []).append(row)
        for prompt, rows in rows_of.items():
            counts_NV = self._counts.matrix([exchanges[row].response for row in rows], len(self.weight_V))
            reward_N[rows] = counts_NV @ self._effective_V(prompt)
        return Scores(reward=reward_N)

    def _effective_V(self, prompt: Prompt) -> Floats:
        """What one more of each n-gram is worth in a reply to this prompt."""
        width = len(self.weight_V)
        effective_V = self.weight_V.copy()
        in_prompt, _ = self._counts.of(_text(prompt))
        in_prompt = in_prompt[in_prompt < width]
        effective_V[in_prompt] += self.shared_V[in_prompt]
        asked_Q, scale = _asked(prompt, self._asked)
        return effective_V + scale * np.asarray(self.asked_QV[asked_Q].sum(axis=0)).ravel()


def average(scorers: Sequence[NgramScorer]) -> NgramScorer:
    """The scorer with the mean of all weights (as WARM averages networks); what a member never saw counts 0 in it.

    The model is linear, so its reward is exactly the mean of the members' rewards. Raises ConfigError when the members come from
    different trainers or there is none.
    """
    if not scorers or any(one._counts is not scorers[0]._counts for one in scorers):
        raise ConfigError("average: needs scorers of one trainer, at least one")
    width, n = max(len(one.weight_V) for one in scorers), len(scorers)
    asked: dict[str, int] = {}
    for one in scorers:
        for word in one._asked:
            asked.setdefault(word, len(asked))
    weight_V, shared_V = np.zeros(width), np.zeros(width)
    asked_QV = sparse.csr_matrix((len(asked), width))
    for one in scorers:
        own = len(one.weight_V)
        weight_V[:own] += one.weight_V / n
        shared_V[:own] += one.shared_V / n
        rows = np.array([asked[word] for word in one._asked], dtype=np.int64)
        own_QV = one.asked_QV.tocoo()
        asked_QV = asked_QV + sparse.csr_matrix((own_QV.data / n, (rows[own_QV.row], own_QV.col)), shape=(len(asked), width))
    return NgramScorer(scorers[0]._counts, weight_V, shared_V, sparse.csr_matrix(asked_QV), asked, name="average")


class NgramTrainer:
    """`trainer(preferences, seed, **settings)` is a fit as the experiments take it. Fits of one trainer share the counts of texts."""

    def __init__(self) -> None:
        self.counts = NgramCounts()

    def __call__(self, preferences: Sequence[Preference], seed: int, *, prior: float = 4.0, **others: Any) -> NgramScorer:
        """The most probable weights under independent normal priors of variance 1 / `prior`; the loss is convex, `seed` changes nothing.

        Raises DataError without preferences, ConfigError for a prior that is not above 0, FitError when the search does not end.
        """
        if not preferences:
            raise DataError("there is nothing to learn from: no preferences")
        if others:
            raise ConfigError(f"ngrams: unknown settings {sorted(others)!r}, allowed: prior")
        if not prior > 0.0:
            raise ConfigError(f"ngrams: prior={prior!r}, allowed are numbers > 0")
        x, asked, words_U = self._features(preferences)
        p_N, weight_N = (np.array([getattr(row, name) for row in preferences]) for name in ("p_a", "weight"))

        def loss(theta: Floats) -> tuple[float, Floats]:
            margin_N = x @ theta
            nll_N = np.logaddexp(0.0, -margin_N) * p_N + np.logaddexp(0.0, margin_N) * (1.0 - p_N)
            gradient = x.T @ (weight_N * (expit(margin_N) - p_N)) + prior * theta
            return float(weight_N @ nll_N + 0.5 * prior * theta @ theta), gradient

        found = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 1000, "maxcor": 20})
        if not found.success:
            raise FitError(f"ngrams: the fit of {len(preferences)} preferences did not end: {found.message}")
        width, n_words = len(self.counts.ids), len(words_U)
        asked_QU = sparse.csr_matrix(found.x[2 * width :].reshape(len(asked), n_words))
        spread_UV = sparse.csr_matrix((np.ones(n_words), (np.arange(n_words), words_U)), shape=(n_words, width))
        return NgramScorer(self.counts, found.x[:width], found.x[width : 2 * width], asked_QU @ spread_UV, asked, name="ngrams")

    def _features(self, preferences: Sequence[Preference]) -> tuple[Csr, dict[str, int], Ids]:
        """(features of a minus those of b (N, 2V + QU), numbers of the words of last lines, ids of the words of responses)."""
        prompts = [row.prompt for row in preferences]
        for prompt in dict.fromkeys(prompts):
            self.counts.of(_text(prompt))
        for text in (text for row in preferences for text in (row.response_a, row.response_b)):
            self.counts.of(text)
        left_NV, right_NV = (self.counts.matrix([getattr(row, side) for row in preferences]) for side in ("response_a", "response_b"))
        difference_NV = sparse.csr_matrix(left_NV - right_NV)
        difference_NV.eliminate_zeros()
        in_prompt_NV = self.counts.matrix([_text(prompt) for prompt in prompts])
        in_prompt_NV.data[:] = 1.0
        asked: dict[str, int] = {}
        for prompt in prompts:
            for word in _last_line(prompt):
                asked.setdefault(word, len(asked))
        single_V = np.array([" " not in gram for gram in self.counts.ids])
        words_U = np.flatnonzero(single_V & (np.diff(difference_NV.tocsc().indptr) > 0))
        cross = _cross(difference_NV[:, words_U], prompts, asked)
        return sparse.hstack([difference_NV, difference_NV.multiply(in_prompt_NV), cross], format="csr"), asked, words_U


def _cross(words_NU: Csr, prompts: Sequence[Prompt], asked: dict[str, int]) -> Csr:
    """Row by row the products of the words' differences with the words of the last line, shape (N, QU)."""
    n_words, columns, values, pointer = words_NU.shape[1], [], [], [0]
    for row, prompt in enumerate(prompts):
        piece = slice(words_NU.indptr[row], words_NU.indptr[row + 1])
        asked_Q, scale = _asked(prompt, asked)
        columns.append((asked_Q[:, None] * n_words + words_NU.indices[piece][None, :]).ravel())
        values.append(np.tile(scale * words_NU.data[piece], len(asked_Q)))
        pointer.append(pointer[-1] + len(columns[-1]))
    data = (np.concatenate(values), np.concatenate(columns), np.array(pointer))
    return sparse.csr_matrix(data, shape=(len(prompts), len(asked) * n_words))


def _asked(prompt: Prompt, asked: dict[str, int]) -> tuple[Ids, float]:
    """(numbers of the known words of the last line, the scale that gives a line of any length the same norm)."""
    words = _last_line(prompt)
    known = np.array([asked[word] for word in words if word in asked], dtype=np.int64)
    return known, 1.0 / np.sqrt(max(1, len(words)))


def _text(prompt: Prompt) -> str:
    return "\n".join(message.content for message in prompt)


def _last_line(prompt: Prompt) -> list[str]:
    """The different words of the last line, in order."""
    lines = _text(prompt).strip().splitlines()
    return list(dict.fromkeys(_WORD.findall(lines[-1].lower()))) if lines else []
