"""How the packages depend on one another, what a command imports, and what the wheel holds."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: For every package the others that it may import, in whole or in part.
ALLOWED: dict[str, tuple[str, ...]] = {
    "tgv_format": (),
    "refdec": ("tgv_format",),
    "refenc": (
        "tgv_format",
        *(
            f"refdec.{name}"
            for name in ("keyframes", "baseline", "flow", "interpolation", "motion", "sampling")
        ),
    ),
    "conformance": ("tgv_format", "refdec", "refenc"),
}
HEAVY = ("PIL", "av", "cv2", "numpy", "scipy", "sklearn", "torch", "tqdm")


def imported(path: Path) -> set[str]:
    """Every module, and every name of a module, that a file imports, wherever it does."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def within(name: str, module: str) -> bool:
    return f"{name}.".startswith(f"{module}.")


@pytest.mark.parametrize("package", ALLOWED)
def test_dependencies_point_one_way(package: str) -> None:
    allowed = (package, *ALLOWED[package])
    for path in sorted((ROOT / package).rglob("*.py")):
        ours = {name for name in imported(path) if name.split(".")[0] in (*ALLOWED, "tests", "benchmarks")}
        strays = {name for name in ours if not any(within(name, module) for module in allowed)}
        assert not strays, path.relative_to(ROOT)


def test_the_format_needs_only_what_it_declares() -> None:
    """Third-party imports of tgv_format: those of an installation without extras."""
    names = {name.split(".")[0] for path in (ROOT / "tgv_format").glob("*.py") for name in imported(path)}
    outside = names - set(sys.stdlib_module_names) - {"tgv_format"}
    assert outside <= {"construct", "constriction", "numpy"}


@pytest.mark.parametrize("tool", ["refenc", "refdec"])
def test_help_imports_nothing_heavy(tool: str) -> None:
    script = f"""
import sys
import {tool}.cli
try:
    {tool}.cli.main(["--help"])
except SystemExit as end:
    print("imported:", *sorted(set({HEAVY!r}) & set(sys.modules)), end.code)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "imported: 0"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_is_whole(wheel: Path) -> None:
    """The tables travel with the package, and nothing that belongs to the repository alone."""
    with zipfile.ZipFile(wheel) as archive:
        files = {Path(name): archive.read(name) for name in archive.namelist()}
    for table in (ROOT / "spec" / "tables").glob("*.json"):
        assert files[Path("tgv_format/tables") / table.name] == table.read_bytes()
    tops = {path.parts[0] for path in files if not path.parts[0].endswith(".dist-info")}
    assert {"tgv_format", "refenc", "refdec"} <= tops <= set(ALLOWED)
    for package in tops:
        sources = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py")}
        assert sources <= set(files)
        assert Path(package, "py.typed") in files


def test_the_format_works_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """From the wheel alone, with none of the packages that only the encoder and the decoder need."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    modules = sorted(f"tgv_format.{path.stem}" for path in (ROOT / "tgv_format").glob("[a-z]*.py"))
    script = f"""
import importlib, sys
sys.path.insert(0, {str(tmp_path)!r})
for module in {modules!r}:
    print(importlib.import_module(module).__file__)
print(*sorted(set({HEAVY!r}) & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    *files, heavy = run.stdout.splitlines()
    assert all(file.startswith(str(tmp_path)) for file in files)
    assert heavy == "numpy"


def test_the_suite_runs_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """Offline, with the packages of an installation without extras, on a decoder that is not ours."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / "conformance" / "examples"
    script = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
sys.modules.update(dict.fromkeys({set(HEAVY) - {"numpy"}!r}))
from conformance.cli import main
command = {f"{sys.executable} -I {folder / 'minimal_decoder.py'} {{input}} {{params}}"!r}
expected = {str(folder / "minimal_decoder.txt")!r}
sys.exit(main(["run", "--decoder", command, "--expect", expected, "valid/text/*", "invalid/sequence/*"]))
"""
    run = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "all results are as expected" in run.stdout
