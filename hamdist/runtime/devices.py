"""The device that a name in a config means on this machine."""

import torch
from torch import Tensor

from hamdist.errors import ConfigError, Problem


def local_device(name: str) -> torch.device:
    """`auto`: a GPU where there is one. Raises ConfigError for a device that this machine lacks."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise ConfigError(
            Problem("placement.device", f"there is no {name}: this machine has {found} GPUs torch can use")
        )
    return device


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device; from host memory a GPU fetches it out of pinned memory, and nobody waits for that."""
    if device.type == "cuda" and tensor.is_cpu:
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
