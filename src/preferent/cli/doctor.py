"""`preferent doctor`: what is wrong with a reward model, whoever trained it."""

from __future__ import annotations

import click

from preferent.cli.output import emit, emit_json, json_option


@click.command()
@click.argument("model")
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with the model.")
@json_option
def command(model: str, trust_remote_code: bool, as_json: bool) -> int:
    """Examine MODEL, a folder or hub id of any sequence-classification reward model.

    Each line passes or fails with its figure; the exit code is 1 when one fails.
    """
    from preferent.models.doctor import examine

    found = examine(model, trust_remote_code=trust_remote_code)
    if as_json:
        emit_json(found.to_dict())
    else:
        emit(found.render())
    return 0 if found.healthy else 1
