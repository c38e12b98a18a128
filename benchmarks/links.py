"""What a frame costs between two processes of one host: by ZeroMQ's ipc sockets, and with tensors in shared memory.

Each process sends a frame with one tensor and receives the other's, over and over, as actors do; the time of such an
exchange, the median of several rounds, in which both kinds of link take turns.
"""

import argparse
import multiprocessing
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from statistics import median

import torch
from table import machine, show

from hamdist.runtime.links.contract import End, Form, Frame, Link
from hamdist.runtime.links.security import Station
from hamdist.runtime.links.zeromq import ZeroMQWiring
from hamdist.runtime.memory import keep_freed_memory
from hamdist.runtime.token import Token

KIB = 1024
SIZES = tuple(4 * KIB * 4**power for power in range(7))  # 4 KiB … 16 MiB
SOCKET, SHARED = 0, 1  # an edge of each kind for every size
CAPACITY = 3  # of an edge of delay 1


def ends(rank: int, sizes: tuple[int, ...]) -> list[End]:
    """Two for each size, the second of which shares memory."""
    made = []
    for edge in range(2 * len(sizes)):
        form = (Form((sizes[edge // 2] // 4,), torch.float32),)
        end = End(edge, f"edge {edge}", True, 1, "process 1", CAPACITY, form, form)
        made.append(end if rank == 0 else replace(end, forward=False, peer=0, peer_name="process 0"))
    return made


def exchange(link: Link, size: int, rounds: int) -> float:
    """Seconds for each."""
    tensor = torch.ones(size // 4)
    begun = time.perf_counter()
    for tick in range(rounds):
        link.send(Frame(tick, Token(tick), (tensor,)))
        link.receive()
    return (time.perf_counter() - begun) / rounds


def process(rank: int, other: Connection, sizes: tuple[int, ...], repeats: int, seconds: float) -> None:
    """One of the two; the first one sends its measurements to the standard output."""
    torch.set_num_threads(1)
    keep_freed_memory()
    here = [Station(actor, "127.0.0.1") for actor in (0, 1)]
    shared = range(1, 2 * len(sizes), 2)
    wiring = ZeroMQWiring(here[rank], {1 - rank: here[1 - rank]}, None, 1, shared=shared)
    own = wiring.listen(ends(rank, sizes))
    other.send(own)
    links = wiring.connect(other.recv())
    rows = []
    for index, size in enumerate(sizes):
        rounds = max(20, int(seconds / (100e-6 + size / 2e9)))
        times: list[list[float]] = [[], []]
        for _ in range(repeats + 1):  # the first is for warming up
            for kind in (SOCKET, SHARED):
                times[kind].append(exchange(links[2 * index + kind], size, rounds))
        socket, memory = (1e6 * median(found[1:]) for found in times)
        rows.append((f"{size // KIB} KiB", socket, memory, memory / socket))
    wiring.close()
    if rank == 0:
        show("An exchange, both ways", ["tensor", "ipc, µs", "shared memory, µs", "ratio"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    repeats, seconds = (3, 0.05) if arguments.quick else (arguments.repeats, 0.2)
    context = multiprocessing.get_context("spawn")
    pair = context.Pipe()
    crew = [
        context.Process(target=process, args=(rank, pair[rank], SIZES, repeats, seconds)) for rank in (0, 1)
    ]
    for member in crew:
        member.start()
    for member in crew:
        member.join()
    print(machine())


if __name__ == "__main__":
    main()
