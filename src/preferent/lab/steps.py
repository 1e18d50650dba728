"""The steps world: chains with exact step labels, a policy of tunable ability that can correct itself, a checker, a noisy judge.

Everything follows from seeds; a policy and a judge answer the same question in the same way however often and in whatever order they
are asked.

Legend: T steps of a problem, r steps still to do.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from preferent.core.errors import ConfigError
from preferent.core.records import Prompt, StepLabels
from preferent.lab.chains import (
    Chain,
    ChainStep,
    Kind,
    Rule,
    chain_answer,
    chain_labels,
    draw_chain,
    first_error,
    read_chain,
    read_step,
    stated_answer,
    write_chain,
    write_step,
)
from preferent.lab.draw import one
from preferent.lab.steps_errors import ERRORS, wrong_step

SOURCE = "steps-world"


@dataclass(frozen=True, slots=True)
class StepsPolicy:
    """Writes the rest of a solution, one step for each operation that is left.

    error: chance of a wrong step where all was right so far. correction: chance at each step that a wrong value is noticed and put right.
    ability: (a, b) of a Beta distribution; a problem's chance of being solved without any error is drawn from it (once for each
    problem and seed), and `error` follows from that chance. temperature has no meaning here: the chances are the temperature.
    """

    error: float = 0.05
    correction: float = 0.0
    ability: tuple[float, float] | None = None
    seed: int = 0

    def __call__(self, prompt: Prompt, steps: Sequence[str], n: int) -> list[str]:
        """n continuations of a solution that begins with `steps`, one step per line. Raises DataError for a foreign prompt."""
        chain = read_chain(prompt)
        rng = _rng(self.seed, prompt, steps)
        error = self.error_of(prompt)
        return ["\n".join(self._continue(chain, steps, error, rng)) for _ in range(n)]

    def solve(self, prompt: Prompt, n: int) -> list[tuple[str, ...]]:
        """n whole solutions."""
        return [tuple(text.split("\n")) for text in self(prompt, (), n)]

    def error_of(self, prompt: Prompt) -> float:
        """The chance of an error per step on this problem."""
        if self.ability is None:
            return self.error
        chance = _rng(self.seed, prompt, ("ability",)).beta(*self.ability)
        return 1.0 - float(chance) ** (1.0 / len(read_chain(prompt).operations))

    def success_probability(self, prompt: Prompt, *, right: bool, remaining: int) -> float:
        """The exact chance that the answer is right in the end, from a right or wrong value with r steps to do: the two-state chain
        right -> wrong with chance e, wrong -> right with chance c, r times."""
        e, c = self.error_of(prompt), self.correction
        move = np.linalg.matrix_power(np.array([[1.0 - e, e], [c, 1.0 - c]]), remaining)
        return float(move[0 if right else 1, 0])

    def _continue(self, chain: Chain, steps: Sequence[str], error: float, rng: np.random.Generator) -> list[str]:
        truth = (chain.start, *chain.values)
        done = len(steps)
        last = read_step(steps[-1]) if done else None
        stated = truth[done] if done == 0 or last is None else last.value
        texts = []
        for t in range(done, len(chain.operations)):
            operation, true_before = chain.operations[t], truth[t]
            on_track = stated == true_before
            if not on_track and rng.random() < self.correction:
                step = ChainStep(operation, true_before, truth[t + 1], True)
            else:
                step = ChainStep(operation, stated, operation.apply(stated), False)
                if rng.random() < error:
                    # In logic a second error would undo the first, so there may be none to make.
                    step = wrong_step(chain, t, stated, one(ERRORS, rng), rng) or wrong_step(chain, t, stated, "slip", rng) or step
            stated = step.value
            texts.append(write_step(chain.kind, step, rng))
        return texts


@dataclass(frozen=True, slots=True)
class NoisyJudge:
    """Names the true first error with chance `accuracy`, and another place (or "no error") at random otherwise."""

    accuracy: float
    seed: int = 0

    def __call__(self, record: StepLabels) -> tuple[float | None, ...]:
        """Labels up to the first error that it sees: right before, wrong there, null after."""
        n = len(record.steps)
        truth = first_error(chain_labels(record.prompt, record.steps))
        rng = _rng(self.seed, record.prompt, ("judge", *record.steps))
        said = truth
        if rng.random() >= self.accuracy:
            said = one([place for place in range(-1, n) if place != truth], rng)
        return tuple(1.0 if said < 0 or t < said else 0.0 if t == said else None for t in range(n))


def check_chain(record: StepLabels, solution: str) -> bool:
    """The checker: whether a solution has a line for every operation and the last one states the true answer."""
    n_lines = sum(not line.isspace() for line in solution.splitlines() if line)
    return n_lines == len(read_chain(record.prompt).operations) and stated_answer(solution) == chain_answer(record.prompt)


class StepsWorld:
    """Problems of the steps world; the first n of a longer draw are the shorter draw.

    kind: arithmetic or logic. length: operations of a problem, or the least and the most of them.
    """

    def __init__(self, seed: int, *, kind: Kind = "arithmetic", length: int | tuple[int, int] = 8) -> None:
        self.least, self.most = (length, length) if isinstance(length, int) else length
        if not 1 <= self.least <= self.most:
            raise ConfigError(f"StepsWorld: length={length!r}, allowed are whole numbers from 1, or the least and the most")
        self.seed = seed
        self.kind: Kind = kind

    def problems(self, n: int) -> list[Prompt]:
        """n different problems. Raises ConfigError when so few operations make no n different ones."""
        rng = np.random.default_rng([self.seed, 3])
        seen: dict[Chain, Prompt] = {}
        for _ in range(50 * n + 1000):
            if len(seen) == n:
                break
            chain = draw_chain(self.kind, int(rng.integers(self.least, self.most + 1)), rng)
            if chain not in seen:
                seen[chain] = write_chain(chain, rng)
        if len(seen) < n:
            raise ConfigError(f"StepsWorld: only {len(seen)} different problems of {self.least} to {self.most} operations, {n} asked for")
        return list(seen.values())

    def solutions(self, n: int, policy: StepsPolicy, *, per_problem: int = 1, rule: Rule = "state") -> list[StepLabels]:
        """`per_problem` solutions by the policy to each of n problems, with exact labels; `meta`: idx of the problem, its answer."""
        records = []
        for i, prompt in enumerate(self.problems(n)):
            for k, steps in enumerate(policy.solve(prompt, per_problem)):
                records.append(
                    StepLabels(
                        prompt=prompt,
                        steps=steps,
                        labels=chain_labels(prompt, steps, rule=rule),
                        source=SOURCE,
                        id=f"{i}-{k}",
                        meta={"idx": f"{self.kind}-{self.seed}-{i}", "answer": chain_answer(prompt)},
                    )
                )
        return records


def _rng(seed: int, prompt: Prompt, texts: Sequence[str]) -> np.random.Generator:
    """A stream of its own for each question."""
    return np.random.default_rng([seed, zlib.crc32(prompt[-1].content.encode()), zlib.crc32("\n".join(texts).encode()), len(texts)])


def demo_policy(prompt: Prompt, steps: Sequence[str], n: int) -> list[str]:
    """`StepsPolicy` of some ability, for the command line: `preferent label-steps --policy preferent.lab.steps:demo_policy`."""
    return StepsPolicy(error=0.05, correction=0.06)(prompt, steps, n)
