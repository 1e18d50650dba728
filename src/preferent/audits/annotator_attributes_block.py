"""The section of the annotator report on known attributes, and what it comes to in a sentence."""

from __future__ import annotations

from preferent.audits.annotator_attributes import AttributeStudy, LevelConflict
from preferent.audits.annotator_block import Article, Block, say_missing, sentence, side_by_side, with_interval
from preferent.audits.annotator_study import AnnotatorStudy
from preferent.audits.tables import Part, Table, printed
from preferent.audits.text import number


def attributes_line(found: AttributeStudy) -> str:
    """Which attributes are more than noise."""
    told = [name for name, test in found.tests.items() if test.accepted]
    if not told:
        return f"None of the attributes ({', '.join(found.tests)}) foretells held-out votes better than no attribute."
    conflicts = sum(found.n_conflicts[name] for name in told)
    verb = "foretells" if len(told) == 1 else "foretell"
    return f"What people prefer differs by {', '.join(told)}, which {verb} held-out votes; {conflicts:,} conflicts between levels."


def attributes_block(study: AnnotatorStudy) -> Block:
    block = Block("attributes", "Attributes of annotators")
    say_missing(block, study, "attributes")
    found = study.attributes
    if found is None:
        return block
    block.missing.extend(f"{name}: {why}" for name, why in found.left_out.items())
    rows = [
        (name, test.groups, with_interval(test.gain), number(test.p_value), "yes" if test.accepted else "no", number(found.spread[name]))
        for name, test in found.tests.items()
    ]
    note = (
        "Gain: held-out log-likelihood per annotator of the attribute alone over none, in nats, interval over annotators; more than noise "
        "at one-sided .05 shared out among the attributes. Spread: prior sd of a level's offsets from the crowd's scores, learned from the "
        "votes (logits, a point value: what it does shows in the levels below)."
    )
    block.parts.append(Part("Does it matter", printed(Table(("", "levels", "gain", "p", "more than noise", "spread"), rows, note))))
    levels = [
        (f"{row.attribute}: {row.level}", row.annotators, row.votes, with_interval(row.distance), row.departs) for row in found.levels
    ]
    note = (
        "Distance: how far p_a of the level is from that of the average annotator, mean over the pairs its annotators judged; levels are "
        "pulled to the crowd as far as the attribute turns out not to matter (partial pooling), each attribute at the average of the "
        "others. The distance is never below 0: whether it is more than noise says the table above. Departs: pairs on which the 95 % "
        f"interval of the difference leaves 0. Intervals: {found.intervals}."
    )
    block.parts.append(Part("Levels", printed(Table(("", "annotators", "votes", "distance", "departs"), levels, note))))
    for name, test in found.tests.items():
        if test.accepted:
            block.paragraphs.append(
                f"{name}: on {found.n_conflicts[name]:,} pairs two levels want opposite sides, probability .95 or more."
            )
    block.articles.extend(_conflict(one) for one in found.conflicts)
    block.paragraphs.extend(sentence(note) for note in found.notes)
    return block


def _conflict(one: LevelConflict) -> Article:
    said = "; ".join(f"{level} prefers the left side {with_interval(p)}" for level, p in zip(one.levels, one.p_a, strict=True))
    heading = f"{one.attribute}: {one.levels[0]} and {one.levels[1]} want opposite sides, probability {one.probability:.3f}"
    return side_by_side(heading, one.comparison, one.pair, ("left", "right"), (said,))
