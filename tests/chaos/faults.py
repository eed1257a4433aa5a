"""Those who die: the daemon that serves HTTP and is started again, and whoever else has the daemon lock then."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from mempalace_mcp.core.locks import FileLock
from tests.chaos.agents import Crowd
from tests.daemon.support import PROGRAM, has_ended, kill, wait_for
from tests.server.clients import PATIENCE, ROOT

CHROMA = "mempalace_mcp.storage.vectors.chroma_worker"
LOOK_SECONDS = 3.0
"""How long a certain moment is waited for, before any moment is good enough."""


class Serving(threading.Thread):
    """`serve`, always started again on the same port. What it says goes to a file."""

    def __init__(self, palace: Path, package: Path, port: int, log: IO[bytes], dice: random.Random) -> None:
        super().__init__(name="serving")
        self._command = [*PROGRAM, "serve", "--palace", str(palace), "--port", str(port), "--tools", "full"]
        self._package = package
        self._log = log
        self._dice = dice
        self._over = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()
        self.starts = 0
        self.exits: list[int] = []

    def run(self) -> None:
        while self._start():
            assert self._process is not None
            self.exits.append(self._process.wait())
            self._over.wait(self._dice.choice((0.0, 0.0, 1.5)))  # sometimes another one gets the daemon lock before it

    def stop(self) -> None:
        """End it as a service manager does."""
        with self._starting:
            self._over.set()
            if self._process is not None:
                self._process.terminate()
        if self.is_alive():
            self.join()

    def _start(self) -> bool:
        with self._starting:
            if self._over.is_set():
                return False
            self.starts += 1
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                cwd=self._package,
                env={**os.environ, "PALACE_LOG_LEVEL": "info"},
            )
            return True


@dataclass(slots=True)
class Kill:
    """One death: the plan, the moment, and what was going on."""

    plan: str
    at: float
    in_checkpoint: bool = False
    in_batch: bool = False


class Killer:
    """Kills by plan; between two plans every agent gets answers, so that no call sees more than three deaths."""

    def __init__(self, palace: Path, crowd: Crowd, dice: random.Random) -> None:
        self._palace = palace
        self._crowd = crowd
        self._dice = dice
        self.kills: list[Kill] = []

    def go_on_until(self, end: float) -> None:
        """Kill by one plan after the other, each of the important ones at least once however slow the machine is."""
        plans = [self.anytime, self.batch, self.checkpoint]
        while (plans or time.monotonic() < end) and not self._crowd.stop.is_set():
            if not plans:
                plans = [self.anytime, self.anytime, self.checkpoint, self.batch, self.birth, self.chroma]
                self._dice.shuffle(plans)
            plans.pop()()
            self._wait_for_everybody()

    def anytime(self) -> None:
        time.sleep(self._dice.uniform(0, 1))
        self._strike("anytime")

    def checkpoint(self) -> None:
        """Kill while pages are moved into the database."""
        command = [sys.executable, "-m", "tests.chaos.kills", str(self._palace), str(LOOK_SECONDS)]
        hit = subprocess.run(command, cwd=ROOT).returncode == 0
        self._strike("checkpoint", in_checkpoint=hit)

    def batch(self) -> None:
        """While rows go into Chroma, its record, which was there, is not."""
        self._look(lambda: not self._in_batch())
        self._look(self._in_batch)
        time.sleep(self._dice.choice((0.0, 0.005, 0.02)))
        self._strike("batch")

    def birth(self) -> None:
        """Kill a daemon, and the next one while it starts or soon afterwards."""
        first = self._strike("birth")
        wait_for(lambda: self._holder() not in (None, first) or self._crowd.stop.is_set(), "another daemon")
        time.sleep(self._dice.uniform(0, 2))
        self._strike("birth")

    def chroma(self) -> None:
        """Kill the child process alone."""
        self._look(lambda: not self._in_batch())
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                command = process.cmdline()
                if CHROMA in command and any(str(self._palace) in word for word in command):
                    self.kills.append(Kill("chroma", time.monotonic(), in_batch=self._in_batch()))
                    kill(process.pid)

    def _strike(self, plan: str, *, in_checkpoint: bool = False) -> int | None:
        holder = self._holder()
        if holder is None:
            return None
        self.kills.append(Kill(plan, time.monotonic(), in_checkpoint, self._in_batch()))
        with suppress(ProcessLookupError):
            os.kill(holder, signal.SIGKILL)
        wait_for(lambda: has_ended(holder), f"the end of {holder}")
        return holder

    def _holder(self) -> int | None:
        """The process on the daemon lock, whether it is ready or not."""
        signed = FileLock(self._palace / "daemon.lock").holder()
        with suppress(psutil.Error):
            if signed is not None and not has_ended(signed) and str(self._palace) in psutil.Process(signed).cmdline():
                return signed
        return None

    def _in_batch(self) -> bool:
        """Are Chroma's files being opened or changed, or in doubt since somebody died at that?"""
        index = self._palace / "index"
        return index.exists() and not (index / "chroma.json").exists()

    def _look(self, condition: Callable[[], bool]) -> None:
        limit = time.monotonic() + LOOK_SECONDS
        while not condition() and time.monotonic() < limit:
            time.sleep(0.001)  # else it takes the processor from those whose moment it waits for

    def _wait_for_everybody(self) -> None:
        agents = [*self._crowd.stdio, *self._crowd.web]
        before = [agent.answered for agent in agents]
        limit = time.monotonic() + 2 * PATIENCE
        while any(agent.answered < count + 6 for agent, count in zip(agents, before, strict=True)):
            if self._crowd.stop.is_set():
                return
            assert time.monotonic() < limit, "some agent gets no answers"
            time.sleep(0.02)
