"""Counterfactual rows for training, made by the audit's own edits: what a scorer should not react to, or must.

    neutral edit     a tie: the text and the edited text, `p_a` 0.5; or the labelled pair with the edit in one side and the label kept
                     (in the worse side where a sound scorer may give an edited text less but not more; in either where it may neither)
    must-fall edit   the better response beats its edited self, `p_a` 1

(Crome, Srivastava et al. 2025, arXiv 2506.16507, mixes both kinds, written by a language model; here a program writes them.) Ties alone
can teach a scorer the set phrases of an edit instead of the property; hence both by default, and an audit afterwards with edits that
were *not* trained on is the test. For training rows only: split first.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from preferent.audits.blind_spots import AUDIT as BLIND_SPOTS
from preferent.audits.counterfactual import AUDIT as COUNTERFACTUAL
from preferent.audits.edits.all import standard_edits
from preferent.audits.edits.base import Edit, on_response
from preferent.audits.edits.errors import error_changes
from preferent.core.augmented import Augmented, Owner, made_from, owners_of
from preferent.core.errors import ConfigError, DataError
from preferent.core.records import Exchange, Preference

Labels = Literal["both", "ties", "keep"]


def augment_edits(exchanges: Sequence[Exchange]) -> dict[str, Edit]:
    """Every edit that can make rows, by name: the audit's standard ones, and its planted errors as `error.number`, `error.unit` and so on.
    `exchanges`: the natural ones, which replies to other prompts and names are taken from."""
    changes = error_changes([exchange.response for exchange in exchanges])
    errors = [
        Edit(_error_name(kind), f"has an error of the kind '{kind}'", on_response(change), expects="must_fall", bias="up")
        for kind, change in changes.items()
    ]
    return {edit.name: edit for edit in (*standard_edits(exchanges), *errors)}


def _error_name(kind: str) -> str:
    return f"error.{kind.replace(' ', '_')}"


def chosen_edits(names: Sequence[str], known: Mapping[str, Edit]) -> tuple[Edit, ...]:
    """The edits of these names or families ("length.filler", "length"), in the order of the battery. Raises ConfigError for others."""
    for name in names:
        if name not in known and not any(edit.startswith(f"{name}.") for edit in known):
            families = sorted({edit.partition(".")[0] for edit in known})
            near = difflib.get_close_matches(name, [*known, *families], n=1)
            raise ConfigError(
                f"there is no edit {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
                hint=f"families are {', '.join(families)}; edits are {', '.join(known)}",
            )
    return tuple(edit for name, edit in known.items() if any(name == one or name.startswith(f"{one}.") for one in names))


def found_by_audit(path: str | Path) -> tuple[str, ...]:
    """The names of the edits and errors with the verdict "finding" in what `preferent audit --json` printed.

    Raises DataError when the file is no audit, or found nothing that an edit makes.
    """
    try:
        findings = json.loads(Path(path).read_text(encoding="utf-8"))["findings"]
        told = [(line["audit"], line["name"]) for line in findings if line["verdict"] == "finding"]
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not an audit: {error}", hint="write one with: preferent audit MODEL DATA --json > audit.json") from error
    names = [name for audit, name in told if audit == COUNTERFACTUAL]
    names += [_error_name(name) for audit, name in told if audit == BLIND_SPOTS]
    if not names:
        other = f"; its {len(told)} findings are about {', '.join(sorted({audit for audit, _ in told}))}" if told else ""
        raise DataError(f"{path}: the audit found no edit to make rows with{other}", hint="name edits yourself, or try --kind rrm")
    return tuple(dict.fromkeys(names))


def counterfactual_rows(
    records: Sequence[Any],
    edits: Sequence[Edit],
    *,
    ratio: float = 1.0,
    labels: Labels = "both",
    weight: float = 1.0,
    seed: int = 0,
) -> Augmented:
    """New rows: `ratio` for every labelled pair, dealt over the edits in turn, each on pairs drawn at random.

    labels: what a neutral edit makes, ties, pairs that keep their label, or both in turn; ties among the labelled pairs, which have no
    label to keep, make ties, and edits of the prompt (who asks) keep the label, since two prompts are no pair. `weight` multiplies the
    weight of the pair a row is made from. Sides are in random order. An edit that applies to no more pairs makes no more rows, which
    is counted in `skipped`. The same records and seed give the same rows.

    Raises ConfigError for a ratio or weight that is not above 0 or no edits, DataError when no record can be used or nothing applies.
    """
    if not (ratio > 0.0 and weight > 0.0) or not edits:
        raise ConfigError(f"augment: ratio={ratio!r}, weight={weight!r}, {len(edits)} edits; allowed are numbers > 0 and at least one edit")
    rng = np.random.default_rng([seed, 12])
    owners, skipped = owners_of(records, rng)
    if not owners:
        raise DataError(f"augment: none of the {len(records)} records can be used: {dict(skipped)!r}")
    rows: list[Preference] = []
    target, open_edits = max(1, round(ratio * len(owners))), list(edits)
    waiting = {edit.name: rng.permutation(len(owners)).tolist() for edit in edits}
    made = Counter[str]()
    while len(rows) < target and open_edits:
        for edit in list(open_edits):
            if len(rows) >= target:
                break
            tie = labels == "ties" or (labels == "both" and made[edit.name] % 2 == 0)
            row = _next_row(edit, owners, waiting[edit.name], tie=tie, number=len(rows), weight=weight, rng=rng)
            if row is None:
                skipped[f"{edit.name} applies to no more than {made[edit.name]} pairs"] += 1
                open_edits.remove(edit)
            else:
                rows.append(row)
                made[edit.name] += 1
    if not rows:
        raise DataError(f"augment: none of the edits applies to any of {len(owners)} pairs: {', '.join(edit.name for edit in edits)}")
    return Augmented.of(rows, skipped)


def _next_row(
    edit: Edit, owners: Sequence[Owner], waiting: list[int], *, tie: bool, number: int, weight: float, rng: np.random.Generator
) -> Preference | None:
    """The row of the next waiting owner that the edit applies to; None when there is none left."""
    while waiting:
        owner = owners[waiting.pop()]
        found = _must_fall(edit, owner, rng) if edit.expects == "must_fall" else _neutral(edit, owner, tie=tie, rng=rng)
        if found is not None:
            prompt, responses, p_a, how = found
            placed = Owner(owner.row, owner.name, owner.pair.model_copy(update={"prompt": prompt}))
            mark = {"by": f"edit.{edit.name}", "makes": how}
            return made_from(placed, responses, p_a, number=number, mark=mark, weight=weight, swap=bool(rng.random() < 0.5))
    return None


def _must_fall(edit: Edit, owner: Owner, rng: np.random.Generator) -> Any:
    pair = edit.pair(Exchange(prompt=owner.pair.prompt, response=owner.better), rng)
    return None if pair is None else (pair[1].prompt, (pair[0].response, pair[1].response), 1.0, "falls")


def _neutral(edit: Edit, owner: Owner, *, tie: bool, rng: np.random.Generator) -> Any:
    """(prompt, responses, p_a, making), or None where the edit does not apply."""
    decided = owner.pair.p_a != 0.5
    edits_better = {"up": False, "down": True, "either": bool(rng.random() < 0.5)}[edit.bias]
    if tie or not decided:
        edits_better = bool(rng.random() < 0.5)
    text, other = (owner.better, owner.worse) if edits_better else (owner.worse, owner.better)
    pair = edit.pair(Exchange(prompt=owner.pair.prompt, response=text), rng)
    if pair is None:
        return None
    without, edited = pair
    if without.prompt == edited.prompt and (tie or not decided):
        return edited.prompt, (without.response, edited.response), 0.5, "tie"
    if edit.stage is not None:
        # The other side is staged too, so that the stage tells nothing.
        staged = edit.stage(Exchange(prompt=owner.pair.prompt, response=other), rng)
        other = other if staged is None else staged.response
    if edited.response == other:
        return None
    p_better = max(owner.pair.p_a, 1.0 - owner.pair.p_a)
    return edited.prompt, (edited.response, other), p_better if edits_better else 1.0 - p_better, "label kept"
