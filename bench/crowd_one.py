"""One of our methods on one crowd, in a process of its own: prints one line of JSON. Started by bench/crowd.py."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from crowd_data import judged
from meter import Clock, peak_rss_mib, resident_mib
from preferent.annotators.agreement import krippendorff_alpha
from preferent.annotators.choose import choose
from preferent.annotators.dawid_skene import dawid_skene
from preferent.annotators.glad import glad
from preferent.annotators.labels import LabelResult
from preferent.annotators.mace import mace
from preferent.annotators.majority import majority, wawa
from preferent.annotators.reliability import flags
from preferent.annotators.table import VoteTable
from preferent.annotators.table_columns import Policies

RNG = np.random.default_rng
METHODS: dict[str, Callable[[VoteTable], LabelResult]] = {
    "majority": majority,
    "wawa": wawa,
    "dawid-skene": dawid_skene,
    "dawid-skene ml": lambda table: dawid_skene(table, "ml"),
    "one-coin": lambda table: dawid_skene(table, "one-coin"),
    "mace": lambda table: mace(table, rng=RNG(0), restarts=10),
    "glad": glad,
    "auto": lambda table: choose(table, RNG(0)).result,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("method", choices=[*METHODS, "alpha", "flags"])
    given = parser.parse_args()
    # Imports that a first call would make are made before the clock starts.
    for method in ("dawid-skene", "glad"):
        METHODS[method](VoteTable.from_arrays([1, 1, 2, 2], [1, 2, 1, 2], [0, 1, 1, 1]))
    start = resident_mib()
    with np.load(given.data) as file:
        columns = {name: file[f"{name}_V"] for name in ("item", "annotator", "label")}
        known = {name: file[name] for name in ("truth_I", "kind_A") if name in file}
    if columns["item"].dtype.kind == "U":
        columns = {name: values.tolist() for name, values in columns.items()}
        # Texts that are still one array's memory are a list of texts in real life: that list is no part of what is measured.
        start = resident_mib()
    begin = Clock.now()
    table = VoteTable.from_columns(columns, policies=Policies(repeats="keep"))
    facts = _answer(table, given.method, known)
    spent = Clock.now() - begin
    facts |= {
        "method": given.method,
        "votes": len(table),
        "cpu_seconds": round(spent.cpu, 3),
        "added_mib": round(peak_rss_mib() - start, 1),
    }
    facts["peak_rss_mib"] = round(peak_rss_mib(), 1)
    if "p" in facts:
        facts |= judged(facts.pop("p"), known["truth_I"])
    print(json.dumps(facts))


def _answer(table: VoteTable, method: str, known: dict[str, np.ndarray]) -> dict[str, Any]:
    if method == "alpha":
        return {"alpha": krippendorff_alpha(table, RNG(0)).to_dict()}
    if method == "flags":
        found = flags(table, dawid_skene(table))
        kind_A = known["kind_A"][table.annotators]
        named = np.isin(table.annotators, [flag.annotator for flag in found if flag.kind == "adversary"])
        spam = np.isin(table.annotators, [flag.annotator for flag in found if flag.kind == "spammer"])
        return {
            "adversaries_flagged": float(named[kind_A == 1].mean()),
            "others_flagged_adversary": float(named[kind_A != 1].mean()),
            "spammers_flagged": float(spam[kind_A >= 2].mean()),
            "honest_flagged": float((named | spam)[kind_A == 0].mean()),
        }
    result = METHODS[method](table)
    return {"p": result.p_IL, "iterations": result.iterations, "converged": result.converged}


if __name__ == "__main__":
    main()
