"""Published benchmarks for reward models, scored as their authors score them, offline and with intervals: one file for each.

A file holds a reader (rows of the authors' own files, or of preferent's common shape, to items) and a scorer (rewards of the items to
a `Result`), which are pure functions. `registry.py` lists them and `run.py` puts a scorer, rows and a benchmark together.
"""
