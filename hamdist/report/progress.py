"""Progress of a run on a console: one moving line on a terminal, a plain line now and then anywhere else."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 5.0


@dataclass(frozen=True)
class Snapshot:
    """How far a run is.

    samples, total_samples: learnt from so far, and in all (None for an endless stream)
    metrics: name → mean over the latest window, of predictions made before learning
    """

    ticks: int
    samples: int
    total_samples: int | None
    metrics: Mapping[str, float]
    samples_per_second: float
    elapsed_seconds: float


@contextmanager
def progress_on(console: Console) -> Iterator[Callable[[Snapshot], None]]:
    """Within it, call what it gives with each new snapshot."""
    if not console.is_terminal:
        yield PlainProgress(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda snapshot: bar.update(
            task, completed=snapshot.samples, total=snapshot.total_samples, description=line(snapshot)
        )


@dataclass
class PlainProgress:
    """A line for the first snapshot, and then one for each that comes long enough after the last line."""

    console: Console
    _next_seconds: float = field(default=0.0, init=False)

    def __call__(self, snapshot: Snapshot) -> None:
        if snapshot.elapsed_seconds >= self._next_seconds:
            self._next_seconds = snapshot.elapsed_seconds + SECONDS_BETWEEN_LINES
            self.console.print(line(snapshot), markup=False, highlight=False, soft_wrap=True)


def line(snapshot: Snapshot) -> str:
    """ "12,000 of 64,000 samples, 3,512 a second, loss 0.4312, accuracy 0.873"."""
    total = "" if snapshot.total_samples is None else f" of {snapshot.total_samples:,}"
    metrics = [f"{name} {value:.4g}" for name, value in snapshot.metrics.items()]
    return ", ".join(
        [f"{snapshot.samples:,}{total} samples", f"{snapshot.samples_per_second:,.0f} a second", *metrics]
    )
