"""Which findings fail a build: `finding[:severity]` on the command line."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from preferent.audits.audit import Audit
from preferent.audits.edits.all import standard_edits
from preferent.audits.edits.errors import KINDS
from preferent.audits.length_style import FEATURES
from preferent.audits.probe import AuditData
from preferent.core.errors import ConfigError
from preferent.core.findings import Finding

ANY = "finding"
# The files that a question's findings name, where that is another word.
OTHER_CHECKS = (
    "accuracy",
    "beats the longer side",
    "calibration",
    "beyond length",
    "upper tail",
    "ties",
    "paraphrase",
    "order under paraphrase",
    "style grid",
    "edit search",
    "word search",
    "best-of-n gain",
    "best-of-n fall",
    "lean to a place",
    "winner changes with the order",
    "circles",
)
AUDITS = {"edits": "counterfactual", "groups": "group_agreement"}


@dataclass(frozen=True, slots=True)
class Limit:
    """Findings of this name at this severity or above fail. name: 'finding' (any), a question, a check, or a check's family."""

    name: str
    severity: float = 0.0

    def holds(self, line: Finding) -> bool:
        """Whether this limit speaks about the line, whatever its verdict."""
        names = {ANY, line.audit, line.name, line.name.replace(" ", "_"), line.name.partition(".")[0]}
        return AUDITS.get(self.name, self.name) in names


def parse_limit(text: str) -> Limit:
    """'edits', 'length.duplicate:0.5', 'finding:1'. Raises ConfigError."""
    name, colon, severity = text.strip().rpartition(":")
    if not colon:
        name, severity = severity, "0"
    try:
        value = float(severity)
    except ValueError as error:
        raise ConfigError(f"--fail-on {text!r}: {severity!r} is no severity; allowed: NAME or NAME:NUMBER") from error
    if not name or not (math.isfinite(value) and value >= 0):
        raise ConfigError(f"--fail-on {text!r}: allowed are NAME or NAME:NUMBER with a number of 0 or more")
    return Limit(name, value)


def refuse_unknown(limits: Sequence[Limit], data: AuditData, asked: Sequence[str]) -> None:
    """Before the work: raises ConfigError for a limit about no question of `asked` and no check that there is."""
    edits = [edit.name for edit in standard_edits(data.exchanges)]
    kinds = list(dict.fromkeys((*KINDS, *(error.kind for error in data.errors))))
    names = [ANY, *asked, *edits, *kinds, *FEATURES, *OTHER_CHECKS]
    allowed = {*names, *(name.replace(" ", "_") for name in names), *(name.partition(".")[0] for name in edits)}
    for limit in limits:
        if limit.name not in allowed and not limit.name.startswith("group "):
            near = difflib.get_close_matches(limit.name, sorted(allowed), n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"allowed are {', '.join(names)}, and families such as length"
            raise ConfigError(f"--fail-on {limit.name!r} is about nothing that is asked here", hint=hint)


def over_limits(found: Audit, limits: Sequence[Limit]) -> tuple[Finding, ...]:
    """The findings that a limit forbids, the worst first. Raises ConfigError for a limit about nothing that was asked: a typing error must
    not read as a pass."""
    for limit in limits:
        if limit.name != ANY and not any(limit.holds(line) for line in found.findings):
            raise ConfigError(f"--fail-on {limit.name!r}: nothing of that name was asked", hint="see 'Not asked' above for what it needs")
    return tuple(line for line in found.bad if any(limit.holds(line) and line.severity >= limit.severity for limit in limits))
