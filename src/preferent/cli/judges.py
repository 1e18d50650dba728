"""From a word to a judge of pairs: an endpoint (judge+http://host:port/v1) or a Python callable."""

from __future__ import annotations

import inspect
import os
import pkgutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from preferent.cli.scorers import here_first, names_callable
from preferent.core.errors import ConfigError, ModelError
from preferent.core.records import Comparison, Floats

if TYPE_CHECKING:
    from preferent.audits.judge import PairwiseJudge

PREFIX = "judge+"


def judge_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What an endpoint needs to be a judge."""
    text = click.Path(exists=True, dir_okay=False, path_type=Path)
    options = (
        click.option("--judge-model", metavar="NAME", help="Of a judge+http:// endpoint: the model to ask for."),
        click.option("--constitution", type=text, help="Of such a judge: a text file with the principles to judge by."),
        click.option("--answers", type=click.IntRange(1), default=1, show_default=True, help="Of such a judge: per comparison."),
        click.option("--workers", type=click.IntRange(1, 64), default=8, show_default=True, help="Of such a judge: requests at a time."),
        click.option("--api-key-env", default="OPENAI_API_KEY", show_default=True, help="Where the key of such a judge stands."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def load_judge(word: str, **given: Any) -> PairwiseJudge | None:
    """The judge of pairs that a word names; None where it names something else. `given`: the options above.

    Raises ConfigError for a callable that cannot be imported and an endpoint without a model.
    """
    if word.startswith(PREFIX):
        return _endpoint(word.removeprefix(PREFIX), **given)
    if given["judge_model"] is not None or given["constitution"] is not None:
        raise ConfigError(f"--judge-model and --constitution are for a judge, and MODEL is {word!r}", hint="judge+http://host:port/v1")
    if not names_callable(word):
        return None
    try:
        with here_first():
            found = pkgutil.resolve_name(word)
    except (ImportError, AttributeError):
        return None  # load_scorer says what is wrong with it
    if not isinstance(found, type) and callable(getattr(found, "prefer", None)):
        return found
    return _CallableJudge(found, word) if callable(found) and _wants_comparisons(found) else None


def _endpoint(url: str, **given: Any) -> PairwiseJudge:
    from preferent.feedback.endpoint import Endpoint
    from preferent.feedback.preference_judge import EndpointJudge

    if given["judge_model"] is None:
        raise ConfigError("a judge at an endpoint needs --judge-model: the name of the model that the server is asked for")
    file = given["constitution"]
    words = None if file is None else file.read_text(encoding="utf-8")
    endpoint = Endpoint(url, given["judge_model"], key=os.environ.get(given["api_key_env"]) or None)
    return EndpointJudge(endpoint, constitution=words, n=given["answers"], workers=given["workers"])


class _CallableJudge:
    """A function from a list of `Comparison`s to P(response_a is the better one) of each."""

    def __init__(self, function: Callable[[list[Comparison]], Any], name: str) -> None:
        self.name = name
        self._function = function

    def prefer(self, comparisons: Sequence[Comparison]) -> Floats:
        answer = self._function(list(comparisons))
        try:
            return np.asarray(list(answer), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ModelError(f"{self.name}: the answer is {type(answer).__name__}, not one number for each comparison: {error}") from error


def _wants_comparisons(function: Callable[..., Any]) -> bool:
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return False
    return bool(parameters) and (parameters[0].name == "comparisons" or "Comparison" in str(parameters[0].annotation))
