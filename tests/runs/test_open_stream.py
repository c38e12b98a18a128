"""A stream that was opened for a run in this process, and one that goes on after a cut."""

import logging
from typing import Any

import pytest
import torch

from hamdist.cluster.source_part import SourcePart
from hamdist.config.schema import RunConfig
from hamdist.engine.state import SourceState
from hamdist.runs.prepare import OpenStream, open_stream_of, stream_after
from hamdist.runs.stream_feed import StreamFeed


def config_of(**stream: Any) -> RunConfig:
    layers = [{"name": "head", "modules": [{"type": "Linear", "in_features": 64, "out_features": 10}]}]
    return RunConfig.model_validate(
        {"name": "test", "stream": stream, "network": {"loss": "cross_entropy", "layers": layers}}
    )


DIGITS = config_of(source="digits", batch_size=7, samples=40, standardise=True)


def part_of(opened: OpenStream) -> SourcePart:
    return SourcePart(SourceState(), opened.batches.position, (opened.first.inputs, opened.first.targets))


def test_the_position_is_that_of_the_batch_handed_out_last() -> None:
    opened, whole = open_stream_of(DIGITS), list(open_stream_of(DIGITS).batches)
    parts = [part_of(opened)]
    parts += [part_of(opened) for _ in opened.batches]
    assert len(parts) == len(whole) + 1 == 7
    for number, part in enumerate(parts):
        later = stream_after(DIGITS, part)
        assert torch.equal(later.first.inputs, whole[0].inputs)
        assert later.batches.position == part.stream
        rest = [batch.inputs for batch in later.batches]
        assert len(rest) == len(whole) - number
        assert all(map(torch.equal, rest, (batch.inputs for batch in whole[number:])))


def test_what_cannot_seek_is_to_be_sent_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hamdist.streams.Digits.seeks", False)
    opened = open_stream_of(DIGITS)
    next(opened.batches)
    with caplog.at_level(logging.WARNING, "hamdist"):
        stream_after(DIGITS, part_of(opened))
    assert "send it again from sample 7 on" in caplog.text


def test_what_feeds_actors_is_the_same_stream() -> None:
    feed, opened = StreamFeed(DIGITS), open_stream_of(DIGITS)
    for pair, batch in zip(feed, opened.batches, strict=True):
        assert torch.equal(pair[0], batch.inputs)
        assert feed.taken == opened.stream.taken
    assert feed.seeks
    later = StreamFeed(DIGITS)
    later.load_state_dict(part_of(opened).stream)
    assert list(later) == []
    held_out = [feed.holdout(), opened.stream.holdout()]
    assert all(each is not None for each in held_out)
    assert torch.equal(*(next(each)[0] for each in held_out if each is not None))
