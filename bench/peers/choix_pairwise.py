"""choix on votes in a file: `python choix_pairwise.py METHOD VOTES.npz SCORES.npy`.

METHOD is lsr, ilsr or mm; output as pair_contestants.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import choix
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from meter import Clock, peak_rss_mib


def main() -> None:
    method, source, target = sys.argv[1:]
    votes = dict(np.load(source))
    before = Clock.now()
    items, won = votes["items_V2"], votes["outcome_V"] == 1.0
    data = np.where(won[:, None], items, items[:, ::-1]).tolist()
    fit = {"lsr": choix.lsr_pairwise, "ilsr": choix.ilsr_pairwise, "mm": choix.mm_pairwise}[method]
    scores = fit(int(votes["n_items"]), data, alpha=0.01)
    spent = Clock.now() - before
    np.save(target, scores)
    print(json.dumps({"cpu_seconds": round(spent.cpu, 2), "peak_rss_mib": round(peak_rss_mib()), "note": f"choix {method}"}))


if __name__ == "__main__":
    main()
