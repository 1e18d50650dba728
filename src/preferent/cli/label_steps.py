"""`preferent label-steps`: automatic labels for the steps of solutions."""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from preferent.cli.output import Progress, emit_json, json_option, talk
from preferent.data.formats.steps_detect import STEP_SHAPES


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="JSONL with the labelled solutions.")
@click.option("--endpoint", help="An OpenAI-compatible URL up to /v1: it continues solutions, and judges with --judge.")
@click.option("--model", help="The model to ask for at --endpoint.")
@click.option("--policy", "policy_name", help="Instead of an endpoint: module:function(prompt, steps, n) -> n continuations.")
@click.option("--checker", "checker_name", help="module:function(solution, text) -> bool; default: the stated answer equals --answer-key.")
@click.option("--answer-key", default="answer", show_default=True, help="Where in a row's meta the right answer stands.")
@click.option(
    "--method",
    type=click.Choice(["monte-carlo", "binary-search", "judge"]),
    default="monte-carlo",
    show_default=True,
    help="Success rates after every step, the first error by binary search, or the judge alone.",
)
@click.option("--rollouts", type=click.IntRange(1), default=8, show_default=True, help="Continuations from each step.")
@click.option("--threshold", type=click.FloatRange(0.0, 1.0, max_open=True), help="Hard labels: right where the rate is above it.")
@click.option("--judge", "judge_name", help="Keep only solutions in which a judge agrees: 'endpoint', or module:function(solution).")
@click.option("--temperature", type=click.FloatRange(0.0), default=0.7, show_default=True, help="Of the continuations.")
@click.option("--api-key-env", default="OPENAI_API_KEY", show_default=True, help="The environment variable that holds the key, if any.")
@click.option("--timeout", type=click.FloatRange(0.1), default=120.0, show_default=True, help="Seconds for one request.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Solutions labelled at a time.")
@click.option("--max-calls", type=click.IntRange(0), help="Stop before more continuations and judgements than this, earlier runs included.")
@click.option("--format", "data_format", type=click.Choice(["auto", *STEP_SHAPES]), default="auto", show_default=True, help="Of the rows.")
@click.option("--force", is_flag=True, help="Overwrite OUTPUT, and start over.")
@json_option
def command(source: Path, output: Path, as_json: bool, **given: Any) -> int:
    """Label the steps of the solutions in SOURCE by rollouts, binary search, a judge, or the consensus of rollouts and judge.

    SOURCE holds solutions in steps, in any shape that `preferent check` reads, labelled or not, with the right answer in meta. Without
    --threshold, Monte Carlo labels are soft: the success rates themselves. A threshold of 0 ("any success") gets worse with more
    rollouts; set it on solutions whose labels you know.

    A run that was stopped goes on where it ended when it is started again in the same way.
    """
    from preferent.feedback.label_file import LabelOptions, label_file
    from preferent.feedback.labellers import Labeller

    policy, judge, settings = _parts(given)
    needs_policy = given["method"] != "judge"
    checker = _named(given["checker_name"], "--checker") or _answers(given["answer_key"])
    labeller = Labeller(
        method=given["method"],
        policy=policy if needs_policy else None,
        checker=checker if needs_policy else None,
        judge=judge,
        n=given["rollouts"],
        threshold=given["threshold"],
    )
    with Progress("labelling", None, "solutions") as progress:
        taken = {name: given[name] for name in ("max_calls", "workers", "force")}
        options = LabelOptions(format=given["data_format"], settings=settings, **taken)
        summary = label_file(source, output, labeller, options, progress=progress)
    if as_json:
        emit_json(summary.to_dict())
    else:
        talk(summary.render())
    return 0 if summary.finished else 1


def _parts(given: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """Policy, judge, and what of them the labels depend on."""
    from preferent.feedback.endpoint import Endpoint, endpoint_judge, endpoint_policy

    if (given["endpoint"] is None) == (given["policy_name"] is None) and given["method"] != "judge":
        raise click.UsageError("give --endpoint with --model, or --policy")
    judge_name = given["judge_name"] or ("endpoint" if given["method"] == "judge" else None)
    policy, judge = _named(given["policy_name"], "--policy"), None if judge_name == "endpoint" else _named(judge_name, "--judge")
    settings = {"policy": given["policy_name"], "judge": judge_name, "model": given["model"]}
    if given["endpoint"] is None:
        if judge_name == "endpoint":
            raise click.UsageError("an endpoint as judge needs --endpoint and --model")
    else:
        if given["model"] is None:
            raise click.UsageError("--endpoint needs --model: the name of the model that the server is asked for")
        endpoint = Endpoint(
            given["endpoint"],
            given["model"],
            key=os.environ.get(given["api_key_env"]) or None,
            temperature=given["temperature"],
            timeout=given["timeout"],
        )
        settings["temperature"] = given["temperature"]
        policy = policy or endpoint_policy(endpoint)
        judge = endpoint_judge(endpoint) if judge_name == "endpoint" else judge
    return policy, judge, {name: value for name, value in settings.items() if value is not None}


def _answers(key: str) -> Callable[..., bool]:
    from preferent.feedback.checkers import answer_checker

    return answer_checker(key)


def _named(name: str | None, option: str) -> Callable[..., Any] | None:
    """The function that `module:function` names."""
    if name is None:
        return None
    if ":" not in name:
        raise click.UsageError(f"{option} {name!r}: write module:function")
    # As `python -m` does, so that a module beside the user's data is found from the installed command too.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise click.UsageError(f"{option} {name!r}: {error}") from error
    if not callable(found):
        raise click.UsageError(f"{option} {name!r}: not a function")
    return found
