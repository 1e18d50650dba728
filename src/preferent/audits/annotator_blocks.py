"""The sections of the annotator report on agreement, annotators, confusion and coverage."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from preferent.audits import annotator_plots as plots
from preferent.audits.annotator_block import Block, drawn, say_missing, sentence, with_interval
from preferent.audits.annotator_people import Confusion, Person
from preferent.audits.annotator_study import BUSIEST, AnnotatorStudy
from preferent.audits.tables import Part, Table, printed
from preferent.audits.text import number

WORDS = {
    "percent": ("percent agreement", "two annotators of a comparison give the same answer"),
    "fleiss_kappa": ("Fleiss' kappa", "the same beyond chance, chance from how often each answer is given"),
    "krippendorff_alpha": (
        "Krippendorff's alpha",
        "the same for any number of votes; 0 is chance, .8 the usual bar for firm conclusions",
    ),
    "gwet_ac1": ("Gwet's AC1", "chance counted so that a very common answer does not spoil it"),
    "ceiling": ("ceiling", "one annotator gives what most of the others gave: no model can be expected to do better by these people"),
}
SHOWN_PAIRS = 15
PICTURED = ("all annotators", "the flagged only")
MAX_SIZES = 12


def agreement_block(study: AnnotatorStudy) -> Block:
    defined = [name for name, value in study.agreement.items() if not np.isnan(value.value)]
    caption = "Bars are 95 % intervals from resampling comparisons; the last row is the ceiling."
    painters = [("Agreement", partial(plots.agreement_plot, study.agreement), caption)] if defined else []
    block = drawn("agreement", "Agreement", painters)
    rows = [(WORDS[name][0], with_interval(value), value.n, WORDS[name][1]) for name, value in study.agreement.items()]
    block.parts.append(Part("All votes", printed(Table(("", "value", "votes", "what it is"), rows))))
    for source, found in study.by_source.items():
        rows = [(WORDS[name][0], with_interval(value), value.n) for name, value in found.items()]
        block.parts.append(Part(f"Source {source}", printed(Table(("", "value", "votes"), rows))))
    if study.pairs:
        rows = [(f"{p.first} and {p.second}", p.shared, number(p.percent), with_interval(p.kappa)) for p in study.pairs[:SHOWN_PAIRS]]
        note = f"Of the {min(BUSIEST, len(study.people))} busiest annotators, the pairs that share most; {len(study.pairs):,} share enough."
        block.parts.append(Part("Pairs of annotators", printed(Table(("", "shared", "same answer", "Cohen's kappa"), rows, note))))
    say_missing(block, study, "pairs of annotators")
    return block


def annotators_block(study: AnnotatorStudy) -> Block:
    known = [person for person in study.people if person.reliability is not None]
    painters = []
    if known:
        caption = "Reliability: the chance that a vote equals the comparison's label as the model of all votes sees it."
        if max(len(study.flagged), len(known) - len(study.flagged)) > plots.MOST:
            caption += f" Of more than {plots.MOST:,} annotators an even selection is drawn."
        painters = [("Reliability and volume", partial(plots.reliability_plot, study.people), caption)]
    block = drawn("annotators", "Annotators", painters)
    if study.flagged:
        rows = [(str(person.name), person.votes, flag) for person in study.flagged for flag in person.flags]
        block.parts.append(Part(f"Flags ({len(study.flagged):,} annotators)", printed(Table(("annotator", "votes", "evidence"), rows))))
    block.parts.append(Part("Everybody, the flagged first", printed(_people_table(study.people))))
    say_missing(block, study, "reliability", "slopes", "length bias", "left and right", "too fast", "tie-happy")
    return block


def _people_table(people: tuple[Person, ...]) -> Table:
    """A column is left out where nobody has a value."""
    columns: list[tuple[str, Callable[[Person], Any]]] = [
        ("reliability", lambda p: p.reliability and with_interval(p.reliability)),
        ("first side", lambda p: p.first and with_interval(p.first)),
        ("ties", lambda p: p.ties),
        ("seconds", lambda p: p.seconds),
        ("slope", lambda p: _trait(p, "slope")),
        ("position", lambda p: _trait(p, "position")),
        ("length", lambda p: _trait(p, "length")),
        ("group", lambda p: _group(p.group)),
        ("flags", lambda p: ", ".join(dict.fromkeys(flag.partition(":")[0] for flag in p.flags)) or None),
    ]
    used = [(head, cell) for head, cell in columns if any(cell(person) is not None for person in people)]
    rows = [(str(p.name), p.votes, *(_cell(cell(p)) for _, cell in used)) for p in people]
    return Table(("annotator", "votes", *(head for head, _ in used)), rows)


def _cell(value: Any) -> Any:
    return "" if value is None else number(value) if isinstance(value, float) else value


def _trait(person: Person, name: str) -> str | None:
    return with_interval(person.traits[name]) if name in person.traits else None


def _group(chances: tuple[float, ...]) -> str | None:
    if not chances:
        return None
    best = int(np.argmax(chances))
    return f"{best + 1} ({chances[best]:.0%})"


def confusion_block(study: AnnotatorStudy) -> Block:
    """Pictures of all annotators and of the flagged; one table of everything."""
    painters = [
        (_capital(one.title), partial(plots.confusion_plot, one), f"{one.annotators:,} annotators.")
        for one in study.confusions
        if one.title in PICTURED
    ]
    block = drawn("confusion", "Confusion", painters)
    if study.confusions:
        block.paragraphs.append(
            "How comparisons of each label are voted. The label is what the model of all votes makes of a comparison, the vote itself "
            "included, so the diagonal is on the bright side. Intervals are over annotators."
        )
        labels = study.confusions[0].labels
        rows = [row for one in study.confusions for row in _confusion_rows(one)]
        block.parts.append(Part("Votes by label", printed(Table(("", "votes", *(f"votes {label}" for label in labels)), rows))))
    say_missing(block, study, "confusion")
    return block


def _confusion_rows(one: Confusion) -> list[tuple[Any, ...]]:
    rows = []
    for k, label in enumerate(one.labels):
        ends = zip(one.share_KL[k].tolist(), one.low_KL[k].tolist(), one.high_KL[k].tolist(), strict=True)
        cells = [number(value) if np.isnan(low) else f"{number(value)} [{number(low)}, {number(high)}]" for value, low, high in ends]
        rows.append((f"{one.title}, label {label}", round(float(one.mass_K[k])), *cells))
    return rows


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def coverage_block(study: AnnotatorStudy) -> Block:
    found = study.coverage
    told = found.to_dict()
    painters = [
        ("Votes per comparison", partial(plots.counts_plot, told["votes_per_comparison"], "votes", "comparisons"),
         "Comparisons with one vote are contradicted and confirmed by nobody."),
    ]  # fmt: skip
    if found.graph is not None:
        caption = "A response with one opponent hangs on the graph by one pair."
        painters.append(
            (
                "Opponents per response",
                partial(plots.counts_plot, told["opponents_per_response"], "different opponents", "responses"),
                caption,
            )
        )
    block = drawn("coverage", "Coverage of the comparison graph", painters)
    if found.graph is None:
        block.missing.append(f"the graph: {found.why}")
        return block
    sizes = told["components"]
    shown = ", ".join(f"{size:,}" for size in sizes[:MAX_SIZES]) + (", ..." if len(sizes) > MAX_SIZES else "")
    rows: list[tuple[str, int, str]] = [
        ("responses with votes", told["responses"], ""),
        ("components", len(sizes), f"sizes {shown}; scores compare only within a component"),
        ("components without an order", told["components_without_order"],
         "wins do not lead from every response to every other: without a prior there is no fit"),
    ]  # fmt: skip
    meanings = {"undefeated": "never lost", "winless": "never won", "one vote": "one vote"}
    for which, what in meanings.items():
        count, names = found.named(which)
        more = ", ..." if count > len(names) else ""
        rows.append((f"responses with {what}" if which == "one vote" else f"responses that {what}", count, ", ".join(names[:5]) + more))
    block.parts.append(Part("Graph", printed(Table(("", "how many", "which"), rows))))
    return block


def method_block(study: AnnotatorStudy) -> Block:
    block = Block("method", "Method and notes")
    block.paragraphs.append(f"Soft labels: {study.model}. {study.reason}")
    if study.confusion_model:
        block.paragraphs.append(f"Reliability, flags and confusion: by {study.confusion_model}; slopes by the model over responses.")
    if study.skips:
        block.paragraphs.append(f"{study.skips:,} skips are no votes.")
    block.paragraphs.extend(sentence(note) for note in study.notes)
    return block
