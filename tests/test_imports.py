"""The package's layers import only downwards, and importing it costs neither Ray nor torch.distributed."""

import ast
import importlib.util
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import hamdist

ROOT = Path(hamdist.__file__).parent
BASE = {"errors", "naming", "objects"}
SIGNALS = {"signal_mask", "leaving"}
MAY_IMPORT = {
    "errors": set(),
    "naming": set(),
    "objects": {"errors"},
    "signal_mask": set(),
    "leaving": {"signal_mask"},
    "physics": set(),
    "compiler": {"physics"},
    "streams": BASE,
    "config": BASE,
    "report": BASE | SIGNALS,
    "network": {"physics", "report"} | BASE,
    "engine": {"network", "physics", "compiler", "report"} | BASE,
    "transport": {"engine", "network"} | BASE,
    "cluster": {"transport", "engine", "network", "report"} | BASE | SIGNALS,
    "planning": {"engine", "network", "physics", "report"} | BASE,
    "runs": {
        "cluster",
        "transport",
        "engine",
        "planning",
        "network",
        "physics",
        "streams",
        "config",
        "report",
    }
    | BASE
    | SIGNALS,
}
FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def floor(file: Path) -> str:
    return file.parts[0].removesuffix(".py")


LOWER = [file for file in FILES if floor(file) in MAY_IMPORT]


@cache
def imported(path: Path) -> set[str]:
    """The modules a file imports, anywhere in it, by full name; `from a import b` counts as a.b where that is one."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if not name.startswith("hamdist.") or _exists(name)}


@cache
def _exists(name: str) -> bool:
    path = ROOT.joinpath(*name.split(".")[1:])
    return path.is_dir() or path.with_suffix(".py").exists()


def parts_of(file: Path) -> set[str]:
    """The parts of the package that a file imports, "" for the package itself."""
    ours = [name.split(".") for name in imported(ROOT / file) if name.split(".")[0] == "hamdist"]
    return {name[1] if len(name) > 1 else "" for name in ours}


def test_there_is_something_to_check():
    assert {floor(file) for file in LOWER} >= {
        "physics",
        "network",
        "engine",
        "streams",
        "config",
    }
    assert parts_of(Path("engine/partition.py")) >= {"network", "engine", "errors"}


def beyond(files: list[Path], allowed: Callable[[Path], set[str]]) -> str:
    """Every file that imports parts of the package that it may not, a line each."""
    found = {file: sorted(parts_of(file) - allowed(file)) for file in files}
    return "\n".join(
        f"{file} imports {', '.join(part or 'hamdist itself' for part in parts)}"
        for file, parts in found.items()
        if parts
    )


def test_imports_only_point_down():
    wrong = beyond(LOWER, lambda file: MAY_IMPORT[floor(file)] | {floor(file)})
    assert not wrong, wrong


def test_inside_physics_nothing_of_the_package_but_physics():
    wrong = beyond([file for file in FILES if file.parts[0] == "physics"], lambda file: {"physics"})
    assert not wrong, wrong


def test_nothing_imports_the_command_line():
    others = [file for file in FILES if file.name not in ("cli.py", "__main__.py")]
    wrong = beyond(others, lambda file: parts_of(file) - {"cli"})
    assert not wrong, wrong


def test_no_class_name_has_two_meanings():
    classes = [
        node.name
        for file in FILES
        for node in ast.parse((ROOT / file).read_text()).body
        if isinstance(node, ast.ClassDef)
    ]
    assert {name for name, times in Counter(classes).items() if times > 1} == set()


def test_ray_is_for_clusters_only():
    without = [file for file in LOWER if floor(file) != "cluster"]
    wrong = [str(file) for file in without if any(n.split(".")[0] == "ray" for n in imported(ROOT / file))]
    assert not wrong, "\n".join(wrong)


def loaded(statement: str) -> set[str]:
    """The modules of a fresh interpreter after a statement."""
    code = f"import sys\n{statement}\nprint(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def heavy(modules: set[str]) -> set[str]:
    return {name for name in modules if name.split(".")[0] == "ray" or name.startswith("torch.distributed")}


@pytest.mark.slow
def test_importing_the_package_imports_neither_ray_nor_torch_distributed():
    assert importlib.util.find_spec("ray"), "without Ray installed this would prove nothing"
    brought_by_torch = heavy(loaded("import torch"))
    everything = "\n".join(
        f"import hamdist.{'.'.join(file.with_suffix('').parts).removesuffix('.__init__')}"
        for file in FILES
        if file.parts[0] in ("physics", "network", "streams", "config", "report")
    )
    assert heavy(loaded("import hamdist")) <= brought_by_torch
    assert heavy(loaded(everything)) <= brought_by_torch


@pytest.mark.slow
def test_the_package_and_its_command_line_import_neither_torch_nor_ray_until_they_are_used():
    """`hamdist --help` answers at once only so."""
    assert not {"torch", "ray"} & loaded("import hamdist.cli")


@pytest.mark.slow
def test_the_command_listens_to_signals_before_it_loads_anything():
    """What a signal interrupts before is a traceback."""
    begun, bare = (
        loaded("import hamdist.__main__"),
        loaded("import atexit, importlib, signal, contextlib, typing"),
    )
    assert begun - bare == {"hamdist", "hamdist.__main__", "hamdist.leaving", "hamdist.signal_mask"}
