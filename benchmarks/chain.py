"""A chain of [Linear, Tanh] layers of one width on random samples, as modules and as a config of hamdist."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

RATE = 1e-3
"""The learning rate, without momentum, of hamdist and of its peers."""

DISTINCT = 4
"""Batches that differ; a stream presents them round and round."""


@dataclass(frozen=True)
class Chain:
    """`depth` layers of width × width under the MSE loss; inputs and targets [batch, width]."""

    depth: int
    width: int
    batch: int

    def modules(self, first: int, stop: int) -> nn.Sequential:
        """Layers `first` up to `stop`; a layer's weights depend on its index only."""
        layers = []
        for index in range(first, stop):
            torch.manual_seed(index)
            layers.append(nn.Sequential(nn.Linear(self.width, self.width), nn.Tanh()))
        return nn.Sequential(*layers)

    def random(self, seed: int, scale: float = 1.0) -> torch.Tensor:
        """[batch, width] normal numbers times `scale`."""
        return scale * torch.randn(self.batch, self.width, generator=torch.Generator().manual_seed(seed))

    def write_samples(self, directory: Path) -> None:
        """inputs.npy and targets.npy, for `config`."""
        generator = np.random.default_rng(0)
        for name in ("inputs", "targets"):
            rows = generator.standard_normal((DISTINCT * self.batch, self.width), dtype=np.float32)
            np.save(directory / f"{name}.npy", rows)

    def config(self, samples: Path, batches: int, **sections: Any) -> dict[str, Any]:
        """A run over that many batches of the files in `samples`; sections such as locality and placement are added.

        The source `arrays` asks least of the stream's process: 0.3 ms a batch of 64 × 1024.
        """
        linear = {"type": "Linear", "in_features": self.width, "out_features": self.width}
        return {
            "name": "chain",
            "stream": {
                "source": "arrays",
                "shuffle": False,
                "inputs": str(samples / "inputs.npy"),
                "targets": str(samples / "targets.npy"),
                "batch_size": self.batch,
                "samples": batches * self.batch,
            },
            "network": {
                "loss": "mse",
                "layers": [{"name": "layer", "repeat": self.depth, "modules": [linear, {"type": "Tanh"}]}],
            },
            "learning": {"beta": RATE, "rate": "constant"},
            **sections,
        }
