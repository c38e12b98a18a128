"""Progress of a run on a console: one moving line on a terminal, a plain line now and then anywhere else."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from hamdist.signal_mask import signals_wait

SECONDS_BETWEEN_LINES = 5.0
SECONDS_UNTIL_TOLD = 1.0  # of a stage: most take less


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
    """Within it, call what it gives with each new snapshot. What hamdist logs meanwhile is shown, too: what takes long
    before the first snapshot, and later; and warnings.
    """
    if not console.is_terminal:
        with closing(PlainProgress(console)) as plain, _logged(plain.stage, console):
            yield plain
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
    )
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task("starting", total=None)
    with signals_wait():  # its thread never hears any
        bar.start()
    try:
        with _logged(lambda stage: bar.update(task, description=stage), console):
            yield lambda snapshot: bar.update(
                task, completed=snapshot.samples, total=snapshot.total_samples, description=line(snapshot)
            )
    finally:
        bar.stop()


@contextmanager
def _logged(show_stage: Callable[[str], None], console: Console) -> Iterator[None]:
    """Within it `show_stage` is called with all that hamdist logs, but warnings, which are lines of their own."""
    log, handler = logging.getLogger("hamdist"), _Stages(show_stage, console)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


class _Stages(logging.Handler):
    def __init__(self, show_stage: Callable[[str], None], console: Console) -> None:
        super().__init__()
        self._show_stage, self._console = show_stage, console

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING:
            self._show_stage(record.getMessage())
        else:
            self._console.print(record.getMessage(), markup=False, highlight=False, soft_wrap=True)


class PlainProgress:
    """A line for the first snapshot, and then one for each that comes long enough after the last line; and one for a
    stage that takes longer than a second, with the seconds since the start.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_seconds = 0.0
        self._started = time.perf_counter()
        self._stage = threading.Timer(0.0, lambda: None)

    def __call__(self, snapshot: Snapshot) -> None:
        self._stage.cancel()
        if snapshot.elapsed_seconds >= self._next_seconds:
            self._next_seconds = snapshot.elapsed_seconds + SECONDS_BETWEEN_LINES
            self._print(line(snapshot))

    def stage(self, name: str) -> None:
        """What is being done now, until the next stage or snapshot."""
        self._stage.cancel()
        self._stage = threading.Timer(SECONDS_UNTIL_TOLD, self._told, (name,))
        self._stage.daemon = True
        with signals_wait():  # its thread never hears any
            self._stage.start()

    def close(self) -> None:
        """No stage is told any more."""
        self._stage.cancel()

    def _told(self, stage: str) -> None:
        self._print(f"{stage} ({time.perf_counter() - self._started:.0f} s since the start)")

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def line(snapshot: Snapshot) -> str:
    """ "12,000 of 64,000 samples, 3,512 a second, loss 0.4312, accuracy 0.873"."""
    total = "" if snapshot.total_samples is None else f" of {snapshot.total_samples:,}"
    metrics = [f"{name} {value:.4g}" for name, value in snapshot.metrics.items()]
    return ", ".join(
        [f"{snapshot.samples:,}{total} samples", f"{snapshot.samples_per_second:,.0f} a second", *metrics]
    )
