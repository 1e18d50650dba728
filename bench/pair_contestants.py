"""One fit of one contestant to votes in a file, in a process of its own: `python pair_contestants.py NAME VOTES.npz SCORES.npy`.

VOTES.npz holds items_V2, outcome_V, annotator_V, shown_first_V and n_items, n_annotators. The scores go to SCORES.npy; the last line of
stdout is one JSON object: cpu_seconds (reading the file and imports outside, flags inside), peak_rss_mib (all inside), note, adversaries.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from meter import Clock, peak_rss_mib
from preferent.annotators.annotator_slope import PairModel
from preferent.annotators.bradley_terry import fit_pairs
from preferent.annotators.crowd_bt import fit_crowd
from preferent.annotators.graph import pair_votes
from preferent.annotators.pair_flags import annotator_rows


def ours(name: str, votes: dict[str, np.ndarray]) -> tuple[np.ndarray, str, list[int]]:
    """(scores, note, annotators called adversaries)."""
    checked = pair_votes(
        votes["items_V2"],
        votes["outcome_V"],
        annotator_V=votes["annotator_V"],
        shown_first_V=votes["shown_first_V"],
        counts=(int(votes["n_items"]), int(votes["n_annotators"])),
    )
    if name == "ours crowd-bt":
        crowd = fit_crowd(checked)
        return crowd.scores.value, f"converged={crowd.converged} in {crowd.iterations}", np.flatnonzero(crowd.honesty.high < 0.5).tolist()
    model = PairModel(slope=False) if name == "ours bt" else PairModel(position="annotator")
    fit = fit_pairs(checked, model)
    named = []
    if "slope" in fit.traits:
        rows = annotator_rows(fit, checked)
        named = [row.annotator for row in rows if any(flag.startswith("adversary") for flag in row.flags)]
    return fit.scores.value, f"converged={fit.converged} in {fit.iterations}; {fit.intervals}", named


def main() -> None:
    name, source, target = sys.argv[1:]
    votes = dict(np.load(source))

    before = Clock.now()
    scores, note, named = ours(name, votes)
    spent = Clock.now() - before
    np.save(target, scores)
    print(json.dumps({"cpu_seconds": round(spent.cpu, 2), "peak_rss_mib": round(peak_rss_mib()), "note": note, "adversaries": named}))


if __name__ == "__main__":
    main()
