"""Automatic step labels: continue a solution from each of its steps, and see how often the answer comes out right.

- `monte_carlo`: the success rate after every step (Wang et al. 2023, Math-Shepherd, arXiv 2312.08935, section 3.3);
- `first_error_by_search`: the first step after which the rate is not above a threshold, by binary search (Luo et al. 2024, OmegaPRM,
  arXiv 2406.06592, section 3.2): about log2 T places are tried in place of T - 1;
- `consensus`: what a rollout label and a judge say together (Zhang et al. 2025, arXiv 2501.07301).

A policy is any function `(prompt, steps so far, n) -> n continuations`; a checker any function `(solution, full text) -> bool`, where
the solution is the record that is being labelled (its `meta` can hold the right answer).

What a rate says: whether this policy gets there from here. It is no label yet. Turning it into a hard label needs a threshold, and
"any success" (a threshold of 0, Math-Shepherd's hard estimate) gets *worse* as rollouts grow, since a policy that sometimes repairs an
error succeeds at least once from every wrong step if it is asked often enough. So the rate is kept, and the threshold is set on labelled
data. A weak policy fails from right steps too: its rates are low everywhere, and the best threshold with it.

Legend: T steps of a solution, K rollouts from each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from preferent.core.errors import ConfigError, DataError
from preferent.core.records import Prompt, StepLabels

Label = float | None
Checker = Callable[[StepLabels, str], bool]
Judge = Callable[[StepLabels], Sequence[Label]]
SEPARATOR = "\n"


class Policy(Protocol):
    """What continues a solution."""

    def __call__(self, prompt: Prompt, steps: Sequence[str], n: int, /) -> Sequence[str]:
        """n texts, each the rest of a solution that begins with `steps`, up to its answer."""
        ...


@dataclass(frozen=True, slots=True)
class Rollouts:
    """How often the answer came out right from the first t + 1 steps, t = 0..T-1. tried 0: not looked at. calls: rollouts asked for.

    The last place is the whole solution: it is checked, not continued, and has tried 1.
    """

    successes: tuple[int, ...]
    tried: tuple[int, ...]
    calls: int

    @property
    def rates(self) -> tuple[Label, ...]:
        """Success rate after each step, None where it was not looked at."""
        return tuple(s / k if k else None for s, k in zip(self.successes, self.tried, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"successes": list(self.successes), "tried": list(self.tried), "calls": self.calls}


def success_count(record: StepLabels, n_steps: int, policy: Policy, checker: Checker, n: int) -> int:
    """Of n continuations of the first `n_steps` steps, how many end right. Raises DataError when the policy gives another number."""
    steps = record.steps[:n_steps]
    texts = policy(record.prompt, steps, n)
    if len(texts) != n:
        raise DataError(f"the policy gave {len(texts)} continuations, {n} were asked for", hint="a policy returns a list of n texts")
    return sum(bool(checker(record, SEPARATOR.join([*steps, text]))) for text in texts)


def monte_carlo(record: StepLabels, policy: Policy, checker: Checker, *, n: int) -> Rollouts:
    """Rollouts from every step: n from each of the first T - 1, and a check of the whole.

    Raises as `success_count`; ConfigError for n < 1.
    """
    _check_n(n)
    last = len(record.steps)
    found = [success_count(record, t, policy, checker, n) for t in range(1, last)]
    found.append(int(checker(record, SEPARATOR.join(record.steps))))
    return Rollouts(tuple(found), (*[n] * (last - 1), 1), n * (last - 1))


def first_error_by_search(record: StepLabels, policy: Policy, checker: Checker, *, n: int, threshold: float = 0.0) -> tuple[int, Rollouts]:
    """The place of the first error (-1 for none), and the rollouts that were made: at most n ceil(log2 T).

    A solution with a right answer is taken to have no error, without any rollout; so a right answer by wrong steps is missed, as it is
    by OmegaPRM, which searches wrong solutions only. Otherwise the search keeps a place after which the policy still succeeds (rate above
    `threshold`) and one after which it does not. It finds the first error where the rate does not rise above the threshold
    again after falling below; `monte_carlo` does not need that. Raises as `monte_carlo`.
    """
    _check_n(n)
    last = len(record.steps)
    successes, tried = [0] * last, [0] * last
    right = bool(checker(record, SEPARATOR.join(record.steps)))
    successes[-1], tried[-1] = int(right), 1
    if right:
        return -1, Rollouts(tuple(successes), tuple(tried), 0)
    # After `good` steps all is well (none at all: the problem as given); after `bad` steps it is not.
    good, bad, calls = 0, last, 0
    while bad - good > 1:
        middle = (good + bad) // 2
        count = success_count(record, middle, policy, checker, n)
        successes[middle - 1], tried[middle - 1] = count, n
        calls += n
        good, bad = (middle, bad) if count / n > threshold else (good, middle)
    return bad - 1, Rollouts(tuple(successes), tuple(tried), calls)


def labels_up_to(first_error: int, n_steps: int) -> tuple[Label, ...]:
    """Right before the first error, wrong there, not labelled after it; all right for -1. Shape (T,)."""
    return tuple(1.0 if first_error < 0 or t < first_error else 0.0 if t == first_error else None for t in range(n_steps))


def hard_labels(rates: Sequence[Label], threshold: float) -> tuple[Label, ...]:
    """1 where the success rate is above `threshold`, else 0; None stays. A threshold of 0 is "any success"."""
    return tuple(None if rate is None else float(rate > threshold) for rate in rates)


def place_of_first_error(labels: Sequence[Label]) -> int | None:
    """The first step whose label is below 1/2; -1 where every step is labelled and none is; None where nobody can say, since a step
    without a label comes first."""
    for t, label in enumerate(labels):
        if label is None:
            return None
        if label < 0.5:
            return t
    return -1


@dataclass(frozen=True, slots=True)
class Consensus:
    """What two labellers say of one solution. agree: whether they name the same first error. labels: where they agree, those of
    `consensus`; null everywhere where they do not. first, second: the place each names, None where it names none."""

    agree: bool
    labels: tuple[Label, ...]
    first: int | None
    second: int | None


def consensus(rollout: Sequence[Label], judge: Sequence[Label]) -> Consensus:
    """Keep a solution only where rollouts and judge name the same first error; then its labels are those of the place.

    rollout, judge: one label per step, shape (T,), below 1/2 is wrong (so hard labels for the rollouts: see `hard_labels`). Raises
    DataError when the numbers of steps differ.
    """
    if len(rollout) != len(judge):
        raise DataError(f"the judge labelled {len(judge)} steps of a solution of {len(rollout)}")
    first, second = place_of_first_error(rollout), place_of_first_error(judge)
    if first is None or first != second:
        return Consensus(False, (None,) * len(rollout), first, second)
    return Consensus(True, labels_up_to(first, len(rollout)), first, second)


def _check_n(n: int) -> None:
    if n < 1:
        raise ConfigError(f"rollouts per step: {n!r}, allowed are whole numbers from 1")
