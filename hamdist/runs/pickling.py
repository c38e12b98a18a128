"""Whether what a learner was made of can be pickled, said by name before anything is."""

import pickle
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hamdist.errors import first_line
from hamdist.network.losses import called
from hamdist.network.network import Network
from hamdist.runs.chosen import Chosen


def parts_of(network: Network, chosen: Chosen) -> dict[str, Any]:
    """Of a learner, what is the user's, by what users call it."""
    layers = {f"layer {spec.name!r}": spec.build for spec in network.layers}
    losses = {f"the loss {called(node, spec)!r}": spec.function for node, spec in network.losses.items()}
    return {**layers, **losses, **chosen.settings}


def check_pickles(parts: Mapping[str, Any]) -> None:
    """parts: by what users call them. Raises TypeError naming the first that cannot be pickled, and why."""
    for name, part in parts.items():
        try:
            _Trial().dump(part)
        except Exception as error:
            raise TypeError(
                f"{name} cannot be pickled: {first_line(error)}. Give a module, or a function that a module defines by "
                "its name; or keep learner.save(path), which asks for it again"
            ) from error


class _Nowhere:
    """What is written is dropped."""

    def write(self, data: Any) -> int:
        return len(data)


class _Trial(pickle.Pickler):
    """Without the numbers of tensors, which always can."""

    def __init__(self) -> None:
        super().__init__(_Nowhere(), pickle.HIGHEST_PROTOCOL)

    def persistent_id(self, obj: Any) -> Any:
        return "" if isinstance(obj, Tensor) else None
