"""Settings: frozen models read from a TOML file and `--a.b value` words, with errors that say where, what and what is allowed.

A choice between kinds is a tagged union: `batch.kind = "tokens"` decides which other `batch.*` settings exist.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from preferent.core.errors import ConfigError


class Settings(BaseModel):
    """Frozen; unknown fields and infinite numbers are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Model = TypeVar("Model", bound=Settings)


@dataclass(frozen=True, slots=True)
class Option:
    """One dotted setting as the command line and the documentation show it.

    type: what is allowed. default: as text. kinds: the values of the union's `kind` for which it exists; empty: always.
    """

    name: str
    type: str
    default: str
    help: str
    kinds: tuple[str, ...] = ()


def options(model: type[Settings]) -> list[Option]:
    """Every dotted setting of a model, in its order."""
    return [_option(name, owners) for name, owners in _fields(model).items()]


def to_toml(config: Settings) -> str:
    """The whole resolved config as TOML that `load_settings` reads back to the same config; settings that are none are left out."""
    values = config.model_dump(mode="json", exclude_none=True)
    lines = [f"{name} = {_toml(value)}" for name, value in values.items() if not isinstance(value, dict)]
    for name, section in values.items():
        if isinstance(section, dict):
            lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in section.items())]
    return "\n".join(lines) + "\n"


def load_settings(model: type[Model], toml_path: str | Path | None = None, overrides: Mapping[str, str] | None = None) -> Model:
    """The settings of a TOML file (if any) with dotted overrides from the command line on top, e.g. `{"batch.kind": "tokens"}`.

    Override values are TOML scalars or plain text; `none` clears a setting that may be absent; lists are comma-separated. Naming a
    kind in place of a table sets it (`loss = "davidson"`), and a kind that changes resets the other settings of that table. Raises
    ConfigError, with the place, for unknown settings, settings of another kind, and values that are not allowed.
    """
    tree: dict[str, Any] = {}
    places: dict[str, str] = {}
    if toml_path is not None:
        _apply(_read_toml(Path(toml_path)), tree, places, _fields(model))
    fields = _fields(model)
    _apply({name: (_parse(name, text, fields), f"--{name}") for name, text in (overrides or {}).items()}, tree, places, fields)
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise _explained(error, places, options(model)) from None


# Dotted name -> (kind or "", field) of every model that has it; a union's own field is under `name.kind`.
_Owners = list[tuple[str, FieldInfo]]


def _models(annotation: Any) -> tuple[type[Settings], ...]:
    """The settings models in an annotation: one for a section, several for a union of kinds, none for a value."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return (annotation,)
    return tuple(model for argument in typing.get_args(annotation) for model in _models(argument))


def _kind(model: type[Settings]) -> str:
    return model.model_fields["kind"].default if "kind" in model.model_fields else ""


def _fields(owner: type[Settings]) -> dict[str, _Owners]:
    fields: dict[str, _Owners] = {}
    for name, field in owner.model_fields.items():
        models = _models(field.annotation)
        if not models:
            fields[name] = [("", field)]
        elif len(models) > 1:
            fields[f"{name}.kind"] = [("", field)]
        for model in models:
            for key, inner in model.model_fields.items():
                if key != "kind":
                    fields.setdefault(f"{name}.{key}", []).append((_kind(model), inner))
    return fields


def _option(name: str, owners: _Owners) -> Option:
    kind, field = owners[0]
    help_text = field.description or ""
    if name.endswith(".kind"):
        allowed = " | ".join(_kind(model) for model in _models(field.annotation))
        return Option(name, allowed, field.default.kind, help_text)
    default = "required" if field.is_required() else _shown(field.default)
    others = [f"{other}: {_shown(inner.default)}" for other, inner in owners[1:] if inner.default != field.default]
    default += f" ({', '.join(others)})" if others else ""
    return Option(name, _type_text(field), default, help_text, tuple(other for other, _ in owners) if kind else ())


def _shown(value: Any) -> str:
    """A default as one would type it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None or value == () else str(value)


def _type_text(field: FieldInfo) -> str:
    """What a field allows, in words: `int >= 1 | none`."""
    arguments, origin = typing.get_args(field.annotation), typing.get_origin(field.annotation)
    if origin in (Literal, tuple):
        return " | ".join(arguments) if origin is Literal else "any of " + ", ".join(typing.get_args(arguments[0]))
    names = [part.__name__ for part in arguments or (field.annotation,) if part in (int, float, bool, str)]
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    bounds = [f"{sign} {getattr(rule, key):g}" for rule in field.metadata for key, sign in signs.items() if hasattr(rule, key)]
    text = " ".join([" | ".join(names), ", ".join(bounds)]).strip()
    return text + (" | none" if type(None) in arguments else "") + (", several comma-separated" if _takes(field, tuple) else "")


def _takes(field: FieldInfo, kind: Any) -> bool:
    """Whether a field's annotation allows this type, alone or in a union."""
    parts = typing.get_args(field.annotation) if typing.get_origin(field.annotation) not in (tuple, Literal) else ()
    return any(part is kind or typing.get_origin(part) is kind for part in (field.annotation, *parts))


def _parse(name: str, text: str, fields: dict[str, _Owners]) -> Any:
    """The value of one command-line word: by the type of its setting, TOML where it reads as TOML, else the text."""
    field = fields.get(name, [("", None)])[0][1]
    if field is None or name.endswith(".kind"):
        return None if (name, text) == ("early_stopping", "none") else text
    if text.lower() == "none" and _takes(field, type(None)):
        return None
    try:
        read = tomllib.loads(f"value = {text}")
        value = read["value"] if len(read) == 1 else text
    except tomllib.TOMLDecodeError:
        value = text
    if _takes(field, tuple) and isinstance(value, str) and (not _takes(field, str) or "," in value):
        return [part.strip() for part in value.split(",") if part.strip()]
    # A model may be called 7 or true.
    return text if _takes(field, str) and not isinstance(value, str | list) else value


def _read_toml(path: Path) -> dict[str, tuple[Any, str]]:
    """Dotted name -> (value, `path:line`) of a TOML file."""
    try:
        text = path.read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as TOML: {error}") from error
    flat = {}
    for name, value in tables.items():
        for key, inner in value.items() if isinstance(value, dict) else [("", value)]:
            dotted = f"{name}.{key}" if key else name
            flat[dotted] = (inner, f"{path}:{_line_of(text, name, key)}")
    return flat


def _line_of(text: str, section: str, key: str) -> int:
    """1-based line where a setting stands: under its table's header, dotted, or in an inline table."""
    table, best = "", 1
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([\w.-]+)\s*\]", line):
            table = header[1]
            best = number if table == section else best
        elif assigned := re.match(r"\s*([\w.-]+)\s*=", line):
            dotted = f"{table}.{assigned[1]}" if table else assigned[1]
            if dotted == (f"{section}.{key}" if key else section):
                return number
            best = number if dotted == section else best
    return best


def _apply(entries: dict[str, tuple[Any, str]], tree: dict[str, Any], places: dict[str, str], fields: dict[str, _Owners]) -> None:
    """Lay one source of settings over the tree: kinds first, since they decide what else may be said."""
    unions = {name.removesuffix(".kind"): field for name, [(_, field), *_] in fields.items() if name.endswith(".kind")}
    entries = {f"{name}.kind" if name in unions else name: entry for name, entry in entries.items()}
    for name in sorted(entries, key=lambda name: not name.endswith(".kind")):
        value, place = entries[name]
        places[name] = place
        section, _, key = name.partition(".")
        if name not in fields and not (name == "early_stopping" and value is None):
            raise _unknown(name, place, list(fields))
        if section in unions and key == "kind":
            kinds = [_kind(model) for model in _models(unions[section].annotation)]
            if value not in kinds:
                raise ConfigError(f"{place}: {name} is {value!r}, allowed: {', '.join(kinds)}", hint=_did_you_mean(str(value), kinds))
            if value != tree.get(section, {}).get("kind", unions[section].default.kind):
                tree[section] = {}
        elif section in unions:
            kinds = [kind for kind, _ in fields[name]]
            current = tree.get(section, {}).get("kind", unions[section].default.kind)
            if current not in kinds:
                raise ConfigError(
                    f"{place}: {name!r} is a setting of {section}.kind {' or '.join(map(repr, kinds))}, but {section}.kind is {current!r}",
                    hint=f"set {section}.kind as well (--{section}.kind {kinds[0]})",
                )
        if not key:
            tree[name] = value
            continue
        if not isinstance(tree.get(section), dict):
            tree[section] = {"kind": unions[section].default.kind} if section in unions else {}
        tree[section][key] = value


def _unknown(name: str, place: str, known: list[str]) -> ConfigError:
    siblings = [other for other in known if other.startswith(f"{name.partition('.')[0]}.")]
    allowed = siblings or dict.fromkeys(re.sub(r"\..*", ".*", other) for other in known)
    return ConfigError(f"{place}: unknown setting {name!r}, allowed: {', '.join(allowed)}", hint=_did_you_mean(name, known))


def _did_you_mean(word: str, known: list[str]) -> str | None:
    close = difflib.get_close_matches(word, known, n=1) or [name for name in known if name.rpartition(".")[2] == word.rpartition(".")[2]]
    return f"did you mean {close[0]!r}?" if close else None


def _explained(error: ValidationError, places: dict[str, str], allowed_options: list[Option]) -> ConfigError:
    """All that is wrong with the values, one line each, in our names."""
    known = {option.name: option for option in allowed_options}
    lines, hint = [], None
    for problem in error.errors():
        words = [str(part) for part in problem["loc"]]
        name = next((name for name in (".".join([words[0], words[-1]]), ".".join(words[:2]), words[0]) if name in known), words[0])
        if problem["type"] == "missing":
            lines.append(f"{name} is not set")
            hint = f"--{name} ...: {known[name].help}" if name in known else None
            continue
        allowed = f", allowed: {known[name].type}" if name in known else ""
        lines.append(f"{places.get(name, name)}: {name} is {problem['input']!r}{allowed} ({problem['msg']})")
    return ConfigError("\n".join(lines), hint=hint)


def _toml(value: Any) -> str:
    """A scalar or a list of them as TOML; JSON writes strings almost as TOML does."""
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)
