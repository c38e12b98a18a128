"""One end of a link in a process of its own, which a test may kill or freeze; what it runs is link_peer."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple

import torch
from support.link_kinds import EDGE, PATIENCE, Kind, endpoints, message

from hamdist.engine.message import Form
from hamdist.transport.base import Link, Patience

SMALL = Form((4,), torch.float32)


@contextmanager
def process(
    kind: Kind, actor: int, messages: int, patience: Patience
) -> Iterator[tuple[subprocess.Popen[str], Link]]:
    """One actor as a process that has sent so many messages and waits; the link of the other, in this one."""
    note = kind.prepare()
    wiring = kind.make(1 - actor, note, 1, patience)
    temporary = tempfile.mkdtemp()  # one that is killed leaves its files
    peer = subprocess.Popen(
        [sys.executable, "-m", "support.link_peer"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": temporary, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        known = {"kind": kind.name, "note": note, "actor": actor}
        tell(peer, {**known, "messages": messages, "patience": astuple(PATIENCE)})
        own = wiring.listen([endpoints([SMALL], [SMALL])[1 - actor]])
        others = {int(edge): address for edge, address in json.loads(hear(peer)).items()}
        tell(peer, own)
        link = wiring.connect(others)[EDGE]
        assert hear(peer) == "sent"
        link.send(message(0, torch.ones(4)))
        assert hear(peer) == "ready"
        yield peer, link
    finally:
        peer.kill()
        peer.communicate()
        wiring.close()
        shutil.rmtree(temporary)


def tell(peer: subprocess.Popen[str], what: object) -> None:
    assert peer.stdin is not None
    print(json.dumps(what), file=peer.stdin, flush=True)


def hear(peer: subprocess.Popen[str]) -> str:
    assert peer.stdout is not None
    return peer.stdout.readline().rstrip()
