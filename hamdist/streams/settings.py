"""Checks on the settings that the sources share; every mistake is a StreamError with the setting's name as its key."""

from pathlib import Path

from hamdist.errors import Problem, StreamError, did_you_mean


def check_counts(
    *, batch_size: int | None = None, samples: int | None = None, seed: int | None = None
) -> None:
    """Each given one is a whole number: batch_size and samples at least 1, seed at least 0."""
    wanted = [("batch_size", batch_size, 1), ("samples", samples, 1), ("seed", seed, 0)]
    problems = [
        Problem(name, f"must be a whole number of at least {least}, not {value!r}")
        for name, value, least in wanted
        if value is not None and not is_count(value, least)
    ]
    if problems:
        raise StreamError(*problems)


def is_count(value: object, least: int) -> bool:
    """A whole number of at least `least`; True and False are not numbers here."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def at_most(samples: int | None, available: int | None) -> int | None:
    """How many samples a source of `available` rows, presented once, gives when `samples` are asked for."""
    return min((count for count in (samples, available) if count is not None), default=None)


def held_out_rows(holdout: float, rows: int) -> int:
    """How many of `rows` the fraction `holdout` holds out; at least one row is left to the stream."""
    if not 0 <= holdout < 1:
        raise StreamError(
            Problem("holdout", f"must be a fraction of at least 0 and below 1, not {holdout!r}")
        )
    return min(round(holdout * rows), max(rows - 1, 0))


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """`value` is one of `choices`."""
    if value not in choices:
        accepted = ", ".join(choices)
        message = f"must be one of {accepted}, not {value!r}{did_you_mean(value, choices)}"
        raise StreamError(Problem(name, message))


def existing_file(name: str, path: str | Path) -> Path:
    """The path of a file that is there."""
    file = Path(path).expanduser()
    if not file.exists():
        raise StreamError(Problem(name, f"there is no file {file} (looked for from {Path.cwd()})"))
    if not file.is_file():
        raise StreamError(Problem(name, f"{file} is not a file"))
    return file
