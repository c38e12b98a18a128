"""Many layers in one go: a part's regular ticks as one sequence of operations, traced once, compiled if asked for.

fitness.py    which layers can be traced, and which of them stack
carries.py    what layers carry, along a first dimension and back
units.py      the layers of a part as stacks, in the order of evaluation
origins.py    where a unit's signals and costates come from
tick.py       one tick of all units, as a pure function
passage.py    the samples that passed, and who learnt from them
stashes.py    the points that stashed costates will meet
region.py     the shell: when a part is regular, and the way into and out of it
"""
