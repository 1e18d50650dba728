"""Packed rows: many token sequences in one row without padding, shared beginnings once.

A *bundle* is a list of token sequences that may share a beginning (the prompt of a group). Its first sequence lies in the row
whole; of every other one only the tail after the common beginning follows. Positions continue from the beginning, so a tail token
has the position it would have alone. The common beginning is that of all sequences of the bundle or, where more than the last token of
each is read (solutions in steps), what each has in common with the first.

Legend: T tokens in the row, R sequences, S segments (one per sequence).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

# A shared beginning shorter than this costs more in extra attention calls than it saves in tokens.
MIN_SHARED = 16


@dataclass(frozen=True, slots=True)
class Segment:
    """`length` query tokens from `start`; their keys are `prefix_length` tokens from `prefix_start`, then themselves."""

    start: int
    length: int
    prefix_start: int = 0
    prefix_length: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """Who sees whom in a packed row: every segment sees its prefix and itself (causally or not), nothing sees anything else.

    reads: for each segment the offsets of its tokens that are read, from the start of the segment; None: the last of each.
    """

    segments: tuple[Segment, ...]
    causal: bool
    reads: tuple[tuple[int, ...], ...] | None = None
    # Masks and index tensors are the same in every layer; they are built once per row.
    cache: dict[object, object] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """A packed row ready for a model.

    input_ids_T, position_ids_T: shape (T,). first_R, last_R: row index of each sequence's first and last token, shape (R,).
    read_N: row indices of the tokens whose hidden states are read, sequence by sequence; the last of each unless `pack` was told
    others. needed_M: the same rows, each once. reads: the same as offsets into the sequences. `sequences` keeps the token lists
    themselves, in order, for the plain path. Where prompts alone are among the sequences, answers_R says which sequences are not, shape
    (R,), and prompts_R which sequence is the prompt alone of each of those.
    """

    input_ids_T: torch.Tensor
    position_ids_T: torch.Tensor
    first_R: torch.Tensor
    last_R: torch.Tensor
    read_N: torch.Tensor
    needed_M: torch.Tensor
    reads: tuple[tuple[int, ...], ...]
    layout: Layout
    sequences: tuple[tuple[int, ...], ...]
    answers_R: torch.Tensor | None = None
    prompts_R: torch.Tensor | None = None

    @property
    def n_tokens(self) -> int:
        return len(self.input_ids_T)

    def to(self, device: torch.device | str) -> PackedBatch:
        return replace(
            self,
            input_ids_T=self.input_ids_T.to(device),
            position_ids_T=self.position_ids_T.to(device),
            first_R=self.first_R.to(device),
            last_R=self.last_R.to(device),
            read_N=self.read_N.to(device),
            needed_M=self.needed_M.to(device),
            layout=Layout(self.layout.segments, self.layout.causal, self.layout.reads),
            answers_R=None if self.answers_R is None else self.answers_R.to(device),
            prompts_R=None if self.prompts_R is None else self.prompts_R.to(device),
        )


def shared_length(sequences: Sequence[Sequence[int]]) -> int:
    """Length of the longest common beginning that leaves every sequence at least one token of its own."""
    if len(sequences) < 2:
        return 0
    limit = min(len(sequence) for sequence in sequences) - 1
    # The smallest and the largest in lexicographic order differ at least as early as any other two.
    rows = [tuple(sequence) for sequence in sequences]
    low, high = min(rows), max(rows)
    for i in range(limit):
        if low[i] != high[i]:
            return i
    return max(limit, 0)


def packed_length(sequences: Sequence[Sequence[int]], *, share: bool, each: bool = False) -> int:
    """Tokens that `pack` will lay down for one bundle; `each` where it is told what to read."""
    return sum(len(sequence) for sequence in sequences) - sum(_skipped(sequences, share=share, each=each))


def _skipped(sequences: Sequence[Sequence[int]], *, share: bool, each: bool) -> list[int]:
    """How many tokens of each sequence lie in the first one already; `each`: as many as the two have in common."""
    if not share:
        return [0] * len(sequences)
    if each:
        found = [shared_length([sequences[0], sequence]) for sequence in sequences[1:]]
    else:
        found = [shared_length(sequences)] * (len(sequences) - 1)
    return [0, *(shared if shared >= MIN_SHARED else 0 for shared in found)]


def pack(
    bundles: Sequence[Sequence[Sequence[int]]],
    *,
    causal: bool = True,
    share: bool = True,
    position_offset: int = 0,
    reads: Sequence[Sequence[int]] | None = None,
    prompts: bool = False,
) -> PackedBatch:
    """Lay bundles of token sequences into one row; sequence order is bundle by bundle.

    `share` must be False for bidirectional models (a prompt token would see the response). `position_offset` is added to every
    position (RoBERTa counts from its pad id + 1). `reads`: for each sequence, in that order, the offsets of the tokens to read; each
    sequence then shares with the first of its bundle whatever the two have in common.
    `prompts`: the first sequence of every bundle is the prompt alone.
    """
    if share and not causal:
        raise ValueError("a bidirectional model cannot share beginnings: its prompt tokens see the response")
    ids: list[int] = []
    positions: list[int] = []
    first: list[int] = []
    last: list[int] = []
    rows: list[int] = []
    segments: list[Segment] = []
    sequences = tuple(tuple(sequence) for bundle in bundles for sequence in bundle)
    offsets = tuple((len(sequence) - 1,) for sequence in sequences) if reads is None else tuple(tuple(read) for read in reads)
    asked = iter(offsets)
    for bundle in bundles:
        origin = len(ids)
        for sequence, skip in zip(bundle, _skipped(bundle, share=share, each=reads is not None), strict=True):
            start = len(ids)
            ids.extend(sequence[skip:])
            positions.extend(range(position_offset + skip, position_offset + len(sequence)))
            segments.append(Segment(start, len(sequence) - skip, origin, skip))
            first.append(origin if skip else start)
            last.append(len(ids) - 1)
            rows.extend(origin + offset if offset < skip else start - skip + offset for offset in next(asked))
    return PackedBatch(
        input_ids_T=torch.tensor(ids, dtype=torch.long),
        position_ids_T=torch.tensor(positions, dtype=torch.long),
        first_R=torch.tensor(first, dtype=torch.long),
        last_R=torch.tensor(last, dtype=torch.long),
        read_N=torch.tensor(rows, dtype=torch.long),
        needed_M=torch.tensor(sorted(set(rows)), dtype=torch.long),
        reads=offsets,
        layout=Layout(tuple(segments), causal, None if reads is None else _reads_of(segments, rows)),
        sequences=sequences,
        **(_roles([len(bundle) for bundle in bundles]) if prompts else {}),
    )


def _reads_of(segments: Sequence[Segment], rows: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """The rows that are read, each once, as offsets into the segment that they lie in."""
    found: list[tuple[int, ...]] = []
    place, wanted = 0, sorted(set(rows))
    for segment in segments:
        own: list[int] = []
        while place < len(wanted) and wanted[place] < segment.start + segment.length:
            own.append(wanted[place] - segment.start)
            place += 1
        found.append(tuple(own))
    return tuple(found)


def _roles(sizes: Sequence[int]) -> dict[str, torch.Tensor]:
    """Which sequences are answers, and where the prompt of each stands, when every bundle begins with its prompt alone."""
    answers, prompts, start = [], [], 0
    for size in sizes:
        answers.extend(range(start + 1, start + size))
        prompts.extend([start] * (size - 1))
        start += size
    return {"answers_R": torch.tensor(answers, dtype=torch.long), "prompts_R": torch.tensor(prompts, dtype=torch.long)}
