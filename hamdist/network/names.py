"""The names of a network's layers."""

from collections import Counter
from collections.abc import Sequence
from functools import cached_property


class Names(tuple[str, ...]):
    """In the order listed; whether a name is among them is found as in a set."""

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self)

    def __contains__(self, name: object) -> bool:
        return name in self._known


def repeated(names: Sequence[str]) -> list[str]:
    """Those that come more than once."""
    return sorted(name for name, times in Counter(names).items() if times > 1)
