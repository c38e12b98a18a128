"""A switch that takes its time: frames that come in at one port leave at all others, so many seconds later.

Usage: python relay.py SECONDS PORT PORT ..., as root, in the network namespace of the ports; it prints a line when it
is ready, and goes on until it is killed. Latency is all it adds: a frame waits in a queue for the time when it is due,
and throughput has no limit but the processor's. What the sender's kernel left for a network card to do comes and goes
as it is, told by the header of virtio: checksums, and segments of TCP of up to 64 KiB in one frame.
"""

import select
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence

EVERY_PROTOCOL = 3  # ETH_P_ALL
PACKET, VIRTIO_HEADER, IGNORE_OUTGOING = 263, 15, 23  # SOL_PACKET and two of its options
SEND_BUFFER_FORCE, RECEIVE_BUFFER_FORCE = 32, 33
BUFFER = 64 << 20
LONGEST = 70_000
AT_ONCE = 64  # frames read before those due are sent


def open_port(name: str) -> socket.socket:
    """A socket that gets every frame that comes in at a network interface, and sends whole frames there."""
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERY_PROTOCOL))
    port.setsockopt(PACKET, VIRTIO_HEADER, 1)
    port.setsockopt(PACKET, IGNORE_OUTGOING, 1)
    for buffer in (SEND_BUFFER_FORCE, RECEIVE_BUFFER_FORCE):
        port.setsockopt(socket.SOL_SOCKET, buffer, BUFFER)
    port.bind((name, EVERY_PROTOCOL))
    port.setblocking(False)
    return port


def relay(ports: Sequence[socket.socket], seconds: float) -> None:
    """Never returns."""
    waiting: deque[tuple[float, socket.socket, bytes]] = deque()  # due when, came in where, what
    while True:
        patience = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for port in select.select(ports, [], [], patience)[0]:
            waiting.extend((time.monotonic() + seconds, port, frame) for frame in arrived(port))
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, origin, frame = waiting.popleft()
            for port in ports:
                if port is not origin:
                    port.send(frame)


def arrived(port: socket.socket) -> list[bytes]:
    """Frames that are there already, each behind its virtio header."""
    frames = []
    for _ in range(AT_ONCE):
        try:
            frames.append(port.recv(LONGEST))
        except BlockingIOError:
            break
    return frames


def main() -> None:
    seconds, names = float(sys.argv[1]), sys.argv[2:]
    ports = [open_port(name) for name in names]
    print("ready", flush=True)
    relay(ports, seconds)


if __name__ == "__main__":
    main()
