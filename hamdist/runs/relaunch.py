"""Actors of a run that stand ready once more: others in the places of lost ones, all joined anew."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

import torch

from hamdist.cluster.handle import results
from hamdist.cluster.ray_workers import STARTED_SECONDS, made
from hamdist.cluster.setup import taken_over
from hamdist.cluster.worker import Worker
from hamdist.cluster.worker_group import AnyStream
from hamdist.runs.launch import LaunchedRun, joined, worker_specs


def replace_lost(run: LaunchedRun[AnyStream], lost: Sequence[int]) -> None:
    """Puts others, which make the same, in the places of lost actors.  lost: by number, the stream's last.

    Raises UserError, RunError.
    """
    group, specs = run.group, worker_specs(run.setup, run.placement)
    handles = {number: group.replace(number) for number in lost}
    making = [
        handle.make(partial(Worker, specs[number]) if number < len(specs) else run.source.make)
        for number, handle in handles.items()
    ]
    for number, location in zip(handles, made(making), strict=True):
        group.locations[number] = location
    _take_over(run, [number for number in handles if number < len(specs)])


def lowered(run: LaunchedRun[AnyStream], factor: float) -> LaunchedRun[AnyStream]:
    """The same run with β times a factor; its actors do not know of it until they are made anew."""
    setup = run.setup.lowered(factor)
    return replace(run, setup=setup, layout=replace(run.layout, outline=setup.outline))


def remake(run: LaunchedRun[AnyStream], lost: Sequence[int]) -> None:
    """All layers anew, where they are, and those of lost actors in others. Raises UserError, RunError."""
    replace_lost(run, lost)
    group, specs = run.group, worker_specs(run.setup, run.placement)
    alive = [number for number in range(len(specs)) if number not in lost]
    made([group.workers[number].make(partial(Worker, specs[number])) for number in alive])
    _take_over(run, alive)


def _take_over(run: LaunchedRun[AnyStream], numbers: Iterable[int]) -> None:
    """Actors that have made their layers learn of them what all others know."""
    calls = [
        call
        for number in numbers
        for call in taken_over(
            run.group.workers[number], run.placement.actors[number], run.heard, run.first[1]
        )
    ]
    results(calls, STARTED_SECONDS)


def rejoined(run: LaunchedRun[AnyStream]) -> LaunchedRun[AnyStream]:
    """The same run with all actors joined anew; they stand at their start. Raises RunError."""
    devices = tuple(torch.device(location.device) for location in run.group.locations)
    layout, generation = replace(run.layout, devices=devices), run.generation + 1
    carriers = joined(run.setup, run.group, layout, generation)
    return replace(run, layout=layout, generation=generation, carriers=carriers)
