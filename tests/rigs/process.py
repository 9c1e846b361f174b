"""`Daemon`: one child process that serves on a loopback port, with a readiness wait, a clean end, a hard kill and a restart in place.

Guarantee: it is gone when the session ends, even when the session is killed: a keeper process holds the read end of a pipe whose only writer is this
process, and kills the daemon's own process group on end of file. Only groups that were created here are ever signalled.
"""

import atexit
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

_STOP_S = 20
_CHILDREN_S = 10
_NOBODY = 65534


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_block(size: int) -> int:
    """The first of `size` neighbouring loopback ports that nobody uses now, below those that the system gives to outgoing connections."""
    start = random.randrange(10_000, 20_000)
    for first in (*range(start, 20_000, size), *range(10_000, start, size)):
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError):
            for port in range(first, first + size):
                probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise OSError(f"no {size} free neighbouring ports between 10000 and 20000")


class StartError(Exception):
    """The process ended or stayed deaf; the message carries the end of its log."""


class Daemon(ABC):
    """A serving child process. Subclasses say how it is started and when it is ready.

    `stop` ends it cleanly, `kill` as a power cut would, `suspend`/`resume` make it hang; `start` after either runs it again on the same port and data.
    `close` also removes the data.
    """

    name: str
    start_timeout_s: float = 120.0
    drop_root = False

    def __init__(self) -> None:
        self.data_dir = Path(tempfile.mkdtemp(prefix=f"reflexarc-{self.name}-", dir="/tmp"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    @abstractmethod
    def command(self) -> Sequence[str]:
        """The command line; called at each start."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether the service answers. May raise OSError for "not yet"."""

    def environment(self) -> Mapping[str, str]:
        """Variables on top of ours."""
        return {}

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log_file(self) -> Path:
        return self.data_dir / "output.log"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Start it (no effect while it runs) and wait until it is ready.

        Raises:
            StartError: it ended or did not become ready in time.
        """
        if self.is_running:
            return
        self._reap()
        nobody = _NOBODY if self.drop_root and os.geteuid() == 0 else None
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.data_dir,
                env={**os.environ, **self.environment()},
                start_new_session=True,
                user=nobody,
                group=nobody,
                extra_groups=None if nobody is None else [],
            )
        self._keeper = subprocess.Popen(
            ["/bin/sh", "-c", 'cat >/dev/null; kill -s KILL -- "-$1" 2>/dev/null', "keeper", str(self._process.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until it answers.

        Raises:
            StartError: it ended or did not become ready in time.
        """
        give_up_at = time.monotonic() + self.start_timeout_s
        while time.monotonic() < give_up_at:
            if not self.is_running:
                raise StartError(f"{self.name} ended while starting:\n{self.log_tail()}")
            with contextlib.suppress(OSError):
                if self.is_ready():
                    return
            time.sleep(0.05)
        raise StartError(f"{self.name} did not answer on {self.address} within {self.start_timeout_s} s:\n{self.log_tail()}")

    def stop(self) -> None:
        """End it cleanly (SIGTERM), or hard if it does not obey within 20 s."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash would (SIGKILL); data and port stay for the next `start`."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Clean stop, then start on the same port and data."""
        self.stop()
        self.start()

    def suspend(self) -> None:
        """Make it hang: connections stay open, nothing answers, until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop it and remove its data."""
        self.stop()
        shutil.rmtree(self.data_dir, ignore_errors=True)
        atexit.unregister(self.close)

    def log_tail(self, lines: int = 30) -> str:
        """The end of what it printed."""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:]) if self.log_file.exists() else "(no output)"

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._signal(signal.SIGCONT)  # a stopped process would not hear SIGTERM
        self._signal(how)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
        self._let_children_finish(self._process.pid)
        self._reap()

    @staticmethod
    def _let_children_finish(group: int) -> None:
        # A launcher may end before the server that it launched has closed its files. Limited: an init that does not reap leaves the group for ever.
        give_up_at = time.monotonic() + _CHILDREN_S
        with contextlib.suppress(ProcessLookupError):
            while time.monotonic() < give_up_at:
                os.killpg(group, 0)
                time.sleep(0.02)

    def _signal(self, how: signal.Signals) -> None:
        # A group stays ours while its leader is not reaped, so its number cannot belong to somebody else.
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, how)

    def _reap(self) -> None:
        # The keeper goes last: until then it covers children that outlive the leader.
        if self._process is not None:
            self._process.wait()
            self._process = None
        if self._keeper is not None and self._keeper.stdin is not None:
            self._keeper.stdin.close()
            self._keeper.wait()
            self._keeper = None
