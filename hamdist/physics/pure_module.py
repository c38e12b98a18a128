"""Any nn.Module that maps tensors to a tensor, as a pure function of its parameters, buffers and inputs."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from functools import cached_property
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import is_lazy

from hamdist.physics.modules import unhooked
from hamdist.physics.randomness import seeded

Tensors = dict[str, Tensor]
Join = Literal["sum", "concat", "arguments"]


class Context(NamedTuple):
    """The circumstances of one evaluation, which a recomputation repeats."""

    training: bool = True
    seed: int | None = None  # what a random layer draws from
    rows: int | None = None  # rows that are real, for batch statistics over a padded batch
    beyond: tuple[str, ...] = ()  # generators beyond torch's that it draws from


class PureModule:
    """Any nn.Module that maps tensors to a tensor, as a function of its parameters, buffers and inputs.

    bare: whether all of it is torch's code, and hamdist's.  moving: the names of the buffers that it may write.
    """

    def __init__(self, module: nn.Module, join: Join = "sum") -> None:
        self.module = module
        self.join = join
        self._awake = [part for part in module.modules() if part.training]  # what its author froze stays so
        self._training = True
        self._mutable = frozenset(name for name, _ in module.named_buffers())
        self.moving = tuple(sorted(self._mutable))
        self._names = _first_names(module)
        self._tied = any(name != first for name, first in self._names.items())
        self.bare = all(map(_known_code, module.modules()))

    def parameters(self) -> Tensors:
        """What learns: copies of the parameters that require a gradient."""
        return {n: p.detach().clone() for n, p in self.module.named_parameters() if p.requires_grad}

    def buffers(self) -> Tensors:
        """What does not learn: copies of the buffers and of the frozen parameters."""
        frozen = {n: p.detach().clone() for n, p in self.module.named_parameters() if not p.requires_grad}
        return frozen | {n: b.detach().clone() for n, b in self.module.named_buffers()}

    def __call__(
        self, parameters: Mapping[str, Tensor], buffers: Tensors, inputs: tuple[Tensor, ...], context: Context
    ) -> tuple[Tensor, Tensors]:
        """Returns (output [B, …], buffers afterwards); the arguments stay as they are."""
        buffers = self._prepared(buffers, context)
        arguments = joined(tuple(a[: context.rows] for a in inputs), self.join)
        tensors = {**parameters, **buffers}
        output = self._output(tensors, arguments, context)
        after = {name: tensors[name] for name in buffers}  # a module may assign a buffer anew
        return (output if context.rows is None else padded(output, len(inputs[0]))), after

    def present(
        self, parameters: Mapping[str, Tensor], buffers: Tensors, context: Context
    ) -> AbstractContextManager[None]:
        """Within it the module is as it was evaluated: code that its derivative runs (a checkpoint that computes
        again, a backward that reads a weight) finds the tensors, the mode and the seed of then.

        What such code writes into buffers is forgotten: they move once an evaluation.
        """
        runs_code = not (self.bare or torch.compiler.is_compiling())
        return self._present(parameters, buffers, context) if runs_code else nullcontext()

    @contextmanager
    def _present(
        self, parameters: Mapping[str, Tensor], buffers: Tensors, context: Context
    ) -> Iterator[None]:
        tensors = {**parameters, **self._prepared(buffers, context)}
        device = next(iter(tensors.values())).device if tensors else None
        with seeded(context.seed, device, context.beyond), _Exchanged(self._places, tensors):
            yield

    def _output(self, tensors: Tensors, arguments: tuple[Tensor, ...], context: Context) -> Tensor:
        """What the module says with these tensors, which are afterwards those that it assigned."""
        if torch.compiler.is_compiling():  # torch's compiler knows its own way to do the same
            return functional_call(self.module, tensors, arguments, tie_weights=self._tied)
        if context.seed is None:
            with _Exchanged(self._places, tensors):
                return self.module(*arguments)
        drawing = seeded(context.seed, arguments[0].device, context.beyond)
        with drawing, _Exchanged(self._places, tensors):
            return self.module(*arguments)

    @cached_property
    def _places(self) -> "Places":
        """Where every tensor stands in the module; weights tied inside it stand in several places."""
        parts = dict(self.module.named_modules(remove_duplicate=False))
        places: Places = []
        for name, first in self._names.items():
            owner, _, key = name.rpartition(".")
            part = parts[owner]
            places.append((part._parameters if key in part._parameters else part._buffers, key, first))
        return places

    def state_dict(self, parameters: Tensors, buffers: Tensors) -> dict[str, Any]:
        """A copy of the module's own state_dict with these tensors: weights tied inside it stand under each of their
        names, extra states beside them. Raises what the module's own code raises in making it.
        """
        with _Exchanged(self._places, parameters | buffers):
            found = self.module.state_dict()
        return {name: t.detach().clone() if isinstance(t, Tensor) else t for name, t in found.items()}

    def loaded(
        self, parameters: Tensors, buffers: Tensors, state: Mapping[str, Any]
    ) -> tuple[Tensors, Tensors]:
        """Parameters and buffers as the module's own load_state_dict makes them; those given stay as they are. Raises
        what the module's own code raises in it.
        """
        tensors = {name: tensor.clone() for name, tensor in (parameters | buffers).items()}
        with torch.no_grad(), _Exchanged(self._places, tensors):
            self.module.load_state_dict(state)
        return {name: tensors[name] for name in parameters}, {name: tensors[name] for name in buffers}

    def extra_states(self, parameters: Tensors, buffers: Tensors) -> dict[str, Any]:
        """Copies of what its parts keep beside tensors (get_extra_state), by the names of the parts. Raises what the
        module's own code raises.
        """
        keeping = {
            name: part
            for name, part in self.module.named_modules()
            if type(part).get_extra_state is not nn.Module.get_extra_state
        }
        with _Exchanged(self._places, parameters | buffers):
            return {name: deepcopy(part.get_extra_state()) for name, part in keeping.items()}

    def take_extra_states(self, states: Mapping[str, Any]) -> None:
        """The parts take up what `extra_states` gave."""
        for name, state in states.items():
            self.module.get_submodule(name).set_extra_state(deepcopy(state))

    def persistent(self, parameters: Tensors, buffers: Tensors) -> Tensors:
        """Copies of the tensors that a state_dict has by default, whatever the module's own code makes of it."""
        current = parameters | buffers
        passing = {
            f"{path}.{name}" if path else name
            for path, part in self.module.named_modules(remove_duplicate=False)
            for name in part._non_persistent_buffers_set
        }
        return {name: current[first].clone() for name, first in self._names.items() if name not in passing}

    def inverse(self, parameters: Tensors, buffers: Tensors, output: Tensor, context: Context) -> Tensor:
        """The input that these parameters map to `output`."""
        tensors = parameters | self._prepared(buffers, context)
        renamed = {f"module.{name}": tensor for name, tensor in tensors.items()}
        back = functional_call(_Inverse(self.module), renamed, (output[: context.rows],))
        return padded(back, len(output))

    def materialise(self, inputs: tuple[Tensor, ...]) -> None:
        """Lazy modules take their shapes from a first plain call, in evaluation mode: no statistics move."""
        if self._lazy:
            self._set_training(False)
            self.module(*joined(inputs, self.join))

    @property
    def _lazy(self) -> bool:
        return any(is_lazy(t) for t in (*self.module.parameters(), *self.module.buffers()))

    def _set_training(self, training: bool) -> None:
        for part in self._awake if training != self._training else ():
            part.training = training
        self._training = training

    def _prepared(self, buffers: Tensors, context: Context) -> Tensors:
        """Puts the module in the mode asked for; buffers that it may overwrite become copies."""
        self._set_training(context.training)
        return {n: b.clone() if n in self._mutable else b for n, b in buffers.items()}


Places = list[tuple[dict[str, Tensor | None], str, str]]
"""A dictionary of a module, the key in it, and the name of the tensor that belongs there."""


class _Exchanged:
    """Within it a module has other tensors; afterwards its own again, and `tensors` has what the module left.

    As torch.func.functional_call, at a third of its cost: where each of them stands is looked up once.
    """

    def __init__(self, places: Places, tensors: Tensors) -> None:
        self._places, self._tensors = places, tensors

    def __enter__(self) -> None:
        tensors = self._tensors
        self._own = [there[key] for there, key, _ in self._places]
        for there, key, name in self._places:
            there[key] = tensors[name]

    def __exit__(self, *_: object) -> None:
        for (there, key, name), own in zip(self._places, self._own, strict=True):
            self._tensors[name] = there[key]  # type: ignore[assignment]
            there[key] = own


_OURS_AND_TORCHS = "torch.nn.modules.", "hamdist.physics."


def _known_code(part: nn.Module) -> bool:
    """Whether a part runs no code of the user's, so that it keeps nothing, and no derivative runs code."""
    return type(part).__module__.startswith(_OURS_AND_TORCHS) and unhooked(part)


def _first_names(module: nn.Module) -> dict[str, str]:
    """For every name of a parameter or buffer, the first name under which that tensor stands."""
    named = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in named}


class _Inverse(nn.Module):
    """A module's inverse as a forward, so that it can be called functionally."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, y: Tensor) -> Tensor:
        return self.module.inverse(y)  # type: ignore[operator]


def padded(rows: Tensor, batch: int) -> Tensor:
    """The rows, followed by zeros up to the batch size."""
    if len(rows) == batch:
        return rows
    return torch.cat([rows, rows.new_zeros(batch - len(rows), *rows.shape[1:])])


def joined(inputs: tuple[Tensor, ...], join: Join) -> tuple[Tensor, ...]:
    """The arguments a module gets from several in-edges: their sum in edge order, their concatenation, or all."""
    if join == "arguments" or len(inputs) == 1:
        return inputs
    if join == "concat":
        return (torch.cat(inputs, dim=1),)
    total = inputs[0]
    for a in inputs[1:]:
        if a.shape != total.shape:
            raise ValueError(f"a sum needs signals of one shape, not {list(total.shape)} and {list(a.shape)}")
        total = total + a
    return (total,)
