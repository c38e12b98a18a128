"""A guess at what was meant by a misspelt name."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: object, choices: Iterable[object]) -> str:
    """The end of an error message: "; did you mean 'digits'?", or nothing where no choice comes close."""
    close = difflib.get_close_matches(str(name), [str(choice) for choice in choices], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def listed(names: Iterable[object], limit: int = 12) -> str:
    """Names for an error message, the first `limit` of them."""
    given = [str(name) for name in names]
    rest = f", and {len(given) - limit} more" if len(given) > limit else ""
    return (", ".join(given[:limit]) or "none") + rest
