"""What every test gets: a clean environment, and proof that it leaves nothing running."""

from __future__ import annotations

import functools
import gc
import json
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import HealthCheck, settings

os.environ |= {"OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1", "PYDANTIC_DISABLE_PLUGINS": "1"}
# Above: before any import, as the program does. Below: modules are no garbage.
gc.set_threshold(10_000)

OWN_SETTINGS = ("PALACE_", "AGENT_")

LONG = ("chaos", "cli", "clients", "conformance", "daemon", "fuzz", "packages", "soak")
"""Folders of tests that start processes for most of what they try. Other long ones are marked where they stand."""

# Hypothesis' limits of time are timed assertions: they fail on a busy machine.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_configure() -> None:
    """A shell has what it runs in the background ignore interrupts, and so would every process that a test starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `-m "not long"` leaves out, so that the rest is over in a minute, and let each worker begin with it."""
    tests = Path(__file__).parent
    for item in items:
        if item.path.relative_to(tests).parts[0] in LONG:
            item.add_marker("long")
    items[:] = dealt(items, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def dealt(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """The tests, file by file, in as many shares of about equal length as there are workers.

    The files with long tests come first in each share. What is left when a worker has nothing more to do is short.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    shares: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for file in sorted(files.values(), key=lambda file: not any(item.get_closest_marker("long") for item in file)):
        min(shares, key=len).extend(file)
    return [item for share in shares for item in share]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each worker begins with its share, and takes tests from the shares of others when it has nothing left."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


@pytest.fixture(scope="module", autouse=True)
def long_lived_objects_are_not_collected_again() -> Iterator[None]:
    """The libraries' modules make every collection slow; they never become garbage. Each file of tests loads more.

    What a file of tests has left is collected at its end, so that a socket that nobody closed fails a test of it.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.collect()


@functools.cache
def opened_once() -> dict[str, Any]:
    """What reads the files of the models, with a memory of what it has made of them."""
    from mempalace_mcp.embedding import encoder

    return {name: functools.cache(getattr(encoder, name)) for name in ("_open_session", "open_tokenizer")}


@pytest.fixture(scope="module", autouse=True)
def models_are_opened_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """A process has one palace, but a process of tests has hundreds, and to open the model of each takes a tenth of a
    second. The files are verified each time. The tests of this layer open what they try.
    """
    with pytest.MonkeyPatch.context() as patched:
        if Path(__file__).with_name("embedding") not in request.path.parents:
            for name, function in opened_once().items():
                patched.setattr(f"mempalace_mcp.embedding.encoder.{name}", function)
        yield


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's shell reaches a test."""
    for name in list(os.environ):
        if name.startswith(OWN_SETTINGS):
            monkeypatch.delenv(name)


@pytest.fixture
def private_runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for the sockets of this test alone, by a path that is short enough for them."""
    with tempfile.TemporaryDirectory(prefix="run") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


def end_daemons_under(directory: Path) -> None:
    """By design a daemon outlives its sessions; in tests it ends with the palace's directory."""
    for file in directory.rglob("daemon.json"):
        with suppress(psutil.NoSuchProcess, OSError):
            daemon = psutil.Process(json.loads(file.read_text(encoding="utf-8"))["pid"])
            if str(file.parent) in daemon.cmdline():
                daemon.terminate()
                daemon.wait(20)


def children() -> list[int]:
    """The processes that this one has started. Linux lists them, which takes a tenth of a look at all processes."""
    if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
        return [child.pid for child in psutil.Process().children()]
    found: list[int] = []
    for each in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # that thread has ended
            found += map(int, each.read_text(encoding="ascii").split())
    return found


def names_of(pid: int) -> list[str]:
    """A process and its descendants, by their names."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [each.name() for each in (process, *process.children(recursive=True))]
    return []


def open_files(directory: str | None) -> list[str]:
    """The files under the directory that this process has open."""
    return [file.path for file in psutil.Process().open_files() if directory and file.path.startswith(directory)]


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves threads, child processes or files of its own palace open."""
    directory = str(request.getfixturevalue("tmp_path")) if "tmp_path" in request.fixturenames else None
    threads_before = set(threading.enumerate())
    children_before = set(children())
    yield
    if directory:
        end_daemons_under(Path(directory))
    left_threads = [thread for thread in threading.enumerate() if thread not in threads_before]
    for thread in left_threads:
        thread.join(5)
    alive = [thread.name for thread in left_threads if thread.is_alive()]
    left_children = set(children()) - children_before
    if files := open_files(directory):
        gc.collect()  # they may belong to what nobody uses any more
        files = open_files(directory)
    assert not alive, f"threads left running: {alive}"
    assert not left_children, f"processes left running: {[names_of(pid) for pid in left_children]}"
    assert not files, f"files left open: {files}"
