"""Counterfactual edits: one property of a text changed by a program, everything else left as it was.

`base.py` says what an edit is; the other files hold them by family; `standard_edits` in `all.py` is the battery.
"""
