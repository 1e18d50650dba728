"""What an audit is run on: natural responses by prompt, labelled pairs of them where there are labels, and planted errors where known.

Made from the caller's preferences, or from the probe texts that come with the package (`probes/`, written for this project).

Legend: P prompts, E distinct exchanges, K labelled pairs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preferent.core.errors import DataError
from preferent.core.records import Exchange, Preference, Prompt, Ranking, user

Rows = NDArray[np.int64]
BUILT_IN = "built-in probes"


@dataclass(frozen=True, slots=True)
class PlantedError:
    """One response that is right, and the same response with one error of a named kind in it. `row`: the right one among the exchanges."""

    kind: str
    row: int
    wrong: str


@dataclass(frozen=True, slots=True)
class AuditData:
    """Texts to ask a scorer about.

    source: where they are from, in words. exchanges: E distinct ones, those of a prompt side by side. prompt_E: the prompt of each as
    0..P-1, which is the cluster of every interval. ids_P: a name for each prompt. better_K, worse_K: rows of `exchanges` for every pair
    whose label is not a tie, the preferred one first. preferences: the labelled pairs as they came (ties included). errors: written
    by hand, for the built-in probes only. topics_P: a word for each prompt's kind, empty where unknown. n_left_out: prompts beyond
    the limit.
    """

    source: str
    exchanges: tuple[Exchange, ...]
    prompt_E: Rows
    ids_P: tuple[str, ...]
    better_K: Rows
    worse_K: Rows
    preferences: tuple[Preference, ...] = ()
    errors: tuple[PlantedError, ...] = ()
    topics_P: tuple[str, ...] = field(default=())
    n_left_out: int = 0

    @property
    def n_prompts(self) -> int:
        return len(self.ids_P)

    def rows_of(self, prompt: int) -> Rows:
        """The rows of one prompt's exchanges."""
        return np.flatnonzero(self.prompt_E == prompt)


def audit_data(
    records: Iterable[Preference | Ranking] | None = None,
    *,
    max_prompts: int = 500,
    max_responses: int = 8,
    seed: int = 0,
) -> AuditData:
    """The caller's preferences (or rankings) as audit data; without any, the built-in probes.

    At most `max_prompts` prompts, chosen by `seed`, with their first `max_responses` distinct responses each; pairs of a response beyond
    that are left out. Raises DataError when records were given but hold nothing.
    """
    if records is None:
        return built_in_probes()
    groups: dict[Prompt, list[Preference]] = {}
    for record in records:
        for pair in record.preferences() if isinstance(record, Ranking) else (record,):
            groups.setdefault(pair.prompt, []).append(pair)
    if not groups:
        raise DataError("there is nothing to audit on: no preferences", hint="leave the data out to use the built-in probes")
    prompts = list(groups)
    kept = np.sort(np.random.default_rng([seed, 0]).permutation(len(prompts))[:max_prompts])
    parts = [_group(groups[prompts[i]], max_responses) for i in kept]
    ids = tuple(groups[prompts[i]][0].id or f"prompt {i + 1}" for i in kept)
    return _assembled("the given preferences", parts, ids, n_left_out=len(prompts) - len(kept))


def _group(pairs: Sequence[Preference], max_responses: int) -> tuple[list[Exchange], list[Preference]]:
    """One prompt's distinct responses and the pairs among those kept."""
    texts = list(dict.fromkeys(text for pair in pairs for text in (pair.response_a, pair.response_b)))[:max_responses]
    inside = [pair for pair in pairs if pair.response_a in texts and pair.response_b in texts and pair.response_a != pair.response_b]
    return [Exchange(prompt=pairs[0].prompt, response=text) for text in texts], inside


def _assembled(
    source: str, parts: Sequence[tuple[list[Exchange], list[Preference]]], ids: tuple[str, ...], *, n_left_out: int = 0
) -> AuditData:
    exchanges = [exchange for group, _ in parts for exchange in group]
    rows = {(exchange.prompt, exchange.response): row for row, exchange in enumerate(exchanges)}
    pairs = [pair for _, group in parts for pair in group]
    edges = [
        (rows[(pair.prompt, good)], rows[(pair.prompt, bad)])
        for pair in pairs
        if pair.p_a != 0.5
        for good, bad in [(pair.response_a, pair.response_b) if pair.p_a > 0.5 else (pair.response_b, pair.response_a)]
    ]
    edges_K2 = np.array(edges, dtype=np.int64).reshape(-1, 2)
    return AuditData(
        source=source,
        exchanges=tuple(exchanges),
        prompt_E=np.repeat(np.arange(len(parts)), [len(group) for group, _ in parts]),
        ids_P=ids,
        better_K=edges_K2[:, 0],
        worse_K=edges_K2[:, 1],
        preferences=tuple(pairs),
        n_left_out=n_left_out,
    )


def built_in_probes() -> AuditData:
    """The probe texts of the package: prompts of ordinary assistant use, four responses each from best to worst, planted errors.

    Where two responses of a prompt are not clearly ordered they share a rank and are no pair.
    """
    entries = list(_probe_entries())
    parts, errors, row = [], [], 0
    for entry in entries:
        prompt = user(entry["prompt"])
        texts, ranks = entry["responses"], entry["ranks"]
        ranking = Ranking(prompt=prompt, responses=tuple(texts), ranks=tuple(ranks), source="probes", id=entry["id"])
        parts.append(([Exchange(prompt=prompt, response=text) for text in texts], list(ranking.preferences())))
        for kind, old, new in entry["errors"]:
            errors.append(PlantedError(kind=kind, row=row, wrong=texts[0].replace(old, new, 1)))
        row += len(texts)
    data = _assembled(BUILT_IN, parts, tuple(entry["id"] for entry in entries))
    return AuditData(
        source=data.source,
        exchanges=data.exchanges,
        prompt_E=data.prompt_E,
        ids_P=data.ids_P,
        better_K=data.better_K,
        worse_K=data.worse_K,
        preferences=data.preferences,
        errors=tuple(errors),
        topics_P=tuple(entry["topic"] for entry in entries),
    )


def _probe_entries() -> Iterator[dict[str, Any]]:
    """One entry per prompt: id, topic, prompt, responses (best first), ranks, errors as (kind, old, new) within the first response."""
    folder = resources.files("preferent.audits") / "probes"
    for file in sorted(folder.iterdir(), key=lambda path: path.name):
        if file.name.endswith(".jsonl"):
            for line in file.read_text(encoding="utf-8").splitlines():
                if line.strip():
                    yield json.loads(line)
