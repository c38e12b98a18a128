"""Proves the bed without hamdist: an actor on the host of each label, and ZeroMQ over TCP between them.

Usage: python probe.py HOST:PORT LABEL LABEL, on a node of the cluster; prints JSON:
{"addresses": [of the nodes that the two actors are on], "round_trip_ms": the median}
"""

import json
import statistics
import sys
import time

import ray
import zmq

LIMIT_MS = 10_000
ROUNDS = 20


@ray.remote(num_cpus=1)
class Peer:
    """One end of a connection."""

    def __init__(self) -> None:
        self._socket = zmq.Context.instance().socket(zmq.PAIR)
        self._socket.linger = 0
        self._socket.rcvtimeo = self._socket.sndtimeo = LIMIT_MS
        self._host = ray.util.get_node_ip_address()

    def host(self) -> str:
        return self._host

    def listen(self) -> str:
        port = self._socket.bind_to_random_port(f"tcp://{self._host}")
        return f"tcp://{self._host}:{port}"

    def answer(self) -> None:
        for _ in range(ROUNDS):
            self._socket.send(self._socket.recv())

    def ask(self, address: str) -> float:
        """The median of the round trips in ms, the first aside, which waits for the connection."""
        self._socket.connect(address)
        trips = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            self._socket.send(bytes(256))
            self._socket.recv()
            trips.append(1e3 * (time.perf_counter() - start))
        return statistics.median(trips[1:])


def main() -> None:
    address, *labels = sys.argv[1:]
    ray.init(address, logging_level="warning", log_to_driver=False)
    asking, answering = (Peer.options(label_selector={"host": label}).remote() for label in labels)
    addresses = ray.get([asking.host.remote(), answering.host.remote()], timeout=30)
    there = ray.get(answering.listen.remote(), timeout=10)
    done = answering.answer.remote()
    trip = ray.get(asking.ask.remote(there), timeout=30)
    ray.get(done, timeout=10)
    print(json.dumps({"addresses": addresses, "round_trip_ms": trip}))


if __name__ == "__main__":
    main()
