"""Everything that the annotator report says, as numbers: agreement, annotators, confusions, groups, disagreements, coverage.

A part that the data cannot support is left out with its reason in `skipped`; no other part suffers for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from preferent.annotators.agreement import agreement_report
from preferent.annotators.agreement_pairs import PairAgreement, pairwise_agreement
from preferent.annotators.attribute_levels import Attributes
from preferent.annotators.choose import Choice, choose
from preferent.annotators.labels import LabelResult
from preferent.annotators.pair_ends import Pair, PairedVotes, paired_votes
from preferent.annotators.reliability import missing_evidence
from preferent.annotators.table import VoteTable
from preferent.audits.annotator_attributes import AttributeStudy, study_attributes, why_no_attributes
from preferent.audits.annotator_graph import Coverage, Disagreement, coverage, disagreements
from preferent.audits.annotator_groups import Groups, find_groups, why_no_groups
from preferent.audits.annotator_people import Confusion, Person, confusions, fit_traits, people, with_confusions
from preferent.core.estimates import Estimate

BUSIEST = 60  # annotators whose pairwise agreement is looked at
MIN_SHARED = 10


@dataclass(frozen=True, slots=True)
class StudySettings:
    """groups: how many groups of annotators (None: chosen by held-out votes; 0: not looked for). worst: disagreements to
    show."""

    groups: int | None = None
    worst: int = 10
    seed: int = 0


@dataclass(frozen=True, eq=False)
class AnnotatorStudy:
    """What was found. by_source: agreement within each source, where there are several. model, reason: of the
    soft labels, and how it was chosen; confusion_model: of reliability, flags and confusion. skipped:
    part -> why it is missing."""

    votes: int
    comparisons: int
    skips: int
    labels: tuple[str, ...]
    agreement: dict[str, Estimate]
    by_source: dict[str, dict[str, Estimate]]
    pairs: tuple[PairAgreement, ...]
    people: tuple[Person, ...]
    confusions: tuple[Confusion, ...]
    groups: Groups | None
    attributes: AttributeStudy | None
    disagreements: tuple[Disagreement, ...]
    coverage: Coverage
    model: str
    confusion_model: str
    reason: str
    skipped: dict[str, str]
    notes: tuple[str, ...]

    @property
    def flagged(self) -> list[Person]:
        return [person for person in self.people if person.flags]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the texts."""
        return {
            "votes": self.votes,
            "comparisons": self.comparisons,
            "annotators": len(self.people),
            "skips": self.skips,
            "labels": list(self.labels),
            "agreement": {name: value.to_dict() for name, value in self.agreement.items()},
            "agreement_by_source": {
                source: {name: value.to_dict() for name, value in found.items()} for source, found in self.by_source.items()
            },
            "agreement_of_pairs": [
                {"first": p.first, "second": p.second, "shared": p.shared, "percent": p.percent, "kappa": p.kappa.to_dict()}
                for p in self.pairs
            ],
            "people": [person.to_dict() for person in self.people],
            "confusions": [confusion.to_dict() for confusion in self.confusions],
            "groups": None if self.groups is None else self.groups.to_dict(),
            "attributes": None if self.attributes is None else self.attributes.to_dict(),
            "disagreements": [row.to_dict() for row in self.disagreements],
            "coverage": self.coverage.to_dict(),
            "model": self.model,
            "confusion_model": self.confusion_model or None,
            "reason": self.reason,
            "skipped": self.skipped,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, eq=False, slots=True)
class _Known:
    """What several parts need."""

    table: VoteTable
    choice: Choice
    labelled: LabelResult | None
    paired: PairedVotes
    skipped: dict[str, str] = field(default_factory=dict)


def study_annotators(
    table: VoteTable,
    pairs: Mapping[str, Pair] | None = None,
    settings: StudySettings | None = None,
    *,
    rationales: Mapping[str, Sequence[tuple[str, str, str]]] | None = None,
    attributes: Attributes | None = None,
) -> AnnotatorStudy:
    """Study the votes of a table with the labels a, b and maybe ties.

    pairs: which responses the comparisons show, by id as text, with the texts where they are known; rationales: (annotator, choice,
    words) by id as text; attributes: of the table's annotators, in its order. Raises
    DataError for repeated votes of one annotator on one comparison, mixed objectives, other labels.
    """
    settings, pairs = settings or StudySettings(), pairs or {}
    table = table.without_unused_labels(("a", "b"))
    rng = np.random.default_rng(settings.seed)
    agreement = agreement_report(table, rng)
    choice = choose(table, rng)
    known = _Known(table, choice, with_confusions(table, choice.result), paired_votes(table, pairs, lengths=True))
    groups = _groups(known, pairs, settings)
    everybody = _people(known, groups)
    rows = disagreements(table, choice.result, pairs, rationales=rationales, n=settings.worst)
    if not rows:
        known.skipped["disagreements"] = "no comparison has votes for both sides"
    elif not any(row.pair is not None and row.pair.has_texts for row in rows):
        known.skipped["texts"] = "neither the judgments nor a file of comparisons carry the texts: comparisons are named by id"
    return AnnotatorStudy(
        votes=len(table),
        comparisons=table.n_items,
        skips=table.skipped,
        labels=table.labels,
        agreement=agreement,
        by_source=_by_source(table, settings.seed),
        pairs=_pairs(known),
        people=tuple(everybody),
        confusions=_confusions(known, everybody, groups),
        groups=groups,
        attributes=_attributes(known, attributes, pairs, settings),
        disagreements=tuple(rows),
        coverage=coverage(table, known.paired),
        model=choice.result.method,
        confusion_model="" if known.labelled is None else known.labelled.method,
        reason=choice.reason,
        skipped=known.skipped,
        notes=tuple(dict.fromkeys((*table.notes, *choice.result.notes))),
    )


def _by_source(table: VoteTable, seed: int) -> dict[str, dict[str, Estimate]]:
    if len(table.sources) < 2:
        return {}
    return {source or "(none)": agreement_report(part, np.random.default_rng(seed)) for source, part in table.by("source").items()}


def _pairs(known: _Known) -> tuple[PairAgreement, ...]:
    """Pairs among the busiest annotators, who share most."""
    table = known.table
    busiest = np.argsort(-table.votes_A, kind="stable")[:BUSIEST]
    found = pairwise_agreement(table.where(np.isin(table.annotator_V, busiest)), min_shared=MIN_SHARED)
    if not found:
        known.skipped["pairs of annotators"] = f"no two of the busiest annotators share {MIN_SHARED} comparisons"
    return tuple(found)


def _groups(known: _Known, pairs: Mapping[str, Pair], settings: StudySettings) -> Groups | None:
    why = "not asked for" if settings.groups == 0 else why_no_groups(known.paired.votes, settings.groups)
    if why:
        known.skipped["groups"] = why
        return None
    return find_groups(known.paired, _comparisons(known, pairs), fixed=settings.groups, seed=settings.seed)


def _attributes(known: _Known, attributes: Attributes | None, pairs: Mapping[str, Pair], settings: StudySettings) -> AttributeStudy | None:
    if attributes is None:
        return None
    why = why_no_attributes(known.paired.votes, attributes)
    if why:
        known.skipped["attributes"] = why
        return None
    return study_attributes(known.paired, attributes, _comparisons(known, pairs), seed=settings.seed)


def _comparisons(known: _Known, pairs: Mapping[str, Pair]) -> dict[tuple[int, int], tuple[str, Pair]]:
    """For (smaller, larger) response number a comparison of the two, with its sides as the rows show them."""
    comparisons: dict[tuple[int, int], tuple[str, Pair]] = {}
    names = [str(name) for name in known.table.items.tolist()]
    for name, (a, b) in zip(names, known.paired.ends_I2.tolist(), strict=True):
        pair = pairs.get(name) or Pair(known.paired.responses[a], known.paired.responses[b])
        comparisons.setdefault((min(a, b), max(a, b)), (name, pair))
    return comparisons


def _people(known: _Known, groups: Groups | None) -> list[Person]:
    table = known.table
    if known.labelled is None:
        known.skipped["reliability"] = "no comparison has votes of two annotators: nobody's reliability can be told"
    traits = None
    if known.paired.known == 0:
        known.skipped["slopes"] = "the rows do not say which responses they show: no model over responses, no slope of an annotator"
    else:
        fit = fit_traits(known.paired.votes)
        traits = None if fit is None else (fit, known.paired.votes)
        if fit is None:
            known.skipped["slopes"] = "slopes of fewer than three annotators cannot be told from the scale of the scores"
        elif known.paired.votes.length_V is None:
            known.skipped["length bias"] = "the lengths of the responses are not known (no texts)"
    for said in missing_evidence(table):
        part, _, why = said.partition(": ")
        known.skipped[part] = why
    member_AK = np.zeros((table.n_annotators, 0)) if groups is None or groups.mixture.n_groups < 2 else groups.mixture.membership_AK
    return people(table, known.labelled, traits, member_AK)


def _confusions(known: _Known, everybody: Sequence[Person], groups: Groups | None) -> tuple[Confusion, ...]:
    """Of all, of those with and without flags, and of each group."""
    if known.labelled is None:
        known.skipped["confusion"] = "no comparison has votes of two annotators"
        return ()
    table = known.table
    parts = [("all annotators", np.ones(table.n_annotators))]
    flagged = {person.name for person in everybody if person.flags}
    if flagged:
        flagged_A = np.array([name in flagged for name in table.annotators.tolist()], dtype=np.float64)
        parts += [("without the flagged", 1.0 - flagged_A), ("the flagged only", flagged_A)]
    if groups is not None and groups.mixture.n_groups > 1:
        parts += [(f"group {k + 1}", weight_A) for k, weight_A in enumerate(groups.mixture.membership_AK.T)]
    return tuple(confusions(table, known.labelled, parts))
