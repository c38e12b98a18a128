"""The walk of CONTRIBUTING.md is true of the code: its ten calls are made, in this order, by one step of a learner."""

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
