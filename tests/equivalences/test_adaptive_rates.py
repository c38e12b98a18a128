"""E2, E3: adaptive β is Adam, AdamW and RMSprop of torch.optim, step by step.

Tolerance 1e-12 in float64 over 200 steps, 1e-10 for attention. A parameter without any gradient, such as the bias of
attention's keys, is noise divided by noise under Adam once weight decay has made both small: there torch differs from
torch itself, by 1e-7 after a change of the last bit, so attention is compared without that decay.
"""

import pytest
import torch
from support.inline import learning
from support.torch_optimisers import CASES, compare_every_step

from hamdist.physics.rates import Adam, RMSprop


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tau", [1.0, 0.5])
def test_adam(case, tau):
    decay = 0.0 if case == "transformer" else 1e-2
    rule = learning(0.003, tau=tau, weight_decay=decay, adaptive=Adam(b1=0.8, b2=0.99, eps=1e-6))
    compare_every_step(
        *CASES[case], rule, lambda p: torch.optim.Adam(p, 0.003, (0.8, 0.99), 1e-6, weight_decay=decay)
    )


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_adamw(case):
    rule = learning(0.003, weight_decay=0.1, adaptive=Adam(decoupled=True))
    compare_every_step(*CASES[case], rule, lambda p: torch.optim.AdamW(p, 0.003, weight_decay=0.1))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_rmsprop(case, momentum):
    rule = learning(0.003, tau=0.5, adaptive=RMSprop(alpha=0.9, momentum=momentum))
    compare_every_step(
        *CASES[case], rule, lambda p: torch.optim.RMSprop(p, 0.003, alpha=0.9, momentum=momentum)
    )
