"""The sources by the names a config knows them by."""

import inspect
from typing import Any

import torch

from hamdist.errors import Problem, StreamError, did_you_mean
from hamdist.streams.arrays import Arrays
from hamdist.streams.checked import Checked
from hamdist.streams.csv_file import CSV
from hamdist.streams.digits import Digits
from hamdist.streams.iterable import Iterable
from hamdist.streams.json_lines import JSONLines
from hamdist.streams.lectures import Lectures
from hamdist.streams.missing import CHOICES
from hamdist.streams.not_finite import ON_BAD
from hamdist.streams.parquet import Parquet
from hamdist.streams.river_dataset import River
from hamdist.streams.setting_types import setting_problems
from hamdist.streams.settings import check_choice
from hamdist.streams.signals import Signals
from hamdist.streams.standardise import Standardise
from hamdist.streams.stream import Stream
from hamdist.streams.torch_dataset import TorchDataset

SOURCES: dict[str, type[Any]] = {
    "digits": Digits,
    "signals": Signals,
    "lectures": Lectures,
    "arrays": Arrays,
    "csv": CSV,
    "parquet": Parquet,
    "river": River,
    "torch": TorchDataset,
    "iterable": Iterable,
    "stdin": JSONLines,
}


def open_stream(
    source: str,
    *,
    standardise: bool = False,
    seed: int = 0,
    missing_target: str = "refuse",
    on_bad: str = "stop",
    dtype: torch.dtype = torch.float32,
    **settings: Any,
) -> Stream:
    """The stream of a source with its settings, the arguments of its class; checked, and standardised if asked.

    `seed` is for the sources that draw random numbers; the others never see it. Inputs to be standardised are read as
    float64, since a difference of large numbers may be nothing in a shorter `dtype`. missing_target: "refuse" samples
    without a target, or "predict" them. on_bad: "stop" at a sample that is not finite, or "skip" it, where samples come
    one by one, or its whole batch, where the source gives these.
    """
    if source not in SOURCES:
        known = ", ".join(SOURCES)
        message = f"there is no source {source!r}; there are {known}{did_you_mean(source, SOURCES)}"
        raise StreamError(Problem("source", message))
    if not dtype.is_floating_point:
        raise StreamError(Problem("dtype", f"must be a floating one, not {dtype}"))
    problems = setting_problems(source, SOURCES[source], settings, given=("seed", "missing_target", "dtype"))
    if problems:
        raise StreamError(*problems)
    check_choice("missing_target", missing_target, CHOICES)
    check_choice("on_bad", on_bad, ON_BAD)
    taken = inspect.signature(SOURCES[source]).parameters
    shared = {"seed": seed, "missing_target": missing_target}
    shared = {name: value for name, value in shared.items() if name in taken}
    read = torch.float64 if standardise else dtype
    opened = SOURCES[source](**settings, **shared, dtype=read)
    opened.skips = on_bad == "skip"
    checked = Checked(opened, missing_target, on_bad)
    return Standardise(checked, dtype) if standardise else checked
