"""A config's stream as what feeds a network: opened where it lives, with the config's keys in errors."""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from hamdist.cluster.cutter import CutSchedule
from hamdist.cluster.feed import Pairs
from hamdist.cluster.stream_worker import StreamWorker
from hamdist.config.schema import RunConfig
from hamdist.runs.assembly import run_stream, stream_keys
from hamdist.streams import Batch


class StreamFeed:
    """Raises UserError for what is wrong with the config's stream, with the keys of the config."""

    def __init__(self, config: RunConfig) -> None:
        self._stream = run_stream(config)

    @property
    def seeks(self) -> bool:
        return self._stream.seeks

    @property
    def taken(self) -> int:
        return self._stream.taken

    @property
    def skipped(self) -> Mapping[str, int]:
        return self._stream.skipped

    def __iter__(self) -> Pairs:
        with stream_keys():
            batches = iter(self._stream)
            first = list(islice(batches, 1))
        yield from pairs(chain(first, batches))

    def state_dict(self) -> dict[str, Any]:
        return self._stream.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        with stream_keys():
            self._stream.load_state_dict(state)

    def holdout(self) -> Pairs | None:
        held_out = self._stream.holdout()
        return None if held_out is None else pairs(held_out)


def stream_worker_of(
    config: RunConfig,
    name: str,
    idle_seconds: float,
    profile: bool,
    cuts: CutSchedule | None = None,
    journal: Path | None = None,
) -> StreamWorker:
    """What says the stream's batches to a run's actors; it opens the stream where it lives.

    journal: a folder for what a stream gives that cannot seek.
    """
    worker = StreamWorker(name, partial(StreamFeed, config), idle_seconds, profile, cuts)
    if journal is not None:
        worker.keep_journal(journal)
    return worker


def pairs(batches: Iterator[Batch]) -> Pairs:
    """As the source takes them."""
    return ((batch.inputs, batch.targets, batch.restarts) for batch in batches)
