"""The wheel: what is in it, and that it works in an environment that never saw the source tree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import preferent

ROOT = Path(__file__).parents[1]


def run(*command: object, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the tree by the installed backend; nothing is fetched."""
    pytest.importorskip("hatchling", reason="hatchling builds the wheel; it is in the test extra")
    folder = tmp_path_factory.mktemp("wheel")
    build = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    name = run(sys.executable, "-c", build, cwd=ROOT).split()[-1]
    return folder / name


@pytest.fixture(scope="module")
def elsewhere(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a fresh environment with the wheel installed; the dependencies are lent by a path file."""
    home = tmp_path_factory.mktemp("elsewhere")
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=home)
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip()
    Path(site, "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


def test_the_wheel_carries_the_whole_package_and_nothing_else(wheel: Path):
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    tree = (path for path in (ROOT / "src").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    assert inside == {str(path.relative_to(ROOT / "src")) for path in tree}
    assert "preferent/py.typed" in inside
    assert any(re.match(r"preferent/audits/templates/.+\.(j2|html)$", name) for name in inside)
    assert not any("test" in name.lower() for name in inside)


def test_its_metadata_keeps_the_core_light_and_the_ranges_open(wheel: Path):
    archive = zipfile.ZipFile(wheel)
    info = next(name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name)
    said = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
    assert said["Version"] == preferent.__version__
    assert said["License-Expression"] == "Apache-2.0"
    assert "Apache License" in archive.read(f"{info}/licenses/LICENSE").decode()
    needs = said.get_all("Requires-Dist") or []
    always = {re.split(r"[<>=!~\[; ]", need)[0] for need in needs if "extra ==" not in need}
    assert always == {"numpy", "scipy", "pydantic", "click", "rich", "jinja2", "zstandard"}
    assert all(re.match(r"torch>=[\d.]+;", need) for need in needs if need.startswith("torch"))


def test_installed_elsewhere_it_runs_from_there(elsewhere: Path, tmp_path: Path):
    where = run(elsewhere / "python", "-c", "import preferent; print(preferent.__file__, preferent.__version__)", cwd=tmp_path)
    assert where.split() == [str(next(elsewhere.parent.rglob("site-packages")) / "preferent" / "__init__.py"), preferent.__version__]
    assert f"version {preferent.__version__}" in run(elsewhere / "preferent", "--version", cwd=tmp_path)
    assert "Commands:" in run(elsewhere / "preferent", "--help", cwd=tmp_path)


def test_installed_elsewhere_the_nouns_are_typed_and_work(elsewhere: Path, tmp_path: Path):
    code = """
import preferent
from importlib.resources import files
swapped = preferent.Preference(prompt=(), response_a="a", response_b="b", p_a=0.75).swap()
print(swapped.p_a, files("preferent").joinpath("py.typed").is_file())
"""
    assert run(elsewhere / "python", "-c", code, cwd=tmp_path).split() == ["0.25", "True"]


# ---- what pyproject.toml and the pinned versions say about each other ----


def requirements(project: dict) -> list[str]:
    extras = project["optional-dependencies"].values()
    return [line for group in [project["dependencies"], *extras] for line in group if not line.startswith("preferent[")]


def test_every_dependency_is_pinned_and_every_pin_is_in_its_range():
    specifiers = pytest.importorskip("packaging.requirements", reason="reads requirement lines; pytest depends on it")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines == sorted(lines, key=lambda line: line.partition("==")[0])
    pins = dict(line.split("==") for line in lines)
    for text in requirements(project):
        need = specifiers.Requirement(text)
        name = re.sub(r"[-_.]+", "-", need.name.lower())
        assert name in pins, f"{need.name} is not in constraints.txt"
        assert need.specifier.contains(pins[name]), f"{text} shuts out the tested {pins[name]}"


def test_the_embedded_encoder_is_held_by_version_and_by_hash():
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    line = next(line for line in (ROOT / "requirements-minilm.txt").read_text().splitlines() if not line.startswith("#"))
    pin, _, digest = line.partition(" --hash=sha256:")
    assert pin in pins
    assert project["optional-dependencies"]["minilm"] == [pin]
    assert re.fullmatch(r"[0-9a-f]{64}", digest)
