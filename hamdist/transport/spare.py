"""Tensors made ready while a frame is on its way: after a wait, an allocation takes longer than all else it needs."""

import torch
from torch import Tensor

from hamdist.transport.places import Place

_LARGEST_BYTES = 64 * 1024


class Spare:
    """For each place of an end's frames, an unused tensor of the form that the last frame had there, if small."""

    def __init__(self) -> None:
        self._places: dict[int, Place] = {}
        self._ready: dict[int, Tensor] = {}

    def prepare(self) -> None:
        """To be called before a wait."""
        for index, place in self._places.items():
            if index not in self._ready:
                self._ready[index] = blank(index, place)

    def take(self, index: int, place: Place) -> Tensor:
        """A tensor for the place, as `blank` makes it."""
        ready = self._ready.pop(index, None)
        if ready is not None and self._places[index] == place:
            return ready
        if place.size <= _LARGEST_BYTES:
            self._places[index] = place
        return blank(index, place)


def blank(index: int, place: Place) -> Tensor:
    """A tensor of the place's form in host memory, 64-byte aligned, its contents arbitrary; the caller's own."""
    return torch.empty(place.form.shape, dtype=place.form.dtype)
