"""Functions of tensors as bare sequences of operations, and those as machine code; it knows nothing of Hamiltonians.

trace.py      a function of trees of tensors, written down once for its shapes
passes.py     what changes nothing is left out, what remains is put in better words
foreach.py    updates of many tensors in few kernels
inductor.py   the same operations as machine code
"""
