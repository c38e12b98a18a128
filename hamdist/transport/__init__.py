"""Transport: what carries messages between two actors, one link an edge.

base.py                what a link is; frames, ends, waits and how they fail
local.py               between threads of one process
remote_channel.py      an edge to another actor, seen from one side, as a channel

zeromq.py              between processes: ipc on one host, tcp with CURVE between hosts
connection.py          one end of a connection; liveness.py: what its socket tells of the other end
capacity.py            how many messages may be under way
shared_memory.py       a connection with tensors in shared memory: segment.py; rack.py: how it is divided
codec.py, places.py    a frame as bytes; what is malformed is refused
bundled.py             several ticks' frames in one message
spare.py               memory for what arrives
security.py            keys, who may enter, the folder on one host

torch_distributed.py   tensors over torch.distributed (gloo, NCCL), heads of frames over ZeroMQ
p2p_order.py           in which order tensors go
process_group.py       two processes that exchange tensors, and where they meet
closing.py             how a tcp connection ends so that all that was sent arrives
"""
