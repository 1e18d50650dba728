"""Judgments on the way into training: aggregated to soft preferences, or as single votes for joint training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from preferent.cli.inputs import Reading
from preferent.core.errors import ConfigError, DataError
from preferent.core.records import Preference, Ranking, Vote
from preferent.data.gate import Checked, check
from preferent.data.lines import read_raw
from preferent.data.write import write_jsonl
from preferent.training.config import Aggregated, Grouped, TrainConfig

NAMES = ({"annotator_id", "annotator"}, {"comparison_id", "item"}, {"choice", "label"})
HALF = ("tie", "both_good", "both_bad")
LEAST = 1e-3  # a group of which less than this of a member has voted has said nothing


@dataclass(frozen=True)
class Judged:
    """Judgments with texts. checked: the soft preferences past the data gate. votes: the single votes, by comparison. told: what the
    aggregation says of itself, line by line."""

    checked: Checked
    votes: dict[str, list[Vote]]
    told: tuple[str, ...]

    def votes_on(self, records: Sequence[Preference | Ranking]) -> list[Vote]:
        """The votes on comparisons of the same prompts and responses as these records, which passed the gate."""
        wanted = {_pair(record) for record in records if isinstance(record, Preference)}
        return [vote for votes in self.votes.values() for vote in votes if _pair(vote) in wanted]


def is_judgments(sources: Sequence[str]) -> bool:
    """Whether the first row of every source names an annotator, a comparison and a choice; ConfigError when only some do."""
    found = {source: _judges(source) for source in sources}
    if any(found.values()) and not all(found.values()):
        other = next(source for source, judges in found.items() if not judges)
        raise ConfigError(f"{other}: no judgments, and other files are", hint="train on judgments or on preferences, not on both at once")
    return bool(found) and all(found.values())


def _judges(source: str) -> bool:
    path = Path(source)
    if not path.is_file():
        return False
    row = next(iter(read_raw(path)), None)
    value = getattr(row, "value", None)
    return isinstance(value, dict) and all(names & value.keys() for names in NAMES)


def read_judged(sources: Sequence[str], reading: Reading, config: TrainConfig, written: Path) -> Judged:
    """Aggregate one file of judgments and pass the result through the data gate.

    The texts come from the rows or from `reading.comparisons`. `written`: where the soft preferences go, which the ledger then speaks
    about. Raises DataError for judgments without texts.
    """
    from preferent.annotators.graph_read import with_texts
    from preferent.annotators.names import CHOICES
    from preferent.annotators.table_columns import Policies
    from preferent.annotators.table_read import read_votes
    from preferent.cli.aggregate import fit

    if len(sources) > 1:
        raise ConfigError(f"{len(sources)} files of judgments", hint="put them into one file: annotators are known by all that they said")
    table = read_votes(sources[0], labels=CHOICES, policies=Policies(repeats=reading.repeats)).without_unused_labels(("a", "b"))
    table, texts = with_texts(table, reading.comparisons or sources[0])
    if texts is None:
        raise DataError(f"{sources[0]}: the judgments have no texts, so there is nothing to train on",
                        hint="rows with prompt, response_a and response_b, or --comparisons FILE that has them by id")  # fmt: skip
    size = f"{len(table)} judgments by {table.n_annotators} annotators on {table.n_items} comparisons"
    if isinstance(config.votes, Grouped):
        rows, told = _grouped(table, texts, config.votes.groups, config.seed)
        write_jsonl(written, rows, force=True)
        told = [f"{size}, by preference group: {written}", *told]
    else:
        model = config.votes.model if isinstance(config.votes, Aggregated) else "auto"
        result, reason = fit(model, table, np.random.default_rng(config.seed))
        write_jsonl(written, _preferences(result, texts), force=True)
        told = [f"{size}, aggregated by {result.method}: {written}", *([reason] if reason else []), *table.notes, *result.notes]
    checked = check(str(written), format="native", strict=reading.strict)
    return Judged(checked, _votes(table, texts), tuple(told))


def _grouped(table: Any, texts: Any, groups: int | None, seed: int) -> tuple[list[dict[str, Any]], list[str]]:
    """(rows with the group as their objective, what to say): every vote counts once, split over the groups its annotator may be of."""
    from preferent.annotators.graph_models import pairs_of
    from preferent.annotators.group_labels import group_labels
    from preferent.annotators.mixture import MixtureSettings, fit_mixture

    mixture = fit_mixture(pairs_of(table), MixtureSettings(groups=groups), seed=seed)
    names = [f"group {k + 1}" for k in range(mixture.n_groups)]
    labels = group_labels(table, mixture.membership_AK)
    rows = []
    for row, item in enumerate(labels.items.tolist()):
        prompt, response_a, response_b = _texts(item, texts)
        for k, name in enumerate(names):
            if labels.mass_IK[row, k] < LEAST:
                continue
            fields = {"prompt": prompt, "response_a": response_a, "response_b": response_b, "p_a": round(float(labels.p_IK[row, k]), 6)}
            rows.append({"id": f"{item}/{k + 1}", **fields, "weight": float(labels.mass_IK[row, k]), "objective": name})
    shares = ", ".join(f"{name} {share:.0%}" for name, share in zip(names, mixture.share_K, strict=True))
    told = [f"{len(names)} preference group{'s' if len(names) > 1 else ''} of annotators, a head each: {shares}", *mixture.notes]
    if len(names) > 1:
        weighed = ",".join(f"{name}={share:.2f}" for name, share in zip(names, mixture.share_K, strict=True))
        told.append(f"the reward is their equal mean; by their shares: --combination.kind fixed --combination.weights '{weighed}'")
    return rows, told


def _preferences(result: Any, texts: Any) -> Iterator[dict[str, Any]]:
    p_I, low_I, high_I = result.p_a()
    for row, item in enumerate(result.items.tolist()):
        prompt, response_a, response_b = _texts(item, texts)
        meta = {"low": float(low_I[row]), "high": float(high_I[row])}
        yield {
            "id": str(item),
            "prompt": prompt,
            "response_a": response_a,
            "response_b": response_b,
            "p_a": round(float(p_I[row]), 6),
            "n_judgments": int(result.votes_I[row]),
            "meta": meta,
        }


def _texts(item: Any, texts: Any) -> tuple[Any, str, str]:
    a, b = texts.pairs[item]
    prompt, response_a = texts.texts[a]
    return prompt, response_a, texts.texts[b][1]


def _votes(table: Any, texts: Any) -> dict[str, list[Vote]]:
    from preferent.data.formats import fields

    half = {"a": 1.0, "b": 0.0, **dict.fromkeys(HALF, 0.5)}
    parsed: dict[Any, tuple[Any, str, str]] = {}
    for item in table.items.tolist():
        prompt, response_a, response_b = _texts(item, texts)
        try:
            parsed[item] = (fields.prompt(prompt), response_a, response_b)
        except fields.Refused:
            continue  # the gate has refused it as well, and its ledger says so
    votes: dict[str, list[Vote]] = {}
    items = table.items.tolist()
    first = None if table.first_V is None else np.array([*table.labels, ""], dtype=object)[table.first_V]
    for row in range(len(table)):
        item = items[table.item_V[row]]
        if item not in parsed:
            continue
        prompt, response_a, response_b = parsed[item]
        shown = None if first is None or first[row] not in ("a", "b") else first[row]
        vote = Vote(
            prompt=prompt,
            response_a=response_a,
            response_b=response_b,
            annotator_id=str(table.annotators[table.annotator_V[row]]),
            p_a=half[table.labels[table.label_V[row]]],
            shown_first=shown,
            weight=1.0 if table.weight_V is None else float(table.weight_V[row]),
            id=str(item),
        )
        votes.setdefault(str(item), []).append(vote)
    return votes


def _pair(record: Preference | Vote) -> tuple[Any, frozenset[str]]:
    return record.prompt, frozenset((record.response_a, record.response_b))
