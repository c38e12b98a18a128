"""A run whose layers are Ray actors: it watches them, and writes down what comes of them.

Nothing of a tick passes through here. The driver asks for news about once a second.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from hamdist.config.schema import RunConfig
from hamdist.errors import RunError
from hamdist.runs.interruption import Interruption, interruptible
from hamdist.runs.record import OnProgress, Record, WindowRecord
from hamdist.report.profile import Profile
from hamdist.runs.record import RunDirectory
from hamdist.cluster.worker_group import STARTED_SECONDS
from hamdist.cluster.supervisor import Ending, Watch
from hamdist.engine.divergence import check_finite
from hamdist.cluster.worker import Outcome, Spent
from hamdist.runs.launch import Stage, script_of, staged
from hamdist.runs.record import Results, summarise

SECONDS_BETWEEN_NEWS = 0.5
GRACE_SECONDS = 5.0  # beyond a heartbeat, for the others to end by themselves


def run_on_ray(
    config: RunConfig,
    open_directory: Callable[[], RunDirectory],
    on_progress: OnProgress | None,
    profile: bool = False,
) -> dict[str, Any]:
    """Runs a config over Ray actors and returns the summary; the directory is opened when all stand ready."""
    with staged(script_of(config, profile)) as stage:
        return RayRun(stage, open_directory(), on_progress).run()


class RayRun:
    """One run under way."""

    def __init__(self, stage: Stage, directory: RunDirectory, on_progress: OnProgress | None) -> None:
        self.stage = stage
        config, layout = stage.script.config, stage.layout
        self.record = Record(directory, on_progress, config.stream.samples)
        self._lines = WindowRecord(self.record, layout.inputs.shape[0], config.stream.hold)
        self._grace = config.placement.heartbeat_seconds + GRACE_SECONDS

    def run(self) -> dict[str, Any]:
        """To the end; whatever happens, what was learnt until then is in the run directory."""
        watch = Watch(self.stage.troupe, self.stage.bearer, self._grace)
        with interruptible() as interruption:
            try:
                self._follow(watch, interruption)
            except KeyboardInterrupt:
                self._finish("interrupted", watch.ending(0.0))
                raise
        ending = self._judged(watch.ending())
        summary = self._finish(_status(ending, interruption), ending)
        if ending.error is not None:
            if ending.details:
                ending.error.add_note(f"In the actor:\n{ending.details}")
            raise ending.error
        return summary

    def _follow(self, watch: Watch, interruption: Interruption) -> None:
        """News now and then, until the run has ended or somebody failed."""
        asked = False
        while not watch.wait(SECONDS_BETWEEN_NEWS):
            if interruption.asked and not asked:
                asked = True
                watch.end()
            bearer, stream = watch.progress()
            entered = stream.ticks if stream.entered_ticks is None else stream.entered_ticks
            self._lines.add(bearer.windows, entered, stream.samples)
            self.record.snapshot(bearer.ticks, stream.samples, dict)

    def _judged(self, ending: Ending) -> Ending:
        """A regular end after which weights are not finite is none, though no loss told of it."""
        if ending.error is not None:
            return ending
        extents = self.stage.troupe.all(range(len(ending.outcomes)), "extents", seconds=STARTED_SECONDS)
        try:
            assert ending.stream is not None
            check_finite(ending.stream.ticks, [extent for part in extents for extent in part])
        except RunError as error:
            return replace(ending, error=error)
        return ending

    def _finish(self, status: str, ending: Ending) -> dict[str, Any]:
        results = self._results(ending)
        self._lines.add(ending.windows, ending.stream.entered_ticks if ending.stream else 0, results.samples)
        self._lines.close(results.samples, results.ticks)
        summary = summarise(results, status, self.record.elapsed, ending.error)
        self.record.directory.finish(summary, self._weights(ending), results.profiles)
        return {**summary, "directory": str(self.record.directory.path)}

    def _weights(self, ending: Ending) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
        """Layer by layer, so that the driver never holds more than one; those of lost actors are missing."""
        hosts, troupe = self.stage.layout.hosts, self.stage.troupe
        for name in self.stage.script.names:
            if ending.outcomes[hosts[name]] is not None:
                (tensors,) = troupe.all([hosts[name]], "tensors", name, seconds=STARTED_SECONDS)
                yield name, tensors

    def _results(self, ending: Ending) -> Results:
        told = [outcome for outcome in ending.outcomes if outcome is not None]
        stream, first = ending.stream, next(iter(self.stage.script.outline.losses))
        ledgers = {name: ledger for outcome in told for name, ledger in outcome.ledgers.items()}
        energies = {name: found for outcome in told for name, found in outcome.energies.items()}
        samples = stream.samples if stream else 0
        names = self.stage.troupe.names
        peaks = {names[outcome.actor]: outcome.peak_memory_bytes for outcome in told}
        ticks = stream.ticks if stream else max((o.ticks for o in told), default=0)
        return Results(
            ticks=ticks,
            seconds=max(ticks, 1) * self._seconds_a_tick(ending),
            samples=samples,
            seen_once=len(ledgers) == len(self.stage.script.names)
            and all(ledger.seen_once(samples) for ledger in ledgers.values()),
            prequential=_found(told, lambda outcome: outcome.prequential.get(first)),
            holdout=_found(told, lambda outcome: outcome.holdout.get(first)),
            layers={
                n: {**ledgers[n].counts(), **energies[n]} for n in self.stage.script.names if n in ledgers
            },
            peak_memory_bytes=peaks | ({names[-1]: stream.peak_memory_bytes} if stream else {}),
            actors=len(ending.outcomes),
            profiles=self._profiles(ending),
            more={
                "startup_seconds": self.stage.laps.seconds,
                "places": self._places(told),
                **self._execution(told),
                "links": {edge: carrier.name for edge, carrier in self.stage.carriers.items()},
            },
        )

    def _execution(self, told: list[Outcome]) -> dict[str, Any]:
        """How regular ticks ran, by actor, where they ran in one go."""
        names = self.stage.troupe.names
        execution = {names[outcome.actor]: dict(outcome.execution) for outcome in told if outcome.execution}
        return {"execution": execution} if execution else {}

    def _profiles(self, ending: Ending) -> dict[str, Profile]:
        """Of the actors that could tell theirs, by name, the stream's last; none where none was wanted."""
        told = zip(self.stage.troupe.names, (*ending.outcomes, ending.stream), strict=True)
        return {name: outcome.profile for name, outcome in told if outcome and outcome.profile}

    def _seconds_a_tick(self, ending: Ending) -> float:
        """By the clock of the actor with the first loss; the stream is ahead of it."""
        bearer = ending.outcomes[self.stage.bearer]
        if bearer is None or not bearer.ticks:
            return self.record.elapsed
        return bearer.spent.seconds / bearer.ticks

    def _places(self, told: list[Outcome]) -> list[dict[str, Any]]:
        """Where every actor was, and where its time went."""
        spent = {outcome.actor: outcome.spent for outcome in told}
        actors = zip(self.stage.placement.actors, self.stage.troupe.places, strict=False)
        return [
            {
                "actor": number,
                "layers": list(layers),
                "host": place.host,
                "node": place.node,
                "pid": place.pid,
                "device": place.device,
                **spent.get(number, Spent()).told(),
            }
            for number, (layers, place) in enumerate(actors)
        ]


def _found(told: list[Outcome], of: Callable[[Outcome], Mapping[str, float] | None]) -> Mapping[str, float]:
    """What the actor with the first loss says."""
    return next((found for outcome in told if (found := of(outcome)) is not None), {})


def _status(ending: Ending, interruption: Interruption) -> str:
    if ending.error is not None:
        return "failed"
    return "interrupted" if interruption.asked else "finished"
