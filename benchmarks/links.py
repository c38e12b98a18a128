"""What a message costs between two processes of one host: over ZeroMQ's ipc sockets, and with tensors in shared memory.

Each process sends a message with one tensor and receives the other's, over and over, as actors do. Printed are the time
of such an exchange, and the processor time that it takes one of the two: medians of several rounds, in which both kinds
of link take turns.
"""

import argparse
import multiprocessing
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from statistics import median

import torch
from table import machine, show

from hamdist.engine.device import keep_freed_memory
from hamdist.engine.message import Form, Message, Token
from hamdist.transport.base import Endpoint, Link
from hamdist.transport.security import Station
from hamdist.transport.zeromq import ZeroMQWiring

KIB = 1024
SIZES = tuple(4 * KIB * 4**power for power in range(7))  # 4 KiB … 16 MiB
SOCKET, SHARED = 0, 1  # an edge of each kind for every size
CAPACITY = 3  # of an edge of delay 1


def endpoints(rank: int, sizes: tuple[int, ...]) -> list[Endpoint]:
    """Two for each size, the second of which shares memory."""
    made = []
    for edge in range(2 * len(sizes)):
        form = (Form((sizes[edge // 2] // 4,), torch.float32),)
        end = Endpoint(edge, f"edge {edge}", True, 1, "process 1", CAPACITY, 1, form, form)
        made.append(end if rank == 0 else replace(end, forward=False, peer=0, peer_name="process 0"))
    return made


def exchange(link: Link, size: int, ticks: range) -> tuple[float, float]:
    """Microseconds for each, by the clock and of processor time."""
    tensor = torch.ones(size // 4)
    begun, worked = time.perf_counter(), time.process_time()
    for tick in ticks:
        link.send(Message((Token(tick),), (tensor,), tick))
        link.receive()
    unit = 1e6 / len(ticks)
    return unit * (time.perf_counter() - begun), unit * (time.process_time() - worked)


def process(rank: int, other: Connection, sizes: tuple[int, ...], repeats: int, seconds: float) -> None:
    """One of the two; the first one prints what it measured."""
    torch.set_num_threads(1)
    keep_freed_memory()
    here = [Station(actor, "127.0.0.1") for actor in (0, 1)]
    shared = range(1, 2 * len(sizes), 2)
    wiring = ZeroMQWiring(here[rank], {1 - rank: here[1 - rank]}, None, 1, shared=shared)
    own = wiring.listen(endpoints(rank, sizes))
    other.send(own)
    links = wiring.connect(other.recv())
    rows = [
        row(links[2 * index + SOCKET], links[2 * index + SHARED], size, repeats, seconds)
        for index, size in enumerate(sizes)
    ]
    wiring.close()
    if rank == 0:
        columns = ["tensor", "ipc, µs", "shared, µs", "ratio", "processor: ipc, µs", "shared, µs", "ratio"]
        show("An exchange, both ways", columns, rows)


def row(socket: Link, shared: Link, size: int, repeats: int, seconds: float) -> tuple[object, ...]:
    rounds = max(20, int(seconds / (100e-6 + size / 2e9)))
    turns = [range(rounds * turn, rounds * (turn + 1)) for turn in range(repeats + 1)]
    times = [(exchange(socket, size, ticks), exchange(shared, size, ticks)) for ticks in turns]
    medians = [
        [median(pair[kind][clock] for pair in times[1:]) for kind in (SOCKET, SHARED)] for clock in (0, 1)
    ]
    return (f"{size // KIB} KiB", *(cell for ipc, memory in medians for cell in (ipc, memory, memory / ipc)))


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
