"""The run directory: config.yaml, metrics.jsonl, summary.json, weights/<layer>.safetensors.

Where a run was profiled, trace.json, too.
"""

import json
from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import IO, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hamdist.errors import UserError
from hamdist.report.profile import Profile
from hamdist.report.trace import trace_events

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
    return {f"{file.stem}.{name}": tensor for file in files for name, tensor in _tensors_in(file).items()}


def _tensors_in(file: Path) -> dict[str, Tensor]:
    """Raises UserError for what is no file of safetensors: a pickle would run code, so there is no other format."""
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{file} holds no weights: it was cut off, changed, or is no file of safetensors ({error})"
        ) from error
