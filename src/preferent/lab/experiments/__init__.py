"""The lab's experiments: each a function from settings and parts to an outcome with tables, curves and checks.

An experiment imports no trainer: it gets `Parts`. To add one: settings in its own file, a `run(settings, parts) -> Outcome`, one line in
`registry.py`, and a TOML file in `builtin/`.
"""
