"""Near-duplicate texts: MinHash over words and word pairs, banded into candidates, verified, and joined.

Legend: N distinct texts, S shingle occurrences (sorted by text), V distinct shingles, K hash functions = B bands x R rows.

Source: Broder 1997 (resemblance); Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, ch. 3 (banding). Two texts are near
duplicates when the Jaccard similarity of their shingles is at least 0.75 (about: one word of fifteen changed). Shingles in more than
1 in 50 texts (and in more than 20) are a template's and do not count, so that texts that differ only in what fills a template are
not joined through it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

THRESHOLD = 0.75
TEMPLATE_SHARE, TEMPLATE_LEAST = 50, 20
BANDS, ROWS = 14, 4
# Words of scripts without spaces are single characters.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
_ALL_PAIRS = 40

Ints = NDArray[np.int64]


def normal(text: str) -> str:
    """A text without case, punctuation and spacing; a text of punctuation only stays as it is."""
    return " ".join(_WORD.findall(text.casefold())) or text.strip()


class Joined:
    """Union-find over 0..n-1."""

    def __init__(self, n: int) -> None:
        self.parent = list(range(n))

    def find(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def join(self, i: int, j: int) -> None:
        i, j = self.find(i), self.find(j)
        self.parent[max(i, j)] = min(i, j)

    def roots(self) -> Ints:
        return np.array([self.find(i) for i in range(len(self.parent))], dtype=np.int64)


def near_duplicates(texts_N: Sequence[str]) -> Ints:
    """For each of N distinct normalised texts the index of the first text of its cluster, shape (N,)."""
    ids_S, starts_N, hash_V = _shingles(texts_N)
    ids_S, starts_N = _without_templates(ids_S, starts_N, len(texts_N), len(hash_V))
    joined = Joined(len(texts_N))
    sizes_N = np.diff(np.append(starts_N, len(ids_S)))
    filled = np.flatnonzero(sizes_N)
    if len(filled) < 2:
        return joined.roots()
    signature_NK = _signatures(ids_S, starts_N[filled], hash_V)
    for i, j in _candidates(signature_NK):
        first, second = int(filled[i]), int(filled[j])
        if joined.find(first) == joined.find(second):
            continue
        # The share of equal minima estimates the similarity with a standard error of 0.06 at 56 of them.
        if (signature_NK[i] == signature_NK[j]).mean() >= 0.5 and _jaccard(ids_S, starts_N, sizes_N, first, second) >= THRESHOLD:
            joined.join(first, second)
    return joined.roots()


def _shingles(texts_N: Sequence[str]) -> tuple[Ints, Ints, NDArray[np.uint64]]:
    """Ids of the distinct shingles of each text, sorted, one text after the other; where each text starts; a hash of each shingle."""
    vocabulary: dict[str, int] = {}
    parts: list[Ints] = []
    sizes = np.zeros(len(texts_N) + 1, dtype=np.int64)
    for n, text in enumerate(texts_N):
        words = text.split(" ")
        grams = {*words, *map(" ".join, itertools.pairwise(words))}
        ids = np.array([vocabulary.setdefault(gram, len(vocabulary)) for gram in grams], dtype=np.int64)
        ids.sort()
        parts.append(ids)
        sizes[n + 1] = len(ids)
    # A stable hash, so that the clusters do not depend on the order of the texts or on Python's salt.
    digests = b"".join([blake2b(gram.encode("utf-8", "surrogatepass"), digest_size=8).digest() for gram in vocabulary])
    ids_S = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
    return ids_S, np.cumsum(sizes)[:-1], np.frombuffer(digests, np.uint64)


def _without_templates(ids_S: Ints, starts_N: Ints, n: int, n_shingles: int) -> tuple[Ints, Ints]:
    found_V = np.bincount(ids_S, minlength=n_shingles)
    keep_S = found_V[ids_S] <= max(TEMPLATE_LEAST, n // TEMPLATE_SHARE)
    before_S = np.concatenate([[0], np.cumsum(keep_S)])
    return ids_S[keep_S], before_S[starts_N]


def _signatures(ids_S: Ints, starts_N: Ints, hash_V: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """MinHash signatures, shape (N, K); every text has a shingle."""
    rng = np.random.default_rng(20240607)
    k = BANDS * ROWS
    factors = rng.integers(1, 2**63, k, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    offsets = rng.integers(0, 2**63, k, dtype=np.uint64)
    signature_KN = np.empty((k, len(starts_N)), dtype=np.uint32)
    for row, factor, offset in zip(signature_KN, factors, offsets, strict=True):
        mixed_V = hash_V * factor + offset
        mixed_V ^= mixed_V >> np.uint64(29)
        mixed_V *= np.uint64(0xBF58476D1CE4E5B9)
        row[:] = np.minimum.reduceat((mixed_V >> np.uint64(32)).astype(np.uint32)[ids_S], starts_N)
    return np.ascontiguousarray(signature_KN.T)


def _candidates(signature_NK: NDArray[np.uint32]) -> Iterator[tuple[int, int]]:
    """Pairs of texts that agree on a whole band. In a bucket of more than 40, each with the first and with its neighbour."""
    for band in range(BANDS):
        band_NR = signature_NK[:, band * ROWS : (band + 1) * ROWS]
        order = np.lexsort(band_NR.T)
        same = (band_NR[order][1:] == band_NR[order][:-1]).all(axis=1)
        bounds = np.flatnonzero(np.concatenate([[True], ~same, [True]]))
        for start, end in itertools.pairwise(bounds):
            if end - start > 1:
                yield from _pairs([int(i) for i in order[start:end]])


def _pairs(members: list[int]) -> Iterator[tuple[int, int]]:
    if len(members) <= _ALL_PAIRS:
        yield from ((a, b) for n, a in enumerate(members) for b in members[n + 1 :])
        return
    yield from ((members[0], other) for other in members[1:])
    yield from itertools.pairwise(members)


def _jaccard(ids_S: Ints, starts_N: Ints, sizes_N: Ints, i: int, j: int) -> float:
    a = ids_S[starts_N[i] : starts_N[i] + sizes_N[i]]
    b = ids_S[starts_N[j] : starts_N[j] + sizes_N[j]]
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / (len(a) + len(b) - both)
