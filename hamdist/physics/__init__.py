"""The physics of one layer: pure torch, pure functions, no neighbours, no Ray.

layers.py        the layer contract; instant and relaxing layers; any nn.Module as a pure function
blocks.py        residual block; coupling that can be inverted
hamiltonian.py   a layer's Hamiltonian and its partial derivatives
tick.py          the carry, and the two halves of a tick: evaluate and react
dynamics.py      the constants of the equations of motion
integrators/     explicit, semi-implicit, exponential: one file each
rates.py         β: scaled by the delay, per parameter, adaptive
schedules.py     β as a function of time
pairing.py       which activations a costate meets: current, stashed (inputs or graphs), reversible; the gate
statespace/      layers with a memory: the contract, the modules, and what makes layers of them
sweep.py         state costates integrated backward over a window of time; past.py: what a layer keeps of it;
                 traced_sweep.py: a step back as traced operations
transforms.py    whether torch.func must take the derivatives, or autograd may
stack.py         N layers of equal structure as one
traced.py        functions of tensors as bare operations; traced_graph.py, few_kernels.py, spoken.py: passes over them
traced_layer.py  a layer as traced operations, alone as it would be in a stack
compiled.py      the same as machine code
losses.py        losses, and the costate they give
randomness.py    seeds that a recomputation repeats
"""
