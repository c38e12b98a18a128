"""What tells a newcomer the way is true of the code: the walk of CONTRIBUTING.md, and the map of every package."""

import re
from pathlib import Path

from sample_path import one_step

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"


def walk() -> list[str]:
    """The calls named at the start of the walk's ten points."""
    section = PAGE.read_text(encoding="utf-8").partition("in ten calls\n")[2].partition("\n## ")[0]
    return re.findall(r"^\d+\. `([^`]+)`", section, flags=re.MULTILINE)


def test_a_sample_goes_the_way_that_contributing_tells():
    told, calls = walk(), one_step().calls
    assert len(told) == 10
    assert [call for call in calls if call in told] == told


def test_every_file_that_the_walk_names_is_there():
    section = PAGE.read_text(encoding="utf-8").partition("in ten calls\n")[2].partition("\n## ")[0]
    named = {name.partition(":")[0] for name in re.findall(r"`([\w/]+\.py)[`:]", section)}
    assert len(named) >= 15
    missing = [
        name for name in named if not any((PAGE.parent / root / name).exists() for root in ("hamdist", ""))
    ]
    assert not missing


def test_every_package_maps_its_files():
    """In its docstring; schemas of the config are named by what they have in common."""
    unnamed = []
    for init in sorted((PAGE.parent / "hamdist").rglob("__init__.py")):
        names = {file.name for file in init.parent.glob("*.py")} - {"__init__.py", "__main__.py"}
        told = init.read_text(encoding="utf-8").replace(
            "*_schema.py", " ".join(n for n in names if "_schema" in n)
        )
        unnamed += [f"{init.parent.name}/{name}" for name in names if name not in told]
        gone = set(re.findall(r"\b[a-z]\w*\.py\b", told)) - names
        unnamed += [f"{init.parent.name}/{name} (gone)" for name in gone]
    assert not unnamed
