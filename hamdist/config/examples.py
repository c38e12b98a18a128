"""The example configs that travel with the package."""

from collections.abc import Sequence
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def directory() -> Path:
    """Where they lie: inside an installed package, beside the package in a source checkout."""
    installed = _PACKAGE / "cluster_configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "cluster_configs"


def names() -> Sequence[str]:
    """The names of the examples, sorted."""
    return sorted(path.stem for path in directory().glob("*.yaml"))


def path_of(name: str) -> Path:
    """The file of the example `name`, whether or not there is one."""
    return directory() / f"{name}.yaml"
