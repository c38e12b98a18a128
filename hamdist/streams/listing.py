"""Names for an error message."""

from collections.abc import Iterable


def listed(names: Iterable[object], limit: int = 12) -> str:
    """The first `limit` names, and how many more there are."""
    given = [str(name) for name in names]
    rest = f", and {len(given) - limit} more" if len(given) > limit else ""
    return (", ".join(given[:limit]) or "none") + rest
