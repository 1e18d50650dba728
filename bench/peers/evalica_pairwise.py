"""evalica's Bradley-Terry on votes in a file: `python evalica_pairwise.py bt VOTES.npz SCORES.npy`. Output as pair_contestants.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import evalica
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from meter import Clock, peak_rss_mib


def main() -> None:
    _, source, target = sys.argv[1:]
    votes = dict(np.load(source))
    before = Clock.now()
    names = {1.0: evalica.Winner.X, 0.0: evalica.Winner.Y, 0.5: evalica.Winner.Draw}
    xs, ys = votes["items_V2"].T.tolist()
    found = evalica.bradley_terry(xs, ys, [names[won] for won in votes["outcome_V"].tolist()])
    scores = np.zeros(int(votes["n_items"]))
    scores[found.scores.index.to_numpy()] = np.log(found.scores.to_numpy())
    spent = Clock.now() - before
    np.save(target, scores)
    print(json.dumps({"cpu_seconds": round(spent.cpu, 2), "peak_rss_mib": round(peak_rss_mib()), "note": f"solver {found.solver}"}))


if __name__ == "__main__":
    main()
