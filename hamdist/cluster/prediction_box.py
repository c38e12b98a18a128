"""Lines of predictions on their way out of an actor, to the driver that asks for them."""

import threading
from collections.abc import Sequence

from hamdist.engine.loss_node import Prediction
from hamdist.engine.prediction_lines import PredictionLines

MOST = 4096  # lines that wait: then the actor does, until somebody takes them
TAKEN_SECONDS = 0.1  # for which somebody who takes them waits for a first one


class PredictionBox:
    """`put` belongs to the actor's thread, `take` and `close` to any."""

    def __init__(self, lines: PredictionLines) -> None:
        self._lines = lines
        self._held: list[str] = []
        self._closed = False
        self._changed = threading.Condition()

    def put(self, predictions: Sequence[Prediction]) -> None:
        """Those of ticks that were done; waits while too many are there."""
        told = [line for prediction in predictions if prediction.learn for line in self._lines(prediction)]
        if told:
            with self._changed:
                self._changed.wait_for(lambda: len(self._held) < MOST or self._closed)
                self._held += told
                self._changed.notify_all()

    def take(self) -> list[str]:
        """All that are there, once there is one; none where none comes for TAKEN_SECONDS, or after the last."""
        with self._changed:
            self._changed.wait_for(lambda: self._held or self._closed, TAKEN_SECONDS)
            taken, self._held = self._held, []
            self._changed.notify_all()
        return taken

    def close(self) -> None:
        """None follows, and nobody waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
