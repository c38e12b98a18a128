"""The network: which layer hears which, and how far each sees.

network.py    layers by name, edges, losses; names.py: their names; layer_spec.py: what builds a layer
given_layers.py: layers, edges.py: edges, losses.py: losses, as a user gives them
target_parts.py: the targets of several losses as one tensor; entrance.py: what targets are looked at for
graph.py      nodes, edges, checks, the graph-wide order of evaluation
locality.py   nonlocal, groups, local, explicit delays: the dial
timing.py     when a sample arrives and its costate returns; balancing of joins
tick_order.py the order of a tick, one list for the whole network
learning.py   the constants of motion of every layer, scaled by its delay
skipping.py   where a sample whose loss is not finite leaves no trace
loading.py    weights that a network takes up
modules.py    torch modules from their description
copying.py    a module of the user's as a layer's own; ownership.py: who owns which memory
survey.py     shapes and behaviour of every layer, found with the first batch
behaviour.py  what a layer draws from and writes, and what no layer may do
trial.py      one evaluation with its derivatives; purity.py: whether another comes to the same
attributes.py what Python keeps for a module beside its tensors
loss_fit.py   whether a loss fits its output and targets
placement.py  which actor hosts which layers
wording.py    tensors and errors in a sentence
plain.py      the ordinary PyTorch model behind a network: plain_graph.py, one pass; sequence.py, one with memories
reversible.py what the reversible pairing asks of a network; exact.py: what exact gradients forward in time do
"""
