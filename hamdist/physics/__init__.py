"""The physics of one layer: pure torch, pure functions, no neighbours, no Ray.

pure_module.py   any nn.Module as a pure function
layers.py        the layer contract; instant and relaxing layers
modules.py       residual block; coupling that can be inverted
midpoint.py      the midpoint rule between layers, which can be inverted, too
hamiltonian.py   a layer's Hamiltonian and its partial derivatives
step.py          the carry, and the two halves of a tick: evaluate and react
dynamics.py      the constants of the equations of motion
integrators.py   explicit, semi-implicit, exponential
averaging.py     the running mean of weights
rates.py         β: scheduled, scaled by the delay, per parameter, adaptive; soap.py: in the eigenbasis of the drive
memory.py        what a costate meets: current, stashed (inputs or graphs), reversible, of a window; the gate
bptt.py          state costates integrated backward over a window of time
statespace/      layers with a memory: the contract, the modules, and what makes layers of them
stack.py         N layers of equal structure as one
losses.py        losses, and the costate they give; targets.py: which rows have none
numerics.py      sums in one kernel; whether torch.func must take the derivatives, or autograd may
randomness.py    seeds that a recomputation repeats
"""
