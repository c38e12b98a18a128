"""Class labels as the numbers 0, 1, …, C − 1."""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from hamdist.errors import Problem, StreamError, did_you_mean
from hamdist.streams.listing import listed

PLAIN_NUMBER = re.compile(r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
"""A number without leading zeros: 7 and 7.0, but not the code 007."""


class Labels:
    """Numbers the labels in the order given or, where none are given, in the order of first appearance.

    Labels are compared as text, so that 1 in a config is "1" in a file; but where all of them are plain numbers, as
    numbers, so that 1.0 is 1, too. Where they are yet to appear, that is so until one comes that is none; one that
    comes after two spellings were taken for one is a StreamError.
    """

    def __init__(self, classes: Sequence[object] | None = None) -> None:
        self._given = classes is not None
        self._names = [str(label) for label in classes or ()]
        self._as_numbers = all(map(PLAIN_NUMBER.fullmatch, self._names))
        self._numbers: dict[Decimal | str, int] = {self._key(n): place for place, n in enumerate(self._names)}
        self._one: tuple[str, str] | None = None  # spellings that were taken for one label
        if len(self._numbers) != len(self._names):
            raise StreamError(Problem("classes", f"a label stands twice in {listed(classes or ())}"))
        if self._given and not self._names:
            raise StreamError(Problem("classes", "an empty list; list every label, or leave classes out"))

    @property
    def count(self) -> int | None:
        """How many classes there are; None where they are yet to appear."""
        return len(self._names) if self._given else None

    def given(self, label: object) -> bool:
        """Whether it is among the labels given."""
        return self._given and str(label) in self._names

    def number(self, label: object, where: str) -> int:
        """The class of a label; `where` opens the message of the StreamError for one that was not given."""
        text = str(label)
        if self._as_numbers and PLAIN_NUMBER.fullmatch(text) is None:
            if self._given:
                raise self._unknown(text, where)
            self._compare_as_text(text, where)
        number = self._numbers.get(self._key(text))
        if number is None:
            return self._add(text, where)
        if self._names[number] != text:
            self._one = self._names[number], text
        return number

    def state_dict(self) -> dict[str, Any]:
        """Those that have appeared; those given are not told."""
        if self._given:
            return {}
        return {"names": self._names, "as_numbers": self._as_numbers, "one": self._one and list(self._one)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises KeyError, TypeError, ValueError for what is none."""
        if self._given:
            return
        names, one = [str(name) for name in state["names"]], state["one"]
        self._as_numbers = bool(state["as_numbers"])
        self._names, self._numbers = names, {self._key(name): place for place, name in enumerate(names)}
        self._one = None if one is None else (str(one[0]), str(one[1]))

    def _add(self, text: str, where: str) -> int:
        """A label that has not appeared before."""
        if self._given:
            raise self._unknown(text, where)
        number = self._numbers[self._key(text)] = len(self._names)
        self._names = [*self._names, text]  # another list: a state may have the one before
        return number

    def _key(self, text: str) -> Decimal | str:
        """What is the same for spellings of one label."""
        return Decimal(text) if self._as_numbers else text

    def _compare_as_text(self, text: str, where: str) -> None:
        """From now on, since a label came that is no plain number."""
        if self._one is not None:
            one, other = map(repr, self._one)
            raise StreamError(
                f"{where}: the label {text!r} is no plain number, but {one} and {other} were taken for one label, as "
                "numbers: list all labels in `classes`, or spell each one way"
            )
        self._as_numbers = False
        self._numbers = {name: number for number, name in enumerate(self._names)}

    def _unknown(self, text: str, where: str) -> StreamError:
        hint = did_you_mean(text, self._names)
        return StreamError(
            f"{where}: the label {text!r} is not among the classes {listed(self._names)}{hint}"
        )
