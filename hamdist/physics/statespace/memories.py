"""Linear readouts that depend on a description: one chosen among several, or one for every pair of words.

Both hear a state h [B, inputs] and a description d [B, words], along two edges with join: arguments.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class Memories(nn.Module):
    """C_m h [B, outputs], with the memory m whose key is nearest to d in angle (arXiv 2409.12038's signal school).

    Keys [count, words] are drawn at random and stay; the weights C [count, outputs, inputs] learn.
    """

    keys: Tensor

    def __init__(self, input_size: int, output_size: int, words: int, count: int = 20) -> None:
        super().__init__()
        self.register_buffer("keys", normalize(torch.randn(count, words), dim=1))
        bound = input_size**-0.5
        self.weight = nn.Parameter(torch.empty(count, output_size, input_size).uniform_(-bound, bound))

    def forward(self, h: Tensor, d: Tensor) -> Tensor:
        return (self.weight[self.nearest(d)] @ h.unsqueeze(2)).squeeze(2)

    def nearest(self, d: Tensor) -> Tensor:
        """The memories [B] that descriptions choose."""
        return (d @ self.keys.T).argmax(1)


class Conjunctions(nn.Module):
    """Σ_{i≤j} g_ij C_ij h [B, outputs], with g the products d_i d_j scaled to length one.

    What is said of a description that never came is put together from what its pairs of words have come to mean.
    Weights C [pairs, outputs, inputs] learn. Raises ValueError for a description of another length.
    """

    first: Tensor
    second: Tensor

    def __init__(self, input_size: int, output_size: int, words: int) -> None:
        super().__init__()
        self.words = words
        first, second = torch.triu_indices(words, words)
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("second", second, persistent=False)
        bound = 0.3 * input_size**-0.5
        self.weight = nn.Parameter(torch.empty(len(first), output_size, input_size).uniform_(-bound, bound))

    def forward(self, h: Tensor, d: Tensor) -> Tensor:
        if d.shape[-1] != self.words:
            raise ValueError(f"a description has {self.words} words, not {d.shape[-1]}")
        told = normalize(d[:, self.first] * d[:, self.second], dim=1)
        readout = torch.tensordot(told, self.weight, dims=1)
        return (readout @ h.unsqueeze(2)).squeeze(2)
