"""A job on a Ray cluster: submitted through the dashboard, followed by its log, stopped by Ctrl-C."""

import asyncio
import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hamdist.command import INTERRUPTED, complain, show_summary
from hamdist.errors import RunError
from hamdist.launch.job_environment import job_environment
from hamdist.launch.log_archive import ArchiveReader
from hamdist.runs.record import SUMMARY

RECONNECTIONS = 5
SECONDS_BEFORE_RECONNECTING = 3.0


class SubmittedJob:
    """One job: Ctrl-C and SIGTERM stop it, so that its run drains; a second one leaves it to itself.

    archive: takes the run directory out of the log.  options: of hamdist.launch.job.
    """

    def __init__(self, client: Any, archive: ArchiveReader, options: Sequence[str] = ()) -> None:
        self.id = ""
        self._client, self._archive, self._options = client, archive, options
        self._ending: Any = None
        self._seen = 0  # characters of the log
        self._stopping = False

    async def run(self, config: str) -> None:
        """Submit it, and show its log to the end. Raises RunError where it cannot be submitted or followed."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stop)
        with job_environment(config) as environment:
            try:
                self.id = self._client.submit_job(
                    entrypoint=" ".join(
                        ["python -m hamdist.launch.job", self._archive.boundary, *self._options]
                    ),
                    runtime_env=environment,
                )
            except (OSError, RuntimeError, ValueError) as error:
                raise RunError(f"the job was not accepted: {in_a_line(error)}") from error
        complain([f"job {self.id}"])
        await self._follow()

    async def _follow(self) -> None:
        """A connection that breaks off is made again, but not for ever in vain."""
        from aiohttp import ClientError

        lost = 0
        while self._ending is None:
            seen = self._seen
            try:
                await self._tail()
                info = self._client.get_job_info(self.id)
                self._ending = info if info.status.is_terminal() else None
                reason = "it ended before the job did"
            except (OSError, RuntimeError, ClientError) as error:
                reason = in_a_line(error)
            lost = 1 if self._seen > seen else lost + 1
            if self._ending is None:
                await self._wait_for(lost, reason)
        show(self._archive.rest())

    async def _wait_for(self, lost: int, reason: str) -> None:
        """Before the next connection. Raises RunError where that is hopeless."""
        if lost > RECONNECTIONS:
            raise RunError(
                f"the log of job {self.id} was lost: {reason}; the job goes on: see `ray job status {self.id}` and "
                f"`ray job stop {self.id}`"
            )
        await asyncio.sleep(SECONDS_BEFORE_RECONNECTING)

    async def _tail(self) -> None:
        """Every connection sends the log from its start."""
        skip = self._seen
        async for text in self._client.tail_job_logs(self.id):
            new, skip = text[skip:], max(0, skip - len(text))
            self._seen += len(new)
            show(self._archive.feed(new))

    def _stop(self) -> None:
        if self._stopping:
            raise KeyboardInterrupt
        self._stopping = True
        complain([f"stopping job {self.id}; once more leaves it to end by itself"])
        try:
            self._client.stop_job(self.id)
        except (OSError, RuntimeError) as error:
            complain([f"it could not be told to stop: {in_a_line(error)}"])

    def finish(self, directory: Path) -> int:
        """Its run directory unpacked, its summary shown; returns its exit status. Raises RunError."""
        info = self._ending
        status = INTERRUPTED if info.status == "STOPPED" else info.driver_exit_code
        if status is None:
            raise RunError(f"job {self.id} could not run: {info.message}")
        there = self._archive.unpack(directory)
        if status == 0 and not there:
            raise RunError(f"job {self.id} ended well, but its run directory did not come back")
        if status in (0, INTERRUPTED) and (directory / SUMMARY).exists():
            summary = json.loads((directory / SUMMARY).read_text(encoding="utf-8"))
            show_summary({**summary, "directory": str(directory)})
        elif there:
            complain([f"what it left is in {directory}"])
        return status


def in_a_line(error: Exception) -> str:
    """The beginning of what an error says."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def show(text: str) -> None:
    """A piece of the log, as it is."""
    if text:
        complain([text.removesuffix("\n")])
