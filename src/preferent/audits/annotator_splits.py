"""The sections of the annotator report on disagreement: groups who prefer different things, and comparisons to read side by side."""

from __future__ import annotations

from functools import partial

from preferent.audits import annotator_plots as plots
from preferent.audits.annotator_block import Article, Block, drawn, say_missing, sentence, side_by_side, with_interval
from preferent.audits.annotator_groups import Conflict, Groups, rule_meanings
from preferent.audits.annotator_study import AnnotatorStudy
from preferent.audits.page import cut
from preferent.audits.tables import Part, Table, printed
from preferent.audits.text import number


def groups_block(study: AnnotatorStudy) -> Block:
    found = study.groups
    many = found is not None and found.mixture.n_groups > 1
    painters = []
    if found is not None and many:
        caption = "Each point is a pair, seen by two groups. In the upper left and lower right they want opposite sides."
        painters = [("Two groups on the same pairs", partial(plots.groups_plot, found.mixture), caption)]
    block = drawn("groups", "Groups", painters)
    say_missing(block, study, "groups")
    if found is None:
        return block
    if found.mixture.tests:
        rows = [
            (f"{test.groups} against {test.groups - 1}", with_interval(test.gain), number(test.p_value), "yes" if test.accepted else "no")
            for test in found.mixture.tests
        ]
        note = "Gain: held-out log-likelihood per annotator, in nats. The number of groups grows while the next one beats noise."
        block.parts.append(Part("How many groups", printed(Table(("", "gain", "p", "more than noise"), rows, note))))
    if many:
        block.parts.append(Part("Sizes", printed(_sizes(found))))
        block.parts.extend(_losses(found))
        block.articles.extend(_conflict(one) for one in found.conflicts)
        block.paragraphs.append(
            f"{found.n_conflicts:,} pairs are in conflict with probability .95 or more"
            + (f"; the surest {len(found.conflicts)} are below." if found.conflicts else ".")
        )
        if found.no_losses:
            block.missing.append(f"what each group loses: {found.no_losses}")
    else:
        block.paragraphs.append("One group: what people disagree about is noise as far as these votes can tell.")
    graph_notes = found.mixture.graph.notes()
    block.paragraphs.extend(sentence(note) for note in found.mixture.notes if note not in graph_notes)
    return block


def _sizes(found: Groups) -> Table:
    member_AK = found.mixture.membership_AK
    sure_K = (member_AK >= 0.8).sum(axis=0)
    rows = [(f"group {k + 1}", float(found.mixture.share_K[k]), int(sure_K[k])) for k in range(found.mixture.n_groups)]
    return Table(("", "share", "surely in it"), [(name, round(share, 3), sure) for name, share, sure in rows],
                 "Surely in it: annotators who belong to the group with probability .8 or more.")  # fmt: skip


def _losses(found: Groups) -> list[Part]:
    if not found.losses:
        return []
    rows = [
        (rule, f"group {group + 1}", round(regret, 4), round(against, 4), round(lost, 4))
        for rule, group, regret, against, lost in found.losses
    ]
    note = (
        "Regret: win rate of the group's own best response less that of the one the rule picks. Against: share of pairs ordered against "
        "the group. Lost: share of sets in which its favourite is not picked. Sets are the components of the comparison graph. "
        + " ".join(rule_meanings())
    )
    return [Part("What each group loses under each rule", printed(Table(("rule", "group", "regret", "against", "lost"), rows, note)))]


def _conflict(one: Conflict) -> Article:
    said = "; ".join(f"group {k + 1} prefers the left side {with_interval(p)}" for k, p in enumerate(one.p_a))
    heading = f"groups {one.groups[0] + 1} and {one.groups[1] + 1} want opposite sides, probability {one.probability:.3f}"
    return side_by_side(heading, one.comparison, one.pair, ("left", "right"), (said,))


def disagreements_block(study: AnnotatorStudy) -> Block:
    block = Block("disagreements", "Worst disagreements")
    say_missing(block, study, "disagreements", "texts")
    if study.disagreements:
        block.paragraphs.append(
            f"The {len(study.disagreements)} comparisons whose votes are most surely split: by the lower end of the interval of the "
            "smaller side's share. Read them: is it taste, an unclear guideline, or a mistake?"
        )
    for row in study.disagreements:
        votes = ", ".join(f"{count} {label}" for label, count in row.counts.items())
        heads = tuple(f"{row.counts.get(side, 0)} votes for {side}" for side in "ab")
        said = tuple(f"{who} ({choice}): {cut(words)}" for who, choice, words in row.rationales[:8])
        block.articles.append(side_by_side(f"{votes}; p_a {with_interval(row.p_a)}", row.comparison, row.pair, (heads[0], heads[1]), said))
    return block
