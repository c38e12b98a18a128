"""Class labels as the numbers 0, 1, …, C − 1."""

from collections.abc import Sequence

from hamdist.errors import Problem, StreamError, did_you_mean
from hamdist.streams.listing import listed


class Labels:
    """Numbers the labels in the order given or, where none are given, in the order of first appearance.

    Labels are compared as text, so that 1 in a config is "1" in a file.
    """

    def __init__(self, classes: Sequence[object] | None = None) -> None:
        self._given = classes is not None
        self._numbers = {str(label): number for number, label in enumerate(classes or ())}
        if len(self._numbers) != len(classes or ()):
            raise StreamError(Problem("classes", f"a label stands twice in {listed(classes or ())}"))
        if self._given and not self._numbers:
            raise StreamError(Problem("classes", "an empty list; list every label, or leave classes out"))

    @property
    def count(self) -> int | None:
        """How many classes there are; None where they are yet to appear."""
        return len(self._numbers) if self._given else None

    def number(self, label: object, where: str) -> int:
        """The class of a label; `where` opens the message of the StreamError for one that was not given."""
        text = str(label)
        if text not in self._numbers:
            if self._given:
                hint = did_you_mean(text, self._numbers)
                raise StreamError(
                    f"{where}: the label {text!r} is not among the classes {listed(self._numbers)}{hint}"
                )
            self._numbers[text] = len(self._numbers)
        return self._numbers[text]
