"""A palace in PostgreSQL, used by everything that a person or a client starts."""

from __future__ import annotations

import json
import shlex
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from mempalace_mcp.core.palace_url import PalaceUrl
from tests.daemon.server_support import HttpServer, environment_of, run, serving, session, told
from tests.daemon.support import answer_to, kill, use, wait_for
from tests.daemon.test_bridge import COSTLY, HEAVY, modules_of
from tests.health import troubles
from tests.postgres_server import Server, fresh_schema, programs, shared_address
from tests.server.clients import INITIALIZED, call, initialize, request
from tests.storage.support import small_disk

SECRET = "correct-horse"


@pytest.fixture(scope="module", autouse=True)
def server() -> str:
    """The server that the tests share, started before the first one looks at what it leaves behind."""
    return shared_address()


@pytest.fixture
def url() -> Iterator[PalaceUrl]:
    """A palace that is not there yet; the server takes any password."""
    address = shared_address().replace("postgres@", f"postgres:{SECRET}@")
    with fresh_schema(address) as url:
        yield url


@pytest.fixture
def env(url: PalaceUrl, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a user whose palace that is. The user's daemon ends with the test."""
    home = tmp_path / "home"
    home.mkdir()
    environment = environment_of(url, home)
    yield environment
    told(environment, "daemon", "stop")


def lines_and_environments(pid: int) -> tuple[list[str], dict[str, str]]:
    process = psutil.Process(pid)
    return process.cmdline(), process.environ()


def test_a_session_files_and_another_one_finds(env: dict[str, str], url: PalaceUrl) -> None:
    with session(env) as first, session(env) as second:
        first.greet()
        second.greet()
        use(first, 1, "add_drawer", wing="garden", room="plan", content="Tomatoes are planted in May.")
        for mode in ("hybrid", "semantic", "keyword"):
            found = use(second, mode, "search", query="when are tomatoes planted", mode=mode)
            assert [hit["passage"] for hit in found["results"]] == ["Tomatoes are planted in May."]
        status = use(second, "status", "status")
        assert status["palace"]["path"] == url.shown
        assert status["palace"]["drawers"] == 1
        assert SECRET not in json.dumps(status)
        daemon = status["daemon"]["pid"]
        line, environment = lines_and_environments(daemon)
        assert SECRET not in " ".join(line)
        assert environment["PALACE_URL"] == url.text
    folder = Path(line[line.index("--directory") + 1])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {each.name for each in folder.iterdir()} == {"daemon.json", "daemon.lock", "daemon.log"}
    assert SECRET not in "".join(each.read_text() for each in folder.iterdir())


def test_the_address_on_the_command_line_goes_no_further(env: dict[str, str], url: PalaceUrl) -> None:
    elsewhere = {**env, "PALACE_URL": "postgresql://localhost:1/none"}
    with session(elsewhere, "--palace", url.text) as client:
        client.greet()
        line, environment = lines_and_environments(use(client, 1, "status")["daemon"]["pid"])
        assert SECRET not in " ".join(line)
        assert environment["PALACE_URL"] == url.text


def test_a_file_holds_the_address(env: dict[str, str], url: PalaceUrl, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(url.text + "\n")
    by_variable = {**env, "PALACE_URL_FILE": str(file)}
    del by_variable["PALACE_URL"]
    with session(by_variable) as first, session(env, "--palace", str(file)) as second:
        first.greet()
        second.greet()
        use(first, 1, "add_drawer", wing="w", room="r", content="One palace, two ways to it.")
        assert use(second, 1, "search", query="two ways")["results"]
        assert use(first, 2, "status")["daemon"]["pid"] == use(second, 2, "status")["daemon"]["pid"]


def test_all_tools_work(env: dict[str, str], tmp_path: Path) -> None:
    note = tmp_path / "notes" / "plan.md"
    note.parent.mkdir()
    note.write_text("# Plan\n\nThe fence is painted green.\n")
    with session({**env, "PALACE_IMPORT_ROOTS": str(tmp_path)}, "--tools", "full") as client:
        client.greet()
        drawer = use(client, 1, "add_drawer", wing="garden", room="plan", content="Beans follow peas.")["drawer_id"]
        use(client, 2, "update_drawer", drawer_id=drawer, content="Beans follow peas, then leeks.")
        assert use(client, 3, "get_drawers", drawer_ids=[drawer])["drawers"][0]["content"].endswith("leeks.")
        use(client, 4, "delete_drawers", drawer_ids=[drawer])
        assert use(client, 5, "search", query="beans and peas")["results"] == []
        use(client, 6, "restore_drawers", drawer_ids=[drawer])
        assert use(client, 7, "search", query="beans and peas")["results"]
        use(client, 8, "kg_add", subject="Nadia", predicate="works in", object="team Orion", valid_from="2026-01-01")
        use(
            client, 9, "kg_supersede", subject="Nadia", predicate="works in", old_object="team Orion", new_object="Lyra"
        )
        assert use(client, 10, "kg_query", entity="Nadia")["facts"][0]["object"] == "Lyra"
        use(client, 11, "diary_write", agent_name="gardener", entry="Watered everything.")
        assert use(client, 12, "diary_read", agent_name="gardener")["entries"]
        assert use(client, 13, "import_path", paths=[str(note)])["filed"] == 1
        assert use(client, 14, "search", query="colour of the fence")["results"]
        assert use(client, 15, "get_taxonomy")["taxonomy"]["garden"] == {"plan": 1}
        assert "Beans" in use(client, 16, "wake_up", wing="garden")["text"]
        assert use(client, 17, "history")["calls"]
        assert use(client, 18, "reconnect")["after"]["database"]["available"]


def test_servers_of_one_palace_find_at_once_what_each_acknowledges(env: dict[str, str]) -> None:
    with serving(env) as one, serving(env) as other:
        for number in range(5):
            for here, there in ((one, other), (other, one)):
                word = f"unheard{number}{here.process.pid}"
                filed = here.tool("add_drawer", wing="w", room="r", content=f"This is {word}.")
                hits = there.tool("search", query=word)["results"]
                assert hits[0]["drawer_id"] == filed["drawer_id"]
        health = [server.get("/health").json() for server in (one, other)]
        assert {each["status"] for each in health} <= {"ok", "degraded"}
        metrics = one.get("/metrics").text
        assert "mempalace_server_connections" in metrics
        with session(env) as client:
            client.greet()
            assert use(client, 1, "search", query="unheard4")["results"]
            assert use(client, 2, "status")["daemon"]["pid"] == one.process.pid


def test_a_server_leaves_the_sessions_to_others_and_needs_no_disk(env: dict[str, str]) -> None:
    nowhere = {**env, "HOME": "/dev/null"}
    with serving(nowhere) as server, session(nowhere) as client:
        client.greet()
        use(client, 1, "add_drawer", wing="w", room="r", content="Filed without a home.")
        assert server.tool("search", query="without a home")["results"]
        server.process.terminate()
        assert server.process.wait(30) == 0


def answers(server: HttpServer, token: str, code: int) -> bool:
    return server.post(request(1, "ping"), token).status_code == code


def test_every_server_knows_a_token_half_a_second_later(env: dict[str, str]) -> None:
    secret = run(env, "token", "new", "laptop", "--scope", "write").stdout.strip()
    with serving(env) as one, serving(env) as other:
        for server in (one, other):
            assert server.post(request(1, "ping")).status_code == 401
            assert server.post(request(1, "ping"), secret).status_code == 200
        reader = run(env, "token", "new", "reader", "--scope", "read").stdout.strip()
        for server in (one, other):
            wait_for(partial(answers, server, reader, 200), "the new token")
            refused = server.tool("add_drawer", token=reader, wing="w", room="r", content="text")
            assert refused["error"]["code"] == "read_only"
        assert [each["name"] for each in told(env, "token", "list")["tokens"]] == ["laptop", "reader"]
        run(env, "token", "revoke", "laptop")
        for server in (one, other):
            wait_for(partial(answers, server, secret, 401), "its end")


def test_a_listener_hears_of_what_another_server_files(env: dict[str, str]) -> None:
    with serving(env) as other, session({**env, "HOME": "/dev/null"}) as client:
        client.greet()
        client.send(request(1, "resources/subscribe", uri="palace://garden"))
        answer_to(client, 1)
        other.tool("add_drawer", wing="garden", room="plan", content="Leeks in June.")
        heard: set[Any] = set()
        while "notifications/resources/updated" not in heard:
            heard.add(client.receive().get("method"))


def test_commands_work_and_say_what_they_do_not_offer(env: dict[str, str], url: PalaceUrl, tmp_path: Path) -> None:
    absent = told(env, "search", "anything")
    assert absent["error"]["code"] == "not_found"
    note = tmp_path / "note.md"
    note.write_text("The well is twelve metres deep.\n")
    assert told(env, "import", str(note))["filed"] == 1
    found = told(env, "search", "how deep is the well")["results"]
    assert found[0]["passage"].strip() == "The well is twelve metres deep."
    status = told(env, "status")
    assert status["palace"]["path"] == url.shown
    assert status["palace"]["pending"] == 0
    assert set(status["palace"]["server"]) == {"postgresql", "pgvector"}
    assert "in PostgreSQL" in run(env, "status").stdout
    assert status["palace"]["database_bytes"] > 0
    assert told(env, "reindex", "--vectors")["faults"] == []
    refused = told(env, "backup", str(tmp_path / "copy"))["error"]
    assert f"pg_dump -Fc -n {url.schema}" in refused["hint"]
    assert SECRET not in json.dumps([absent, found, status, refused])
    assert not (tmp_path / "copy").exists()


def test_a_killed_daemon_loses_nothing(env: dict[str, str]) -> None:
    with session(env) as client:
        client.greet()
        use(client, 1, "add_drawer", wing="w", room="r", content="before")
        kill(use(client, 2, "status")["daemon"]["pid"])
        client.send(call(3, "add_drawer", wing="w", room="r", content="after"))
        assert answer_to(client, 3)["result"]["structuredContent"]["created"]
        assert use(client, 4, "get_taxonomy")["taxonomy"] == {"w": {"r": 2}}


def test_a_server_of_postgresql_that_goes_and_comes_back(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    postgres = Server(durable=True)
    try:
        postgres.start()
        env = environment_of(f"{postgres.address}?schema=lasting", tmp_path / "home")
        with serving(env) as server, session(env) as client:
            client.greet()
            use(client, 1, "add_drawer", wing="w", room="r", content="before the restart")
            postgres.kill()
            wait_for(lambda: "server_unreachable" in troubles(server.get("/health").json()), "what is wrong")
            assert server.get("/readyz").status_code == 503
            assert server.get("/livez").status_code == 200
            refused = server.post(call(1, "search", query="restart"))
            if refused.status_code == 200:  # it has not been noticed yet that tokens cannot be read
                assert refused.json()["result"]["structuredContent"]["error"]["code"] == "busy"
            else:
                assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
            client.send(call("gone", "search", query="restart"))
            error = answer_to(client, "gone")["result"]["structuredContent"]["error"]
            assert (error["code"], error["retryable"]) == ("busy", True)
            client.send(call("patient", "add_drawer", wing="w", room="r", content="during the restart"))
            postgres.start()
            assert answer_to(client, "patient")["result"]["structuredContent"]["created"]
            wait_for(lambda: "server_unreachable" not in troubles(server.get("/health").json()), "its end")
            use(client, 2, "add_drawer", wing="w", room="r", content="after the restart")
            found = use(client, 3, "search", query="restart", mode="keyword")["results"]
            assert {hit["passage"].split()[0] for hit in found} == {"before", "during", "after"}
            postgres.kill()
            postgres.start()
            assert server.tool("add_drawer", wing="w", room="r", content="at once after another one")["created"]
            told(env, "daemon", "stop")
    finally:
        postgres.remove()


def test_a_server_that_is_down_when_a_session_begins(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    postgres = Server()
    try:
        env = environment_of(f"{postgres.address}?schema=late", tmp_path / "home")
        assert run(env, "serve", "--port", "0").returncode == 1
        with session(env) as client:
            client.send(initialize())
            refused = client.receive()
            assert "cannot be reached" in json.dumps(refused)
            postgres.start()
            with session(env) as later:
                later.greet()
                assert use(later, 1, "add_drawer", wing="w", room="r", content="text")["created"]
        told(env, "daemon", "stop")
    finally:
        postgres.remove()


def test_a_bridge_and_a_hook_import_nothing_heavy(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HOME", "PALACE_URL"):
        monkeypatch.setenv(variable, env[variable])
    with session(env) as first:
        first.greet()
        answers, loaded = modules_of(messages=(initialize(), INITIALIZED, call(1, "kg_stats")))
        assert len(answers.splitlines()) == 2
        assert "mempalace_mcp.daemon.bridge" in loaded
        assert not loaded & {*HEAVY, *COSTLY, "psycopg", "hashlib"}
        event = {"hook_event_name": "SessionStart", "cwd": "/"}
        _, loaded = modules_of("hook", "claude-code", json.dumps(event))
        assert "mempalace_mcp.daemon.hook" in loaded
        assert not loaded & {*HEAVY, *COSTLY, "psycopg", "hashlib"}


def test_a_hook_files_a_conversation(env: dict[str, str], tmp_path: Path) -> None:
    transcript = tmp_path / "session.jsonl"
    said = [("user", "Where do the keys hang?"), ("assistant", "The keys hang behind the barn door.")]
    lines = [
        {"type": who, "uuid": f"{who}-1", "sessionId": "s", "cwd": "/srv/barn", "timestamp": f"2026-03-01T10:00:0{n}Z"}
        | {"message": {"role": who, "content": text}}
        for n, (who, text) in enumerate(said)
    ]
    transcript.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with session(env) as client:
        client.greet()
        event = {"hook_event_name": "Stop", "session_id": "s", "transcript_path": str(transcript), "cwd": "/srv/barn"}
        assert run(env, "hook", "claude-code", json.dumps(event)).returncode == 0
        wait_for(lambda: bool(use(client, 1, "search", query="keys behind the door")["results"]), "the conversation")
    assert told(env, "hook", "status")


def test_the_line_that_is_told_makes_a_backup(env: dict[str, str], url: PalaceUrl, tmp_path: Path) -> None:
    note = tmp_path / "note.md"
    note.write_text("The ladder leans on the pear tree.\n")
    assert told(env, "import", str(note))["filed"] == 1
    hint = told(env, "backup", str(tmp_path / "palace.dump"))["error"]["hint"]
    program, *arguments = shlex.split(hint.partition(": ")[2])
    subprocess.run([programs() / program, *arguments], check=True)
    other = f"other_{url.schema}"
    with psycopg.connect(url.conninfo, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {other}".encode())
    try:
        address = url.conninfo.removesuffix("/postgres") + f"/{other}"
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION vector")
        subprocess.run([programs() / "pg_restore", "-d", address, str(tmp_path / "palace.dump")], check=True)
        restored = {**env, "PALACE_URL": f"{address}?schema={url.schema}"}
        assert told(restored, "search", "where is the ladder")["results"]
        assert told(restored, "import", str(note))["unchanged"] == 1
        note.write_text("The ladder leans on the barn.\n")
        assert told(restored, "import", str(note))["updated"] == 1
        assert told(restored, "reindex")["faults"] == []
    finally:
        with psycopg.connect(url.conninfo, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {other} WITH (FORCE)".encode())


def test_a_palace_in_a_directory_needs_no_client_of_postgresql(tmp_path: Path) -> None:
    messages = (initialize(), INITIALIZED, call(1, "add_drawer", wing="w", room="r", content="here"))
    answers, loaded = modules_of("--solo", "--palace", str(tmp_path / "palace"), messages=messages)
    assert b'"created":true' in answers.replace(b" ", b"")
    assert "sqlite3" in loaded
    assert not {name for name in loaded if name.partition(".")[0] in ("psycopg", "psycopg_binary")}


def test_without_the_client_it_is_said_what_to_install(env: dict[str, str], tmp_path: Path) -> None:
    package = tmp_path / "psycopg"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('no pq wrapper available')")
    without = {**env, "PYTHONPATH": str(tmp_path)}
    for command in (["search", "x"], ["serve", "--port", "0"], ["token", "list"], ["status"]):
        assert 'pip install "mempalace-mcp[postgres]"' in run(without, *command).stderr, command
    with session(without) as client:
        refused = client.ask(initialize())
        assert 'pip install "mempalace-mcp[postgres]"' in refused["error"]["data"]["hint"]
    assert told(without, "doctor")["findings"][0]["code"] == "server_unreachable"


def test_a_token_for_one_wing_sees_nothing_else(env: dict[str, str]) -> None:
    cook = run(env, "token", "new", "cook", "--scope", "write", "--wing", "kitchen").stdout.strip()
    full = run(env, "token", "new", "full", "--scope", "write").stdout.strip()
    with serving(env) as server:
        server.tool("add_drawer", token=full, wing="office", room="r", content="The safe is behind the map.")
        server.tool("add_drawer", token=cook, wing="kitchen", room="r", content="The safe jam is the red one.")
        for mode in ("hybrid", "semantic", "keyword"):
            found = server.tool("search", token=cook, query="the safe", mode=mode)["results"]
            assert {hit["wing"] for hit in found} == {"kitchen"}, mode
        assert server.tool("get_taxonomy", token=cook)["taxonomy"] == {"kitchen": {"r": 1}}
        refused = server.tool("add_drawer", token=cook, wing="office", room="r", content="mine")
        assert refused["error"]["code"] == "forbidden"


def test_a_home_that_is_full_is_no_obstacle(url: PalaceUrl, tmp_path: Path) -> None:
    with small_disk(tmp_path / "full") as disk:
        disk.fill()
        full = environment_of(url, disk.path)
        try:
            with session(full) as client, serving(full) as server:
                client.greet()
                use(client, 1, "add_drawer", wing="w", room="r", content="Filed from a full disk.")
                assert server.tool("search", query="full disk")["results"]
                assert not list(disk.path.rglob("daemon.json"))
                disk.empty()
                wait_for(lambda: bool(list(disk.path.rglob("daemon.json"))), "its address, now that there is room")
            wait_for(lambda: not processes_below(disk.path), "the end of the session's own process")
        finally:  # the disk cannot be taken away from under it
            for pid in processes_below(disk.path):
                kill(pid)


def test_a_home_that_vanishes_is_no_obstacle(env: dict[str, str]) -> None:
    with serving(env) as server:
        shutil.rmtree(Path(env["HOME"]) / ".mempalace-mcp")
        with session(env) as client:
            client.greet()
            assert use(client, 1, "status")["daemon"]["pid"] != server.process.pid
            use(client, 2, "add_drawer", wing="w", room="r", content="Filed beside it.")
        assert server.tool("search", query="beside it")["results"]


def processes_below(folder: Path) -> list[int]:
    """The processes that name a path below the folder in their command line."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(part.startswith(f"{folder}/") for part in process.cmdline()):
                found.append(process.pid)
    return found


def test_a_server_of_postgresql_that_falls_silent_and_speaks_again(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    postgres = Server()
    try:
        postgres.start()
        with serving(environment_of(f"{postgres.address}?schema=silent", tmp_path / "home")) as server:
            everybody = [psutil.Process(postgres.pid), *psutil.Process(postgres.pid).children()]
            for process in everybody:
                process.suspend()
            wait_for(lambda: "server_unreachable" in troubles(server.get("/health").json()), "its silence")
            assert server.get("/readyz").status_code == 503
            assert server.get("/livez").status_code == 200
            for process in everybody:
                process.resume()
            wait_for(lambda: server.get("/readyz").status_code == 200, "its voice")
            assert server.tool("add_drawer", wing="w", room="r", content="text")["created"]
    finally:
        postgres.remove()
