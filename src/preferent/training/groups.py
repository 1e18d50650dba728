"""Groups: one prompt, its distinct responses, and every comparison and ranking between them.

A response is scored once however many comparisons it is in. Comparisons are never merged with each other here: every record keeps
its own edges, in its own orientation, with its own weight and soft label. Since the losses are linear in the label, that gives the
same loss as one merged edge, and a record and its swap count as two observations of the same pair (the data gate is where
duplicates are found and merged).

Legend: R distinct responses of a group, E edges, N items in all rankings, G rankings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from preferent.core.errors import DataError
from preferent.core.records import Exchange, Floats, Preference, Prompt, Ranking, Rating, Vote

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class GroupRanking:
    """One ranking of K responses inside a group: their indices, their ranks (1 is best), its weight, and the record it came from."""

    index_K: Ints
    rank_K: Floats
    weight: float
    record: int


@dataclass(frozen=True, slots=True, eq=False)
class GroupRatings:
    """What people said of single responses: response_M indices into the responses of a group, objective_M columns of the values,
    value_M the ratings on the scale of their objective (mean 0, variance 1 over the training data), record_M the records they came
    from, all of shape (M,). An objective nobody rated has no entry."""

    response_M: Ints
    objective_M: Ints
    value_M: Floats
    record_M: Ints


_NONE = np.empty(0, dtype=np.int64)
NO_RATINGS = GroupRatings(_NONE, _NONE, np.empty(0), _NONE)


@dataclass(frozen=True, slots=True)
class Column:
    """Where an objective lies among the values of a model, and the scale of its ratings."""

    index: int
    mean: float = 0.0
    sd: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """A prompt with its distinct responses, in order of first appearance, and the edges between them.

    i_E, j_E: indices into `exchanges`. p_E: probability that i is preferred to j. weight_E > 0. margin_E: 0 where there is none.
    tie_E: share of ties (votes of 0.5; where votes are not known, 1 if p is exactly 0.5 and 0 otherwise). record_E: position of the
    edge's record in the input of `group_records`, from 0. from_ranking_E: the edge is a pair of a ranking, which is also in
    `rankings`; a loss on whole rankings takes those and leaves these edges out. objective_E: the column of the model's values that
    the edge compares, -1 for the reward itself. annotator_E: whose word it is, -1 where it is not known. first_E: 1 where i was shown
    first, -1 where j was, 0 where that is not known. names: record -> what to call it in a message: its id, or "record 1" for the
    first of the input. prompt_key: a digest of the prompt, the same in every run.
    """

    prompt_key: str
    exchanges: tuple[Exchange, ...]
    i_E: Ints
    j_E: Ints
    p_E: Floats
    weight_E: Floats
    margin_E: Floats
    tie_E: Floats
    record_E: Ints
    from_ranking_E: NDArray[np.bool_]
    objective_E: Ints
    annotator_E: Ints
    first_E: Floats
    names: dict[int, str]
    rankings: tuple[GroupRanking, ...] = ()
    ratings: GroupRatings = NO_RATINGS

    @property
    def n_edges(self) -> int:
        return len(self.i_E)

    @property
    def n_labels(self) -> int:
        """Comparisons and rated responses."""
        return len(self.i_E) + len(np.unique(self.ratings.record_M))


@dataclass(slots=True)
class _Draft:
    """A group while its records come in."""

    prompt: Prompt
    index: dict[str, int] = field(default_factory=dict)
    edges: list[tuple[int, int, float, float, float, float, int, bool, int, int, float]] = field(default_factory=list)
    rankings: list[GroupRanking] = field(default_factory=list)
    ratings: list[tuple[int, int, float, int]] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)

    def place(self, response: str) -> int:
        return self.index.setdefault(response, len(self.index))


def group_records(
    records: Iterable[Preference | Ranking | Rating | Vote],
    *,
    annotators: Sequence[str] = (),
    columns: Mapping[str, Column] | None = None,
) -> list[Group]:
    """Merge all records with the same prompt into one group; groups and responses are in order of first appearance.

    A vote is an edge that knows its annotator, as a place in `annotators` (-1 where it is not among them). A ranking gives an edge for
    every pair of its responses, in the order of `Ranking.preferences`, and stays a ranking as well. Responses are the same when their
    texts are. `columns` says where each objective is compared or rated. Raises DataError for a record that compares a response with
    itself, and for an objective that has no column.
    """
    drafts: dict[tuple[tuple[str, str], ...], _Draft] = {}
    place = {name: number for number, name in enumerate(annotators)}
    for number, record in enumerate(records):
        key = tuple((message.role, message.content) for message in record.prompt)
        draft = drafts.get(key)
        if draft is None:
            draft = drafts[key] = _Draft(record.prompt)
        draft.names[number] = record.id or f"record {number + 1}"
        if isinstance(record, Ranking):
            _add_ranking(draft, record, number)
        elif isinstance(record, Rating):
            _add_rating(draft, record, number, columns or {})
        elif isinstance(record, Vote):
            _add_vote(draft, record, number, (_column(record, columns or {}), place.get(record.annotator_id, -1)))
        else:
            _add_preference(draft, record, number, _column(record, columns or {}))
    return [_finish(draft) for draft in drafts.values()]


def prompt_key(prompt: Prompt) -> str:
    """A digest of a prompt, the same in every run: 32 hexadecimal digits."""
    text = json.dumps([[message.role, message.content] for message in prompt])
    return hashlib.blake2b(text.encode("ascii"), digest_size=16).hexdigest()


def tie_share(preference: Preference) -> float:
    """Share of ties among the votes; without votes 1 for a label of exactly 0.5 and 0 for any other."""
    if preference.votes:
        return sum(vote == 0.5 for vote in preference.votes) / len(preference.votes)
    return float(preference.p_a == 0.5)


def _column(record: Preference | Vote, columns: Mapping[str, Column]) -> int:
    return -1 if record.objective is None else _known(record.objective, columns).index


def _known(objective: str, columns: Mapping[str, Column]) -> Column:
    if objective not in columns:
        raise DataError(
            f"the objective {objective!r} has no head; those that have: {', '.join(columns) or 'none'}",
            hint="objectives are those of the training data; combination.kind = 'auto' gives each a head",
        )
    return columns[objective]


def _add_rating(draft: _Draft, record: Rating, number: int, columns: Mapping[str, Column]) -> None:
    place = draft.place(record.response)
    for objective, value in record.values.items():
        column = _known(objective, columns)
        draft.ratings.append((place, column.index, (value - column.mean) / column.sd, number))


def _add_preference(draft: _Draft, record: Preference, number: int, column: int) -> None:
    i, j = draft.place(record.response_a), draft.place(record.response_b)
    if i == j:
        raise _same(draft.names[number], record.response_a)
    draft.edges.append((i, j, record.p_a, record.weight, record.margin or 0.0, tie_share(record), number, False, column, -1, 0.0))


def _add_vote(draft: _Draft, record: Vote, number: int, which: tuple[int, int]) -> None:
    """`which`: the column that is compared, and the annotator."""
    i, j = draft.place(record.response_a), draft.place(record.response_b)
    if i == j:
        raise _same(draft.names[number], record.response_a)
    first = {"a": 1.0, "b": -1.0, None: 0.0}[record.shown_first]
    tie = float(record.p_a == 0.5)
    draft.edges.append((i, j, record.p_a, record.weight, 0.0, tie, number, False, *which, first))


def _add_ranking(draft: _Draft, record: Ranking, number: int) -> None:
    indices = tuple(draft.place(response) for response in record.responses)
    if len(set(indices)) < len(indices):
        twice = next(response for response in record.responses if record.responses.count(response) > 1)
        raise _same(draft.names[number], twice)
    draft.rankings.append(GroupRanking(np.array(indices, dtype=np.int64), np.array(record.ranks), record.weight, number))
    for a in range(len(indices)):
        for b in range(a + 1, len(indices)):
            tie = record.ranks[a] == record.ranks[b]
            p = 0.5 if tie else float(record.ranks[a] < record.ranks[b])
            draft.edges.append((indices[a], indices[b], p, record.weight, 0.0, float(tie), number, True, -1, -1, 0.0))


def _same(name: str, response: str) -> DataError:
    shown = response if len(response) <= 60 else response[:57] + "..."
    return DataError(
        f"{name}: the response {shown!r} is compared with itself",
        hint="run `preferent check` on the file: its gate refuses identical responses",
    )


def empty_group(prompt: Prompt, names: dict[int, str]) -> Group:
    """A group in which nothing is compared: its prompt, and what its records are called."""
    return _finish(_Draft(prompt, names=names))


def _finish(draft: _Draft) -> Group:
    edges = zip(*draft.edges, strict=True) if draft.edges else iter([()] * 11)
    i, j, p, weight, margin, tie, record, ranked, objective, annotator, first = edges
    return Group(
        prompt_key=prompt_key(draft.prompt),
        exchanges=tuple(Exchange(prompt=draft.prompt, response=response) for response in draft.index),
        i_E=np.array(i, dtype=np.int64),
        j_E=np.array(j, dtype=np.int64),
        p_E=np.array(p, dtype=np.float64),
        weight_E=np.array(weight, dtype=np.float64),
        margin_E=np.array(margin, dtype=np.float64),
        tie_E=np.array(tie, dtype=np.float64),
        record_E=np.array(record, dtype=np.int64),
        from_ranking_E=np.array(ranked, dtype=np.bool_),
        objective_E=np.array(objective, dtype=np.int64),
        annotator_E=np.array(annotator, dtype=np.int64),
        first_E=np.array(first, dtype=np.float64),
        names=draft.names,
        rankings=tuple(draft.rankings),
        ratings=_ratings(draft.ratings),
    )


def _ratings(rows: Sequence[tuple[int, int, float, int]]) -> GroupRatings:
    if not rows:
        return NO_RATINGS
    response, objective, value, record = zip(*rows, strict=True)
    indices = (np.array(part, dtype=np.int64) for part in (response, objective, record))
    response_M, objective_M, record_M = indices
    return GroupRatings(response_M, objective_M, np.array(value, dtype=np.float64), record_M)


def split_groups(groups: Sequence[Group], *, max_responses: int, seed: int) -> list[Group]:
    """Cut groups of more than `max_responses` distinct responses into parts that have at most so many; others stay as they are.

    A prompt with hundreds of responses would otherwise be one step, and one forward pass, on its own. Every edge is in exactly one
    part. The responses are dealt into blocks of `max_responses // 2` in an order drawn from `seed` and the prompt; a part holds the
    edges between two blocks, so that a dense group is still scored with few responses per comparison; neighbouring parts are put
    together while they fit. A ranking is never cut: it is a part of its own, with all its edges, however long it is. The ratings of a
    response go where the response first is; those of responses that are compared with nothing make parts of their own.
    """
    if max_responses < 2:
        raise ValueError(f"a part needs at least 2 responses, got max_responses={max_responses!r}")
    parts: list[Group] = []
    for group in groups:
        parts.extend([group] if len(group.exchanges) <= max_responses else _split(group, max_responses, seed))
    return parts


def _split(group: Group, max_responses: int, seed: int) -> list[Group]:
    """The parts of one large group: its rankings, then tiles of its edges."""
    rng = np.random.default_rng([seed, int(group.prompt_key, 16)])
    block_R = np.empty(len(group.exchanges), dtype=np.int64)
    block_R[rng.permutation(len(block_R))] = np.arange(len(block_R)) // (max_responses // 2)
    low_E = np.minimum(block_R[group.i_E], block_R[group.j_E])
    high_E = np.maximum(block_R[group.i_E], block_R[group.j_E])
    tiles: dict[tuple[int, int], list[int]] = {}
    for edge in np.flatnonzero(~group.from_ranking_E):
        tiles.setdefault((int(low_E[edge]), int(high_E[edge])), []).append(int(edge))
    chosen: list[list[int]] = []
    responses: set[int] = set()
    for tile in sorted(tiles):
        own = {int(r) for edge in tiles[tile] for r in (group.i_E[edge], group.j_E[edge])}
        if chosen and len(responses | own) <= max_responses:
            chosen[-1].extend(tiles[tile])
            responses |= own
        else:
            chosen.append(list(tiles[tile]))
            responses = own
    parts = [_part(group, np.flatnonzero(group.record_E == ranking.record), (ranking,)) for ranking in group.rankings]
    parts += [_part(group, np.array(sorted(edges)), ()) for edges in chosen]
    return _with_ratings(group, parts, max_responses) if len(group.ratings.value_M) else parts


def _with_ratings(group: Group, parts: list[Group], max_responses: int) -> list[Group]:
    """The parts with the ratings of the group, each once."""
    place = {exchange.response: number for number, exchange in enumerate(group.exchanges)}
    left = set(group.ratings.response_M.tolist())
    found = []
    for part in parts:
        own_R = np.array([place[exchange.response] for exchange in part.exchanges])
        here = left.intersection(own_R.tolist())
        left -= here
        found.append(replace(part, ratings=_some(group.ratings, own_R, here), names={**part.names, **_named(group, here)}))
    alone = sorted(left)
    for start in range(0, len(alone), max_responses):
        own_R = np.array(alone[start : start + max_responses])
        bare = _part(group, np.empty(0, dtype=np.int64), ())
        exchanges = tuple(group.exchanges[number] for number in own_R)
        here = set(own_R.tolist())
        found.append(replace(bare, exchanges=exchanges, ratings=_some(group.ratings, own_R, here), names=_named(group, here)))
    return found


def _some(ratings: GroupRatings, own_R: Ints, here: set[int]) -> GroupRatings:
    """The ratings of the responses `here`, as places among `own_R`."""
    kept = np.isin(ratings.response_M, list(here))
    place = {number: at for at, number in enumerate(own_R.tolist())}
    response_M = np.array([place[number] for number in ratings.response_M[kept].tolist()], dtype=np.int64)
    return GroupRatings(response_M, ratings.objective_M[kept], ratings.value_M[kept], ratings.record_M[kept])


def _named(group: Group, here: set[int]) -> dict[int, str]:
    records = group.ratings.record_M[np.isin(group.ratings.response_M, list(here))]
    return {record: group.names[record] for record in np.unique(records).tolist()}


def _part(group: Group, edges: Ints, rankings: tuple[GroupRanking, ...]) -> Group:
    """The group restricted to some edges and the responses they touch."""
    used = np.unique(np.concatenate([group.i_E[edges], group.j_E[edges]]))
    record_E = group.record_E[edges]
    return Group(
        prompt_key=group.prompt_key,
        exchanges=tuple(group.exchanges[old] for old in used),
        i_E=np.searchsorted(used, group.i_E[edges]),
        j_E=np.searchsorted(used, group.j_E[edges]),
        p_E=group.p_E[edges],
        weight_E=group.weight_E[edges],
        margin_E=group.margin_E[edges],
        tie_E=group.tie_E[edges],
        record_E=record_E,
        from_ranking_E=group.from_ranking_E[edges],
        objective_E=group.objective_E[edges],
        annotator_E=group.annotator_E[edges],
        first_E=group.first_E[edges],
        names={record: group.names[record] for record in np.unique(record_E).tolist()},
        rankings=tuple(
            GroupRanking(np.searchsorted(used, ranking.index_K), ranking.rank_K, ranking.weight, ranking.record) for ranking in rankings
        ),
    )
