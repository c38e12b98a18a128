"""All of a learner at one moment: what decides every later bit, and whose it is; as a plain dict, or as a file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hamdist.engine.encoding import Encoded, decode, encode
from hamdist.engine.state import RuntimeState
from hamdist.errors import UserError
from hamdist.network.losses import LossSpec
from hamdist.runs.given import Reader
from hamdist.runs.identity import differences, misfits, shapes_of
from hamdist.runs.state_file import newer, read_state_file, write_state_file

VERSION, KIND = 1, "learner"
KEYS = ("version", "about", "told", "tensors")


@dataclass(frozen=True)
class LearnerState:
    """about: as JSON has it, whose it is, and what its batches are like.  encoded: what moves, and the first batch."""

    about: Mapping[str, Any]
    encoded: Encoded

    @classmethod
    def of(
        cls, identity: Mapping[str, Any], reader: Reader, state: RuntimeState, extra: Mapping[str, Any]
    ) -> "LearnerState":
        """extra: what modules keep beside tensors, by layer. Raises UserError for what cannot be written of it."""
        first, nodes = reader.first, state.partition.nodes
        assert first is not None
        shapes = {name: shapes_of(node.carry.parameters | node.carry.buffers) for name, node in nodes.items()}
        about = {
            "identity": identity,
            "batches": reader.told(),
            "device": first.inputs.device.type,
            "shapes": shapes,
        }
        tree = {"runtime": state, "first": (first.inputs, first.targets), "extra_state": extra}
        try:
            return cls(about, encode(tree))
        except TypeError as error:
            raise UserError(f"this learner cannot be kept: {error}") from error

    @classmethod
    def of_plain(cls, state: Any) -> "LearnerState":
        """As `plain` made it. Raises UserError for anything else."""
        if not isinstance(state, Mapping) or not all(key in state for key in KEYS):
            raise UserError("this is no training state of a learner: learner.training_state() makes one")
        if state["version"] != VERSION:
            raise UserError(newer("the training state", state["version"], VERSION))
        try:
            return cls(json.loads(state["about"]), Encoded(dict(state["tensors"]), json.loads(state["told"])))
        except (TypeError, ValueError) as error:
            raise UserError(f"the training state was changed: {error}") from error

    def plain(self) -> dict[str, Any]:
        """A dict of tensors by name, text and a number, in memory of its own."""
        told = self.encoded.told
        return dict(
            zip(
                KEYS,
                (VERSION, json.dumps(self.about), json.dumps(told), dict(self.encoded.tensors)),
                strict=True,
            )
        )

    def write(self, path: str | Path) -> None:
        """Raises UserError where it cannot be written; what stood there stands there still then."""
        write_state_file(path, KIND, VERSION, self.about, self.encoded)

    @classmethod
    def read(cls, path: str | Path) -> "LearnerState":
        """Raises UserError naming the file for what is none of a learner, cut off or changed."""
        return cls(*read_state_file(path, KIND, VERSION))

    # Into a learner

    def check(self, identity: Mapping[str, Any]) -> None:
        """Raises UserError with all that another learner has otherwise."""
        if problems := list(differences(self.about["identity"], identity)):
            raise UserError(*problems)

    def device(self, wanted: str | torch.device | None) -> torch.device:
        """Where the first batch is to be: as wanted, or else where it was. Raises UserError where that is not here."""
        found = torch.device(self.about["device"] if wanted is None else wanted)
        if found.type == "cuda" and not torch.cuda.is_available():
            raise UserError(f"the state is of a learner on {found}, which is not here: pass device='cpu'")
        return found

    def decoded(
        self, losses: Mapping[str, LossSpec], dtype: torch.dtype, device: torch.device
    ) -> tuple[Reader, RuntimeState, Mapping[str, Any]]:
        """How it reads batches, what moves, and what modules keep beside that. Raises UserError."""
        try:
            tree = decode(self.encoded)
            reader = Reader.resumed(
                losses, dtype, self.about["batches"], [t.to(device) for t in tree["first"]]
            )
            return reader, tree["runtime"], tree["extra_state"]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"this is no state that a learner goes on from: {error}") from error

    def check_tensors(self, own: Mapping[str, Mapping[str, str]]) -> None:
        """own: the forms of the tensors of the layers here. Raises UserError for those that differ."""
        if problems := list(misfits(self.about["shapes"], own)):
            raise UserError(*problems)
