"""Profiles in the Chrome trace event format, which Perfetto and chrome://tracing open: a process for every actor."""

from collections.abc import Iterator, Mapping
from typing import Any

from hamdist.report.profile import Profile, Span

Event = dict[str, Any]


def trace_events(profiles: Mapping[str, Profile]) -> Iterator[Event]:
    """The events of a trace, by the names of the actors; times are in microseconds since the first span of all."""
    starts = [profile.spans[0].start for profile in profiles.values() if profile.spans]
    origin = min(starts, default=0)
    for number, (name, profile) in enumerate(profiles.items()):
        yield from _heading(number, name)
        for span in profile.spans:
            yield _event(number, span, origin)


def _heading(number: int, name: str) -> Iterator[Event]:
    """What a process and its only thread are called, and where they are shown."""
    place = {"ph": "M", "ts": 0, "dur": 0, "pid": number, "tid": 0}
    yield {**place, "name": "process_name", "args": {"name": name}}
    yield {**place, "name": "process_sort_index", "args": {"sort_index": number}}
    yield {**place, "name": "thread_name", "args": {"name": "loop"}}


def _event(number: int, span: Span, origin: int) -> Event:
    where = {"where": span.where} if span.where else {}
    return {
        "ph": "X",
        "name": span.kind,
        "ts": (span.start - origin) / 1000,
        "dur": span.duration / 1000,
        "pid": number,
        "tid": 0,
        "args": {"tick": span.tick, **where},
    }
