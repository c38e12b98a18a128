"""What targets are looked at for before they enter: rows that have none, and classes that have no place.

A class that its loss cannot judge would break off a tick midway; here nothing has moved yet.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from hamdist.errors import StreamError
from hamdist.network.loss_fit import stray_class
from hamdist.network.losses import LossSpec
from hamdist.network.target_parts import Absence, Lacking
from hamdist.physics.losses import classes_of

NO_PARTS = Absence()


@dataclass(frozen=True)
class Entrance:
    """absence: what it looks like where a target is missing.  judged: losses whose classes are known, each with an
    output [B, …] like those to come, on the device "meta".
    """

    absence: Absence = NO_PARTS
    judged: tuple[tuple[LossSpec, Tensor], ...] = ()

    @classmethod
    def of(
        cls, absence: Absence, losses: Iterable[LossSpec], shapes: Mapping[str, Sequence[int]]
    ) -> "Entrance":
        """shapes: of the layers' outputs, [B, …]."""
        known = [loss for loss in losses if classes_of(loss.function) is not None]
        return cls(
            absence, tuple((loss, torch.empty(tuple(shapes[loss.layer]), device="meta")) for loss in known)
        )

    def look(self, targets: Tensor, sample: int) -> Lacking:
        """What rows of targets [R, …] lack.

        sample: the number of the first. Raises StreamError for a class that the output of a layer does not have.
        """
        if self._plain(targets):
            return Lacking()
        for loss, output in self.judged:
            stray = stray_class(loss.function, output[: len(targets)], loss.own(targets))
            if stray is not None:
                came = f"class {stray.number} came in sample {sample + stray.row}"
                raise StreamError(f"{came}, but layer {loss.layer!r} {stray.wanting}")
        return self.absence.lacking(targets)

    def _plain(self, targets: Tensor) -> bool:
        """Whether two numbers tell that all is well: the least and the largest of whole ones."""
        if self.absence.parts or targets.dtype not in _WHOLE or not targets.numel():
            return False
        least, most = (int(each) for each in targets.aminmax())
        return least >= 0 and not least <= self.absence.ignored <= most and most < self._classes

    @cached_property
    def _classes(self) -> float:
        """How many classes all of the losses have."""
        counts = [
            output.shape[classes.dim]
            for loss, output in self.judged
            if (classes := classes_of(loss.function))
        ]
        return min(counts, default=torch.inf)


_WHOLE = {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
