"""What an examination says: one line per question, passed or not, each with the figure it rests on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from preferent.core.errors import ModelError

SIGNS = {True: "pass", False: "FAIL", None: "n/a"}


@dataclass(frozen=True, slots=True)
class Check:
    """One line: `passed` is None where the question does not apply (`detail` says why).

    `figure` is what was measured; `warning` marks a line that passed and still deserves a look; `hint` says what to do.
    """

    name: str
    passed: bool | None
    figure: str
    detail: str = ""
    hint: str | None = None
    warning: bool = False

    @property
    def sign(self) -> str:
        return "warn" if self.passed and self.warning else SIGNS[self.passed]


@dataclass(frozen=True, slots=True)
class Examination:
    """Every line of one model's examination, in the order they were asked."""

    model: str
    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """No line failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.passed is False)

    def __getitem__(self, name: str) -> Check:
        """The line of that name. Raises ModelError, naming the lines there are."""
        for check in self.checks:
            if check.name == name:
                return check
        raise ModelError(f"no line {name!r}; there are {', '.join(check.name for check in self.checks)}")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "model": self.model,
            "healthy": self.healthy,
            "checks": [{**asdict(check), "sign": check.sign} for check in self.checks],
        }

    def render(self) -> str:
        """Plain text, one line per check; reasons and hints under the lines that need them."""
        width = max((len(check.name) for check in self.checks), default=0)
        lines = [f"examination of {self.model}", ""]
        for check in self.checks:
            lines.append(f"  {check.sign:<4}  {check.name:<{width}}  {check.figure}")
            indent = " " * (width + 10)
            if check.detail and check.sign != "pass":
                lines.append(f"{indent}{check.detail}")
            if check.hint and check.sign in ("FAIL", "warn"):
                lines.append(f"{indent}hint: {check.hint}")
        count = {sign: sum(check.sign == sign for check in self.checks) for sign in ("pass", "warn", "FAIL", "n/a")}
        said = f"{count['pass']} passed, {count['FAIL']} failed, {count['warn']} passed with a warning, {count['n/a']} not applicable"
        return "\n".join([*lines, "", f"  {said}"])
