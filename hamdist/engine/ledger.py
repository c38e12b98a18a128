"""Counting: the proof that every sample drove a layer exactly once."""

from hamdist.engine.message import Token


class Ledger:
    """Follows the numbers of the samples that drove one layer; constant memory, since numbers come in order."""

    def __init__(self) -> None:
        self.drives = 0  # costates that drove the layer
        self.samples = 0  # rows in them
        self.skipped = 0  # costates that came while the gate was open but had not settled
        self._next = 0
        self._in_order = True

    def drove(self, token: Token) -> None:
        self.drives += 1
        self.samples += token.rows
        self._in_order &= token.first == self._next
        self._next = token.first + token.rows

    def drove_in_a_row(self, drives: int, samples: int, first: Token, last: Token, in_order: bool) -> None:
        """So many tokens drove the layer one after the other, each going on where the one before ended if in order."""
        self.drives += drives
        self.samples += samples
        self._in_order &= in_order and first.first == self._next
        self._next = last.first + last.rows

    def seen_once(self, samples: int) -> bool:
        """Whether the numbers 0 … samples − 1 each drove the layer exactly once."""
        return self._in_order and self._next == samples

    def counts(self) -> dict[str, int]:
        """Costates that drove the layer, samples in them, and costates skipped."""
        return {"drives": self.drives, "samples": self.samples, "skipped": self.skipped}
