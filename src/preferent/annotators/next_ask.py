"""From judgments and candidates to the next batch of questions: what to ask, of whom, and how often still.

The scores are fitted to all votes (Bradley-Terry; with a slope per annotator from three annotators on, so that guessers and adversaries
teach as little, or the opposite, as they deserve). Everything is worked out on pairs turned so that the response with the smaller name
comes first, and on candidates in the order of their ids: neither the order of the rows nor which side is called a changes the batch.

Legend: Q candidates, B batch, A annotators, R responses.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit

from preferent.annotators.annotator_slope import PairModel
from preferent.annotators.bradley_terry import Z95, PairFit, Settings, fit_pairs
from preferent.annotators.next_pair import Batch, Knowledge, Shape, Strategy, information_gain, knowledge, next_batch
from preferent.annotators.next_votes import assign, votes_needed
from preferent.annotators.pair_ends import Pair, PairedVotes, alone, paired_votes
from preferent.annotators.table import VoteTable
from preferent.core.errors import ConfigError, DataError

ENOUGH_FOR_SLOPES = 3  # annotators
ROUNDS = 8  # of further candidates, each twice as many, before a question is given up


@dataclass(frozen=True, slots=True)
class Candidate:
    """A comparison that may be asked. alike: equal for candidates that ask the same question (None: its two responses say it).
    uncertainty: what a reward model does not know about it, in nats, for the strategy "uncertainty"."""

    id: Any
    pair: Pair
    alike: Hashable = None
    uncertainty: float | None = None

    @property
    def code(self) -> Hashable:
        return frozenset((self.pair.a, self.pair.b)) if self.alike is None else self.alike


@dataclass(frozen=True, slots=True)
class AskSettings:
    """n: questions. random_share: of them, dealt at random over what is left. width: a pair is done when the 95 % interval of its p_a is no
    wider (None: no pair is ever done); decide: or when it leaves 1/2 on one side. budgets: how many questions each annotator may get
    (None: nobody is named); each: annotators per question."""

    n: int = 20
    strategy: Strategy = "information"
    random_share: float = 0.2
    width: float | None = 0.2
    decide: bool = False
    shape: Shape = "matching"
    budgets: Mapping[Any, int] | None = None
    each: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Question:
    """One question. p_a with its 95 % interval is the chance that a is preferred, as the votes tell; expected_gain: nats that one vote is
    expected to teach about it; value: what the strategy went by; votes_needed: votes of a typical annotator until the pair is done (None
    without a width); random: dealt at random, so that audits of the data stay unbiased."""

    comparison_id: Any
    pair: Pair
    expected_gain: float
    value: float
    p_a: float
    low: float
    high: float
    n_judgments: int
    votes_needed: int | None
    random: bool
    annotator_id: Any = None

    def to_dict(self) -> dict[str, Any]:
        """The row of the output: texts where they are known, `annotator_id` where somebody is asked."""
        pair = self.pair
        row: dict[str, Any] = {"comparison_id": self.comparison_id, "response_a_id": pair.a, "response_b_id": pair.b}
        if pair.prompt is not None:
            row["prompt"] = [message.model_dump() for message in pair.prompt]
        if pair.has_texts:
            row |= {"response_a": pair.text_a, "response_b": pair.text_b}
        for name in ("expected_gain", "value", "p_a", "low", "high", "n_judgments", "votes_needed", "random"):
            row[name] = getattr(self, name)
        return row if self.annotator_id is None else row | {"annotator_id": self.annotator_id}


@dataclass(frozen=True, slots=True)
class Asked:
    """The batch (one question for each annotator asked), how many candidates there were, how many of them are done, and what a reader
    must know."""

    questions: tuple[Question, ...]
    strategy: Strategy
    candidates: int
    done: int
    intervals: str
    notes: tuple[str, ...]


def ask(table: VoteTable, judged: Mapping[str, Candidate], candidates: Sequence[Candidate], settings: AskSettings | None = None) -> Asked:
    """Choose what to ask next.

    table: the votes so far (labels a, b, tie). judged: its comparisons by id as text, where it is known which responses
    they show. candidates: what may be asked, judged before or not. Raises DataError for no candidates or one of a response with
    itself; ConfigError for settings out of range or a strategy without what it needs.
    """
    settings = settings or AskSettings()
    if not candidates:
        raise DataError("there is no pair to ask about", hint="name some in a file of comparisons")
    ordered = sorted(candidates, key=lambda one: (str(one.id), one.pair.a, one.pair.b))
    paired = paired_votes(table, {name: one.pair for name, one in judged.items()}, more=[one.pair for one in ordered])
    fit = _fit(paired, settings.seed)
    number = {name: code for code, name in enumerate(paired.responses)}
    pairs_Q2 = np.sort(np.array([(number[one.pair.a], number[one.pair.b]) for one in ordered], dtype=np.int64), axis=1)
    known = _with_what_else(knowledge(fit, pairs_Q2, seed=settings.seed), ordered)
    needed_Q = None
    open_Q = np.arange(len(known))
    if settings.width is not None:
        needed_Q = votes_needed(known.mean_Q, known.sd_Q, width=settings.width, decide=settings.decide)
        open_Q = np.flatnonzero(needed_Q)
    rng = np.random.default_rng(settings.seed)
    unnamed = fit.graph.notes()
    notes = [*_pairing_notes(paired, table), *fit.graph.notes(paired.responses), *(note for note in fit.notes if note not in unnamed)]
    source = _Source(ordered, known, needed_Q, open_Q, settings, rng)
    questions = source.more(settings.n, settings.random_share)
    if len(questions) < settings.n:
        notes.append(f"only {len(questions)} different questions are open, of {settings.n} asked for")
    if settings.budgets is not None:
        questions, said = _assigned(source, questions, _Seen(table, judged), settings, rng)
        notes += said
    return Asked(tuple(questions), settings.strategy, len(ordered), len(ordered) - len(open_Q), fit.intervals, tuple(notes))


def _fit(paired: PairedVotes, seed: int) -> PairFit:
    votes = paired.votes
    slope = len(np.unique(votes.annotator_V)) >= ENOUGH_FOR_SLOPES
    return fit_pairs(votes, PairModel(slope=slope, position="none" if votes.first_V is None else "shared"), Settings(seed=seed))


def _with_what_else(known: Knowledge, ordered: Sequence[Candidate]) -> Knowledge:
    codes: dict[Hashable, int] = {}
    alike_Q = np.array([codes.setdefault(one.code, len(codes)) for one in ordered], dtype=np.int64)
    given = [one.uncertainty for one in ordered]
    uncertainty_Q = None if any(value is None for value in given) else np.array(given, dtype=np.float64)
    return replace(known, alike_Q=alike_Q, uncertainty_Q=uncertainty_Q)


def _take(known: Knowledge, rows_Q: Any) -> Knowledge:
    def part(values: Any) -> Any:
        return None if values is None else values[rows_Q]

    ensemble = None if known.ensemble_MQ is None else known.ensemble_MQ[:, rows_Q]
    columns = {
        name: part(getattr(known, name)) for name in ("pairs_Q2", "mean_Q", "sd_Q", "votes_Q", "ends_Q2", "uncertainty_Q", "alike_Q")
    }
    return replace(known, ensemble_MQ=ensemble, **columns)


def _question(one: Candidate, known: Knowledge, q: int, needed_Q: Any, at: tuple[Batch, int]) -> Question:
    """The question in the candidate's own orientation."""
    batch, slot = at
    sign = 1.0 if one.pair.a < one.pair.b else -1.0
    gap, half = sign * float(known.mean_Q[q]), Z95 * float(known.sd_Q[q])
    p_a, low, high = (float(expit(value)) for value in (gap, gap - half, gap + half))
    gain = float(information_gain(known.mean_Q[q : q + 1], known.sd_Q[q : q + 1])[0])
    needed = None if needed_Q is None else int(needed_Q[q])
    value, random = float(batch.value_B[slot]), bool(batch.random_B[slot])
    return Question(one.id, one.pair, gain, value, p_a, low, high, int(known.votes_Q[q]), needed, random)


class _Source:
    """Questions in batches, best first; none comes twice, in whatever dress."""

    def __init__(
        self, ordered: Sequence[Candidate], known: Knowledge, needed_Q: Any, open_Q: Any, settings: AskSettings, rng: np.random.Generator
    ) -> None:
        self._ordered, self._known, self._needed_Q, self._settings, self._rng = ordered, known, needed_Q, settings, rng
        self._left_Q = open_Q
        self.code_of: dict[Any, Hashable] = {one.id: one.code for one in ordered}

    def more(self, n: int, random_share: float = 0.0) -> list[Question]:
        """The next n, or as many as there are."""
        if not len(self._left_Q):
            return []
        own = self._settings
        known = _take(self._known, self._left_Q)
        batch = next_batch(known, n, rng=self._rng, strategy=own.strategy, random_share=random_share, shape=own.shape)
        chosen_B = self._left_Q[batch.chosen_B]
        assert self._known.alike_Q is not None
        self._left_Q = self._left_Q[~np.isin(self._known.alike_Q[self._left_Q], self._known.alike_Q[chosen_B])]
        return [_question(self._ordered[q], self._known, q, self._needed_Q, (batch, slot)) for slot, q in enumerate(chosen_B.tolist())]


class _Seen:
    """Who has voted on what: by the question, however it was put, and by the two responses."""

    def __init__(self, table: VoteTable, judged: Mapping[str, Candidate]) -> None:
        self._table = table
        self._items: defaultdict[Hashable, set[int]] = defaultdict(set)
        for item, name in enumerate(table.items.tolist()):
            one = judged.get(str(name)) or Candidate(name, alone(name))
            for key in (one.code, frozenset((one.pair.a, one.pair.b))):
                self._items[key].add(item)

    def voters(self, question: Question, code: Hashable) -> set[str]:
        items = self._items.get(code, set()) | self._items.get(frozenset((question.pair.a, question.pair.b)), set())
        hit_V = np.isin(self._table.item_V, sorted(items))
        return {str(self._table.annotators[a]) for a in np.unique(self._table.annotator_V[hit_V]).tolist()}


def _assigned(
    source: _Source, questions: list[Question], seen: _Seen, settings: AskSettings, rng: np.random.Generator
) -> tuple[list[Question], list[str]]:
    """Each question once for every annotator who is to answer it; nobody gets what they have judged, under whatever id. For a question that
    nobody can be asked the next candidate comes in, as long as there is budget."""
    assert settings.budgets is not None
    names = sorted(settings.budgets, key=str)
    if not names:
        raise ConfigError("there is no annotator to ask", hint="name some in --annotators")
    names = [names[k] for k in rng.permutation(len(names))]  # among equals, chance decides who is asked
    place = {str(name): a for a, name in enumerate(names)}
    budget_A = np.array([settings.budgets[name] for name in names], dtype=np.int64)
    out: list[Question] = []
    wanted, asked, short, size = len(questions), 0, 0, len(questions)
    for _ in range(ROUNDS):
        for question in questions:
            if asked == wanted or not budget_A.any():
                break
            voters = seen.voters(question, source.code_of[question.comparison_id])
            dealt = assign([0], budget_A, seen={(0, place[name]) for name in voters if name in place}, each=settings.each)
            out += [replace(question, annotator_id=names[a]) for _, a in dealt.asked]
            budget_A[[a for _, a in dealt.asked]] -= 1
            asked += bool(dealt.asked)
            short += bool(dealt.asked) and bool(dealt.left_over)
        if asked == wanted or not budget_A.any():
            break
        questions, size = source.more(size), 2 * size
    notes = [] if asked == wanted else [f"budgets and what people have judged allow {asked} of {wanted} questions"]
    if short:
        notes.append(f"{short} of {asked} questions found fewer than {settings.each} annotators with budget who had not judged them")
    return out, notes


def _pairing_notes(paired: PairedVotes, table: VoteTable) -> list[str]:
    notes = [*table.notes]
    if paired.known == 0:
        notes.append("no row says which responses it shows, so every comparison stands alone: no vote on one pair tells about another")
    elif paired.known < table.n_items:
        notes.append(f"{table.n_items - paired.known} of {table.n_items} judged comparisons do not say which responses they show")
    return notes


def open_pairs(responses: Sequence[str], group_R: Sequence[Hashable], judged: set[frozenset[str]]) -> list[tuple[str, str]]:
    """Pairs of responses of one group (a prompt, or a component of the graph) that nobody judged, sorted."""
    members: dict[Hashable, list[str]] = defaultdict(list)
    for name, group in zip(responses, group_R, strict=True):
        members[group].append(name)
    found = []
    for names in members.values():
        ordered = sorted(names)
        found += [(one, two) for k, one in enumerate(ordered) for two in ordered[k + 1 :] if frozenset((one, two)) not in judged]
    return sorted(found)
