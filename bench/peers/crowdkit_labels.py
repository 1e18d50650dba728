"""One method of crowd-kit on one crowd, in a process of its own: prints one line of JSON. Started by bench/crowd.py.

crowd-kit 1.4.2's Wawa and ZeroBasedSkill crash in scikit-learn >= 1.6 (`__sklearn_tags__`); here their `check_is_fitted` is replaced by
nothing, which lets them run as they did before. Its MACE restarts are identical (one seed for all), so one is run and reported as one.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

warnings.filterwarnings("ignore")
import pandas as pd  # noqa: E402
from crowdkit import aggregation  # noqa: E402
from crowdkit.aggregation.classification import wawa, zero_based_skill  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1]))
from crowd_data import judged  # noqa: E402
from meter import Clock, peak_rss_mib, resident_mib  # noqa: E402

METHODS = {
    "MajorityVote": lambda: aggregation.MajorityVote(),
    "Wawa": lambda: aggregation.Wawa(),
    "ZeroBasedSkill": lambda: aggregation.ZeroBasedSkill(),
    "DawidSkene": lambda: aggregation.DawidSkene(n_iter=100),
    "OneCoinDawidSkene": lambda: aggregation.OneCoinDawidSkene(n_iter=100),
    "MACE": lambda: aggregation.MACE(n_restarts=1),
    "GLAD": lambda: aggregation.GLAD(),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("method", choices=list(METHODS))
    given = parser.parse_args()
    for module in (wawa, zero_based_skill):
        module.check_is_fitted = lambda *args, **kwargs: None
    start = resident_mib()
    with np.load(given.data) as file:
        frame = pd.DataFrame({"task": file["item_V"], "worker": file["annotator_V"], "label": file["label_V"]})
        truth = file["truth_I"]
    if frame["task"].dtype.kind not in "iu":
        start = resident_mib()
    begin = Clock.now()
    answer = METHODS[given.method]().fit_predict_proba(frame)
    spent = Clock.now() - begin
    facts: dict[str, Any] = {"method": given.method, "votes": len(frame), "cpu_seconds": round(spent.cpu, 3)}
    facts |= {"added_mib": round(peak_rss_mib() - start, 1), "peak_rss_mib": round(peak_rss_mib(), 1)}
    p_IL = answer.fillna(0.0).sort_index().sort_index(axis=1).to_numpy()
    print(json.dumps({**facts, **judged(p_IL, truth), "version": version("crowd-kit")}))


if __name__ == "__main__":
    main()
