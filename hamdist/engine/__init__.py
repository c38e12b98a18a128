"""The engine: what moves signals and costates along the edges, tick by tick, within one process.

message.py     what travels: signals forward, costates backward, of one tick or several, with the samples they speak of
aligned.py     signals that are the same bits wherever they come from
channel.py     an edge as two queues with d initial tokens
state.py       all that moves of a node, as one tree; parts.py: what of the edges is in a cut; node_part.py: a cut by
               node
encoding.py    a state as tensors and JSON; stored_tensor.py: a tensor as files have it; encoded_file.py: the file
node_spec.py   all that a node must know of the network
layer_node.py  one layer at work, a step of its state at a time; junction.py: where several edges meet;
               window.py: costates that go back in time
loss_node.py   a loss at work; skipped_losses.py: those that are not finite and are left out
prediction_lines.py  predictions as lines of JSON
ledger.py      the proof that every sample drove a layer once
source.py      a stream as messages, tick by tick
spec.py        what every part of a run knows of the whole
build.py       makes, examines and plans layers: all of a network here, or those of one actor
partition.py   the nodes that one process hosts, and what they do in a tick
inline.py      all nodes in this process; free_run.py: layers on their own, with weights that stand still
kept.py        what can be kept of a layer in a file; loading.py: layers that take up other weights
layer_view.py  a layer as it was when somebody looked
fused/         regular ticks in one go: layers as stacks, traced, compiled
schedules.py   schedules of β that are the user's own
divergence.py  which layer ran away, and what to lower; failed_loss.py: what was no number though nothing grew
extent.py      how far a layer's numbers have gone; watch.py: a word before they run away
profiler.py    where an actor's time goes, span by span
device.py      what a device's name means here; memory of this process
"""
