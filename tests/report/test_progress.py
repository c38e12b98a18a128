"""Progress lines: what they say, and how often."""

import io
import logging
import re

import pytest
from rich.console import Console
from support.patience import patient

from hamdist.report import progress
from hamdist.report.progress import Snapshot, line, progress_on


def snapshot(seconds: float, samples: int = 1000, total: int | None = 64000) -> Snapshot:
    return Snapshot(samples, samples, total, {"loss": 0.43125, "accuracy": 0.8725}, 3512.4, seconds)


def test_line() -> None:
    assert line(snapshot(1.0)) == "1,000 of 64,000 samples, 3,512 a second, loss 0.4313, accuracy 0.8725"
    assert line(snapshot(1.0, total=None)).startswith("1,000 samples, 3,512 a second")


def test_plain_lines_come_every_five_seconds_at_most() -> None:
    out = io.StringIO()
    with progress_on(Console(file=out, width=20)) as show:
        for samples, seconds in enumerate([0.5, 1.0, 5.4, 5.5, 6.0, 17.0, 21.9, 22.0]):
            show(snapshot(seconds, samples))
    lines = out.getvalue().splitlines()
    assert [text.split()[0] for text in lines] == ["0", "3", "5", "7"]


def test_a_terminal_gets_one_line_which_goes_away() -> None:
    out = io.StringIO()
    with progress_on(Console(file=out, force_terminal=True, width=120, color_system=None)) as show:
        show(snapshot(0.1, 32000))
        show(snapshot(0.2, 48000))
    assert "48,000 of 64,000 samples" in out.getvalue()
    assert "75%" in out.getvalue()
    assert out.getvalue().endswith("\x1b[2K")


def test_an_endless_stream_has_no_percentage() -> None:
    out = io.StringIO()
    with progress_on(Console(file=out, force_terminal=True, width=120, color_system=None)) as show:
        show(snapshot(0.1, total=None))
    assert "1,000 samples" in out.getvalue()
    assert "%" not in out.getvalue()


def test_a_stage_is_told_unless_something_comes_of_it_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages are what hamdist logs; warnings are lines at once."""
    log, out = logging.getLogger("hamdist.somewhere"), io.StringIO()
    with progress_on(Console(file=out, width=160)) as show:
        log.info("building 3 layers")
        show(snapshot(0.5, 0))
        monkeypatch.setattr(progress, "SECONDS_UNTIL_TOLD", 0.0)
        log.info("compiling the ticks of a")
        show._stage.join(patient(60))
        log.warning("no room")
    first, stage, warning = out.getvalue().splitlines()
    assert first.startswith("0 of 64,000 samples")
    assert re.fullmatch(r"compiling the ticks of a \(\d+ s since the start\)", stage)
    assert warning == "no room"
    log.info("nobody shows this")
    assert len(out.getvalue().splitlines()) == 3
