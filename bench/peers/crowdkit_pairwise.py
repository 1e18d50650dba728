"""crowd-kit on votes in a file: `python crowdkit_pairwise.py METHOD VOTES.npz SCORES.npy`.

METHOD is bt or noisy; output as pair_contestants.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from crowdkit.aggregation import BradleyTerry, NoisyBradleyTerry

sys.path.insert(0, str(Path(__file__).parents[1]))
from meter import Clock, peak_rss_mib


def main() -> None:
    method, source, target = sys.argv[1:]
    votes = dict(np.load(source))
    before = Clock.now()
    items, won = votes["items_V2"], votes["outcome_V"] == 1.0
    frame = pd.DataFrame(
        {"worker": votes["annotator_V"], "left": items[:, 0], "right": items[:, 1], "label": np.where(won, items[:, 0], items[:, 1])}
    )
    found = BradleyTerry(n_iter=1000).fit_predict(frame) if method == "bt" else NoisyBradleyTerry(n_iter=100).fit_predict(frame)
    scores = np.zeros(int(votes["n_items"]))
    scores[found.index.to_numpy()] = np.log(np.maximum(found.to_numpy(), 1e-300)) if method == "bt" else found.to_numpy()
    spent = Clock.now() - before
    np.save(target, scores)
    print(json.dumps({"cpu_seconds": round(spent.cpu, 2), "peak_rss_mib": round(peak_rss_mib()), "note": f"crowd-kit {method}"}))


if __name__ == "__main__":
    main()
