"""The run directory: config.yaml, metrics.jsonl, weights/<layer>.safetensors, summary.json.

Where a run was profiled, trace.json, too. Every file is there as a whole or not at all, but that of the metrics, which
grows; what could not be written keeps nothing else from being written.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from hamdist.engine.kept import Kept
from hamdist.errors import UserError
from hamdist.report.json_text import json_text
from hamdist.report.profile import Profile
from hamdist.report.trace import trace_events
from hamdist.report.wording import listed
from hamdist.runs import which_run
from hamdist.runs.alone import Alone
from hamdist.runs.layer_file import read_layer, write_layer
from hamdist.runs.lines import Lines
from hamdist.runs.whole_file import whole_file, write_whole

CONFIG, METRICS, SUMMARY, WEIGHTS = which_run.CONFIG, "metrics.jsonl", "summary.json", "weights"
TRACE = "trace.json"
_log = logging.getLogger(__name__)


class RunDirectory:
    """One run's folder; made at once, so that a folder that cannot be written is known before the first tick.

    lines: of the run that goes on there, how many of its metrics stay; None: there must be none yet.
    weights: the names of what was written of every layer.  missing: by file, why it is not there, or not all of it.
    """

    def __init__(self, path: Path, config: str, lines: int | None = None) -> None:
        self.path, self._config = path, config
        self.weights: dict[str, list[str]] = {}
        self.missing: dict[str, str] = {}
        try:
            path.mkdir(parents=True, exist_ok=True)
            if lines is None:
                require_no_run(path)
            self._alone = Alone(path)
            (path / SUMMARY).unlink(missing_ok=True)
            self._metrics = Lines(path / METRICS, lines or 0)
            self._begin(config)
        except OSError as error:
            raise UserError(f"{path} cannot be the run directory: {error}") from error
        if lines and self._metrics.kept < lines:
            _log.warning("%s has %d of %d lines", path / METRICS, self._metrics.kept, lines)

    def _begin(self, config: str) -> None:
        """The config last, since where there is one there is a run."""
        try:
            write_whole(self.path / CONFIG, config)
        except OSError:
            self._metrics.close()
            raise

    def add_metrics(self, line: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl, on disk at once; a run does not end for want of it."""
        if METRICS not in self.missing:
            with self._noted(METRICS):
                self._metrics.add(json_text(line))
                return
            _log.warning(
                "%s: %s; the run goes on without its metrics", self.path / METRICS, self.missing[METRICS]
            )

    def write(self, weights: Mapping[str, Callable[[], Kept]], profiles: Mapping[str, Profile]) -> None:
        """The weights of every layer, one after another, then all else but the summary.

        weights: what gives them, by layer, whatever it raises.
        """
        self._write_weights(weights)
        if not (self.path / CONFIG).exists():
            with self._noted(CONFIG):
                write_whole(self.path / CONFIG, self._config)
        if not (self.path / METRICS).exists():
            self.missing.setdefault(METRICS, "it was removed while the run went on")
        if profiles:
            with self._noted(TRACE):
                self._write_trace(profiles)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """The last of all."""
        self._metrics.close()
        with self._noted(SUMMARY):
            write_whole(self.path / SUMMARY, json_text(summary, indent=2) + "\n")
        self._alone.release()

    @property
    def incomplete(self) -> str:
        """What is not there, and why; "" where all is."""
        by_reason: dict[str, list[str]] = {}
        for file, why in self.missing.items():
            by_reason.setdefault(why, []).append(file)
        told = "; ".join(f"{listed(files)} ({why})" for why, files in by_reason.items())
        return f"not all of the run could be written to {self.path}: {told}" if told else ""

    def _write_weights(self, weights: Mapping[str, Callable[[], Kept]]) -> None:
        files = {name: weights_file(name) for name in weights}
        left = dict.fromkeys(files.values(), "the program was interrupted before it was written")
        try:
            for name, file in files.items():
                with self._noted(file):
                    self._write_layer(name, file, weights[name]())
                del left[file]
        finally:
            self.missing |= left

    def _write_layer(self, name: str, file: str, kept: Kept) -> None:
        write_layer(self.path / file, kept)
        self.weights[name] = [*kept.tensors, *kept.told]
        if kept.lost:
            self.missing[file] = "; ".join(f"{lost}: {why}" for lost, why in kept.lost.items())

    @contextmanager
    def _noted(self, file: str) -> Iterator[None]:
        """What goes wrong within is why the file is missing."""
        try:
            yield
        except Exception as error:
            self.missing[file] = reason_of(error)

    def _write_trace(self, profiles: Mapping[str, Profile]) -> None:
        """An event a line, so that the file is readable as it is, and never in memory as a whole."""
        with whole_file(self.path / TRACE) as beside, beside.open("w", encoding="utf-8") as file:
            file.write('{"displayTimeUnit": "ms", "traceEvents": [')
            for number, event in enumerate(trace_events(profiles)):
                file.write((",\n" if number else "\n") + json.dumps(event))
            file.write("\n]}\n")


def reason_of(error: Exception) -> str:
    """A few words: those of the operating system, where it refused."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if refused := re.search(r"\(os error (\d+)\)", str(error)):  # as safetensors says it
        return os.strerror(int(refused[1]))
    return (f"{type(error).__name__}: {error}".splitlines() or [""])[0]


def weights_file(layer: str) -> str:
    """Where a layer's weights are in a run directory."""
    return f"{WEIGHTS}/{layer}.safetensors"


def require_no_run(directory: Path) -> None:
    """Raises UserError where there is one."""
    if (directory / CONFIG).exists():
        raise UserError(
            f"{directory} holds a run already: name another directory, remove it, or go on with it by --resume"
        )


def fresh_directory(name: str, under: Path = Path("runs")) -> Path:
    """runs/<name>, or runs/<name>-2, -3, … where that is taken; made at once, so that no other run takes it, too.

    Raises UserError.
    """
    paths = (under / (name if n == 1 else f"{name}-{n}") for n in count(1))
    return next(path for path in paths if _made(path))


def _made(path: Path) -> bool:
    """Whether a folder was made there; False where something is already. Raises UserError."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise UserError(f"{path} cannot be the run directory: {error}") from error
    return True


def load_weights(directory: Path) -> dict[str, Any]:
    """The state_dict of a finished run, keys "<layer>.<tensor>". Raises UserError where there is none."""
    files = sorted((directory / WEIGHTS).glob("*.safetensors"))
    if not files:
        raise UserError(
            f"{directory} holds no weights: expected {directory / WEIGHTS}/<layer>.safetensors of a finished run"
        )
    return {f"{file.stem}.{name}": value for file in files for name, value in read_layer(file).items()}
