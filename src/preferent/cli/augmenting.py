"""Augmentation by its settings: what `preferent augment` and `preferent train --augment.kind` both do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from preferent.core.augmented import Augmented
from preferent.core.errors import ConfigError
from preferent.core.records import Exchange, Preference, Ranking
from preferent.training.config import Augment, Counterfactual, NeutralTies, NoAugment, Rrm


def refuse_augment(settings: Augment) -> None:
    """Raises what would be wrong whatever the data are: ConfigError for edits that do not exist or are not named, DataError for an audit
    that cannot be read. Before the work, not after it."""
    if isinstance(settings, Counterfactual):
        _edits(settings, ())


def augmented(records: Sequence[Any], settings: Augment, *, seed: int, group_key: str | None = None) -> Augmented:
    """The new rows for these training records. Records whose `meta` agrees in `group_key` lend each other no responses."""
    if isinstance(settings, NoAugment):
        return Augmented((), {}, {})
    if isinstance(settings, Rrm | NeutralTies):
        from preferent.data.augment import off_prompt_rows

        groups = None if group_key is None else [group_of(record, group_key) for record in records]
        ties = settings.ties if isinstance(settings, Rrm) else 1.0
        return off_prompt_rows(records, ratio=settings.ratio, ties=ties, weight=settings.weight, seed=seed, groups=groups)
    from preferent.audits.augment import counterfactual_rows

    edits = _edits(settings, _exchanges(records))
    return counterfactual_rows(records, edits, ratio=settings.ratio, labels=settings.labels, weight=settings.weight, seed=seed)


def group_of(record: Any, key: str) -> str:
    """The value of `key` in a record's meta; ConfigError where there is none."""
    # Ratings carry no meta.
    meta = getattr(record, "meta", {})
    if key not in meta:
        raise ConfigError(
            f"--group-key {key!r}: the record {record.id!r} has no such key in its meta; it has {sorted(meta)}",
            hint="every record needs the key, or the split would leak",
        )
    return str(meta[key])


def pairs_of(record: Preference | Ranking) -> tuple[Preference, ...]:
    """A preference as it is, a ranking as its pairs."""
    return record.preferences() if isinstance(record, Ranking) else (record,)


def words(made: Augmented) -> list[str]:
    """What was made and what was not, in lines."""
    parts = ", ".join(f"{n} {name}" for name, n in sorted(made.by.items()))
    return [f"augmented: {len(made.added)} rows made ({parts})", *(f"augmented: {why} ({n})" for why, n in made.skipped.items())]


def _edits(settings: Counterfactual, exchanges: Sequence[Exchange]) -> Any:
    from preferent.audits.augment import augment_edits, chosen_edits, found_by_audit

    named = (settings.edits,) if isinstance(settings.edits, str) else settings.edits
    names = [name.strip() for name in named if name.strip()]
    if settings.audit is not None:
        names += [name for name in found_by_audit(settings.audit) if name not in names]
    known = augment_edits(exchanges)
    if not names:
        raise ConfigError(
            "counterfactual augmentation needs to know which edits",
            hint=f"name edits or families ({', '.join(sorted({name.partition('.')[0] for name in known}))}), or an audit that found some",
        )
    return chosen_edits(names, known)


def _exchanges(records: Sequence[Any]) -> list[Exchange]:
    """The distinct natural exchanges of the records."""
    found: dict[Exchange, None] = {}
    for record in records:
        texts = record.responses if isinstance(record, Ranking) else [getattr(record, name, None) for name in ("response_a", "response_b")]
        found.update((Exchange(prompt=record.prompt, response=text), None) for text in texts if text is not None)
    return list(found)
