"""What a user keeps beside a learner, a replay buffer say, in one file with it or alone."""

from pathlib import Path
from typing import Any

from hamdist.engine.encoding import decode, encode
from hamdist.errors import UserError
from hamdist.runs.state_file import read_state_file, write_state_file

KIND, VERSION = "set of things", 1


def save_state(path: str | Path, **things: Any) -> None:
    """Writes things by their names as one file, all of it or nothing, and nothing is pickled.

        hamdist.save_state("day1.safetensors", learner=learner.training_state(), buffer=buffer, day=1)

    They are tensors, NumPy arrays, numbers, text, and lists, tuples, deques and mappings of these. Raises TypeError
    naming the place of anything else, UserError where the file cannot be written.
    """
    write_state_file(path, KIND, VERSION, {}, encode(things))


def load_state(path: str | Path) -> dict[str, Any]:
    """What `save_state` wrote, of the same types, to the bit, on the CPU.

    Raises UserError for a file that is no such one, was cut off or changed.
    """
    _, encoded = read_state_file(path, KIND, VERSION)
    try:
        found: dict[str, Any] = decode(encoded)
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return found
