"""What can go wrong, by whose hand: mistakes of the user are ValueErrors, failures of a run are RuntimeErrors.

Every message says where, what was wrong, and what is accepted or what to do.
"""

import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from itertools import islice
from typing import Any

MOST_CHOICES = 1000
MOST_MISTAKES = 100  # that are told at once
_LONGEST_WORD = 100  # that may be a misspelt one


@dataclass(frozen=True)
class Problem:
    """One mistake: the dotted key of the config it is about ("" where there is none), and what is wrong with it."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}" if self.key else self.message


class UserError(ValueError):
    """Something the user wrote or passed is wrong; the command line turns it into exit status 2.

    `problems` holds every mistake found at once; a plain string is a problem without a key.
    """

    def __init__(self, *problems: Problem | str) -> None:
        super().__init__()
        self.restate(*problems)

    def restate(self, *problems: Problem | str) -> None:
        """The same error, told in other words: with the keys or the places that only the caller knows."""
        self.problems = tuple(p if isinstance(p, Problem) else Problem("", p) for p in problems)
        self.args = ("\n".join(map(str, self.problems)),)

    def __reduce__(self) -> tuple[Any, ...]:
        """Between processes an error keeps its problems, and so their keys."""
        return _again, (type(self), self.problems)


def _again(kind: type[UserError], problems: tuple[Problem, ...]) -> UserError:
    error = kind.__new__(kind)
    UserError.__init__(error, *problems)
    return error


class ConfigError(UserError):
    """A config that does not say what a run needs."""


class NetworkError(UserError):
    """A network that cannot run: an edge, a delay, a shape, a pairing or a gate that does not fit."""


class StreamError(UserError):
    """A stream that is empty, ends early, changes shape or dtype, or holds values that are not finite."""


class MissingExtraError(UserError):
    """An optional package is needed; the message says what to install."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional package: pip install 'hamdist[{extra}]'")


class EvaluationModeWarning(UserWarning):
    """A model that came in evaluation mode as a whole learns in training mode."""


class RunError(RuntimeError):
    """A run that failed on its way; the command line turns it into exit status 1."""


class StreamExitError(RunError):
    """A stream's own code raised what would end the program: SystemExit, KeyboardInterrupt, or their like."""


class DivergenceError(RunError):
    """Numbers are no longer finite; the message names the layer or the loss, the tick and what to do.

    failed: the loss that is not finite, with what is known of it; None where weights ran away before any loss told.
    """

    def __init__(self, message: str, failed: Any = None) -> None:
        super().__init__(message, failed)
        self.failed = failed

    def __str__(self) -> str:
        return str(self.args[0])


def with_place(error: BaseException) -> str:
    """ "SystemExit(1), raised by layers.py:24 in forward" """
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return repr(error)
    return f"{error!r}, raised by {frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}"


def first_of(problems: Iterable[Problem]) -> list[Problem]:
    """Each of them once, MOST_MISTAKES at most, and then one that says so: what follows is not looked for."""
    found: dict[Problem, None] = {}
    for problem in problems:
        if problem not in found and len(found) == MOST_MISTAKES:
            return [*found, Problem("", f"there are more mistakes than these {MOST_MISTAKES}")]
        found[problem] = None
    return list(found)


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def did_you_mean(name: object, choices: Iterable[object]) -> str:
    """The end of a message about a misspelt name: "; did you mean 'digits'?", or nothing where none comes close.

    Among very many none is looked for.
    """
    near = nearest(str(name), choices)
    return f"; did you mean {near!r}?" if near else ""


def nearest(word: str, choices: Iterable[object]) -> str:
    """The choice that a misspelt word comes close to, "" where there is none."""
    words = tuple(map(str, islice(choices, MOST_CHOICES + 1)))
    return "" if len(words) > MOST_CHOICES or len(word) > _LONGEST_WORD else _nearest(word, words)


@lru_cache(maxsize=256)
def _nearest(word: str, words: tuple[str, ...]) -> str:
    """Remembered, since one mistake may stand in many layers."""
    return next(iter(get_close_matches(word, words, n=1)), "")
