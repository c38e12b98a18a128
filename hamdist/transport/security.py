"""Who may speak to an actor: between hosts, the neighbour with the right CURVE key; on one host, the same user."""

import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils import z85

_ZAP = "inproc://zeromq.zap.01"  # where ZeroMQ asks, by its protocol of that name
_LONGEST_FOLDER = 80  # a socket's path may have 107 bytes


@dataclass(frozen=True)
class Station:
    """Where an actor is.  host: its IP address.  key: its public CURVE key, 40 characters; "" where none is needed."""

    actor: int
    host: str
    key: str = ""


@dataclass(frozen=True)
class KeyPair:
    """A CURVE key pair of 40 characters each; the secret half stays with its actor."""

    public: str
    secret: str = field(repr=False)


def fresh_keys() -> KeyPair:
    """A new pair for one actor and one run."""
    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


def private_folder() -> Path:
    """A new folder that this user alone can enter, with a path short enough for the sockets in it."""
    parent = Path(tempfile.gettempdir())
    if len(str(parent)) > _LONGEST_FOLDER - len("/hamdist-12345678"):
        parent = Path("/tmp")
    return Path(tempfile.mkdtemp(prefix="hamdist-", dir=parent))


class Gatekeeper:
    """Answers ZeroMQ's question who may enter a context's sockets: in each domain one key, and nobody else.

    It ends with the context.
    """

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        self._admitted: dict[bytes, bytes] = {}
        self._questions = context.socket(zmq.REP)
        self._questions.linger = 0
        self._questions.bind(_ZAP)
        self._thread = threading.Thread(target=self._answer, name="hamdist-gatekeeper", daemon=True)
        self._thread.start()

    def guard(self, socket: zmq.Socket[bytes], domain: str, keys: KeyPair, admitted: str) -> None:
        """From now on only the holder of the key `admitted` can connect to the socket."""
        self._admitted[domain.encode()] = z85.decode(admitted)
        socket.curve_server = True
        socket.curve_secretkey = keys.secret.encode()
        socket.zap_domain = domain.encode()
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def join(self, timeout: float) -> None:
        """Waits for the end of its thread, after the end of the context."""
        self._thread.join(timeout)

    def _answer(self) -> None:
        try:
            while True:
                version, request, domain, _, _, mechanism, *credentials = self._questions.recv_multipart()
                known = mechanism == b"CURVE" and credentials == [self._admitted.get(domain)]
                verdict = (b"200", b"OK") if known else (b"400", b"unknown key")
                self._questions.send_multipart([version, request, *verdict, b"", b""])
        except zmq.ContextTerminated:
            self._questions.close()
