"""When no hold settles to the last bit (feedback, T ≠ τ): settled means that what a layer hears stopped changing."""

from torch import Tensor


class Settling:
    """Compares what a layer hears and holds with one tick before.

    tolerance: the largest change of any element that counts as none, relative to 1 + the largest element.
    window: for how many ticks in a row nothing may change, the ticks that a signal takes round the longest loop.
    """

    def __init__(self, tolerance: float, window: int = 1) -> None:
        self.tolerance = tolerance
        self.window = window
        self._still = 0
        self._before: tuple[Tensor, ...] | None = None

    def observe(self, signals: tuple[Tensor, ...]) -> bool:
        """Called once a tick; whether every signal has stayed as it was for the whole window."""
        before, self._before = self._before, signals
        unchanged = before is not None and all(
            self._same(new, old) for new, old in zip(signals, before, strict=True)
        )
        self._still = self._still + 1 if unchanged else 0
        return self._still >= self.window

    def _same(self, new: Tensor, old: Tensor) -> bool:
        return bool((new - old).abs().max() <= self.tolerance * (1 + new.abs().max()))
