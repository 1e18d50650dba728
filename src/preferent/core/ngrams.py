"""Word n-grams as hashes, and a bounded sketch of those of many prompts: what a checkpoint remembers of its training prompts.

A text is its words: case, punctuation and spacing do not count, and a character of a script without spaces is a word. A window is
eight words in a row; a text of fewer words has no window and can only be found whole.

The sketch holds 64-bit hashes and no text: two sorted arrays, one hash for each whole prompt and one for each window. When either
would pass `MAX_HASHES`, it keeps the hashes below a bound and states the share it keeps (FracMinHash: Irber et al. 2022, "Lightweight
compositional analysis of metagenomes with FracMinHash"), so that membership can still be asked of every hash below that bound, and
overlap is estimated without bias.

Privacy: whoever holds the sketch can test whether a text that they already have was among the prompts, which is what it is for, and
can test guesses; nothing can be read out of it. Chance of a false match: (hashes kept) / 2^64 for each hash asked.

Legend: P prompts, H hashes (uint64).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from preferent.core.records import Prompt

WINDOW = 8
MAX_HASHES = 1_000_000  # of each kind: 8 MB
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_TOP = 1 << 64

Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Sketch:
    """Hashes of prompts. whole_H, window_H: sorted and distinct; whole_share, window_share: the share of all hashes that is kept.

    n_prompts counts distinct prompts, n_windows an estimate (exact at share 1) of their distinct windows of `window` words.
    """

    window: int
    n_prompts: int
    n_windows: int
    whole_H: Hashes
    window_H: Hashes
    whole_share: float = 1.0
    window_share: float = 1.0

    @property
    def false_match(self) -> float:
        """Chance that one window that was never seen is taken for a seen one, by a collision of hashes."""
        return len(self.window_H) / _TOP


def words(text: str) -> list[str]:
    """The words of a text, folded; a text without any (only punctuation) is one word."""
    return _WORD.findall(text.casefold()) or ([text.strip()] if text.strip() else [])


class Hasher:
    """Hashes of whole prompts and of windows. Remembers the hash of each word, so one instance for many texts is fast."""

    def __init__(self, window: int = WINDOW) -> None:
        self.window = window
        self._word: dict[str, int] = {}

    def whole(self, prompt: Prompt) -> np.uint64:
        """One hash for the words of all turns; roles do not count."""
        digest = blake2b(
            " ".join(word for message in prompt for word in words(message.content)).encode("utf-8", "surrogatepass"), digest_size=8
        )
        return np.uint64(int.from_bytes(digest.digest(), "little"))

    def windows(self, prompt: Prompt) -> Hashes:
        """Distinct hashes of the windows within each turn, sorted."""
        parts = [self._windows(message.content) for message in prompt]
        return np.unique(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.uint64)

    def _windows(self, text: str) -> Hashes:
        hash_W = np.array([self._of(word) for word in words(text)], dtype=np.uint64)
        n = len(hash_W) - self.window + 1
        if n < 1:
            return np.zeros(0, dtype=np.uint64)
        # A polynomial in the hashes of the words, so that their order counts; arithmetic is modulo 2^64 throughout.
        total_n = np.zeros(n, dtype=np.uint64)
        for k in range(self.window):
            total_n = total_n * _FACTOR + hash_W[k : k + n]
        return mix(total_n)

    def _of(self, word: str) -> int:
        known = self._word.get(word)
        if known is None:
            known = int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
            self._word[word] = known
        return known


def mix(hash_H: Hashes) -> Hashes:
    """A bijection of 64-bit numbers that spreads them evenly (the finaliser of splitmix64: Steele et al. 2014)."""
    hash_H = (hash_H ^ (hash_H >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hash_H = (hash_H ^ (hash_H >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hash_H ^ (hash_H >> np.uint64(31))


def sketch_prompts(prompts: Iterable[Prompt], *, window: int = WINDOW, max_hashes: int = MAX_HASHES) -> Sketch:
    """The sketch of these prompts; the same whatever their order and however often each occurs."""
    hasher = Hasher(window)
    distinct = dict.fromkeys(prompts)
    whole_H = np.unique(np.array([hasher.whole(prompt) for prompt in distinct], dtype=np.uint64))
    kept = _Kept(max_hashes)
    for prompt in distinct:
        kept.add(hasher.windows(prompt))
    window_H, share = kept.finish()
    n_windows = len(window_H) if share == 1.0 else round(len(window_H) / share)
    whole_kept = _Kept(max_hashes)
    whole_kept.add(whole_H)
    whole_kept_H, whole_share = whole_kept.finish()
    return Sketch(window, len(whole_H), n_windows, whole_kept_H, window_H, whole_share, share)


class _Kept:
    """Distinct hashes below a bound that is halved whenever there are too many."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._share = 1.0
        self._parts: list[Hashes] = []
        self._n = 0

    def add(self, hash_H: Hashes) -> None:
        hash_H = below(hash_H, self._share)
        self._parts.append(hash_H)
        self._n += len(hash_H)
        if self._n > 2 * self._limit:
            self._shrink()

    def finish(self) -> tuple[Hashes, float]:
        self._shrink()
        return self._parts[0], self._share

    def _shrink(self) -> None:
        hash_H = np.unique(np.concatenate(self._parts)) if self._parts else np.zeros(0, dtype=np.uint64)
        while len(hash_H) > self._limit:
            self._share /= 2
            hash_H = below(hash_H, self._share)
        self._parts, self._n = [hash_H], len(hash_H)


def below(hash_H: Hashes, share: float) -> Hashes:
    """The hashes that a sketch with this share would have kept."""
    return hash_H if share >= 1.0 else hash_H[hash_H < np.uint64(int(share * _TOP))]


def member(hash_H: Hashes, sorted_H: Hashes) -> NDArray[np.bool_]:
    """Which of `hash_H` are among `sorted_H`, in the shape of `hash_H`."""
    if len(sorted_H) == 0:
        return np.zeros(hash_H.shape, dtype=np.bool_)
    place = np.minimum(np.searchsorted(sorted_H, hash_H), len(sorted_H) - 1)
    return sorted_H[place] == hash_H
