"""Where the stream of a run over actors lives, and from where on it is read."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from hamdist.cluster.cutter import CutSchedule
from hamdist.cluster.source_part import SourcePart
from hamdist.cluster.stream_worker import StreamWorker
from hamdist.cluster.worker_group import STREAM
from hamdist.config.schema import RunConfig
from hamdist.runs.launch import StreamSource
from hamdist.runs.stream_feed import stream_worker_of

LIVES_HERE = ("stdin", "iterable")  # sources that cannot be read again elsewhere
JOURNAL = "journal"  # of such a source, in the run directory


def stream_source(
    config: RunConfig, profile: bool, resumed: SourcePart | None = None, journal: Path | None = None
) -> StreamSource[StreamWorker]:
    """What opens the config's stream where it lives, and says it to the actors.

    resumed: from where on.  journal: of the run that goes on, where its stream has one.
    """
    idle_seconds = config.placement.progress_seconds / 4  # long before anybody who hears it gives up
    cuts = (
        CutSchedule(config.checkpoint.every_ticks, config.checkpoint.seconds) if config.checkpoints else None
    )
    journal = journal if keeps_journal(config) else None
    make = partial(
        _at, resumed, partial(stream_worker_of, config, STREAM, idle_seconds, profile, cuts, journal)
    )
    return StreamSource(make, config.stream.source in LIVES_HERE)


def keeps_journal(config: RunConfig) -> bool:
    """Whether what enters is written down, so that the run can go on after a failure."""
    return config.checkpoints and config.stream.source in LIVES_HERE


def _at(part: SourcePart | None, make: Callable[[], StreamWorker]) -> StreamWorker:
    """The stream, where a part of it was cut."""
    stream = make()
    if part is not None:
        stream.rewind(part)
    return stream
