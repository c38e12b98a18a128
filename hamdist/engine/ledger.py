"""Counting: the proof that every sample drove a layer exactly once."""

from typing import NamedTuple

from hamdist.engine.message import Token


class Ledger(NamedTuple):
    """Follows the numbers of the samples that drove one layer; constant memory, since numbers come in order.

    drives: costates that drove the layer.  samples: rows in them.  skipped: costates that came while the gate was open
    but had not settled.  due: the number of the next sample.  in_order: whether every number came when it was due.

    Samples without a target pass when they are due, and drive nothing.
    """

    drives: int = 0
    samples: int = 0
    skipped: int = 0
    due: int = 0
    in_order: bool = True

    def drove(self, token: Token) -> "Ledger":
        return self.drove_in_a_row(1, token.rows, token, token, True)

    def drove_in_a_row(
        self, drives: int, samples: int, first: Token, last: Token, in_order: bool
    ) -> "Ledger":
        """So many tokens drove the layer one after the other, each going on where the one before ended if in order."""
        return Ledger(
            self.drives + drives,
            self.samples + samples,
            self.skipped,
            last.first + last.rows,
            self.in_order and in_order and first.first == self.due,
        )

    def passed(self, token: Token) -> "Ledger":
        """Samples without a target were met."""
        in_order = self.in_order and token.first == self.due
        return self._replace(due=token.first + token.rows, in_order=in_order)

    def seen_once(self, samples: int) -> bool:
        """Whether the numbers 0 … samples − 1 each drove the layer, or passed it, exactly once."""
        return self.in_order and self.due == samples

    def counts(self) -> dict[str, int]:
        """Costates that drove the layer, samples in them, and costates skipped."""
        return {"drives": self.drives, "samples": self.samples, "skipped": self.skipped}
