"""Off-prompt and neutral rows beside the labelled ones, so that what does not depend on the prompt cannot explain the labels.

RRM (Liu et al. 2024, arXiv 2409.13156, table 1): under a prompt, its own response beats a response that was given to another prompt
("off-prompt"), and two responses to another prompt tie ("neutral"), however they differ in length or manner. What is assumed: a
response to another prompt does not answer this one. So prompts that are near duplicates never lend each other responses, nor do
records of one group, and a response that stands under several prompts (a refusal, a thank-you) lends itself to none.

For training rows only: split first. Legend: N records.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from preferent.core.augmented import Augmented, Owner, is_made, made_from, owners_of
from preferent.core.errors import ConfigError, DataError
from preferent.core.estimates import cluster_codes
from preferent.core.records import Preference, Ranking
from preferent.data.near import near_duplicates, normal

TRIES = 32


def off_prompt_rows(
    records: Sequence[Preference | Ranking | Any],
    *,
    ratio: float = 1.0,
    ties: float = 0.33,
    weight: float = 1.0,
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
) -> Augmented:
    """New rows: `ratio` for every labelled pair, of which the share `ties` are neutral ties and the rest off-prompt negatives.

    An off-prompt row holds one of the owner's two responses, at random, against the preferred response of another record, `p_a` 1 for
    its own; a neutral one holds both responses of another record, `p_a` 0.5. Sides are in random order. `weight` multiplies the weight of
    the owner. groups: one label per record; records of one group lend each other nothing. Records on a single objective, votes, and
    rows that were made by an augmentation are passed over and counted. The same records and seed give the same rows.

    Raises ConfigError for a ratio or weight that is not above 0 or a share outside [0, 1], DataError when no record can be used or all
    prompts are near duplicates.
    """
    if not (ratio > 0.0 and weight > 0.0 and 0.0 <= ties <= 1.0):
        raise ConfigError(
            f"augment: ratio={ratio!r}, weight={weight!r}, ties={ties!r}; allowed are ratio > 0, weight > 0 and ties in [0, 1]"
        )
    if groups is not None and len(groups) != len(records):
        raise DataError(f"augment: {len(groups)} groups for {len(records)} records", hint="give one group per record")
    rng = np.random.default_rng([seed, 11])
    owners, skipped = owners_of(records, rng)
    if not owners:
        raise DataError(f"augment: none of the {len(records)} records can be used: {dict(skipped)!r}")
    lenders = _Lenders(owners, groups)
    if lenders.n_apart < 2:
        raise DataError(
            "augment: all records are of one prompt (near-duplicates count as one) or group, and nothing can be off it",
            hint="off-prompt rows need different prompts; --kind counterfactual does not",
        )
    n_new = max(1, round(ratio * len(owners)))
    neutral_K = rng.permutation(np.arange(n_new) < round(ties * n_new))
    order_K = np.concatenate([rng.permutation(len(owners)) for _ in range(-(-n_new // len(owners)))])[:n_new]
    added: list[Preference] = []
    seen: set[tuple[Any, frozenset[str]]] = set()
    for place, neutral in zip(order_K.tolist(), neutral_K.tolist(), strict=True):
        row = _row(owners, lenders, place, neutral=neutral, weight=weight, number=len(added), rng=rng)
        key = None if row is None else (row.prompt, frozenset((row.response_a, row.response_b)))
        if row is None or key is None:
            skipped["no response of another prompt was found for it"] += 1
        elif key in seen:
            skipped["made before"] += 1
        else:
            seen.add(key)
            added.append(row)
    return Augmented.of(added, skipped)


class _Lenders:
    """Who may lend whom: not within a cluster of near-duplicate prompts, not within a group; no response of several clusters."""

    def __init__(self, owners: Sequence[Owner], groups: Sequence[Hashable] | None) -> None:
        texts: dict[str, int] = {}
        unit = [texts.setdefault(" ".join(normal(turn.content) for turn in owner.pair.prompt), len(texts)) for owner in owners]
        self.cluster = near_duplicates(list(texts))[np.array(unit)].tolist()
        self.group = self.cluster if groups is None else cluster_codes([groups[owner.row] for owner in owners]).tolist()
        where: defaultdict[str, set[int]] = defaultdict(set)
        for owner, cluster in zip(owners, self.cluster, strict=True):
            for text in (owner.pair.response_a, owner.pair.response_b):
                where[normal(text)].add(cluster)
        self.common = {text for text, clusters in where.items() if len(clusters) > 1}
        self.n_apart = min(len(set(self.cluster)), len(set(self.group)))

    def may(self, lender: int, borrower: int) -> bool:
        return self.cluster[lender] != self.cluster[borrower] and self.group[lender] != self.group[borrower]


def _row(
    owners: Sequence[Owner], lenders: _Lenders, place: int, *, neutral: bool, weight: float, number: int, rng: np.random.Generator
) -> Preference | None:
    """One new row for the owner at `place`, or None where no lender turned up."""
    owner = owners[place]
    side, swap = rng.random(2) < 0.5
    for other in rng.integers(0, len(owners), TRIES).tolist():
        if not lenders.may(other, place):
            continue
        lent = owners[other]
        texts = (lent.pair.response_a, lent.pair.response_b) if neutral else (lent.better,)
        if any(normal(text) in lenders.common for text in texts) or len(set(texts)) < len(texts):
            continue
        mark = {"by": "rrm.neutral" if neutral else "rrm.off_prompt", "responses_of": lent.name}
        own = owner.pair.response_a if side else owner.pair.response_b
        responses, p_a = ((texts[0], texts[-1]), 0.5) if neutral else ((own, texts[0]), 1.0)
        return made_from(owner, responses, p_a, number=number, mark=mark, weight=weight, swap=bool(swap))
    return None


def without_made(records: Sequence[Any], held_out: Sequence[Any]) -> tuple[list[Any], list[Any], Counter[str]]:
    """(training records, held-out records, what was left out): no made row is held out, and none that shows a held-out response trains."""
    left = Counter[str]()
    kept_out = [record for record in held_out if not is_made(record)]
    left["held out"] = len(held_out) - len(kept_out)
    texts = {text for record in kept_out for text in _texts(record)}
    kept = [record for record in records if not (is_made(record) and texts.intersection(_texts(record)))]
    left["with a held-out response"] = len(records) - len(kept)
    return kept, kept_out, left


def _texts(record: Any) -> tuple[str, ...]:
    return record.responses if isinstance(record, Ranking) else (record.response_a, record.response_b)
