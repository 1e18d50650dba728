"""What the tests of the benchmarks share."""

from __future__ import annotations

import numpy as np

from preferent.audits.benchmarks.items import Item
from preferent.audits.benchmarks.result import Bootstrap
from preferent.core.records import user


def boot(n=200):
    return Bootstrap(np.random.default_rng(0), n)


def arrays(*rows):
    return [np.array(row, dtype=np.float64) for row in rows]


def values(result):
    return {name: estimate.value for name, estimate in result.numbers.items()}


def located(rows):
    return [(f"file.jsonl:{n}", row) for n, row in enumerate(rows, 1)]


def rewardbench_items(*subsets):
    return [Item(str(n), f"f:{n}", name, user(f"p{n}"), ("c", "r")) for n, name in enumerate(subsets)]
