"""What becomes of a socket's connection, from the socket's own monitor.

Nothing else tells: a process that is killed shows as DISCONNECTED within milliseconds, and so does one that is frozen
or cut off, once the socket's heartbeats go unanswered.
"""

import zmq
from zmq.utils.monitor import parse_monitor_message

_GONE = "has gone away: it ended, or gave no sign of life; its own log says why. Restart from a checkpoint"
_UNREACHED = "does not listen at its address; its own log says why"
_FAILURES: dict[int, str] = {
    zmq.Event.HANDSHAKE_FAILED_AUTH: "does not accept this end's key",
    zmq.Event.HANDSHAKE_FAILED_PROTOCOL: "speaks another protocol, or has another key",
    zmq.Event.HANDSHAKE_FAILED_NO_DETAIL: "broke off the greeting",
}
_WATCHED = (
    zmq.Event.ACCEPTED
    | zmq.Event.CONNECTED
    | zmq.Event.CLOSED
    | zmq.Event.DISCONNECTED
    | zmq.Event.HANDSHAKE_SUCCEEDED
    | zmq.Event.HANDSHAKE_FAILED_AUTH
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
)


class Watch:
    """Follows a socket that binds or connects once; make it before that.

    A socket that binds may be tried by strangers, whose coming and going means nothing: only who greets with the right
    key counts, and he is gone when no connection is left.
    """

    def __init__(self, socket: zmq.Socket[bytes], binds: bool) -> None:
        self._watched, self._binds = socket, binds
        address = f"inproc://watch-{socket.underlying:x}"
        socket.monitor(address, _WATCHED)
        self._events = socket.context.socket(zmq.PAIR)
        self._events.rcvhwm = 0  # events that nobody reads must not stop the socket
        self._events.connect(address)
        self._open: set[int] = set()  # descriptors
        self.greeted = False
        self.refused = ""  # why the last greeting failed
        self._unreached = False

    def gone(self) -> str:
        """What the other end did not to be heard of again, and what to do; "" as long as it may be."""
        self._read()
        if self.greeted:
            return "" if self._open else _GONE
        if self._binds:
            return ""
        if self.refused:
            return f"{self.refused}; all actors must be of the same start of the run"
        return _UNREACHED if self._unreached else ""

    def connections(self) -> frozenset[int]:
        """The descriptors of those that are open."""
        return frozenset(self._open)

    def close(self) -> None:
        self._watched.disable_monitor()
        self._events.close(linger=0)

    def _read(self) -> None:
        while self._events.poll(0):
            message = parse_monitor_message(self._events.recv_multipart())
            event, descriptor = message["event"], message["value"]
            if event in (zmq.Event.ACCEPTED, zmq.Event.CONNECTED):
                self._open.add(descriptor)
            elif event == zmq.Event.DISCONNECTED:
                self._open.discard(descriptor)
            elif event == zmq.Event.HANDSHAKE_SUCCEEDED:
                self.greeted = True
            elif event == zmq.Event.CLOSED:
                self._unreached = not self.greeted and not self._open
            else:
                self.refused = _FAILURES[event]
