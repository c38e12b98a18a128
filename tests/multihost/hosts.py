"""Several hosts on one machine: namespaces of Linux, joined by a switch.

Each has a network, processes and a name of its own. It lives as long as the pipe to its first process, which the kernel
closes when this process ends, however it ends; with that process go all others of the host, its network and its mounts.
So nothing is left to clean up, except a folder in /tmp, which the next run removes. The network leads nowhere but to
the other hosts.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

NAMESPACES = ("--net", "--mount", "--uts", "--ipc")
UNSHARE = ("unshare", *NAMESPACES, "--pid", "--fork", "--mount-proc", "--kill-child=KILL")
FIRST = ("env", "--ignore-signal=CHLD")  # so that the first process leaves no zombies of others
FOLDERS = "hamdist-hosts-"  # in /tmp, the process's number behind it
RELAY = Path(__file__).with_name("relay.py")


@dataclass(frozen=True)
class Host:
    """One host.  folder: for its temporary files; its parent: for what hosts share.  process: leads into it."""

    name: str
    address: str
    folder: Path
    process: int

    def command(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> list[str]:
        """The command that runs another one on this host; the two die together. `env`: added to this process's own."""
        entry = ["nsenter", f"--target={self.process}", *NAMESPACES]
        processes = f"--pid=/proc/{self.process}/ns/pid_for_children"
        settings = [f"{key}={value}" for key, value in {"TMPDIR": str(self.folder), **(env or {})}.items()]
        forget = [f"--unset={key}" for key in os.environ if key.startswith("RAY_")]
        return [
            *(*entry, processes, "--", "setpriv", "--pdeathsig=KILL", "--"),
            *("env", f"--chdir={Path.cwd()}", *forget, *settings, *command),
        ]

    def run(
        self, command: Sequence[str], timeout: float, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command, and waits for it. Raises TimeoutExpired, with what it printed; it is dead then."""
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        return subprocess.run(self.command(command, env), timeout=timeout, text=True, **output)

    def must(self, command: Sequence[str], timeout: float = 10, env: Mapping[str, str] | None = None) -> str:
        """What a command prints that must succeed; RuntimeError with it, if it does not."""
        done = self.run(command, timeout, env)
        if done.returncode:
            raise RuntimeError(
                f"host {self.name}: {' '.join(command)}: exit {done.returncode}\n{done.stdout}"
            )
        return done.stdout

    def lose(self) -> None:
        """It is gone, with all its processes, as if its power had failed."""
        os.kill(self.process, signal.SIGKILL)


@dataclass(frozen=True)
class Hosts:
    """Hosts by name, and the switch they are plugged into, where the other end of each host's cable has its name."""

    named: Mapping[str, Host]
    switch: Host

    def __getitem__(self, name: str) -> Host:
        return self.named[name]

    @contextmanager
    def latency(self, seconds: float) -> Iterator[None]:
        """Every frame between hosts takes `seconds` longer, each way; connections that are open stay open."""
        command = [sys.executable, str(RELAY), str(seconds), *self.named]
        with _popen(self.switch.command(command)) as relay:
            try:
                _await_line(relay, "the relay")
                self._bridge("nomaster")  # until here a frame arrived twice, which is better than never
                yield
            finally:
                self._bridge("master", "bridge")
                relay.kill()

    def _bridge(self, *relation: str) -> None:
        for name in self.named:
            self.switch.must(["ip", "link", "set", "dev", name, *relation])


def missing() -> str:
    """Why this machine cannot have such hosts, "" if it can: Linux, root, iproute2 and util-linux are needed."""
    tools = ("ip", "unshare", "nsenter", "setpriv", "mount")
    if absent := [tool for tool in tools if shutil.which(tool) is None]:
        return f"not found: {', '.join(absent)} (of Linux, packages iproute2 and util-linux)"
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    trial = "ip link add bridge type bridge && ip link add cable type veth peer name other"
    done = subprocess.run([*UNSHARE, *FIRST, "sh", "-c", trial], capture_output=True, text=True, timeout=20)
    return f"no namespaces, bridge or veth here: {done.stderr.strip()}" if done.returncode else ""


@contextmanager
def hosts(*names: str) -> Iterator[Hosts]:
    """Hosts 10.77.0.1, 10.77.0.2, … of these names, each of which can reach the others by address and by name."""
    _remove_stale_folders()
    folder = Path("/tmp", f"{FOLDERS}{os.getpid()}")  # short: sockets in it may have 107 characters
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        switch = stack.enter_context(_host("switch", "", folder))
        switch.must(["ip", "link", "add", "bridge", "type", "bridge"])
        switch.must(["ip", "link", "set", "bridge", "up"])
        addresses = {name: f"10.77.0.{number}" for number, name in enumerate(names, start=1)}
        listed = "".join(f"{address} {name}\n" for name, address in addresses.items())
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{listed}")
        named = {name: stack.enter_context(_host(name, addresses[name], folder)) for name in names}
        for host in named.values():
            _plug(host, switch)
        yield Hosts(named, switch)


@contextmanager
def _host(name: str, address: str, folder: Path) -> Iterator[Host]:
    own = folder / name
    own.mkdir(parents=True)
    with _popen([*UNSHARE, *FIRST, "cat"]) as process:  # cat ends with its pipe
        try:
            process.stdin.write(b"there?\n")
            _await_line(process, f"host {name}")
            host = Host(name, address, own, process.pid)
            host.must(["sh", "-c", f"echo {name} > /proc/sys/kernel/hostname; ip link set lo up"])
            yield host
        finally:
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _popen(command: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)


def _await_line(process: subprocess.Popen[bytes], name: str) -> None:
    """Until it prints a line. Raises RuntimeError if it ends, or does not within 20 s."""
    if not (select.select([process.stdout], [], [], 20)[0] and process.stdout.readline()):
        raise RuntimeError(f"{name} did not start: exit status {process.poll()}")


def _plug(host: Host, switch: Host) -> None:
    """A cable from the host's eth0 to the switch; there its end is called as the host."""
    cable = ["name", "eth0", "netns", str(host.process), "type", "veth", "peer", "name", host.name]
    switch.must(["ip", "link", "set", "lo", "up"])
    there = ["nsenter", f"--target={switch.process}", "--net"]  # numbers of processes are this side's
    subprocess.run([*there, "ip", "link", "add", *cable], check=True, timeout=10)
    switch.must(["ip", "link", "set", "dev", host.name, "master", "bridge", "up"])
    host.must(["ip", "address", "add", f"{host.address}/24", "dev", "eth0"])
    host.must(["ip", "link", "set", "eth0", "up"])
    host.must(["mount", "--bind", str(host.folder.parent / "hosts"), "/etc/hosts"])


def _remove_stale_folders() -> None:
    """What earlier runs left that were killed."""
    for folder in Path("/tmp").glob(f"{FOLDERS}*"):
        if not Path("/proc", folder.name.removeprefix(FOLDERS)).exists():
            shutil.rmtree(folder, ignore_errors=True)
