"""`preferent audit`: what a reward pays for that it should not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from preferent.cli.inputs import data_options
from preferent.cli.judges import judge_options, load_judge
from preferent.cli.output import Progress, emit, emit_json, json_option, talk
from preferent.cli.scorers import WithProgress, dialect_option, load_scorer
from preferent.core.errors import ConfigError

EXIT_FINDING = 3


def _words(_: Any, __: Any, value: tuple[str, ...]) -> tuple[str, ...]:
    """Options that may be given several times or as a list with commas."""
    return tuple(word.strip() for part in value for word in part.split(",") if word.strip())


@click.command()
@click.argument("model")
@click.argument("source", required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the HTML report here.")
@click.option("--only", multiple=True, callback=_words, metavar="QUESTION,...", help="Ask these questions alone; see above.")
@click.option("--fail-on", multiple=True, callback=_words, metavar="FINDING[:SEVERITY]", help="Exit with 3 if such a finding is made.")
@click.option("--prompts", type=click.IntRange(10), default=500, show_default=True, help="At most so many prompts of SOURCE.")
@click.option("--budget", type=click.IntRange(1), default=48, show_default=True, help="Tries per prompt of the searches.")
@click.option("--gold", help="A stronger scorer that judges best-of-n; default: the labels, where they order whole groups.")
@click.option("--judgments", type=click.Path(path_type=Path), help="Votes on the rows of SOURCE, for agreement by group.")
@click.option("--card", is_flag=True, help="Also write the numbers to README.md in the checkpoint MODEL.")
@click.option("--split", default="train", show_default=True, help="Of a data set: which split to read.")
@data_options
@click.option("--force", is_flag=True, help="Overwrite the report, and a README.md that was written by hand.")
@click.option("--seed", default=0, show_default=True, help="Of everything that is drawn.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads of torch.")
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with the model.")
@dialect_option
@judge_options
@json_option
def command(model: str, source: str | None, output: Path | None, card: bool, force: bool, as_json: bool, **given: Any) -> int:
    """Audit MODEL: on SOURCE, or on the probe texts that come with preferent.

    MODEL is a checkpoint folder, anyone's sequence classifier with one output (folder or hub id), the URL of a running server
    (openrlhf+http://host:port, vllm+http://, tei+http://), a Python function `module:function` (called with a list of pairs (prompt,
    response), or of exchanges if its parameter is called so; returns one number for each), or the word `length`. SOURCE holds
    preferences or rankings.

    Questions: edits, blind_spots, length_style, calibration, shape, consistency, groups, hackability.

    A judge of pairs is audited by its own questions (position, circles, labels, edits, blind_spots): an OpenAI-compatible endpoint
    judge+http://host:port/v1 with --judge-model and perhaps --constitution, or a Python function whose first parameter is called
    `comparisons` (or an object with `prefer`), which gives P(response_a is the better one) for each. Every pair is shown in both orders.

    --fail-on takes the word `finding` (any), a question, or a check such as length.duplicate or its family length, each with the
    least severity that counts: `--fail-on blind_spots --fail-on length:0.5`. Exit codes: 0 done, 1 bad data or settings, 2 usage,
    3 a finding that --fail-on names.
    """
    from preferent.audits.audit_limits import over_limits, parse_limit
    from preferent.audits.audit_report import write_audit
    from preferent.audits.audit_words import display_name, render_audit
    from preferent.audits.page import refuse_page

    if output is not None:
        refuse_page(output, force=force)
    limits = [parse_limit(text) for text in given["fail_on"]]
    facts = _card_facts(model, force=force) if card else None
    judge = load_judge(model, **{name: given.pop(name) for name in ("judge_model", "constitution", "answers", "workers", "api_key_env")})
    found, ledger = _run(model, source, limits, **given) if judge is None else _judge(judge, source, limits, **given)
    if as_json:
        emit_json(found.to_dict() | {"ledger": ledger})
    else:
        emit(render_audit(found))
    if output is not None:
        title = f"Audit of {found.scorer}" + ("" if source is None else f" on {Path(source).name}")
        talk(f"report: {write_audit(output, found, title=title, force=force)}")
    if facts is not None:
        from preferent.audits.model_card import model_card, write_model_card

        talk(f"card: {write_model_card(Path(model), model_card(facts, found), force=force)}")
    failed = over_limits(found, limits)
    for line in failed:
        talk(f"fails: {display_name(line)} (severity {line.severity:.2f})")
    return EXIT_FINDING if failed else 0


def _run(model: str, source: str | None, limits: Any, **given: Any) -> tuple[Any, Any]:
    """The audit, and the ledger of SOURCE."""
    from preferent.audits.audit import audit, chosen_questions, texts_to_score
    from preferent.audits.audit_limits import refuse_unknown
    from preferent.audits.audit_subject import Memo
    from preferent.cli.audit_inputs import audit_texts, say_how_long
    from preferent.optimize import best_of_n as maths

    asked = chosen_questions(given["only"])
    settings = _settings(given["seed"], given["budget"])
    names = ("split", "data_format", "strict", "prompts", "seed")
    data, ledger = audit_texts(source, **{name: given[name] for name in names})
    refuse_unknown(limits, data, asked)
    votes = _votes(given["judgments"], data, given["seed"])
    how = {"threads": given["threads"], "trust_remote_code": given["trust_remote_code"]}
    scorer, temperature = load_scorer(model, dialect=given["dialect"], **how)
    gold = None if given["gold"] is None else load_scorer(given["gold"], **how)[0]
    total = texts_to_score(data, settings, given["only"])
    with Progress("scoring", total, "texts") as progress:
        memo = Memo(WithProgress(scorer, progress))
        say_how_long(memo, data, total)
        found = audit(memo, data, only=given["only"], settings=settings, temperature=temperature, gold=gold, maths=maths, votes=votes)
    return found, ledger


def _judge(judge: Any, source: str | None, limits: Any, **given: Any) -> tuple[Any, Any]:
    """The audit of a judge of pairs, and the ledger of SOURCE."""
    from preferent.audits.audit_limits import refuse_unknown
    from preferent.audits.judge import JudgeSettings
    from preferent.audits.judge_audit import audit_judge, chosen_judge_questions
    from preferent.cli.audit_inputs import audit_texts
    from preferent.feedback.preference_judge import EndpointJudge

    for option in ("gold", "judgments"):
        if given[option] is not None:
            raise ConfigError(f"--{option} is for scorers, and MODEL is a judge of pairs")
    asked = chosen_judge_questions(given["only"])
    names = ("split", "data_format", "strict", "prompts", "seed")
    data, ledger = audit_texts(source, **{name: given[name] for name in names})
    refuse_unknown(limits, data, asked)
    with Progress("comparing", None, "comparisons") as progress:
        settings = JudgeSettings(seed=given["seed"])
        found = audit_judge(judge, data, only=asked, settings=settings, started=_announce, progress=progress)
    if isinstance(judge, EndpointJudge) and judge.n_unread:
        talk(f"{judge.n_unread} of {judge.n_answers} answers named no side and count as ties")
    return found, ledger


def _announce(total: int) -> None:
    talk(f"{total:,} comparisons to make, every pair in both orders")


def _settings(seed: int, budget: int) -> Any:
    """The budget as rounds of at most six tries."""
    from preferent.audits.audit_subject import AuditSettings

    width = min(6, budget)
    return AuditSettings(seed=seed, width=width, rounds=max(1, round(budget / width)))


def _votes(judgments: Path | None, data: Any, seed: int) -> Any:
    if judgments is None:
        return None
    from preferent.annotators.table_read import read_votes
    from preferent.audits.group_agreement_votes import group_votes

    return group_votes(read_votes(judgments), data.preferences, seed=seed)


def _card_facts(model: str, *, force: bool) -> Any:
    """What the checkpoint says of itself; refuses before the work what --card could not write."""
    from preferent.audits.model_card import CardFacts, refuse_card
    from preferent.core.errors import ModelError
    from preferent.models.checkpoint import read_card

    folder = Path(model)
    known = read_card(folder) if folder.is_dir() else None
    if known is None:
        raise ModelError(f"--card needs a checkpoint folder of preferent, got {model!r}", hint="its preferent.json is where the facts are")
    refuse_card(folder, force=force)
    temperature = None if known.calibration is None else known.calibration.temperature
    return CardFacts(folder.resolve().name, known.base, known.version, known.render.max_length, temperature, known.data, known.metrics)
