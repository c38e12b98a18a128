"""Where a run starts: anew, or from the newest checkpoint of one that was before."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hamdist.config.loader import Loaded, load, resolved_yaml
from hamdist.config.schema import RunConfig
from hamdist.errors import UserError
from hamdist.runs.answers import Answers
from hamdist.runs.checkpoint_part import CheckpointError
from hamdist.runs.checkpoints import CHECKPOINTS, Found, forget_after, newest_whole, ticks_in
from hamdist.runs.folder import Folder
from hamdist.runs.record import CONFIG, SUMMARY, WEIGHTS, RunDirectory, fresh_directory, require_no_run
from hamdist.runs.resumable import fixed
from hamdist.runs.which_run import AUTO, WhichRun

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunStart:
    """directory: of the run; None: a new one.  goes_on: whether there was a run in it.  found: the checkpoint to go on
    from; None: it begins.  done: the summary of one of which nothing is left to do.
    """

    loaded: Loaded
    directory: Path | None
    goes_on: bool = False
    found: Found | None = None
    done: dict[str, Any] | None = None

    def open(self, answers: Answers | None) -> RunDirectory:
        """The run directory, and where predictions go. Raises UserError, and has written over nothing then."""
        config = self.loaded.config
        if not self.goes_on:
            _require_no_others(config, self.directory)
        if config.checkpoint.to is not None and config.checkpoints:
            Folder(config.checkpoint.to).make()
        if answers is not None:
            answers.open(self.goes_on)
        path = fresh_directory(config.name) if self.directory is None else self.directory
        directory = RunDirectory(path, resolved_yaml(config), self._lines)
        if answers is not None:
            answers.remember_in(path, self.goes_on)
        if self.found is not None:
            with _reached(self.found.folder):
                forget_after(self.found.folder, self.found.tick)
            _log.info("going on from the checkpoint of tick %d", self.found.tick)
        return directory

    @property
    def _lines(self) -> int | None:
        """How many lines of its metrics stay; None: there must be no run yet."""
        if self.found is None:
            return 0 if self.goes_on else None
        return int(self.found.manifest.record.get("lines", 0))


def start_of(which: WhichRun) -> RunStart:
    """Raises UserError for what cannot go on."""
    loaded = load(which.config, which.overrides)
    directory = which.directory
    if which.resume == AUTO and directory is None:
        directory = Path("runs") / loaded.config.name
    if which.resume is False or directory is None or not (directory / CONFIG).is_file():
        return RunStart(loaded, directory)
    before = load(directory / CONFIG).config
    if (done := _done(loaded.config, before, directory)) is not None:
        if which.resume != AUTO:
            raise UserError(f"{directory} holds a run that is finished: nothing is left to do")
        return RunStart(loaded, directory, goes_on=True, done=done)
    found = _found(loaded.config, before, directory)
    if found is None and which.resume != AUTO:
        raise UserError(f"{directory} holds no checkpoint to go on from: {_why_none(before)}")
    if found is not None and found.spoilt:
        _tell(found, which.resume == AUTO)
    if found is not None:
        found = replace(found, directory=directory)
    return RunStart(loaded, directory, goes_on=True, found=found)


def folder_of_checkpoints(config: RunConfig, directory: Path) -> Folder:
    """Where they are, or would be."""
    return Folder(config.checkpoint.to or directory / CHECKPOINTS)


def _why_none(before: RunConfig) -> str:
    """And what to do about it."""
    if before.checkpoints:
        return "it ended before the first one was whole; `--resume auto` begins it anew"
    return "it wrote none; `--resume auto` begins it anew, and with checkpoint.every_seconds it could go on"


def _found(now: RunConfig, before: RunConfig, directory: Path) -> Found | None:
    """The newest, where they were written and where they are to be written. Raises CheckpointError where neither holds
    one that is whole, and one holds others.
    """
    folders = {str(folder): folder for folder in (folder_of_checkpoints(c, directory) for c in (before, now))}
    found, spoilt = [], []
    for folder in folders.values():
        try:
            with _reached(folder):
                found.append(newest_whole(folder, fixed(now)))
        except CheckpointError as error:
            spoilt.append(error)
    newest = max(filter(None, found), key=lambda each: each.tick, default=None)
    if newest is None and spoilt:
        raise spoilt[0]
    return newest and replace(newest, spoilt=(*newest.spoilt, *map(str, spoilt)))


def _done(now: RunConfig, before: RunConfig, directory: Path) -> dict[str, Any] | None:
    """The summary of a run that has come to its end, unless more samples are asked for now, or weights could not be
    written.
    """
    try:
        summary = json.loads((directory / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(summary, dict) or summary.get("status") != "finished":
        return None
    more = now.stream.samples != before.stream.samples
    weights = [file for file in summary.get("missing", ()) if file.startswith(f"{WEIGHTS}/")]
    gone = not all((directory / file).exists() for file in weights)
    return None if more or gone else {**summary, "directory": str(directory)}


def _tell(found: Found, older_will_do: bool) -> None:
    """Raises CheckpointError where the user has not said that an older one will do."""
    spoilt = "; ".join(found.spoilt)
    if not older_will_do:
        raise CheckpointError(
            f"{spoilt}; the newest checkpoint that is whole is that of tick {found.tick}: `--resume auto` goes on "
            "from it"
        )
    _log.warning("%s; going on from the checkpoint of tick %d", spoilt, found.tick)


@contextmanager
def _reached(folder: Folder) -> Iterator[None]:
    """Within it what a disk or a store refuses is a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"the checkpoints in {folder} cannot be reached: {error}") from error


def _require_no_others(config: RunConfig, directory: Path | None) -> None:
    """directory: None: a new one. Raises UserError where another run, or checkpoints of one, are in the way."""
    if directory is not None:
        require_no_run(directory)
    if not config.checkpoints or (directory is None and config.checkpoint.to is None):
        return
    folder = folder_of_checkpoints(config, directory or Path())
    with _reached(folder):
        ticks = ticks_in(folder)
    if ticks:
        raise UserError(
            f"{folder} holds checkpoints of a run already, the newest of tick {ticks[0]}: name another place, or go on "
            "with that run by --resume"
        )
