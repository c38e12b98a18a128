"""Objects of the user's that say where they are, in the protocol of torchdata and torch.distributed.checkpoint."""

from copy import deepcopy
from typing import Any


def keeps_state(source: Any) -> bool:
    """Whether it has state_dict and load_state_dict, and so goes on where it was by itself."""
    return all(callable(getattr(source, name, None)) for name in ("state_dict", "load_state_dict"))


def own_state(source: Any) -> Any:
    """What it says now, or None; it may write into that later, so it is copied."""
    return deepcopy(source.state_dict()) if keeps_state(source) else None
