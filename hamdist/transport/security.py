"""Who may speak to an actor: between hosts, the neighbour with the right CURVE key; on one host, the same user."""

from dataclasses import dataclass, field

import zmq
from zmq.auth.thread import ThreadAuthenticator


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


class Gatekeeper:
    """Answers ZeroMQ's question who may enter a context's sockets: in each domain one key, and nobody else."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]") -> None:
        """Starts a thread, which `stop` ends."""
        self._authenticator = ThreadAuthenticator(context)
        self._authenticator.start()

    def guard(self, socket: zmq.Socket[bytes], domain: str, keys: KeyPair, admitted: str) -> None:
        """From now on only the holder of the key `admitted` can connect to the socket."""
        self._authenticator.configure_curve_callback(domain, _OneKey(admitted))
        socket.curve_server = True
        socket.curve_secretkey = keys.secret.encode()
        socket.zap_domain = domain.encode()
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def stop(self) -> None:
        """Nobody enters any more. May be called twice; has to be before the end of the context, which waits for it."""
        self._authenticator.stop()


@dataclass(frozen=True)
class _OneKey:
    """What pyzmq asks about a domain."""

    admitted: str

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether the holder of the key, 40 characters, may enter."""
        return key == self.admitted.encode()
