"""Names in a sentence."""

from collections.abc import Sequence


def listed(names: Sequence[str]) -> str:
    """ "a, b and c"; of many, the first three and how many more."""
    shown = [*names[:3], f"{len(names) - 3} more"] if len(names) > 4 else list(names)
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]
