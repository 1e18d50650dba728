"""The rooms and their doors, the size of things, and what may not stand in a library: held for every module there is.

A rule is a function from a parsed module to complaints, so each is also shown to catch a planted offence.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import re
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"

ALL = "all"
DOORS: dict[str, set[str] | str] = {
    "core": set(),
    "data": {"core"},
    "feedback": {"core", "data"},
    "annotators": {"core"},
    "lab": {"core", "annotators"},
    "models": {"core"},
    "training": {"core", "data", "models"},
    "audits": {"core", "annotators", "lab"},
    "optimize": {"core"},
    "serving": {"core", "models", "optimize"},
    "cli": ALL,
}
FRONT = ("preferent", "preferent.__main__")
HEAVY = {"torch", "transformers", "accelerate", "peft", "tokenizers", "safetensors", "sentence_transformers", "trl"}
# Light enough to be allowed, slow enough that only the function that needs them may import them.
OPTIONAL = {"pyarrow", "datasets", "matplotlib", "tensorboard", "httpx2"}
HEAVY_ROOMS = {"models", "training"}
HEAVY_MODULES = {"preferent.serving.engine"}
MAX_FILE, MEDIAN_FILE, MAX_FUNCTION = 400, 150, 60
MAX_HELP_SECONDS = 0.5


@dataclass(frozen=True)
class Import:
    """`target` as written; `names` are what is taken from it."""

    target: str
    names: tuple[str, ...]
    line: int
    at_top: bool
    for_types: bool


@dataclass(frozen=True)
class Module:
    name: str
    text: str

    @property
    def room(self) -> str:
        return self.name.split(".")[1] if "." in self.name else ""

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def imports(self) -> list[Import]:
        return list(_imports(self.tree.body, at_top=True, for_types=False))


def _imports(nodes: Iterable[ast.AST], *, at_top: bool, for_types: bool) -> Iterator[Import]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, (), node.lineno, at_top, for_types) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield Import("." * node.level + (node.module or ""), tuple(a.name for a in node.names), node.lineno, at_top, for_types)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _imports(node.body, at_top=at_top, for_types=True)
            yield from _imports(node.orelse, at_top=at_top, for_types=for_types)
        else:
            inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(ast.iter_child_nodes(node), at_top=at_top and not inside, for_types=for_types)


def _module_name(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name: Module(name, path.read_text(encoding="utf-8")) for path in sorted(SRC.rglob("*.py")) for name in [_module_name(path)]}


def targets(item: Import, known: Iterable[str]) -> list[str]:
    """The modules of ours that an import reaches: `from preferent.models import attention` reaches `preferent.models.attention`."""
    if item.target.split(".")[0] != "preferent":
        return []
    inner = [f"{item.target}.{name}" for name in item.names]
    return [name for name in inner if name in known] or [item.target]


# ---- the rules: each takes a module and says what is wrong with it ----


def through_the_wall(module: Module) -> list[str]:
    """Imports between rooms that have no door; relative imports, and imports by name at run time, which would hide one."""
    if module.name in FRONT:
        return []
    complaints = []
    doors = DOORS[module.room]
    for item in module.imports:
        if item.target.startswith("."):
            complaints.append(f"{module.name}:{item.line} relative import")
        for target in targets(item, MODULES):
            room = Module(target, "").room
            allowed = room == module.room or doors == ALL or room in doors
            if not allowed or (room == "cli" and module.room != "cli"):
                complaints.append(f"{module.name}:{item.line} imports {target}")
    if re.search(r"\bimport_module\(|\b__import__\(", module.text) and module.name != "preferent.cli.main":
        complaints.append(f"{module.name} imports by name at run time")
    return complaints


def heavy_in_a_light_room(module: Module) -> list[str]:
    """torch and its kin anywhere in a light room (the command line: at the top), optional parts at the top of any light module."""
    if module.room in HEAVY_ROOMS or module.name in HEAVY_MODULES:
        return []
    complaints = []
    for item in module.imports:
        package = item.target.split(".")[0]
        deferred = module.room == "cli" and not item.at_top
        if (package in HEAVY and not deferred) or (package in OPTIONAL and item.at_top and not item.for_types):
            complaints.append(f"{module.name}:{item.line} imports {package}")
        if module.room in {"cli", ""} and item.at_top and not item.for_types:
            reached = [target for target in targets(item, MODULES) if loads_heavy(target)]
            complaints += [f"{module.name}:{item.line} imports {target} at the top, which loads torch" for target in reached]
    return complaints


@functools.cache
def loads_heavy(name: str) -> bool:
    """Whether importing a module of ours imports torch or its kin, itself or by way of what it imports (packages above it included)."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        if module in seen or module not in MODULES or module == "preferent":
            continue
        seen.add(module)
        at_top = [item for item in MODULES[module].imports if item.at_top and not item.for_types]
        if any(item.target.split(".")[0] in HEAVY for item in at_top):
            return True
        waiting += [module.rpartition(".")[0], *(target for item in at_top for target in targets(item, MODULES))]
    return False


def too_long(module: Module) -> list[str]:
    complaints = []
    n_lines = module.text.count("\n")
    if n_lines > MAX_FILE:
        complaints.append(f"{module.name} has {n_lines} lines")
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION:
                complaints.append(f"{module.name}:{node.lineno} {node.name} has {length} lines")
    return complaints


def swallows_everything(module: Module) -> list[str]:
    """`except:`, `except Exception` and `except BaseException`, alone or in a tuple."""
    complaints = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler):
            caught = "" if node.type is None else ast.unparse(node.type)
            if node.type is None or re.search(r"\b(Exception|BaseException)\b", caught):
                complaints.append(f"{module.name}:{node.lineno} except {caught}".rstrip())
    return complaints


def unfinished(module: Module) -> list[str]:
    """Notes to do it later, `raise NotImplementedError`, and functions without a body outside protocols."""
    lines = module.text.splitlines()
    complaints = [f"{module.name}:{n} {line.strip()}" for n, line in enumerate(lines, 1) if re.search(r"\b(TODO|FIXME|XXX)\b", line)]
    raised = [node for node in ast.walk(module.tree) if isinstance(node, ast.Raise) and node.exc is not None]
    stubs = [node for node in raised if re.match(r"NotImplementedError\b", ast.unparse(node.exc or node))]
    complaints += [f"{module.name}:{node.lineno} raises NotImplementedError" for node in stubs]
    return complaints + [f"{module.name}:{node.lineno} {node.name} does nothing" for node in _empty_functions(module.tree)]


def _does_nothing(node: ast.AST) -> bool:
    """A function of a docstring, `...` or `pass`, that is not marked as one."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    body = [part for part in node.body if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))]
    marks = [ast.unparse(mark).split(".")[-1] for mark in node.decorator_list]
    # A click group's function only carries its help.
    return all(isinstance(part, ast.Pass) for part in body) and not any(re.match(r"overload|abstractmethod|group", m) for m in marks)


def _empty_functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.iter_child_nodes(tree):
        if _does_nothing(node):
            yield node  # type: ignore[misc]
        elif not (isinstance(node, ast.ClassDef) and _is_an_interface(node)):
            yield from _empty_functions(node)


def _is_an_interface(node: ast.ClassDef) -> bool:
    """A protocol, or a listener to be overridden: several methods, all of which do nothing."""
    methods = [part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]
    protocol = any("Protocol" in ast.unparse(base) for base in node.bases)
    return protocol or (len(methods) > 1 and all(map(_does_nothing, methods)))


Rule = Callable[[Module], list[str]]
RULES: tuple[Rule, ...] = (through_the_wall, heavy_in_a_light_room, too_long, swallows_everything, unfinished)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_module_keeps_the_rule(rule: Rule):
    assert [complaint for module in MODULES.values() for complaint in rule(module)] == []


PLANTED: list[tuple[Rule, str, str]] = [
    (through_the_wall, "preferent.core.x", "from preferent.data import gate"),
    (through_the_wall, "preferent.audits.x", "def f():\n    from preferent.models.packing import pack"),
    (through_the_wall, "preferent.audits.x", "if TYPE_CHECKING:\n    import preferent.training.losses"),
    (through_the_wall, "preferent.training.x", "from preferent.cli.output import talk"),
    (through_the_wall, "preferent.models.x", "from preferent import train"),
    (through_the_wall, "preferent.data.x", "from . import gate"),
    (through_the_wall, "preferent.data.x", "model = importlib.import_module('preferent.models')"),
    (heavy_in_a_light_room, "preferent.lab.x", "import torch.nn"),
    (heavy_in_a_light_room, "preferent.audits.x", "class A:\n    def f(self):\n        from transformers import AutoModel"),
    (heavy_in_a_light_room, "preferent.data.x", "import pyarrow.parquet as pq"),
    (heavy_in_a_light_room, "preferent.cli.x", "import torch"),
    (heavy_in_a_light_room, "preferent.cli.x", "from preferent.training.run import train"),
    (too_long, "preferent.core.x", "x = 1\n" * 401),
    (too_long, "preferent.core.x", "class A:\n    def f(self):\n" + "        x = 1\n" * 60),
    (swallows_everything, "preferent.core.x", "try:\n    f()\nexcept:\n    pass"),
    (swallows_everything, "preferent.core.x", "try:\n    f()\nexcept (OSError, Exception) as error:\n    pass"),
    (unfinished, "preferent.core.x", "x = 1  # TODO: the rest"),
    (unfinished, "preferent.core.x", "def f():\n    raise NotImplementedError('later')"),
    (unfinished, "preferent.core.x", "class A:\n    def f(self):\n        '''Does it.'''\n        ..."),
]
INNOCENT: list[tuple[Rule, str, str]] = [
    (through_the_wall, "preferent.training.x", "from preferent.models.packing import pack\nfrom preferent.training.losses import f"),
    (heavy_in_a_light_room, "preferent.data.x", "def f():\n    import pyarrow"),
    (heavy_in_a_light_room, "preferent.cli.x", "def f():\n    from preferent.training.run import train\n    import torch"),
    (heavy_in_a_light_room, "preferent.cli.x", "from preferent.data import gate"),
    (heavy_in_a_light_room, "preferent.models.x", "import torch"),
    (too_long, "preferent.core.x", "x = 1\n" * 400),
    (too_long, "preferent.core.x", "def f():\n" + "    x = 1\n" * 59),
    (swallows_everything, "preferent.core.x", "try:\n    f()\nexcept (OSError, SpecialException):\n    pass"),
    (unfinished, "preferent.core.x", "class A(NotImplementedError):\n    pass"),
    (unfinished, "preferent.core.x", "class P(Protocol):\n    def f(self): ..."),
    (unfinished, "preferent.core.x", "class Listener:\n    def began(self): ...\n    def ended(self): ..."),
]


@pytest.mark.parametrize(("rule", "name", "text"), PLANTED)
def test_the_rule_catches_a_planted_offence(rule: Rule, name: str, text: str):
    assert len(rule(Module(name, text + "\n" if text[-1] != "\n" else text))) == 1


@pytest.mark.parametrize(("rule", "name", "text"), INNOCENT)
def test_the_rule_lets_the_innocent_pass(rule: Rule, name: str, text: str):
    assert rule(Module(name, text)) == []


# ---- the whole ----


def test_the_design_page_draws_the_same_doors():
    """The table in design/architecture.md: `| room/ | may import | heavy? |`."""
    page = (ROOT / "design" / "architecture.md").read_text(encoding="utf-8")
    drawn: dict[str, set[str] | str] = {}
    for room, doors in re.findall(r"^\| `(\w+)/` \| ([^|]+) \|", page, re.MULTILINE):
        named = {part.strip() for part in doors.split(";")[0].split(",")}
        drawn[room] = ALL if named == {"all"} else set() if named == {"nothing of ours"} else named
    assert drawn == DOORS


def test_every_folder_is_a_room():
    assert {module.room for module in MODULES.values() if module.name not in FRONT} <= set(DOORS)


def test_no_module_imports_itself_by_way_of_others():
    graph = {
        module.name: {target for item in module.imports if not item.for_types for target in targets(item, MODULES) if target in MODULES}
        for module in MODULES.values()
        if module.name not in FRONT
    }
    # CycleError names the modules of the circle.
    graphlib.TopologicalSorter(graph).prepare()


def test_half_of_the_files_are_a_page_or_two():
    lengths = [module.text.count("\n") for module in MODULES.values() if not module.name.endswith("__init__")]
    assert statistics.median(lengths) <= MEDIAN_FILE


@pytest.mark.parametrize("name", [name for name in MODULES if name != "preferent.__main__"])
def test_every_module_imports(name: str):
    assert importlib.import_module(name).__doc__, "says what it is for"


def _loaded_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sorted(sys.modules), file=sys.stderr)"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stderr.split()}


def test_the_light_rooms_together_load_nothing_heavy():
    light = [m.name for m in MODULES.values() if m.room not in HEAVY_ROOMS and m.name not in {*HEAVY_MODULES, "preferent.__main__"}]
    loaded = _loaded_after("import " + ", ".join(light))
    assert "numpy" in loaded
    assert loaded & (HEAVY | OPTIONAL) == set()


def test_help_loads_nothing_heavy():
    loaded = _loaded_after("from preferent.cli.main import main; assert main(['--help']) == 0")
    assert loaded & (HEAVY | OPTIONAL | {"numpy", "scipy", "pydantic", "rich"}) == set()


def test_the_help_of_every_command_loads_nothing_heavy():
    loaded = _loaded_after("from preferent.cli.main import COMMANDS, main\nfor name in COMMANDS: assert main([name, '--help']) == 0")
    assert loaded & (HEAVY | OPTIONAL) == set()


def test_help_is_quick():
    """Processor time of the whole process, the best of three: what else runs on the machine does not count."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "preferent", "--help"], capture_output=True, timeout=60, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < MAX_HELP_SECONDS
