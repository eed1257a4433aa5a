"""What the operating system says about this process."""

from __future__ import annotations

from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class ProcessStatistics:
    """One reading; None where the system does not tell."""

    rss_bytes: int | None
    open_descriptors: int | None
    native_threads: int | None


class ProcessProbe:
    """Reads the gauges that cost system calls; `latest` is the last reading and costs nothing."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self.latest = ProcessStatistics(None, None, None)
        self.read()

    def read(self) -> None:
        """Ask the system again, which takes about a tenth of a millisecond."""
        try:
            with self._process.oneshot():
                self.latest = ProcessStatistics(
                    self._process.memory_info().rss, self._process.num_fds(), self._process.num_threads()
                )
        except (psutil.Error, OSError):
            self.latest = ProcessStatistics(None, None, None)

    def statistics(self) -> ProcessStatistics:
        """The last reading."""
        return self.latest
