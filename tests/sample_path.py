"""How far a sample goes: `python tests/sample_path.py` prints the files it enters and the types it meets.

Inline while a Learner takes one step with five layers; over sockets while two actors take one batch to the end.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

import hamdist
from hamdist import Learner

PACKAGE = Path(hamdist.__file__).parent


class Trail:
    """Files of the package whose code ran, and types of the package that were arguments or results of it."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.types: set[str] = set()
        self.calls: list[str] = []  # "file:function", in the order in which they were first entered
        self.begun = False  # what comes before counts for nothing

    def __call__(self, frame: FrameType, event: str, result: Any) -> None:
        if not self.begun or event not in ("call", "return"):
            return
        file = Path(frame.f_code.co_filename)
        if not file.is_relative_to(PACKAGE):
            return
        name = str(file.relative_to(PACKAGE))
        if event == "call":
            if name not in self.files:
                self.files.append(name)
            call = f"{name}:{frame.f_code.co_qualname}"
            if call not in self.calls:
                self.calls.append(call)
            values = list(frame.f_locals.values())
        else:
            values = [result]
        self.types |= {
            type(value).__name__ for value in values if type(value).__module__.startswith("hamdist")
        }


@contextmanager
def followed() -> Iterator[Trail]:
    """What runs within, in this thread and in those that begin within."""
    path = Trail()
    threading.setprofile(path)
    sys.setprofile(path)
    try:
        yield path
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def one_step() -> Trail:
    """Of a learner of five layers that has learnt for some time."""
    layers = [*(nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(4)), nn.Linear(8, 3)]
    learner = Learner(layers, "cross_entropy", pairing="stashed")
    batches = [(torch.randn(4, 8), torch.randint(0, 3, (4,))) for _ in range(20)]
    for batch in batches:
        learner.step(*batch)
    with followed() as path:
        path.begun = True
        learner.step(*batches[0])
    return path


def one_batch_over_sockets() -> Trail:
    """Of two actors and a stream, as threads, from the stream to the end of the drain."""
    from support.actors import WIRINGS, Ensemble
    from support.inline import learning
    from support.networks import network_of

    from hamdist.network.locality import Locality

    builders = {name: lambda: nn.Linear(8, 8) for name in "abcd"} | {"head": lambda: nn.Linear(8, 3)}
    batches = [(torch.randn(4, 8, dtype=torch.float64), torch.randint(0, 3, (4,)))]
    placed = [["a", "b"], ["c", "d", "head"]]
    over = network_of(builders), Locality(), learning(), batches, placed, WIRINGS["zeromq"]
    with followed() as path, Ensemble(*over) as actors:
        path.begun = True
        actors.run()
        path.begun = False
    return path


def main() -> None:
    torch.manual_seed(0)
    for name, path in (("inline", one_step()), ("over sockets", one_batch_over_sockets())):
        print(f"{name}: {len(path.files)} files, {len(path.types)} types")
        print("  " + " ".join(path.files))
        print("  " + " ".join(sorted(path.types)))


if __name__ == "__main__":
    main()
