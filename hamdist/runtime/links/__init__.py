"""Links: what carries frames between two actors, one link an edge.

contract.py            what a link is; frames, ends, waits and how they fail
in_process.py          between threads of one process
wire.py                a frame as bytes; what is malformed is refused
zeromq.py              between processes: ipc on one host, tcp with CURVE between hosts
torch_distributed.py   tensors over torch.distributed (gloo, NCCL), headers over ZeroMQ
"""
