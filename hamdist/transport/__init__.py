"""Transport: what carries messages between two actors, one link an edge.

base.py                what a link is; endpoints, waits and how they fail
local.py               between threads of one process
remote_channel.py      an edge to another actor, seen from one side, as a channel

codec.py               a message as bytes; what is malformed or changed is refused

zeromq.py              between processes: ipc on one host, tcp with CURVE between hosts
connection.py          one end of a connection, and how many messages may be under way
liveness.py            what its socket tells of the other end, and how it ends so that all that was sent arrives
shared_memory.py       a connection with tensors in blocks of shared memory; segment.py: that memory
security.py            keys, and who may enter
socket_folder.py       the folder of sockets on one host

torch_distributed.py   tensors over torch.distributed (gloo, NCCL), heads of messages over ZeroMQ
p2p_order.py           in which order tensors go
process_group.py       two processes that exchange tensors, and where they meet
"""
