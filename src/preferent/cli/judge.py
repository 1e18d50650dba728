"""`preferent judge`: comparisons in, judgments by a language model with a constitution out."""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path
from typing import Any

import click

from preferent.cli.output import Progress, emit_json, json_option, talk


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="JSONL of judgments, with the texts and the reasons.")
@click.option("--endpoint", required=True, metavar="URL", help="An OpenAI-compatible URL up to /v1.")
@click.option("--model", required=True, help="The model to ask for at --endpoint.")
@click.option(
    "--constitution",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A text file with the principles to judge by.",
)
@click.option("--orders", type=click.Choice(["both", "one"]), default="both", show_default=True,
              help="Show every pair in both orders (a winner that changes is a tie), or in one, drawn and recorded.")  # fmt: skip
@click.option("--answers", type=click.IntRange(1), default=1, show_default=True, help="Answers per order; with one at temperature 0.")
@click.option("--temperature", type=click.FloatRange(0.0), default=0.7, show_default=True, help="Of several answers.")
@click.option("--annotator", metavar="NAME", help="The annotator_id of the judgments. Default: the model.")
@click.option("--objective", metavar="NAME", help="What is judged, where the constitution is about one objective.")
@click.option("--workers", type=click.IntRange(1, 64), default=8, show_default=True, help="Comparisons at a time.")
@click.option("--timeout", type=click.FloatRange(0.1), default=120.0, show_default=True, help="Seconds for one request.")
@click.option("--api-key-env", default="OPENAI_API_KEY", show_default=True, help="The environment variable that holds the key, if any.")
@click.option("--seed", default=0, show_default=True, help="Of the order, with --orders one.")
@click.option("--force", is_flag=True, help="Overwrite OUTPUT, and start over.")
@json_option
def command(source: Path, output: Path, as_json: bool, **given: Any) -> None:
    """Have a language model judge the comparisons in SOURCE by a constitution, as annotators would.

    SOURCE holds rows of comparison_id (or id), prompt, response_a and response_b. OUTPUT is what `preferent agree`, `aggregate`,
    `annotators`, `next` and `train` read, beside people's judgments or alone; `preferent audit judge+URL` says what the judge is
    worth first.

    A run that was stopped goes on where it ended when it is started again in the same way.
    """
    from preferent.feedback.endpoint import Endpoint
    from preferent.feedback.judge_file import JudgeOptions, judge_file
    from preferent.feedback.preference_judge import EndpointJudge

    words = None if given["constitution"] is None else given["constitution"].read_text(encoding="utf-8")
    endpoint = Endpoint(given["endpoint"], given["model"], key=os.environ.get(given["api_key_env"]) or None,
                        temperature=given["temperature"], timeout=given["timeout"])  # fmt: skip
    judge = EndpointJudge(endpoint, constitution=words, n=given["answers"])
    asked = {"model": given["model"], "answers": given["answers"], "constitution": _fingerprint(words)}
    if given["answers"] > 1:
        asked["temperature"] = given["temperature"]
    taken = {name: given[name] for name in ("orders", "objective", "seed", "workers", "force")}
    options = JudgeOptions(given["annotator"] or given["model"], **taken, settings=asked)
    with Progress("judging", None, "comparisons") as progress:
        summary = judge_file(source, output, judge.answer, options, progress=progress)
    if as_json:
        emit_json(summary.to_dict())
    else:
        talk(summary.render())


def _fingerprint(words: str | None) -> str | None:
    """Which constitution it was, in a few characters."""
    return None if words is None else blake2b(words.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
