"""Questions asked of a scorer, with answers that carry intervals: `evaluate.py` asks, `report.py` writes the one-file report.

Speaks to the `Scorer` protocol only, so that any reward model, endpoint, judge or heuristic can be asked. No torch here.
"""
