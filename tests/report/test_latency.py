"""How long live samples wait: lines through a pipe, stamped as they come, and what the summary tells of them.

Nothing here goes by a real clock: `perf_counter` is a count, and the writer writes when the reader begins to wait.
"""

import itertools
import json
import os
import select
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from support.summary import SUMMARY

from hamdist import run
from hamdist.errors import StreamError
from hamdist.report.latency import Latency
from hamdist.report.tables import summary_table
from hamdist.streams import Checked, JSONLines, Standardise, live_lines
from hamdist.streams.live_lines import Line, LiveLines


class Pipe:
    """A pipe whose writer writes its next piece whenever the reader waits, and at last closes it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reading, self.writing = os.pipe()
        self.pieces: Iterator[bytes] = iter(())
        self._look = select.select
        monkeypatch.setattr(live_lines, "select", SimpleNamespace(select=self._select))

    def write(self, data: bytes) -> None:
        os.write(self.writing, data)

    def _select(self, reading: list[int], writing: list[int], failing: list[int], *limit: float):
        if not limit:
            piece = next(self.pieces, None)
            if piece is None:
                self.close()
            else:
                self.write(piece)
        return self._look(reading, writing, failing, 10.0 if not limit else limit[0])

    def close(self) -> None:
        if self.writing >= 0:
            os.close(self.writing)
        self.writing = -1


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    pipe = Pipe(monkeypatch)
    yield pipe
    pipe.close()
    os.close(pipe.reading)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts 1, 2, 3, …: each look at it is another second."""
    seconds = itertools.count(1.0)
    monkeypatch.setattr(live_lines, "perf_counter", lambda: next(seconds))


# lines


@pytest.mark.usefixtures("clock")
def test_a_line_counts_from_the_moment_it_was_there(pipe: Pipe):
    """Made at 1. The first look, at 2, finds nothing, and it waits; the line comes, by 3. Look at 4, wait, by 5."""
    lines = iter(LiveLines(pipe.reading, "utf-8"))
    pipe.pieces = iter([b"a\n", b"b\n"])
    assert [*lines] == [Line("a\n", 3.0), Line("b\n", 5.0)]


@pytest.mark.usefixtures("clock")
def test_a_line_that_came_while_nobody_looked_counts_from_the_last_look(pipe: Pipe):
    lines = iter(LiveLines(pipe.reading, "utf-8"))
    pipe.pieces = iter([b"a\n"])
    assert next(lines).arrived == 3.0
    pipe.write(b"b\nc\n")  # after 3, met by the look at 4: no wait is told too short
    assert [next(lines), next(lines)] == [Line("b\n", 3.0), Line("c\n", 3.0)]


def test_lines_in_pieces(pipe: Pipe):
    """A letter of two bytes, and a line's end of two, are cut in the middle; the last line has no end."""
    pipe.pieces = iter([b"first \xc3", b"\xa9\r", b"\n\nthird\nfou", b"rth"])
    assert [line.text for line in LiveLines(pipe.reading, "utf-8")] == [
        "first é\r\n",
        "\n",
        "third\n",
        "fourth",
    ]


def test_what_is_read_ahead_is_bounded(pipe: Pipe, monkeypatch: pytest.MonkeyPatch):
    """While a mebibyte, here eight bytes, of lines wait to be used, the pipe is left alone."""
    monkeypatch.setattr(live_lines, "ROOM", 8)
    pipe.write(b"1\n2\n3\n4\n5\n6\n")
    lines = LiveLines(pipe.reading, "utf-8")
    taken = [line.text for line in itertools.islice(lines, 1)]
    assert os.read(pipe.reading, 100) == b"5\n6\n"
    pipe.close()
    assert [*taken, *(line.text for line in lines)] == ["1\n", "2\n", "3\n", "4\n"]


# the stream


def standard_input(monkeypatch: pytest.MonkeyPatch, descriptor: int) -> None:
    monkeypatch.setattr("sys.stdin", os.fdopen(descriptor, closefd=False))


def test_standard_input_is_live_where_it_is_a_pipe(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    standard_input(monkeypatch, pipe.reading)
    pipe.pieces = iter([b'{"x": [1]}\n', b'{"x": [2]}\n{"x": [4]}\n'])
    stream = Standardise(Checked(JSONLines(batch_size=2)))
    assert stream.live
    full, short = stream
    assert full.inputs.shape == (2, 1)
    assert (len(full.arrivals), len(short.arrivals)) == (2, 1)
    assert full.arrivals[0] < full.arrivals[1] == short.arrivals[0]
    path = tmp_path / "lines.jsonl"
    path.write_text('{"x": [1]}\n')
    with path.open() as file:
        monkeypatch.setattr("sys.stdin", file)
        stream = JSONLines()
        assert not stream.live
        assert [batch.arrivals for batch in stream] == [()]


def test_bytes_that_are_no_text(pipe: Pipe, monkeypatch: pytest.MonkeyPatch):
    standard_input(monkeypatch, pipe.reading)
    pipe.pieces = iter([b'{"x": [1]}\n\xff\n'])
    with pytest.raises(StreamError, match=r"^standard input is not utf-8 text: .*0xff in position"):
        list(JSONLines())


# latency


def test_percentiles():
    """Beside numpy's of the same waits; from above, and a bin's width, 2.3 %, at most."""
    waits = np.random.default_rng(0).lognormal(mean=-7, sigma=1.5, size=5000)
    latency, now = Latency(), 0.0
    for done, wait in enumerate(waits, start=1):
        latency.present([now + 1.0], asked=now)
        now += 1.0 + wait
        latency.predicted(done, now)
    told = latency.told()
    assert told["samples"] == 5000
    for key, share in (("median_ms", 50), ("p99_ms", 99)):
        exact = 1e3 * np.percentile(waits, share, method="inverted_cdf")
        assert exact <= told[key] * (1 + 1e-9)
        assert told[key] <= exact * 10 ** (1 / 100) * (1 + 1e-9)
    assert told["longest_ms"] == pytest.approx(1e3 * waits.max(), rel=1e-9)


def test_samples_from_before_the_run_first_waited_count_apart():
    """Two lay there when they were asked for; the third came after; of the fourth on all count, even if they wait."""
    latency = Latency()
    latency.present([1.0], asked=2.0)
    latency.present([1.0], asked=3.0)
    latency.present([5.0], asked=4.0)
    latency.present([5.5], asked=6.0)
    latency.predicted(3, now=5.25)
    latency.predicted(4, now=7.5)
    assert latency.told() == {
        "samples": 2,
        "samples_before_caught_up": 2,
        "median_ms": pytest.approx(250, rel=0.03),
        "p99_ms": 2000,
        "longest_ms": 2000,
    }


def test_a_stall_and_what_came_in_it_count_apart():
    """Of five samples the second is presented, and compiled for; the third came meanwhile; the others after."""
    latency = Latency()
    latency.present([2.0], asked=1.0)
    latency.predicted(1, now=3.0)
    latency.present([5.0], asked=4.0)
    latency.stalled()
    latency.predicted(2, now=90.0)
    latency.present([80.0], asked=91.0)
    latency.predicted(3, now=92.0)
    latency.present([94.0], asked=93.0)
    latency.present([95.0], asked=94.5)
    latency.predicted(5, now=96.0)
    told = latency.told()
    assert (told["samples"], told["samples_before_caught_up"], told["longest_ms"]) == (3, 2, 2000)


def test_nothing_is_told_where_nothing_is_live():
    latency = Latency()
    latency.present((), asked=1.0)
    latency.predicted(0, now=2.0)
    assert latency.told() == {}


def test_a_short_and_a_very_long_wait():
    latency = Latency()
    latency.present([1.0, 1.0], asked=0.0)
    latency.predicted(1, now=1.0)
    latency.predicted(2, now=5001.0)
    assert latency.told() == {"samples": 2, "median_ms": 0.001, "p99_ms": 5e6, "longest_ms": 5e6}


# a run


def config(**changes):
    layer = {"name": "only", "modules": [{"type": "Linear", "in_features": 2, "out_features": 1}]}
    network = {"loss": "mse", "layers": [layer, {**layer, "name": "last", "modules": [{"type": "Tanh"}]}]}
    return {"name": "live", "network": network, "stream": {"source": "stdin"}, **changes}


@pytest.mark.slow
def test_the_summary_tells_how_long_samples_waited(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Each line comes when the run waits for it, the first while it still prepares; the last prediction leaves in the
    drain. Chunks of four don't wait to be full."""
    monkeypatch.chdir(tmp_path)
    standard_input(monkeypatch, pipe.reading)
    numbers = torch.arange(9.0).tolist()
    pipe.pieces = iter([json.dumps({"x": [n, 1.0], "y": [0.5]}).encode() + b"\n" for n in numbers])
    summary = run(config(placement={"runtime": "inline", "stack": True, "chunk": 4}), out="out")
    latency = summary["latency"]
    assert (latency["samples"], latency["samples_before_caught_up"], summary["samples"]) == (8, 1, 9)
    assert 0 < latency["median_ms"] <= latency["p99_ms"] <= latency["longest_ms"]
    assert json.loads(Path("out/summary.json").read_text())["latency"] == latency


def test_the_table(capsys: pytest.CaptureFixture[str]):
    latency = {"samples": 9, "median_ms": 0.4123, "p99_ms": 1.25, "longest_ms": 12.0}
    for told, line in (
        (latency, "median 0.412 ms, 99 % within 1.25 ms, longest 12 ms"),
        ({"samples": 0, "samples_before_caught_up": 1200}, "1,200 samples came before the run had caught up"),
    ):
        Console(width=160).print(summary_table({**SUMMARY, "latency": told}))
        assert line in " ".join(capsys.readouterr().out.split())
