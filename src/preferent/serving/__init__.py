"""Rewards over HTTP. `client.py` is a `Scorer` that asks a server; one file per wire shape in `dialects/`; `contract.py` checks a shape.

Needs `httpx` (the extra `http`) when a server is asked, and nothing heavy.
"""
