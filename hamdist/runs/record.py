"""What a run leaves behind: config.yaml, metrics.jsonl, summary.json, weights/<layer>.safetensors, and snapshots on its way.

Where it was profiled, trace.json, too.
"""

import json
from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import IO, Any
from safetensors.torch import load_file, save_file
from torch import Tensor
from hamdist.errors import UserError
from hamdist.report.profile import Profile
from hamdist.report.trace import trace_events
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any
import torch
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from hamdist.report.progress import Snapshot
from hamdist.report.metrics import Window


CONFIG, METRICS, SUMMARY, WEIGHTS = "config.yaml", "metrics.jsonl", "summary.json", "weights"
TRACE = "trace.json"


class RunDirectory:
    """One run's folder; made at once, so that a folder that cannot be written is known before the first tick."""

    def __init__(self, path: Path, config: str) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            if (path / CONFIG).exists():
                raise UserError(f"{path} holds a run already: name another directory, or remove it")
            (path / CONFIG).write_text(config, encoding="utf-8")
            self._metrics: IO[str] = (path / METRICS).open("w", encoding="utf-8", buffering=1)
        except OSError as error:
            raise UserError(f"{path} cannot be the run directory: {error}") from error

    def add_metrics(self, line: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl, on disk at once."""
        self._metrics.write(json.dumps(line) + "\n")

    def finish(
        self,
        summary: Mapping[str, Any],
        weights: Iterable[tuple[str, Mapping[str, Tensor]]],
        profiles: Mapping[str, Profile],
    ) -> None:
        """The weights of every layer, one after another, the trace if there are profiles, then the summary: where there
        is one, all else is complete.
        """
        self._metrics.close()
        (self.path / WEIGHTS).mkdir(exist_ok=True)
        for layer, tensors in weights:
            save_file(
                {name: t.contiguous() for name, t in tensors.items()},
                self.path / WEIGHTS / f"{layer}.safetensors",
            )
        if profiles:
            self._write_trace(profiles)
        (self.path / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")

    def _write_trace(self, profiles: Mapping[str, Profile]) -> None:
        """An event a line, so that the file is readable as it is, and never in memory as a whole."""
        with (self.path / TRACE).open("w", encoding="utf-8") as file:
            file.write('{"displayTimeUnit": "ms", "traceEvents": [')
            for number, event in enumerate(trace_events(profiles)):
                file.write((",\n" if number else "\n") + json.dumps(event))
            file.write("\n]}\n")


def fresh_directory(name: str, under: Path = Path("runs")) -> Path:
    """runs/<name>, or runs/<name>-2, -3, … where that is taken."""
    paths = (under / (name if n == 1 else f"{name}-{n}") for n in count(1))
    return next(path for path in paths if not path.exists())


def load_weights(directory: Path) -> dict[str, Tensor]:
    """The state_dict of a finished run, keys "<layer>.<tensor>". Raises UserError where there is none."""
    files = sorted((directory / WEIGHTS).glob("*.safetensors"))
    if not files:
        raise UserError(
            f"{directory} holds no weights: expected {directory / WEIGHTS}/<layer>.safetensors of a finished run"
        )
    return {f"{file.stem}.{name}": tensor for file in files for name, tensor in load_file(file).items()}


@dataclass(frozen=True)
class Results:
    """What came of a run, wherever it ran.

    ticks, seconds: of learning; the drain is part of it, the hold-out is not.  layers: counts by layer.
    peak_memory_bytes: by actor.  profiles: by actor, if they were wanted.  more: what only a run over actors can
    tell.
    """

    ticks: int
    seconds: float
    samples: int
    seen_once: bool
    prequential: Mapping[str, float]
    holdout: Mapping[str, float]
    layers: Mapping[str, Mapping[str, float]]
    peak_memory_bytes: Mapping[str, int]
    actors: int = 1
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)


def summarise(
    results: Results, status: str, wall_seconds: float, error: Exception | None = None
) -> dict[str, Any]:
    """status: finished, interrupted or failed.  wall_seconds: of the whole run, hold-out included."""
    return {
        "status": status,
        **({} if error is None else {"error": str(error)}),
        "ticks": results.ticks,
        "samples": results.samples,
        "samples_seen_once": results.seen_once,
        "loss": results.prequential.get("loss"),
        "prequential": dict(results.prequential),
        "holdout": dict(results.holdout) or None,
        "ticks_per_second": results.ticks / results.seconds,
        "samples_per_second": results.samples / results.seconds,
        "actors": results.actors,
        "peak_memory_bytes": dict(results.peak_memory_bytes),
        "restarts": 0,
        "wall_seconds": wall_seconds,
        "layers": dict(results.layers),
        **results.more,
        **_told(results.profiles),
        "versions": {
            "hamdist": version("hamdist"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def _told(profiles: Mapping[str, Profile]) -> dict[str, Any]:
    """The shares of every actor; nothing if no profile was wanted."""
    told = {name: profile.told() for name, profile in profiles.items()}
    return {"profile": told} if told else {}


OnProgress = Callable[[Snapshot], None]
SECONDS_BETWEEN_SNAPSHOTS = 0.25


class Record:
    """total: samples that the stream promises, None where it does not."""

    def __init__(self, directory: RunDirectory, on_progress: OnProgress | None, total: int | None) -> None:
        self.directory = directory
        self.total = total
        self.started = time.perf_counter()
        self._on_progress = on_progress
        self._latest: dict[str, float] = {}
        self._next_snapshot = SECONDS_BETWEEN_SNAPSHOTS

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def line(self, samples: int, predicted: int, ticks: int, means: Mapping[str, float]) -> None:
        """A line of metrics: the means since the last one."""
        self._latest = dict(means)
        where = {"samples": samples, "predicted": predicted, "ticks": ticks}
        self.directory.add_metrics({**where, "seconds": round(self.elapsed, 3), **means})

    def snapshot(self, ticks: int, samples: int, metrics: Callable[[], Mapping[str, float]]) -> None:
        """Shows how far the run is, now and then; metrics: what to show before the first line."""
        if self._on_progress is None or self.elapsed < self._next_snapshot:
            return
        elapsed = self.elapsed
        self._next_snapshot = elapsed + SECONDS_BETWEEN_SNAPSHOTS
        shown = self._latest or metrics()
        self._on_progress(Snapshot(ticks, samples, self.total, shown, samples / elapsed, elapsed))


class WindowRecord:
    """Windows of metrics that come from an actor, as the lines that a run in one process writes.

    A window that closed after the last sample had entered belongs to the last line.
    """

    def __init__(self, record: Record, batch: int, hold: int) -> None:
        self._record, self._batch, self._hold = record, batch, hold
        self._waiting: deque[Window] = deque()

    def add(self, windows: Iterable[Window], entered_ticks: int, entered: int) -> None:
        """entered_ticks: in which samples entered, and how many did, as far as is known."""
        self._waiting.extend(windows)
        while self._waiting and self._waiting[0].ticks <= entered_ticks:
            window = self._waiting.popleft()
            samples = min(window.ticks // self._hold * self._batch, entered)
            self._record.line(samples, window.predicted, window.ticks, window.cut.means())

    def close(self, samples: int, ticks: int) -> None:
        """The last line."""
        if self._waiting:
            last = reduce(Window.followed_by, self._waiting)
            self._record.line(samples, last.predicted, ticks, last.cut.means())
            self._waiting.clear()
