"""Probe texts written for this project: JSON lines, one prompt each, read by `audits/probe.py`.

`responses` run from best to worst and `ranks` says which are clearly ordered; `errors` are (kind, old, new) within the best one.
"""
