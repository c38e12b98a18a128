"""The actor at one end of the edge, as a process of its own; told what to be in the first line of its standard input.

Prints its addresses, reads the other's, sends so many messages, says so, receives one, says so, and waits for its end.
All that it sent has left the process by then, since that went before the message came.
"""

import json
import sys

import torch
from support.link_kinds import EDGE, KINDS, endpoints, forms, message

from hamdist.transport.base import Patience


def main() -> None:
    told = json.loads(sys.stdin.readline())
    actor, sample = told["actor"], torch.zeros(4)
    wiring = KINDS[told["kind"]].make(actor, told["note"], 1, Patience(*told["patience"]))
    addresses = wiring.listen([endpoints(forms(sample), forms(sample))[actor]])
    print(json.dumps(addresses), flush=True)
    others = {int(edge): address for edge, address in json.loads(sys.stdin.readline()).items()}
    link = wiring.connect(others)[EDGE]
    for tick in range(told["messages"]):
        link.send(message(tick, sample + tick))
    print("sent", flush=True)
    link.receive()
    print("ready", flush=True)
    sys.stdin.read()


main()
