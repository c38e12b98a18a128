"""The runtime: what moves tokens along the edges, tick by tick.

token.py       what travels: signals forward, costates backward, each with the samples it speaks of
channel.py     an edge as two queues with d initial tokens
cell.py        one layer at work
loss_cell.py   a loss at work
ledger.py      the proof that every sample drove a layer once
settling.py    settled, where no hold is exact
divergence.py  which layer ran away, and what to lower
program.py     from a network and a first batch to cells that can run
inline.py      all cells in this process
"""
