"""on_bad: rollback: how often β was lowered, and whether it may be lowered once more."""

from pathlib import Path

from hamdist.config.schema import RunConfig
from hamdist.errors import DivergenceError
from hamdist.runs.checkpoints import Found
from hamdist.runs.prepare import RunSetup

ROLLBACKS = "rollbacks"  # in the manifest of a checkpoint


class Rollbacks:
    """resumed: the checkpoint from which a run goes on.  count: how often until now, that run's included.  factor: by
    which β is multiplied.
    """

    def __init__(self, config: RunConfig, resumed: Found | None) -> None:
        self.count = 0 if resumed is None else int(resumed.manifest.record.get(ROLLBACKS, 0))
        self.factor = config.rollback.factor
        self._times = config.rollback.times if config.on_bad == "rollback" else 0

    def next(self) -> bool:
        """Whether there is to be another one, which counts then."""
        if self.count >= self._times:
            return False
        self.count += 1
        return True

    def lowered(self, setup: RunSetup) -> RunSetup:
        """The setup as it was prepared, with β as it is now."""
        for _ in range(self.count):  # one by one, as they came, for the same bits
            setup = setup.lowered(self.factor)
        return setup

    def tell(self, error: Exception | None, directory: Path, tick: int) -> None:
        """What was not finite, and ends the run, tells of the way on.  tick: of the newest checkpoint, 0: none."""
        if tick and isinstance(error, DivergenceError):
            setting = f"rollback.times={2 * self._times}" if self._times else "on_bad=rollback"
            way = f"hamdist run --resume {directory} {setting}"
            told = f"the checkpoint of tick {tick} is from before; to go on from it with a smaller β: {way}"
            error.args = (f"{error}; {told}", *error.args[1:])

    def told(self) -> dict[str, int]:
        """Of a manifest."""
        return {ROLLBACKS: self.count}
