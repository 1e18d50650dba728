"""pack(): every token once by its rule, whatever the bundles."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preferent.models.packing import MIN_SHARED, PackedBatch, Segment, pack, packed_length, shared_length

pytest.importorskip("torch")
ids = st.lists(st.integers(0, 3), min_size=1, max_size=12)
# Beginnings around the threshold for sharing, tails over a small alphabet so that they often agree by chance.
bundle = st.tuples(st.lists(st.integers(0, 3), max_size=MIN_SHARED + 4), st.lists(ids, min_size=1, max_size=4)).map(
    lambda both: [both[0] + tail for tail in both[1]]
)
bundles = st.lists(bundle, min_size=1, max_size=4)


def unpack(batch: PackedBatch) -> list[tuple[list[int], list[int]]]:
    """(ids, positions) of each sequence, read back from the row by the layout alone."""
    row, positions = batch.input_ids_T.tolist(), batch.position_ids_T.tolist()
    out = []
    for segment in batch.layout.segments:
        spans = (segment.prefix_start, segment.prefix_length), (segment.start, segment.length)
        out.append(tuple([value for start, n in spans for value in values[start : start + n]] for values in (row, positions)))
    return out


def by_definition(sequences: list[list[int]]) -> int:
    """The longest common beginning that leaves each sequence a token, token by token over all of them."""
    length = 0
    while all(len(sequence) > length + 1 for sequence in sequences) and len({sequence[length] for sequence in sequences}) == 1:
        length += 1
    return length if len(sequences) > 1 else 0


@given(bundles, st.booleans(), st.integers(0, 3))
@settings(max_examples=120, deadline=None)
def test_every_sequence_is_read_back_with_the_positions_it_has_alone(groups: list[list[list[int]]], share: bool, offset: int) -> None:
    batch = pack(groups, share=share, position_offset=offset)
    sequences = [sequence for group in groups for sequence in group]
    assert [read for read, _ in unpack(batch)] == sequences
    assert [places for _, places in unpack(batch)] == [list(range(offset, offset + len(sequence))) for sequence in sequences]
    assert batch.sequences == tuple(map(tuple, sequences))
    row = batch.input_ids_T.tolist()
    assert [row[i] for i in batch.first_R] == [sequence[0] for sequence in sequences]
    assert [row[i] for i in batch.last_R] == [sequence[-1] for sequence in sequences]


@given(bundles, st.booleans())
@settings(max_examples=120, deadline=None)
def test_segments_lay_the_row_down_once(groups: list[list[list[int]]], share: bool) -> None:
    batch = pack(groups, share=share)
    covered = [place for segment in batch.layout.segments for place in range(segment.start, segment.start + segment.length)]
    assert covered == list(range(batch.n_tokens))
    assert batch.n_tokens == sum(packed_length(group, share=share) for group in groups)
    assert all(segment.length >= 1 for segment in batch.layout.segments)


@given(st.lists(ids, min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_shared_length_is_the_longest_common_beginning(sequences: list[list[int]]) -> None:
    assert shared_length(sequences) == by_definition(sequences)
    assert shared_length(sequences[::-1]) == shared_length(sequences)


@given(bundles)
@settings(max_examples=60, deadline=None)
def test_bundles_in_another_order_hold_the_same_sequences(groups: list[list[list[int]]]) -> None:
    forward, backward = unpack(pack(groups)), unpack(pack(groups[::-1]))
    regrouped, start = [], 0
    for group in groups[::-1]:
        regrouped.append(backward[start : start + len(group)])
        start += len(group)
    assert [pair for part in regrouped[::-1] for pair in part] == forward


def test_a_worked_row() -> None:
    # Beginning 1..16 (16 tokens, the least that is shared), tails (7, 8) and (9): 16 + 2 + 1 tokens in the row.
    beginning = list(range(1, 17))
    batch = pack([[[*beginning, 7, 8], [*beginning, 9]], [[5]]])
    assert batch.input_ids_T.tolist() == [*beginning, 7, 8, 9, 5]
    assert batch.position_ids_T.tolist() == [*range(18), 16, 0]
    assert batch.layout.segments == (Segment(0, 18, 0, 0), Segment(18, 1, 0, 16), Segment(19, 1, 19, 0))
    assert batch.last_R.tolist() == [17, 18, 19]
    assert batch.first_R.tolist() == [0, 0, 19]


def test_a_short_common_beginning_is_not_shared() -> None:
    beginning = list(range(MIN_SHARED - 1))
    assert pack([[[*beginning, 20], [*beginning, 21]]]).n_tokens == 2 * MIN_SHARED


def test_one_sequence_inside_another_keeps_a_token_of_its_own() -> None:
    longer = list(range(30))
    batch = pack([[longer, longer[:20]]])
    assert batch.layout.segments[1] == Segment(30, 1, 0, 19)


def test_lists_and_tuples_mix() -> None:
    assert shared_length([[1, 2, 3], (1, 2, 4)]) == 2


def test_bidirectional_rows_refuse_sharing() -> None:
    with pytest.raises(ValueError, match="bidirectional"):
        pack([[[1, 2]]], causal=False, share=True)
