"""Where a run in one process starts: at the beginning, at a checkpoint that it goes on from, or at its own newest one,
with a smaller β, where numbers were not finite.
"""

import logging
from collections.abc import Callable
from typing import Any

from hamdist.config.schema import RunConfig
from hamdist.engine.inline import InlineRuntime
from hamdist.engine.profiler import Timeline
from hamdist.engine.state import RuntimeState
from hamdist.errors import ConfigError, DivergenceError, Problem
from hamdist.runs.checkpoints import Found
from hamdist.runs.fitting import fitting
from hamdist.runs.prepare import OpenStream, built_here, open_stream_of, prepare, stream_after
from hamdist.runs.restart import Restart
from hamdist.runs.rollbacks import Rollbacks

_log = logging.getLogger(__name__)
Begun = tuple[InlineRuntime, OpenStream]


class InlineStart:
    """resumed: the checkpoint from which the run goes on.  rollbacks: how often it went back.

    Raises NetworkError and ConfigError for what cannot run.
    """

    def __init__(self, config: RunConfig, timeline: Timeline, resumed: Found | None) -> None:
        self.rollbacks = Rollbacks(config, resumed)
        self._config, self._timeline, self._resumed = config, timeline, resumed
        self._setup = prepare(config)
        self._restarts: list[Restart] = []

    def first(self) -> Begun:
        """The network and its stream. Raises what opening and building raise, ConfigError for `rollback` in a stream
        that cannot be gone back in.
        """
        runtime, stream = self._at(self._resumed)
        if self._config.on_bad == "rollback" and not stream.stream.seeks:
            message = (
                f"'rollback' goes back in the stream, and {self._config.stream.source!r} cannot: set "
                "placement.runtime=ray, which keeps what it has read, or on_bad to 'stop'"
            )
            raise ConfigError(Problem("on_bad", message))
        return runtime, stream

    def after(self, error: DivergenceError, tick: int, newest: Callable[[], Found | None]) -> Begun | None:
        """What goes on from the newest checkpoint with a smaller β; None where there is none, or β was lowered often
        enough.  tick: to which it had come.
        """
        if not self.rollbacks.next() or (found := newest() or self._resumed) is None:
            return None
        restart, factor = Restart(str(error), found.tick, tick, []), self.rollbacks.factor
        _log.warning("%s; going on from tick %d with learning.beta times %g", error, found.tick, factor)
        begun = self._at(found)
        restart.done("restoring")
        self._restarts.append(restart)
        return begun

    def told(self) -> dict[str, Any]:
        """Of a summary."""
        return {"restarts": [restart.told() for restart in self._restarts]} if self._restarts else {}

    def _at(self, found: Found | None) -> Begun:
        before = None if found is None else found.source()
        stream = open_stream_of(self._config) if before is None else stream_after(self._config, before)
        runtime = InlineRuntime(built_here(self.rollbacks.lowered(self._setup), stream), self._timeline)
        if found is not None and before is not None:
            runtime.restore(fitting(RuntimeState(found.partition(), before.state), runtime))
        return runtime, stream
