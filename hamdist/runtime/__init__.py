"""The runtime: what moves tokens along the edges, tick by tick, in one process or in many.

token.py          what travels: signals forward, costates backward, each with the samples it speaks of
channel.py        an edge as two queues with d initial tokens
doors.py          the same where the other end is in another actor
cell.py           one layer at work; junction.py: where several edges meet
loss_cell.py      a loss at work
ledger.py         the proof that every sample drove a layer once
settling.py       settled, where no hold is exact
divergence.py     which layer ran away, and what to lower
aligned.py        signals that are the same bits wherever they come from
windows.py        a loss's metrics between two lines of metrics.jsonl
feed.py           a stream as what the source says in each tick
timeline.py       where an actor's time goes, span by span

outline.py        what every part of a run knows of the whole
part.py           the nodes that one process hosts, and what they do in a tick
program.py        a network whose layers are all built here; plan.py, plan_notes.py: what it will cost
stash_sizes.py    how much memory a layer's stash takes, in either form
inline.py         all nodes in this process

builder.py        makes and examines the layers of one actor
worker.py         the loop of one actor; stream_worker.py: that of the stream's
share.py          what an actor is told at its start, and tells at its end
ends.py           which edges lead from one actor to another
company.py        calls to all actors of a run
rehearsal.py      from actors that have made their layers to actors that can run
cost.py           what a layer's tick costs, estimated without its weights
devices.py, memory.py   of this machine, of this process
fused/            regular ticks in one go: layers as stacks, traced, compiled
links/            what carries frames between two actors: in-process queues, ZeroMQ, torch.distributed
actors/           Ray: it places, starts, watches and stops the actors
"""
