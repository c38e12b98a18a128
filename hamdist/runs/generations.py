"""The actors of a run, generation after generation: where a process, a machine or a link fails, the next one goes on
from the newest whole cut, with others in the places of those that were lost.

Survivors go back by themselves, from memory; what the lost ones had is read from the checkpoint. Everybody is told what
was under way along its edges.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import replace

from hamdist.cluster.cut_keeper import Write
from hamdist.cluster.failure import Failure, is_lost
from hamdist.cluster.handle import Handle, results
from hamdist.cluster.ray_workers import STARTED_SECONDS
from hamdist.cluster.source_part import SourcePart
from hamdist.cluster.stream_worker import StreamWorker
from hamdist.cluster.supervisor import ANSWER_SECONDS, Ending, Supervisor
from hamdist.cluster.worker import UnderWay, Worker
from hamdist.cluster.worker_group import Peer
from hamdist.engine.state import PartitionState
from hamdist.errors import RunError, UserError
from hamdist.report.wording import listed
from hamdist.runs.allowance import Allowance
from hamdist.runs.checkpoint_part import CheckpointError
from hamdist.runs.cuts import Cuts
from hamdist.runs.launch import LaunchedRun
from hamdist.runs.relaunch import lowered, rejoined, remake, replace_lost
from hamdist.runs.restart import Restart

Stored = Callable[[int, Sequence[str]], PartitionState]
"""Reads what some nodes had at a cut from its checkpoint. Raises UserError, RunError."""

_log = logging.getLogger(__name__)


class Generations:
    """run: the actors as they are now.  restarts: what was done about failures.  astray: whether the layers may stand
    elsewhere than at the end of a generation, on their way to the next.

    cuts: of the run.  write, stored: what writes the parts of cuts where actors live, and reads them here.
    """

    def __init__(
        self,
        run: LaunchedRun[StreamWorker],
        allowance: Allowance,
        grace_seconds: float,
        cuts: Cuts,
        write: Write | None,
        stored: Stored,
    ) -> None:
        self.run = run
        self.restarts: list[Restart] = []
        self.astray = False
        self._allowance, self._grace, self._cuts = allowance, grace_seconds, cuts
        self._write, self._stored = write, stored

    def first(self) -> Supervisor:
        """The first generation runs, from the cut that it is to go on from, if there is one."""
        if self._cuts.newest is not None:
            self._go_back(self._cuts.newest)
        return self._begin()

    def next(self, ending: Ending) -> Supervisor | None:
        """The one after a generation that has ended like this; None where the run ends with it, or must."""
        if not ending.of_machines:
            return None
        assert ending.failure is not None
        lost, cause = ending.lost, ending.failure.cause
        self._cuts.reached = self._reached(ending)
        at = min(self.supervisor.ended_at, time.time())
        while not (refused := self._allowance.refused()):
            restart = self._noted(cause, lost, at)
            try:
                self._restart(restart, lost)
                return self._begin(restart)
            except RunError as error:
                unmade = () if "replacing" in restart.seconds else lost
                cause, lost, at = str(error), tuple(sorted({*self._silent(), *unmade})), time.time()
            except CheckpointError as error:
                cause, lost, at = str(error), (), time.time()
                self._cuts.spoilt()
            except UserError as error:
                refused = str(error)
                break
        _log.warning("the run cannot go on: %s", refused)
        return None

    def rolled_back(self, ending: Ending, factor: float) -> Supervisor | None:
        """The one after a generation in which something was not finite: it goes on from the newest cut with β times a
        factor; None where there is none to go back to.
        """
        newest = self._cuts.newest
        if ending.failure is None or newest is None:
            return None
        restart = Restart(ending.failure.cause, newest.tick, self._reached(ending), [])
        self.restarts.append(restart)
        _log.warning(
            "%s; going on from tick %d with learning.beta times %g", restart.cause, newest.tick, factor
        )
        self._cuts.go_back(newest.tick)
        self.run = lowered(self.run, factor)
        try:
            remake(self.run, ending.lost)
            results([self.run.group.stream.call(StreamWorker.rewind, newest)], STARTED_SECONDS)
            self.run = rejoined(self.run)
            self._go_back(newest)
            return self._begin(restart)
        except (RunError, CheckpointError) as error:  # of those that live nobody knows which β they have
            if isinstance(error, CheckpointError):
                self._cuts.spoilt()
            lost = {*range(len(self.run.group.workers)), *ending.lost, *self._silent()}
            failed = Failure(error, of_machines=True)
            return self.next(replace(ending, failure=failed, lost=tuple(sorted(lost))))

    def _reached(self, ending: Ending) -> int:
        """The tick that a generation had come to, as far as is known."""
        return max([self._cuts.reached, *(each.ticks for each in ending.outcomes if each)])

    def whole(self, tick: int) -> None:
        """The cut of this tick is whole."""
        self.supervisor.whole(tick)
        self._allowance.progressed()

    def _begin(self, restart: Restart | None = None) -> Supervisor:
        write = [worker.call(Worker.write_cuts, self._write) for worker in self.run.group.workers]
        results(write, STARTED_SECONDS)
        self.supervisor = Supervisor(self.run.group, self.run.first_loss, self._grace)
        self.astray = False
        if restart is not None:
            restart.done("restoring")
        self.run.group.stand_ins.refill()
        return self.supervisor

    def _noted(self, cause: str, lost: Sequence[int], at: float) -> Restart:
        names = [self.run.group.names[number] for number in lost]
        newest = self._cuts.newest
        restart = Restart(cause, 0 if newest is None else newest.tick, self._cuts.reached, names, at=at)
        restart.seconds["stopping"] = round(time.time() - at, 3)
        self.restarts.append(restart)
        _log.warning(
            "%s; going on from tick %d%s",
            cause,
            restart.tick,
            f", with others for {listed(names)}" if names else "",
        )
        time.sleep(self._allowance.spend())
        return restart

    def _restart(self, restart: Restart, lost: Sequence[int]) -> None:
        """Raises RunError where somebody fails meanwhile."""
        newest, group = self._cuts.newest, self.run.group
        self._cuts.go_back(restart.tick)
        replace_lost(self.run, lost)
        restart.done("replacing")
        results([group.stream.call(StreamWorker.rewind, newest)], STARTED_SECONDS)
        self.astray = True
        self.run = rejoined(self.run)
        restart.done("joining")
        if newest is None:
            results([worker.call(Worker.begin_anew) for worker in group.workers], STARTED_SECONDS)
        else:
            self._go_back(newest)

    def _go_back(self, newest: SourcePart) -> None:
        """All layers to a cut: those that keep it by themselves, the others as it was stored."""
        workers, tick = self.run.group.workers, newest.tick
        keeping = results([worker.call(Worker.keeps, tick) for worker in workers], STARTED_SECONDS)
        said = [self._said(number, tick, kept) for number, kept in enumerate(keeping)]
        heard = UnderWay(
            {edge: known for each in said for edge, known in each.signals.items()},
            {edge: known for each in said for edge, known in each.costates.items()},
        )
        for number, kept in enumerate(keeping):
            self._return(workers[number], number, kept, heard, newest)

    def _said(self, number: int, tick: int, kept: bool) -> UnderWay:
        worker = self.run.group.workers[number]
        if kept:
            return results([worker.call(Worker.said, tick)], STARTED_SECONDS)[0]
        state = self._stored(tick, self._nodes(number))
        return UnderWay(state.signals, state.costates)

    def _return(
        self, worker: Handle[Worker], number: int, kept: bool, heard: UnderWay, newest: SourcePart
    ) -> None:
        signals, costates = self._heard_by(number, heard)
        if kept:
            call = worker.call(Worker.go_back, newest.tick, UnderWay(signals, costates), newest.state)
        else:
            stored = self._stored(newest.tick, self._nodes(number))
            state = stored._replace(signals=stored.signals | signals, costates=stored.costates | costates)
            call = worker.call(Worker.restore, state, newest.state)
        results([call], STARTED_SECONDS)

    def _nodes(self, number: int) -> list[str]:
        """The layers and losses that an actor hosts."""
        layout = self.run.layout
        return [node for node, host in layout.hosts.items() if host == number]

    def _heard_by(self, number: int, heard: UnderWay) -> UnderWay:
        """What an actor must know of it: all along the edges of its nodes."""
        nodes, edges = set(self._nodes(number)), self.run.setup.outline.graph.edges
        own = {edge.name for edge in edges if edge.source in nodes or edge.target in nodes}
        return UnderWay(
            {edge: known for edge, known in heard.signals.items() if edge in own},
            {edge: known for edge, known in heard.costates.items() if edge in own},
        )

    def _silent(self) -> tuple[int, ...]:
        """The numbers of those that do not answer now."""
        asked = [handle.ask(Peer.alive) for handle in self.run.group.everyone]
        wait(asked, ANSWER_SECONDS)
        return tuple(number for number, call in enumerate(asked) if is_lost(call))
