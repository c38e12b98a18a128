"""Layers with a memory of their own: a state, a drift and an output each.

StateSpace       the contract: write `drift` and `output`                              contract.py
Start            where a state starts: zeros, numbers, learnt, from the first input    start.py
CSSM             h' = A h + B a                                                        cssm.py
DiagonalReal     h' = d ⊙ h + B a                                                      diagonal.py
DiagonalComplex  the same, complex, read out as Re(C h)                                diagonal.py
CTE              a rotation in all units, exact                                        antisymmetric.py
CTB, CTBE        rotations in pairs of units, by Euler's step and exact                rotations.py
ContinuousRNN    dh/dt = (tanh(W h + B a + b) − h)/T                                   continuous.py
LRU              complex and diagonal, stable by its parametrisation                   lru.py
Leapfrog         nonlinear oscillators that can be integrated back                     leapfrog.py
Cell             nn.RNNCell, GRUCell and LSTMCell with a start of their own            cells.py
Memories         a readout chosen by a description                                     memories.py
Conjunctions     a readout for every pair of words of a description                    memories.py

layer.py         any of these, or a sequence with some of them, as a layer
walk.py          one step of a module, forward or backward, memory by memory
readout.py       what the linear models share
apart.py         memories whose units move each by themselves, or are seen so
sensitivity.py   the derivatives of their states by their weights, carried forward
"""

from hamdist.physics.statespace.antisymmetric import CTE
from hamdist.physics.statespace.cells import Cell
from hamdist.physics.statespace.continuous import ContinuousRNN
from hamdist.physics.statespace.contract import StateSpace
from hamdist.physics.statespace.cssm import CSSM
from hamdist.physics.statespace.diagonal import DiagonalComplex, DiagonalReal
from hamdist.physics.statespace.leapfrog import Leapfrog
from hamdist.physics.statespace.lru import LRU
from hamdist.physics.statespace.memories import Conjunctions, Memories
from hamdist.physics.statespace.rotations import CTB, CTBE
from hamdist.physics.statespace.start import Start

__all__ = [
    "CSSM",
    "CTB",
    "CTBE",
    "CTE",
    "LRU",
    "Cell",
    "Conjunctions",
    "ContinuousRNN",
    "DiagonalComplex",
    "DiagonalReal",
    "Leapfrog",
    "Memories",
    "Start",
    "StateSpace",
]
