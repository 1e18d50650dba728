"""The error tree. Every error is also the standard error a caller would expect to catch.

    PreferentError
    ├── DataError (ValueError)       a file or a row: says `path:line`, what, what is allowed
    ├── ConfigError (ValueError)     a setting
    ├── ModelError (ValueError)      a checkpoint or a backbone that cannot be used as asked
    ├── FitError (ArithmeticError)   a fit without an answer, or a loss that stopped being a number
    ├── ExistsError (FileExistsError) something would be overwritten without `--force`
    └── MissingExtraError (ImportError) an optional part is not installed

A message states where, what (`!r`) and what is allowed; `hint` says what to do about it and is printed on a line of its own.
"""

from __future__ import annotations


class PreferentError(Exception):
    """Base of everything this package raises on purpose."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class DataError(PreferentError, ValueError):
    """A file or a row that cannot be read as what it claims to be."""


class ConfigError(PreferentError, ValueError):
    """A setting that is unknown, out of range, or at odds with another."""


class ModelError(PreferentError, ValueError):
    """A checkpoint or backbone that cannot be used as asked."""


class FitError(PreferentError, ArithmeticError):
    """A fit that has no answer, or a loss that stopped being a number."""


class ExistsError(PreferentError, FileExistsError):
    """A file or folder would be overwritten."""


class MissingExtraError(PreferentError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package!r} is not installed", hint=f"pip install 'preferent[{extra}]'")
