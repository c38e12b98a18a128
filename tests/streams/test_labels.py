"""Labels as meant: numbers by their value where all are plain numbers, all else as it is spelt."""

from decimal import Decimal

import pytest

from hamdist.errors import StreamError
from hamdist.streams.labels import Labels


def numbers(labels: list[object], classes: list[object] | None = None) -> list[int]:
    known = Labels(classes)
    return [known.number(label, f"row {row}") for row, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["1", "1.0", "2", "2.00", "+1", "1e0", "20e-1"], [0, 0, 1, 1, 0, 0, 1]),
        ([1, 1.0, Decimal("1.00"), "1"], [0, 0, 0, 0]),
        (["0", "-0", "0.0", ".5", "0.5"], [0, 0, 0, 1, 1]),
        (["-1", "1", "-1.0"], [0, 1, 0]),
        (["7", "007", "7"], [0, 1, 0]),
        (["007", "7", "7.0"], [0, 1, 2]),
        (["a", "1", "1.0"], [0, 1, 2]),
        (["12345678901234567890", "12345678901234567891", "12345678901234567890.0"], [0, 1, 0]),
        ([True, False, "True"], [0, 1, 0]),
        (["1", "1_0", "١"], [0, 1, 2]),
    ],
)
def test_in_the_order_of_appearance(labels: list[object], expected: list[int]) -> None:
    assert numbers(labels) == expected


def test_in_the_order_given() -> None:
    assert numbers(["1.0", "2", "1"], [2, 1]) == [1, 0, 1]
    assert numbers(["7", "007"], ["007", "7"]) == [1, 0]
    assert numbers(["1.0", "1", "x"], ["x", "1", "1.0"]) == [2, 1, 0]


@pytest.mark.parametrize(("label", "classes"), [("01", [1, 2]), ("1.0", ["1", "x"]), ("x", [1, 2])])
def test_what_is_not_among_those_given(label: str, classes: list[object]) -> None:
    with pytest.raises(StreamError, match=f"^row 0: the label {label!r} is not among the classes"):
        numbers([label], classes)


def test_one_that_is_given_twice() -> None:
    with pytest.raises(StreamError, match=r"^classes: a label stands twice in 1, 1.0$"):
        Labels([1, 1.0])


def test_it_is_too_late_to_tell_spellings_apart_that_were_one() -> None:
    with pytest.raises(
        StreamError, match=r"^row 2: the label 'x' is no plain number, but '1' and '1.0' were taken for one"
    ):
        numbers(["1", "1.0", "x"])
