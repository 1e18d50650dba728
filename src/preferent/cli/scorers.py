"""From a word on the command line to a scorer.

`length`; a checkpoint folder or a hub id; `module:name`, a Python callable; the URL of a reward server.
"""

from __future__ import annotations

import os
import pkgutil
import re
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

import click

from preferent.cli.callables import CallableScorer
from preferent.core.errors import ConfigError, ModelError
from preferent.core.records import Exchange, Scores
from preferent.core.scorer import Scorer, length_scorer

BASES = "'minilm' (offline), 'tiny', a folder, or a hub id (owner/name)"
FORMS = (
    "a checkpoint folder, a hub id (owner/name), 'length', a Python callable (module:function), "
    "or a server (openrlhf+http://host:port, vllm+http://host:port, tei+http://host:port)"
)
_CALLABLE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_HUB_ID = re.compile(r"([A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*")
REACH_SECONDS = 3.0


def dialect_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """--dialect: the wire shape of a server whose URL does not say it."""
    names = click.Choice(["openrlhf", "vllm", "tei"])
    return click.option("--dialect", type=names, help="Wire shape of MODEL when it is a URL that does not say it.")(function)


def reduction_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """--reduction: how the members of an ensemble become one reward."""
    words = "Of an ensemble: mean, worst (the least member), or mean-<number>var, as in mean-0.5var: conservative where members disagree."
    return click.option("--reduction", default="mean", show_default=True, metavar="RULE", help=words)(function)


def load_scorer(
    model: str, *, threads: int | None = None, trust_remote_code: bool = False, dialect: str | None = None, reduction: str = "mean"
) -> tuple[Scorer, float]:
    """The scorer that a word names, and the temperature that makes its margins probabilities (1 where none is known). `reduction`: of a
    checkpoint of ours that states its uncertainty; any other scorer raises ConfigError for one that is not the mean.

    Raises ConfigError for a callable or URL that cannot be used, ModelError for a folder or hub id that is not there: at once, without
    waiting for a network that is not there either.
    """
    from preferent.serving.dialects import is_url

    if reduction != "mean" and (model == "length" or is_url(model) or names_callable(model)):
        raise ConfigError(f"--reduction {reduction} is for a checkpoint of ours, and MODEL is {model!r}")
    if model == "length":
        return length_scorer(), 1.0
    if is_url(model):
        return _server(model, dialect), 1.0
    if dialect is not None:
        raise ConfigError(f"--dialect {dialect} is for a server, and {model!r} is no URL", hint=f"MODEL is {FORMS}")
    if names_callable(model):
        return _callable(model), 1.0
    refuse_unreachable(model)
    import torch

    from preferent.models.reward_model import RewardModel
    from preferent.models.steps import StepRewardModel
    from preferent.models.steps_spec import is_step_model

    if threads is not None:
        torch.set_num_threads(threads)
    if is_step_model(model):
        if reduction != "mean":
            raise ConfigError(f"--reduction {reduction} is for ensembles, and {model!r} is a step model")
        # Rewards of a step model are probabilities already; their differences have no temperature.
        return StepRewardModel.load(model, trust_remote_code=trust_remote_code), 1.0
    loaded = RewardModel.load(model, trust_remote_code=trust_remote_code, reduction=reduction)
    return loaded, loaded.temperature


def names_callable(word: str) -> bool:
    """Whether a word has the form module:function and is no path."""
    return _CALLABLE.fullmatch(word) is not None and not Path(word).exists()


@contextmanager
def here_first() -> Iterator[None]:
    """Modules in the working directory are found, as `python -m` finds them."""
    here = os.getcwd()
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if added:
            sys.path.remove(here)


def _server(word: str, dialect: str | None) -> Scorer:
    from preferent.serving.client import HttpScorer, HttpSettings
    from preferent.serving.dialects import from_url

    url, shape = from_url(word, dialect=dialect)
    key = os.environ.get("PREFERENT_API_KEY")
    return HttpScorer(url, shape, settings=HttpSettings(headers={"Authorization": f"Bearer {key}"} if key else {}))


def _callable(word: str) -> Scorer:
    """What `module:name` is: a scorer, or a function that becomes one. Modules in the working directory are found."""
    try:
        with here_first():
            found = pkgutil.resolve_name(word)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{word!r}: {error}", hint="module:function, with a module that Python can import from here") from error
    if isinstance(found, Scorer) and not isinstance(found, type):
        return found
    if not callable(found):
        raise ConfigError(f"{word!r} is {type(found).__name__}, not a function from pairs (prompt, response) to rewards")
    return CallableScorer(found, name=word)


def refuse_unreachable_base(base: str) -> None:
    """`refuse_unreachable` for what a training starts from."""
    if base not in ("minilm", "tiny"):
        refuse_unreachable(base, f"the base is {BASES}")


def refuse_unreachable(model: str, hint: str | None = None) -> None:
    """Raise ModelError when a word is neither a folder nor anything the hub could have, or the hub would have to be asked and cannot be.

    transformers retries for half a minute before it says so.
    """
    hint = hint or f"MODEL is {FORMS}"
    path = Path(model).expanduser()
    if path.is_dir():
        return
    if path.is_file():
        raise ModelError(f"{model!r} is a file; a model is a folder", hint=hint)
    if model.startswith((".", "/", "~")) or _HUB_ID.fullmatch(model) is None:
        raise ModelError(f"{model!r}: no such folder", hint=hint)
    from huggingface_hub import constants, try_to_load_from_cache

    try:
        cached = isinstance(try_to_load_from_cache(model, "config.json"), str)
    except ValueError as error:
        raise ModelError(f"{model!r}: no such folder, and no id that the hub knows: {error}", hint=hint) from error
    if cached:
        return
    if constants.is_offline_mode():
        why = "the hub is switched off (HF_HUB_OFFLINE)"
    elif _reachable(constants.ENDPOINT):
        return
    else:
        why = f"{constants.ENDPOINT} cannot be reached"
    raise ModelError(f"{model!r}: no such folder, not in the local cache, and {why}", hint=hint)


def _reachable(endpoint: str) -> bool:
    """Whether a connection to the hub can be opened; behind a proxy only a request would tell, so yes."""
    parts = urlsplit(endpoint)
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy")):
        return True
    opened = Event()
    # A resolver or a firewall that says nothing can hold a connection up for much longer than its timeout.
    asking = Thread(target=_open, args=(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80), opened), daemon=True)
    asking.start()
    asking.join(REACH_SECONDS)
    return opened.is_set()


def _open(host: str, port: int, opened: Event) -> None:
    try:
        with socket.create_connection((host, port), REACH_SECONDS):
            opened.set()
    except OSError:
        return


class WithProgress:
    """A scorer that reports how far it has come, in slabs small enough to see."""

    def __init__(self, scorer: Any, progress: Callable[[int], None]) -> None:
        self.name = scorer.name
        self._scorer = scorer
        self._progress = progress

    def score(self, exchanges: Sequence[Exchange]) -> Scores:
        if _takes_progress(self._scorer):
            return self._scorer.score(exchanges, progress=self._progress)
        scores = self._scorer.score(exchanges)
        self._progress(len(exchanges))
        return scores


def _takes_progress(scorer: Any) -> bool:
    import inspect

    return "progress" in inspect.signature(scorer.score).parameters
