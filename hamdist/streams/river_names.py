"""River's datasets and generators by name."""

import inspect
from collections.abc import Mapping
from typing import Any

from hamdist.errors import MissingExtraError, Problem, StreamError, did_you_mean
from hamdist.streams.factory import check_arguments
from hamdist.streams.listing import listed


def make_dataset(name: str, args: Mapping[str, Any], seed: int) -> Any:
    """The dataset "Phishing" of river.datasets or the generator "synth.Agrawal" of river.datasets.synth.

    Every argument called seed or seed_… that is not among `args` is `seed`.
    """
    known = _known_datasets()
    if name not in known:
        message = (
            f"River has no dataset {name!r}; it has {listed(known, len(known))}{did_you_mean(name, known)}"
        )
        raise StreamError(Problem("dataset", message))
    check_arguments(known[name], args, name)
    takes = inspect.signature(known[name]).parameters
    seeds = {key: seed for key in takes if key == "seed" or key.startswith("seed_")}
    try:
        return known[name](**{**seeds, **args})
    except (TypeError, ValueError) as error:
        raise StreamError(Problem("args", f"{name} does not take {dict(args)}: {error}")) from error


def _known_datasets() -> dict[str, type]:
    try:
        from river import datasets
        from river.datasets import synth
    except ImportError as error:
        raise MissingExtraError("the river stream", "river") from error
    named = [("", datasets), ("synth.", synth)]
    return {
        prefix + name: found
        for prefix, module in named
        for name, found in inspect.getmembers(module, inspect.isclass)
    }
