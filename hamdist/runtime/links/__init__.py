"""Links: what carries frames between two actors, one link an edge.

contract.py            what a link is; frames, ends, waits and how they fail
in_process.py          between threads of one process

zeromq.py              between processes: ipc on one host, tcp with CURVE between hosts
line.py                one end of a connection; watch.py: what its socket tells of the other end
window.py              how many messages may be under way
shared_line.py         a line with tensors in shared memory: segment.py; rack.py: how it is divided
wire.py, places.py     a frame as bytes; what is malformed is refused
bundled.py             several ticks' frames in one message
spare.py               memory for what arrives
security.py            keys, who may enter, the folder on one host

torch_distributed.py   tensors over torch.distributed (gloo, NCCL), heads of frames over ZeroMQ
lane.py                in which order tensors go
process_pair.py        two processes that exchange tensors; rendezvous.py: where they meet
farewell.py            how a tcp connection ends so that all that was sent arrives
"""
