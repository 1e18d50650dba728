"""The doctor: what a sequence-classification reward model, ours or anyone's, makes its reward depend on, and what tools will do with it.

print(examine("path/or/hub-id").render())
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from preferent.core.records import Exchange
from preferent.models.doctor import files, scores, template
from preferent.models.doctor.measured import Measured, measure
from preferent.models.doctor.ours import check_ours
from preferent.models.doctor.patient import Patient, open_patient
from preferent.models.doctor.probes import probe_exchanges
from preferent.models.doctor.report import Check, Examination

__all__ = ["Check", "Examination", "examine", "probe_exchanges"]

OF_FILES: tuple[Callable[[Patient], Check], ...] = (
    files.check_loads,
    files.check_safetensors,
    files.check_head,
    files.check_num_labels,
    files.check_problem_type,
    files.check_vllm,
    files.check_pad,
)
OF_TEMPLATE: tuple[Callable[[Patient, Measured], Check], ...] = (
    template.check_template,
    template.check_date,
    template.check_bos,
    template.check_end,
)
OF_SCORES: tuple[tuple[str, Callable[[Patient, Measured], Check]], ...] = (
    ("rewards", scores.check_rewards),
    ("scored token", scores.check_scored_token),
    ("repeat", scores.check_repeat),
    ("batch size", scores.check_batch),
    ("padding side", scores.check_side),
    ("pad in text", scores.check_pad_in_text),
    ("half precision", scores.check_half),
)


def examine(
    path: str | Path,
    *,
    exchanges: Sequence[Exchange] | None = None,
    trust_remote_code: bool = False,
    device: str | None = None,
) -> Examination:
    """Ask every question of the model in a folder or under a hub id; fp32, on the CPU unless `device` says otherwise.

    `exchanges`: what to score, sixteen built-in probes by default; give several responses to a prompt. About twelve forward passes
    over them. Raises ModelError when there is no model to look at; anything wrong with the model itself is a line of the answer.
    """
    place = device or "cpu"
    patient = open_patient(path, trust_remote_code=trust_remote_code, device=place)
    measured = measure(patient, list(exchanges) if exchanges is not None else probe_exchanges())
    checks = [check(patient) for check in OF_FILES]
    checks += [check(patient, measured) for check in OF_TEMPLATE]
    if measured.reward_N is None:
        if measured.crashed:
            checks.append(scores.check_rewards(patient, measured))
        asked = {check.name for check in checks}
        checks += [Check(name, None, "not measured", measured.reason) for name, _ in OF_SCORES if name not in asked]
    else:
        checks += [check(patient, measured) for _, check in OF_SCORES]
    checks.append(check_ours(patient, measured, tuple(checks), trust_remote_code=trust_remote_code, device=place))
    return Examination(str(path), tuple(checks))
