"""What will run, before it runs: delays, costs, memory, as a table and as a picture.

plan.py         the plan: rows of layers and edges
build_plan.py   the plan of a network, measured on its first batch
cost.py         what a layer's tick costs, estimated without its weights
stash_sizes.py  how much memory a layer's stash takes, in either form
cautions.py     what of it will probably not learn
notes.py        what a person should know of a plan
"""
