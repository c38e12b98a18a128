"""Actors of a run that stand ready once more: others in the places of lost ones, all joined anew."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from hamdist.cluster.handle import results
from hamdist.cluster.ray_workers import STARTED_SECONDS, made
from hamdist.cluster.setup import taken_over
from hamdist.cluster.worker import Worker
from hamdist.cluster.worker_group import AnyStream
from hamdist.runs.launch import LaunchedRun, joined, worker_specs
from hamdist.runs.prepare import RunSetup


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
    layers = {number: run.placement.actors[number] for number in handles if number < len(specs)}
    calls = [
        call
        for number, names in layers.items()
        for call in taken_over(handles[number], names, run.heard, run.first[1])
    ]
    results(calls, STARTED_SECONDS)


def remade(run: LaunchedRun[AnyStream], setup: RunSetup) -> LaunchedRun[AnyStream]:
    """The same actors with all layers made anew, for another way of learning. Raises UserError, RunError."""
    group, layers = run.group, run.placement.actors
    specs = worker_specs(setup, run.placement)
    made([group.workers[number].make(partial(Worker, spec)) for number, spec in enumerate(specs)])
    calls = [
        call
        for worker, names in zip(group.workers, layers, strict=True)
        for call in taken_over(worker, names, run.heard, run.first[1])
    ]
    results(calls, STARTED_SECONDS)
    return replace(run, setup=setup, layout=replace(run.layout, outline=setup.outline))


def rejoined(run: LaunchedRun[AnyStream]) -> LaunchedRun[AnyStream]:
    """The same run with all actors joined anew; they stand at their start. Raises RunError."""
    devices = tuple(torch.device(location.device) for location in run.group.locations)
    layout, generation = replace(run.layout, devices=devices), run.generation + 1
    carriers = joined(run.setup, run.group, layout, generation)
    return replace(run, layout=layout, generation=generation, carriers=carriers)
