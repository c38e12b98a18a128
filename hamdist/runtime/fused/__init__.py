"""Many layers in one go: a part's regular ticks as one sequence of operations, traced once, compiled if asked for.

execution.py  in which form layers run
fitness.py    which layers can be traced, and which of them stack
carries.py    what layers carry, along a first dimension and back
units.py      the layers of a part as stacks, in the order of evaluation
plan.py       what a regular tick consists of, and where everything comes from
origins.py    where a unit's signals and costates come from
flow.py       what a part holds from tick to tick, and what goes into and out of its ticks
tick.py       one tick of all units, as a pure function
times.py      of which samples a node speaks at a tick
passage.py    the samples that passed, and who learnt from them
stashes.py    the points that stashed costates will meet
handover.py   what cells and channels hold, as a flow of tensors, and back
boundary.py   what crosses the border of a part
ticks.py      the operations of regular ticks, traced or compiled when they first come
region.py     the shell: when a part is regular, and what happens then
"""
