"""A run: from a config to a stream, a network, a runtime and a run directory; also `plan`.

A run goes on until its stream ends, or until Ctrl-C; then it drains, so that every sample has driven every layer, tests
on the hold-out, and writes its weights and its summary.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from hamdist.config.loader import Loaded, load
from hamdist.errors import RunError, UserError, with_place
from hamdist.planning.build_plan import plan_of
from hamdist.planning.plan import Plan
from hamdist.runs.answers import Answers
from hamdist.runs.assembly import network_keys
from hamdist.runs.inline import run_inline
from hamdist.runs.interruption import Signalled, interruptible
from hamdist.runs.launch import planned_hosts
from hamdist.runs.prepare import built_here, open_stream_of, prepare
from hamdist.runs.ray import run_on_ray
from hamdist.runs.recorder import OnProgress
from hamdist.runs.starting import start_of
from hamdist.runs.which_run import Resume, Source, which_run

_log = logging.getLogger(__name__)


def run(
    config: Source | None = None,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    on_progress: OnProgress | None = None,
    profile: bool = False,
    predictions: str | Path | None = None,
    begun: float | None = None,
    resume: Resume = False,
) -> dict[str, Any]:
    """Runs a config to the end of its stream and returns the summary, which is also in the run directory.

    config: a file, the name of an example, or a mapping; None: that of the run which goes on.  out: the run directory,
    runs/<name> if None.
    profile: record where the time goes: the shares are in the summary then, and trace.json is in the run directory.
    predictions: a file for a line of JSON a sample, written as its prediction leaves the network; "-" is standard
    output.  begun: since when its time counts, by time.perf_counter; None: since now.
    resume: True: the run in `out` goes on from its newest checkpoint; a folder: the run in it; "auto": it goes on if
    there is one, and begins if not.
    Raises UserError for what is wrong with config or stream, RunError for a run that fails on its way.
    """
    begun = perf_counter() if begun is None else begun
    answers = None if predictions is None else Answers(predictions)
    start = start_of(which_run(config, overrides, out, resume))
    if start.done is not None:
        _log.warning("the run in %s is finished: nothing is left to do", start.directory)
        return {**start.done, "phases": {}}  # of this call
    run_there = run_on_ray if start.loaded.config.placement.runtime == "ray" else run_inline
    opening = partial(start.open, answers)
    with interruptible(), _located(start.loaded), _ending_no_program():
        try:
            return run_there(start.loaded.config, opening, on_progress, profile, answers, begun, start.found)
        finally:
            if answers is not None:
                answers.close()


def plan(config: Source, overrides: Sequence[str] = ()) -> Plan:
    """What a config would run: layers, edges, delays, costs, and who hosts what."""
    loaded = load(config, overrides)
    with _located(loaded):
        setup, stream = prepare(loaded.config), open_stream_of(loaded.config)
        program = built_here(setup, stream)
        if setup.placement.runtime != "ray":
            return plan_of(program)
        with network_keys():
            return plan_of(program, planned_hosts(setup, stream.first.inputs))


@contextmanager
def _ending_no_program() -> Iterator[None]:
    """What code of the user's raises within to end the program, as a RunError: of signals we hear otherwise."""
    try:
        yield
    except (Exception, Signalled):
        raise
    except BaseException as error:
        raise RunError(f"the run could not begin: {with_place(error)}") from error


@contextmanager
def _located(loaded: Loaded) -> Iterator[None]:
    """Errors from within get the place of the key they speak of."""
    try:
        yield
    except UserError as error:
        error.restate(*loaded.explain(error))
        raise
