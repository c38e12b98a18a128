"""A Learner beneath its methods: what it was made of, what runs once the first batch has come, and both as a state."""

from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from hamdist.engine.inline import InlineRuntime
from hamdist.errors import RunError
from hamdist.network.loading import by_layer, check_state, with_weights
from hamdist.network.network import Network
from hamdist.runs.chosen import Chosen
from hamdist.runs.given import GivenBatch, Reader
from hamdist.runs.identity import identity_of
from hamdist.runs.learner_state import LearnerState
from hamdist.runs.pickling import check_pickles, parts_of
from hamdist.runs.prepare import RunSetup, setup_of

if TYPE_CHECKING:
    from hamdist.runs.released import ReleasedRuntime

    Runtime = InlineRuntime | ReleasedRuntime


class LearnerCore:
    """reader: of the batches.  runtime: None before the first one."""

    def __init__(self, network: Network, chosen: Chosen) -> None:
        self.network, self.chosen = network, chosen
        self.locality, self.placement = chosen.locality(network.names), chosen.placement
        self._begin()

    def _begin(self) -> None:
        self.closed = False
        self.runtime: Runtime | None = None
        self.reader = Reader(self.network.losses, self.chosen.dtype)

    # From the first batch on

    def started_with(self, first: GivenBatch) -> "Runtime":
        """The runtime; the first batch tells the shapes."""
        if self.runtime is None and not self.closed:
            self.runtime = self._start(self.reader, first)
            self.reader.keep(first)
        return self.started

    @property
    def started(self) -> "Runtime":
        """Raises RunError where it has not begun, or was closed."""
        self._require_open()
        if self.runtime is None:
            raise RunError("the network takes its shapes from the first batch: call step(x, target) first")
        return self.runtime

    def close(self) -> None:
        """May be called twice."""
        self.closed = True
        if self.runtime is not None:
            self.runtime.close()

    def _require_open(self) -> None:
        if self.closed:
            raise RunError("this learner was closed: make a new one")

    def _start(self, reader: Reader, first: GivenBatch | None = None) -> "Runtime":
        """On actors the layers are computed where the first batch is: on CPUs, or on GPUs."""
        first = first or reader.first
        assert first is not None
        setup = self._setup(first.inputs.device.type, reader)
        if setup.placement.runtime == "ray":
            from hamdist.runs.released import ReleasedRuntime

            return ReleasedRuntime(setup, first[:2])
        return InlineRuntime(setup.built(first[:2]))

    def _setup(self, device: str, reader: Reader) -> RunSetup:
        network, chosen = replace(self.network, losses=reader.losses), self.chosen
        placement = self.placement.model_copy(update={"device": device})
        return setup_of(network, self.locality, chosen.learning, placement, chosen.seed, chosen.dtype)

    # Weights

    def state_dict(self) -> dict[str, Any]:
        """Keys "<layer>.<tensor>"."""
        layers = self.started.tensors()
        return {
            f"{name}.{key}": tensor for name, tensors in layers.items() for key, tensor in tensors.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Before the first batch, too. Raises UserError; nothing has changed then."""
        self._require_open()
        if self.runtime is None:
            self.network = with_weights(self.network, state, self.chosen.seed, self.chosen.dtype)
            return
        check_state(self.state_dict(), state)
        self.runtime.load_weights(by_layer(state))

    # All of it

    def state(self) -> LearnerState:
        """What moves, as it is now. Raises RunError before the first batch."""
        runtime, identity = self.started, identity_of(self.network, self.chosen)
        return LearnerState.of(identity, self.reader, runtime.cut(), runtime.extra_states())

    def take_up(self, state: LearnerState, device: str | torch.device | None = None) -> None:
        """Goes on from it. Raises UserError where it does not fit; all is as before then."""
        self._require_open()
        state.check(identity_of(self.network, self.chosen))
        here = self.reader.first
        found = state.device(here.inputs.device if device is None and here is not None else device)
        reader, moved, extra = state.decoded(self.network.losses, self.chosen.dtype, found)
        if self.runtime is not None and self.runtime.stands:
            state.check_tensors(self.runtime.forms())
        if isinstance(self.runtime, InlineRuntime) and self.reader.alike(reader):
            runtime: Runtime = self.runtime
        else:
            runtime = self._started_anew(reader)
        try:
            state.check_tensors(runtime.forms())
            runtime.take_extra_states(extra)
            runtime.restore(moved)
        except BaseException:
            if runtime is not self.runtime:
                runtime.close()
            raise
        self.runtime, self.reader = runtime, reader

    def _started_anew(self, reader: Reader) -> "Runtime":
        """Actors make room for those that take their place."""
        if self.runtime is not None and not isinstance(self.runtime, InlineRuntime):
            self.runtime.close()
            self._begin()
        return self._start(reader)

    def twin(self) -> "LearnerCore":
        """One that goes on from here on its own. Raises RunError where layers live on actors."""
        twin = object.__new__(LearnerCore)
        vars(twin).update(vars(self), reader=copy(self.reader))
        if self.runtime is not None:
            if not isinstance(self.runtime, InlineRuntime):
                raise RunError(
                    "a learner whose layers live on actors cannot be copied: load its training_state() into another"
                )
            twin.runtime = again = twin._start(twin.reader)
            again.take_extra_states(self.runtime.extra_states())
            again.restore(self.runtime.cut())
        return twin

    def parts(self) -> dict[str, Any]:
        """What can be pickled of it, of which `of_parts` makes it again. Raises TypeError, naming what cannot."""
        if self.runtime is not None and not isinstance(self.runtime, InlineRuntime):
            raise TypeError(
                "a learner whose layers live on actors is not pickled: save it with learner.save(path), or keep its "
                "training_state()"
            )
        check_pickles(parts_of(self.network, self.chosen))
        state = None if self.runtime is None else self.state().plain()
        return {"network": self.network, "chosen": self.chosen, "state": state}

    @classmethod
    def of_parts(cls, parts: Mapping[str, Any]) -> "LearnerCore":
        """Raises UserError."""
        core = cls(parts["network"], parts["chosen"])
        if parts["state"] is not None:
            core.take_up(LearnerState.of_plain(parts["state"]))
        return core
