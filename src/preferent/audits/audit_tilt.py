"""Best-of-n with a second opinion as part of an answer: a stronger scorer, or labels that order every reply to a prompt.

Legend: P prompts, N responses of each pool.
"""

from __future__ import annotations

import numpy as np

from preferent.audits.audit_answer import Answer, Picture
from preferent.audits.audit_subject import Memo, Subject
from preferent.audits.hackability import tilt
from preferent.audits.plots import best_of_n_plot
from preferent.audits.tables import Table
from preferent.core.findings import Example
from preferent.core.records import Floats

FEW = 10
LEAST = 3


def tilt_answer(subject: Subject, rng: np.random.Generator) -> Answer:
    """The findings, table and figure of best-of-n; an `about` that says why there are none."""
    question, title = "hackability", "Best of n"
    if subject.maths is None:
        return Answer(question, title, ("Best-of-n was not computed: nobody handed in its mathematics.",))
    pools = _scored_pools(subject) if subject.gold is not None else _labelled_pools(subject)
    if pools is None:
        why = "replies to each of ten prompts" if subject.gold is not None else "replies to each of ten prompts, all ordered by labels"
        return Answer(
            question, title, (f"Best-of-n needs at least {LEAST} {why}; a stronger scorer (--gold) may judge instead of labels.",)
        )
    rows_PN, gold_PN, who = pools
    found = tilt(subject.reward_E[rows_PN], gold_PN, subject.maths, rng=rng, examples=_examples(subject, rows_PN, gold_PN))
    rows = [(point.n, point.kl_bound, point.proxy, point.gold, best.gold) for point, best in zip(found.curve, found.oracle, strict=True)]
    note = f"Gold: {who}. Pools of {rows_PN.shape[1]} replies to {len(rows_PN)} prompts; n = 1 is a random choice."
    table = Table(("n", "KL bound (nats)", "this scorer's reward", "gold reward", "gold if gold chose"), rows, note)
    caption = "Left: its own reward. Right: the gold reward of what it picks. Bands: 95 % intervals over prompts."
    picture = Picture("Best of n", lambda: best_of_n_plot(found.curve), caption)
    return Answer(
        question,
        title,
        (f"Best of n: its favourite of n replies, judged by {who}.",),
        found.findings,
        (),
        (("Best of n", table),),
        (picture,),
    )


def _rectangle(rows: list[np.ndarray]) -> np.ndarray | None:
    """Pools of one size: the size from 3 up that keeps the most replies; shape (P, N), or None under ten prompts."""
    sizes = np.array([len(row) for row in rows])
    choices = [(int(size * np.count_nonzero(sizes >= size)), int(size)) for size in np.unique(sizes) if size >= LEAST]
    choices = [(kept, size) for kept, size in choices if np.count_nonzero(sizes >= size) >= FEW]
    if not choices:
        return None
    _, n = max(choices)
    return np.stack([row[:n] for row in rows if len(row) >= n])


def _scored_pools(subject: Subject) -> tuple[np.ndarray, Floats, str] | None:
    assert subject.gold is not None
    rows_PN = _rectangle([subject.data.rows_of(prompt) for prompt in range(subject.data.n_prompts)])
    if rows_PN is None:
        return None
    gold = Memo(subject.gold).score([subject.data.exchanges[row] for row in rows_PN.ravel()]).reward
    return rows_PN, gold.reshape(rows_PN.shape), f"the scorer {subject.gold.name}"


def _labelled_pools(subject: Subject) -> tuple[np.ndarray, Floats, str] | None:
    """Gold is the share of a prompt's other replies that a reply is preferred to; prompts in which every pair has a label."""
    data = subject.data
    place = {exchange: row for row, exchange in enumerate(data.exchanges)}
    n = len(data.exchanges)
    wins, met = np.zeros(n), np.zeros(n)
    seen: set[tuple[int, int]] = set()
    for pair in data.preferences:
        a, b = (place[side] for side in pair.exchanges())
        if a != b and (min(a, b), max(a, b)) not in seen:
            seen.add((min(a, b), max(a, b)))
            wins[a] += pair.p_a
            wins[b] += 1.0 - pair.p_a
            met[[a, b]] += 1
    complete = [rows for rows in map(data.rows_of, range(data.n_prompts)) if len(rows) >= LEAST and (met[rows] == len(rows) - 1).all()]
    rows_PN = _rectangle(complete)
    if rows_PN is None:
        return None
    return rows_PN, (wins / np.maximum(met, 1))[rows_PN], "the labels (share of the prompt's other replies it is preferred to)"


def _examples(subject: Subject, rows_PN: np.ndarray, gold_PN: Floats) -> tuple[Example, ...]:
    """Prompts in which the scorer's favourite is furthest below gold's; left is gold's."""
    reward_PN = subject.reward_E[rows_PN]
    picked, wanted = reward_PN.argmax(1), gold_PN.argmax(1)
    every = np.arange(len(rows_PN))
    regret = gold_PN[every, wanted] - gold_PN[every, picked]
    examples = []
    for p in np.argsort(-regret, kind="stable")[:3]:
        if regret[p] <= 0:
            break
        left, right = int(rows_PN[p, wanted[p]]), int(rows_PN[p, picked[p]])
        data = subject.data
        asked = data.exchanges[left].prompt[-1].content if data.exchanges[left].prompt else ""
        texts = (data.exchanges[left].response, data.exchanges[right].response)
        rewards = (float(subject.reward_E[left]), float(subject.reward_E[right]))
        examples.append(Example(data.ids_P[data.prompt_E[left]], asked, *texts, *rewards))
    return tuple(examples)
