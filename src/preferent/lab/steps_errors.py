"""Errors put into a right chain, each with exact labels: a slip of the result, another operation, a value copied wrongly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from preferent.core.records import Prompt
from preferent.lab.chains import OPERATIONS, Chain, ChainStep, Operation, Rule, chain_labels, first_error, read_chain, write_step
from preferent.lab.draw import one

Error = Literal["slip", "operation", "copy"]
ERRORS: tuple[Error, ...] = ("slip", "operation", "copy")


@dataclass(frozen=True, slots=True)
class Corrupted:
    """A solution with an error put in. labels: exact, from the texts; null where nobody can say. kind: of the error."""

    steps: tuple[str, ...]
    labels: tuple[float | None, ...]
    first_error: int
    kind: str


def wrong_step(chain: Chain, t: int, stated: int, kind: Error, rng: np.random.Generator) -> ChainStep | None:
    """A step at place t, after `stated`, that states a wrong value by an error of this kind; None where none exists (in logic a second
    error would undo the first)."""
    truth, right = chain.values[t], chain.operations[t]
    if kind == "slip":
        options = [ChainStep(right, stated, value, False) for value in range(chain.n_values) if value not in {truth, right.apply(stated)}]
    elif kind == "copy":
        others = [value for value in range(chain.n_values) if value != stated]
        options = [ChainStep(right, value, right.apply(value), False) for value in others]
    else:
        names = [name for name, words in OPERATIONS.items() if words[0] == chain.kind]
        others = [Operation(name, 0 if name == "opposite" else right.operand) for name in names]
        options = [ChainStep(other, stated, other.apply(stated), False) for other in others if other != right]
    options = [option for option in options if option.value != truth]
    return one(options, rng) if options else None


def corrupt_chain(
    prompt: Prompt,
    rng: np.random.Generator,
    *,
    place: int | None = None,
    kind: Error | None = None,
    carry: bool = True,
    rule: Rule = "state",
) -> Corrupted:
    """A solution that is right up to `place` (drawn where not given) and wrong there.

    carry: the steps after go on from the wrong value (all wrong by the rule "state", all right by the rule "local"); otherwise they go
    on as if nothing had happened (right by "state"; the first of them wrong by "local", as it does not follow). An error of the wanted
    kind that does not exist at this place becomes a slip. Raises DataError for a foreign prompt.
    """
    chain = read_chain(prompt)
    truth = (chain.start, *chain.values)
    at = int(rng.integers(len(chain.operations))) if place is None else place
    wanted: Error = one(ERRORS, rng) if kind is None else kind
    made: Error = wanted
    steps: list[str] = []
    stated = chain.start
    for t, operation in enumerate(chain.operations):
        step = ChainStep(operation, stated, operation.apply(stated), False)
        if t == at:
            wrong = wrong_step(chain, t, stated, wanted, rng)
            made = wanted if wrong is not None else "slip"
            step = wrong or wrong_step(chain, t, stated, "slip", rng) or step
        steps.append(write_step(chain.kind, step, rng))
        stated = step.value if carry else truth[t + 1]
    labels = chain_labels(prompt, steps, rule=rule)
    return Corrupted(tuple(steps), labels, first_error(labels), made)
