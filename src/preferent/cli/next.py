"""`preferent next`: which pairs to ask about next, of whom, and how many votes they still need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from preferent.cli.inputs import repeats_option
from preferent.cli.output import emit, emit_json, json_option, talk

if TYPE_CHECKING:
    from preferent.annotators.next_ask import Asked, Candidate
    from preferent.annotators.pair_ends import Pair
    from preferent.core.records import Prompt

STRATEGIES = ("information", "order", "closest", "uncertainty", "coverage", "random")
MAX_NEW = 200_000
SHOWN = 40


@click.command()
@click.argument("judgments", type=click.Path(path_type=Path))
@click.option(
    "--pairs",
    type=click.Path(path_type=Path),
    help="Comparisons that may be asked (id, prompt, response_a, response_b), judged before or not. Without it: those judged.",
)
@click.option("--new-pairs", is_flag=True, help="Also any two judged responses to one prompt that nobody compared yet.")
@click.option("-n", "n", type=click.IntRange(1), default=20, show_default=True, help="Questions in the batch.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="JSONL of questions, best first.")
@click.option(
    "--strategy",
    type=click.Choice(STRATEGIES),
    default="information",
    show_default=True,
    help="information: expected information gain of a vote; order: what a vote teaches about all orders in doubt (up to 2,000 "
    "responses); closest: smallest difference of scores; uncertainty: what a reward model or an ensemble does not know "
    "(--scores, --model); coverage: pairs that join parts of the graph, then the fewest votes, spread over responses; random.",
)
@click.option("--random-share", type=click.FloatRange(0, 1), default=0.2, show_default=True, help="Of the batch, dealt at random.")
@click.option(
    "--width",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="A pair is done when the 95 % interval of its p_a is no wider.",
)
@click.option("--decide", is_flag=True, help="A pair is also done when its interval leaves 1/2 on one side.")
@click.option(
    "--scores",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Rewards as `preferent score` writes them (id of a response or of a comparison); several are an ensemble.",
)
@click.option("--model", "models", multiple=True, help="A reward model to score the pairs with; several are an ensemble.")
@click.option("--per-annotator", type=click.IntRange(1), help="Name who is asked, and ask nobody more than so many questions.")
@click.option(
    "--annotators",
    "people",
    type=click.Path(path_type=Path),
    help="JSONL of annotator_id (and budget), or one id a line. Without it: those who judged.",
)
@click.option("--each", type=click.IntRange(1), default=1, show_default=True, help="Annotators per question.")
@click.option("--objective", help="Of judgments on several objectives: which.")
@repeats_option("merge", "share", "keep")
@click.option("--seed", default=0, show_default=True, help="Of everything that is drawn.")
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with the model.")
@click.option("--force", is_flag=True, help="Overwrite the output.")
@json_option
def command(judgments: Path, output: Path, force: bool, as_json: bool, **options: Any) -> None:
    """Choose the next questions, given the JUDGMENTS so far.

    JUDGMENTS is JSONL (plain, .gz, .zst) or Parquet with comparison_id, annotator_id and choice (a, b, tie, skip), and
    response_a_id and response_b_id, or prompt, response_a and response_b, so that votes on one pair tell about others (those
    fields may also come from --pairs). Two questions of a batch never show near-duplicate texts, and nobody is asked what they have
    judged. Every question comes with its p_a and interval, the gain that is expected of a vote, and the votes it still needs.
    """
    from preferent.annotators.next_ask import AskSettings, ask
    from preferent.data.write import refuse_overwrite, write_jsonl

    refuse_overwrite(output, force=force)
    table = read_table(judgments, options["objective"], options["repeats"])
    judged, candidates = _candidates(judgments, table, options)
    if options["strategy"] == "uncertainty":
        candidates = _with_uncertainty(candidates, options)
    settings = AskSettings(
        **{name: options[name] for name in ("n", "strategy", "random_share", "width", "decide", "each", "seed")},
        budgets=_budgets(table, options["people"], options["per_annotator"]),
    )
    found = ask(table, judged, candidates, settings)
    write_jsonl(output, (question.to_dict() for question in found.questions), force=force)
    if as_json:
        emit_json({"strategy": found.strategy, "candidates": found.candidates, "done": found.done, "output": str(output),
                   "intervals": found.intervals, "notes": list(found.notes),
                   "questions": [question.to_dict() for question in found.questions]})  # fmt: skip
        return
    _show(found, options["width"])
    talk(f"{len(found.questions)} questions: {output}")
    for note in found.notes:
        talk(f"note: {note}")


def read_table(judgments: Path, objective: str | None, repeats: Any) -> Any:
    """The votes on one objective: a, b and every kind of tie. Raises DataError where there are several objectives and none is chosen."""
    from preferent.annotators.names import CHOICES
    from preferent.annotators.table import Policies
    from preferent.annotators.table_read import read_votes
    from preferent.core.errors import DataError

    table = read_votes(judgments, labels=CHOICES, policies=Policies(repeats=repeats)).without_unused_labels(("a", "b"))
    if objective is not None:
        parts = table.by("objective")
        if objective not in parts:
            raise DataError(f"{judgments}: no judgments on the objective {objective!r}, there are {sorted(parts)!r}")
        return parts[objective]
    if len(table.objectives) > 1:
        raise DataError(f"{judgments}: judgments on several objectives: {list(table.objectives)!r}", hint="choose one with --objective")
    return table


def _candidates(judgments: Path, table: Any, options: Mapping[str, Any]) -> tuple[dict[str, Candidate], list[Candidate]]:
    """(the judged comparisons whose responses are known, what may be asked), with codes that are equal for near-duplicates."""
    from preferent.annotators.next_ask import Candidate
    from preferent.annotators.pair_ends import alone
    from preferent.cli.pair_rows import question_codes, read_pairs, same_sides
    from preferent.core.errors import DataError

    own = read_pairs(judgments, once=False)
    given = None if options["pairs"] is None else read_pairs(options["pairs"], once=True)
    known: dict[str, Pair] = {} if given is None else dict(given.pairs)
    for name, pair in own.pairs.items():
        if name in known and (known[name].a, known[name].b) != (pair.a, pair.b):
            raise DataError(f"comparison {name!r} shows other responses in {judgments} than in {options['pairs']}")
        known.setdefault(name, pair)
    names = {str(name): name for name in table.items.tolist()}
    asked = dict(names) if given is None else dict(given.ids)
    unknown = [name for name in asked if name not in known and name not in names]
    if unknown:
        raise DataError(
            f"{options['pairs']}: comparison {unknown[0]!r} does not say which responses it shows",
            hint="a row has response_a and response_b, or response_a_id and response_b_id",
        )
    pairs = {name: known.get(name) or alone(asked[name]) for name in asked}
    if options["new_pairs"]:
        pairs |= _new_pairs([known[name] for name in names if name in known])
    empty = [name for name, pair in pairs.items() if same_sides(pair)]
    if empty:
        talk(
            f"note: {len(empty)} pairs show the same text on both sides and are not asked: {empty[:5]!r}{' ...' if len(empty) > 5 else ''}"
        )
        pairs = {name: pair for name, pair in pairs.items() if not same_sides(pair)}
    every = {name: known[name] for name in names if name in known} | pairs
    code_of = dict(zip(every, question_codes(list(every.values())), strict=True))
    judged = {name: Candidate(names[name], known[name], code_of[name]) for name in names if name in known}
    return judged, [Candidate(asked.get(name, name), pair, code_of[name]) for name, pair in pairs.items()]


def _new_pairs(judged: Sequence[Pair]) -> dict[str, Pair]:
    """Pairs nobody judged: of responses to one prompt, or, where prompts are not known, of one component of the graph."""
    from preferent.annotators.next_ask import open_pairs
    from preferent.annotators.pair_ends import Pair
    from preferent.core.errors import DataError
    from preferent.data.near import Joined

    if not judged:
        raise DataError("--new-pairs needs to know which responses were judged", hint="give response_a_id and response_b_id, or the texts")
    sides: dict[str, tuple[Prompt | None, str | None]] = {}
    for pair in judged:
        for name, words in ((pair.a, pair.text_a), (pair.b, pair.text_b)):
            if sides.get(name, (None, None)) == (None, None):  # a later row may know more
                sides[name] = (pair.prompt, words)
    names = sorted(sides)
    number = {name: k for k, name in enumerate(names)}
    joined = Joined(len(names))
    for pair in judged:
        joined.join(number[pair.a], number[pair.b])
    groups = [sides[name][0] if sides[name][0] is not None else int(root) for name, root in zip(names, joined.roots(), strict=True)]
    found = open_pairs(names, groups, {frozenset((pair.a, pair.b)) for pair in judged})
    if len(found) > MAX_NEW:
        raise DataError(f"--new-pairs: {len(found):,} pairs, allowed are {MAX_NEW:,}", hint="name those you would ask about in --pairs")
    return {f"new/{a}/{b}": Pair(a, b, sides[a][0], sides[a][1], sides[b][1]) for a, b in found}


def _with_uncertainty(candidates: Sequence[Candidate], options: Mapping[str, Any]) -> list[Candidate]:
    """The candidates with what the reward models do not know about them."""
    from dataclasses import replace

    import numpy as np

    from preferent.annotators.next_pair import reward_uncertainty, vote_entropy
    from preferent.cli.pair_rows import gap_of, read_scores
    from preferent.core.errors import ConfigError

    members: list[list[tuple[float, float | None]]] = []
    for path in options["scores"]:
        scores = read_scores(path)
        members.append([gap_of(scores, one.id, one.pair, path) for one in candidates])
    members += [_model_gaps(model, candidates, options["trust_remote_code"]) for model in options["models"]]
    if not members:
        raise ConfigError("--strategy uncertainty needs rewards", hint="give --scores FILE or --model, once or several times")
    gap_MQ = np.array([[gap for gap, _ in member] for member in members])
    if any(sd is None for member in members for _, sd in member):
        if len(members) == 1:
            talk("note: one reward model that states no std: pairs are taken by the entropy of its own probability")
        value_Q = vote_entropy(gap_MQ[0]) if len(members) == 1 else reward_uncertainty(gap_MQ)
    else:
        value_Q = reward_uncertainty(gap_MQ, np.array([[sd for _, sd in member] for member in members]))
    return [replace(one, uncertainty=float(value)) for one, value in zip(candidates, value_Q, strict=True)]


def _model_gaps(model: str, candidates: Sequence[Candidate], trust_remote_code: bool) -> list[tuple[float, float | None]]:
    from preferent.cli.scorers import load_scorer
    from preferent.core.errors import DataError
    from preferent.core.records import Exchange

    exchanges = []
    for one in candidates:
        if one.pair.prompt is None or one.pair.text_a is None or one.pair.text_b is None:
            raise DataError(f"--model needs prompt and texts, comparison {one.id!r} has none", hint="give them in --pairs, or use --scores")
        exchanges += [Exchange(prompt=one.pair.prompt, response=words) for words in (one.pair.text_a, one.pair.text_b)]
    scorer, temperature = load_scorer(model, trust_remote_code=trust_remote_code)
    distinct = list(dict.fromkeys(exchanges))
    place = {exchange: k for k, exchange in enumerate(distinct)}
    scores = scorer.score(distinct)
    out: list[tuple[float, float | None]] = []
    for a, b in zip(exchanges[::2], exchanges[1::2], strict=True):
        i, j = place[a], place[b]
        sd = None if scores.std is None else float((scores.std[i] ** 2 + scores.std[j] ** 2) ** 0.5) / temperature
        out.append((float(scores.reward[i] - scores.reward[j]) / temperature, sd))
    return out


def _budgets(table: Any, people: Path | None, per_annotator: int | None) -> dict[Any, int] | None:
    """How many questions each annotator may get; None where nobody is to be named."""
    from preferent.cli.pair_rows import read_people
    from preferent.core.errors import ConfigError

    if people is None:
        return None if per_annotator is None else dict.fromkeys(table.annotators.tolist(), per_annotator)
    budgets = {name: per_annotator if own is None else own for name, own in read_people(people).items()}
    if any(budget is None for budget in budgets.values()):
        raise ConfigError(f"{people}: an annotator has no budget", hint="give --per-annotator, or a budget in every row")
    return {name: int(budget) for name, budget in budgets.items() if budget is not None}


def _show(found: Asked, width: float) -> None:
    """The batch as a table."""
    import io

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    emit(f"{found.candidates:,} pairs may be asked, {found.done:,} of them are done (interval of p_a no wider than {width:g})")
    if not found.questions:
        emit("no question is open")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in ("comparison", "p_a", "95 % interval", "votes", "still needs", "gain, nats", "ask"):
        table.add_column(head, justify="left" if head in ("comparison", "95 % interval", "ask") else "right", overflow="fold")
    for one in found.questions[:SHOWN]:
        needs = "-" if one.votes_needed is None else f"{one.votes_needed:,}"
        who = ("" if one.annotator_id is None else str(one.annotator_id)) + (" (random)" if one.random else "")
        cells = (str(one.comparison_id), f"{one.p_a:.3f}", f"[{one.low:.3f}, {one.high:.3f}]", f"{one.n_judgments:,}", needs)
        table.add_row(*(escape(cell) for cell in (*cells, f"{one.expected_gain:.4f}", who.strip())))
    stream = io.StringIO()
    Console(file=stream, width=120, color_system=None, highlight=False, emoji=False).print(table)
    emit("\n".join(line.rstrip() for line in stream.getvalue().splitlines()))
    if len(found.questions) > SHOWN:
        emit(f"(+ {len(found.questions) - SHOWN} more in the file)")
