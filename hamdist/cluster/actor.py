"""The shell that Ray runs around a worker, or around the stream: it makes them, and passes calls on.

`call` belongs to the actor's own thread; `ask` to another one, so that an actor at work can be asked and stopped.
"""

import logging
import os
import pickle
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from hamdist.cluster.handle import Result, bound, contained
from hamdist.engine.device import keep_freed_memory
from hamdist.errors import Problem, UserError
from hamdist.transport.process_group import NcclSupport, nccl_support

ON_CPU = NcclSupport("", False)
FOR_LAYERS = ("hamdist.cluster.worker", "torch._dynamo")
FOR_THE_STREAM = ("hamdist.runs.stream_feed",)


@dataclass(frozen=True)
class Location:
    """Where an actor lives, and on which device it computes."""

    node: str
    host: str
    pid: int
    device: str = "cpu"
    nccl: NcclSupport = ON_CPU


def tell_what_takes_long() -> None:
    """On standard error, which Ray shows where the run was started."""
    log = logging.getLogger("hamdist")
    if not log.handlers:
        log.addHandler(logging.StreamHandler())
        log.setLevel(logging.INFO)


class WorkerActor:
    """One actor of a run. What it hosts is made by `make`, so that nothing of the user's runs in its constructor.

    modules: to load with the constructor, which all actors do at once. PyTorch takes seconds, and seconds more at the
    first reverse-mode call.
    """

    def __init__(self, modules: Sequence[str] = ()) -> None:
        keep_freed_memory()
        tell_what_takes_long()
        for module in modules:
            import_module(module)
        self._hosted: Any = None
        self._name = ""

    def make(self, pickled: bytes, name: str, search: Sequence[str]) -> Location:
        """pickled: a function that makes what this actor hosts.  search: folders in which to look for modules, after
        Python's own. Raises UserError naming the node.
        """
        import ray

        sys.path += [folder for folder in search if folder not in sys.path]
        node = ray.get_runtime_context().get_node_id()
        host = ray.util.get_node_ip_address()
        try:
            make: Callable[[], Any] = pickle.loads(pickled)
            self._name = name
            self._hosted = contained(name, make)
        except UserError as error:
            where = f" ({name}, on node {host})"
            error.restate(*(Problem(p.key, p.message + where) for p in error.problems))
            raise
        except (ImportError, AttributeError) as error:
            raise UserError(
                f"{name} cannot be made on node {host}: {error!r}; the code of your layers must be in the "
                "folder that the run was started from, or installed on every node"
            ) from error
        device = getattr(self._hosted, "device", torch.device("cpu"))
        return Location(node, host, os.getpid(), str(device), nccl_support(device))

    def call(self, method: Callable[..., Result], *arguments: Any, **named: Any) -> Result:
        """What a method of what it hosts returns."""
        return contained(self._name, bound(self._hosted, method), *arguments, **named)

    def ask(self, method: Callable[..., Result], *arguments: Any, **named: Any) -> Result | None:
        """The same from the other thread; None where it hosts nothing yet."""
        return None if self._hosted is None else bound(self._hosted, method)(*arguments, **named)
