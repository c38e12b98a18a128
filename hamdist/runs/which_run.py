"""Which config, and which run directory, are meant where a run may go on; found without PyTorch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hamdist.errors import ConfigError, UserError

CONFIG = "config.yaml"
AUTO: Literal["auto"] = "auto"
Source = str | Path | Mapping[str, Any]
Resume = bool | str | Path
"""False: a run begins. True: that in `out` goes on. "auto": it goes on, if there is one, or begins. A folder: that run
goes on."""


class WhichRun(NamedTuple):
    """directory: of the run; None: a new one.  resume: whether it is to go on; "auto": if there is anything."""

    config: Source
    overrides: Sequence[str]
    directory: Path | None
    resume: bool | Literal["auto"]


def which_run(
    config: Source | None, overrides: Sequence[str], out: str | Path | None, resume: Resume
) -> WhichRun:
    """config: None: that of the run which goes on; so is one that is an override by its looks.

    Raises UserError where there is no such run, or nothing to say which.
    """
    directory = _directory(out, resume)
    if resume is not False and isinstance(config, str) and "=" in config and not Path(config).exists():
        overrides, config = (config, *overrides), None
    if resume not in (False, AUTO) and directory is not None and not (directory / CONFIG).is_file():
        raise UserError(f"{directory} holds no run to go on with: there is no {CONFIG}")
    if config is None:
        if directory is None or resume is False or not (directory / CONFIG).is_file():
            raise ConfigError("name a config: a file, or one of the examples")
        config = directory / CONFIG
    return WhichRun(config, overrides, directory, AUTO if resume == AUTO else bool(resume))


def _directory(out: str | Path | None, resume: Resume) -> Path | None:
    given = None if out is None else Path(out)
    if resume == "":
        raise UserError("the run to go on with has no name: expected a folder, or 'auto'")
    if isinstance(resume, bool) or resume == AUTO:
        if resume is True and given is None:
            raise UserError(
                "resume=True goes on with the run in `out`: name it, or name the folder as `resume`"
            )
        return given
    if given is not None and given.resolve() != Path(resume).resolve():
        raise UserError(f"the run in {resume} goes on there: leave out {given}")
    return Path(resume)
