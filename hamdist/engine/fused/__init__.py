"""Many layers in one go: a partition's regular ticks as one sequence of operations, traced once, compiled if asked for.

eligibility.py  which layers can be traced, and which of them stack; obstacles.py: why ticks can't run as one;
                users_code.py: where in the user's code that is
layer.py        a layer as traced operations, alone as it would be in a stack
units.py        the layers of a partition as stacks, in the order of evaluation
plan.py         what a regular tick consists of, and where everything comes from
state.py        what a partition holds from tick to tick; the points that stashed costates will meet
chunk.py        one tick of all units, and a chunk of them, as pure functions
ready_ticks.py  the operations of ticks, once they are made
tokens.py       the samples that passed, who learnt from them, where episodes begin
handover.py     what nodes and channels hold, as trees of tensors, and back
boundary.py     what crosses the border of a partition
executor.py     the shell: when ticks are regular, and what happens then
"""
