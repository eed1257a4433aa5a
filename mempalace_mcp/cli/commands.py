"""The commands of the command line. Each opens the palace by itself and shares it with whoever else uses it.

What a command needs is imported when its palace has been found: a wrong path is answered at once.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import click

from mempalace_mcp import __version__
from mempalace_mcp.cli.output import INTERRUPTED
from mempalace_mcp.cli.session import PALACE, READ_ONLY, SESSION_OPTIONS, TOOL_PREFIX, TOOLS, Option, Options
from mempalace_mcp.core.config import MINILM, MULTILINGUAL, Settings, load_settings
from mempalace_mcp.core.errors import ConfigurationError, NotFound, PalaceError
from mempalace_mcp.core.loading import loading
from mempalace_mcp.core.logs import configure_logging
from mempalace_mcp.core.place import expand
from mempalace_mcp.runtime.databases import is_there

F = TypeVar("F", bound=Callable[..., Any])

_PROGRAM = "mempalace-mcp"


def path_given(context: click.Context, option: click.Parameter, value: Any) -> Any:
    """A path as the shell passed it on, or several: `~` is the home directory, no variable is without its value."""
    if isinstance(value, tuple):
        return tuple(path_given(context, option, each) for each in value)
    try:
        return None if value is None else Path(expand(value))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is wrong: {error}.") from error


def session_option(option: Option) -> Callable[[F], F]:
    """The click option of an option of sessions."""
    if option.is_flag:
        return click.option(option.name, option.field, is_flag=True, help=option.help)
    return click.option(
        option.name,
        option.field,
        type=click.Choice(option.choices) if option.choices else str,
        default=option.default,
        metavar=option.metavar,
        show_default=bool(option.choices),
        help=option.help,
    )


palace_option = session_option(PALACE)
json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    callback=lambda context, option, as_json: use_utf8(as_json),
    help="Print JSON instead of text.",
)
_HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}


@click.command(context_settings=_HELP_OPTIONS)
def session(**options: Any) -> None:
    """Serve one MCP session over stdio. See `mempalace-mcp --help` for the commands."""
    # What click accepts and a session does not: an option's name as the value of the option before it.
    raise click.UsageError("An option lacks its value. Write --option=VALUE if the value begins with a dash.")


for each in SESSION_OPTIONS:
    session_option(each)(session)


def explain_session(arguments: Sequence[str]) -> NoReturn:
    """Print the help for sessions, or what is wrong with the arguments, and exit."""
    session.main(list(arguments), prog_name=_PROGRAM)


def verify_prefix(options: Options) -> None:
    """Return if tools can have the prefix; else print what is wrong with it, and exit."""
    from mempalace_mcp.server.tools import registry

    try:
        registry.verify_prefix(options.prefix, "full" if options.profile == "full" else "core")
    except ConfigurationError as error:
        click.UsageError(f"{error.message}. {error.hint}", session.make_context(_PROGRAM, [])).show()
        raise SystemExit(2) from error


@click.group(
    context_settings=_HELP_OPTIONS,
    help=f"""A memory palace for AI agents, spoken to over MCP.

    Without a command it serves one MCP session over stdio: this is what MCP clients start. That form takes
    {", ".join(option.usage for option in SESSION_OPTIONS)}.
    """,
)
@click.version_option(__version__, prog_name=_PROGRAM)
def commands() -> None:
    """The command line."""


@commands.command()
@palace_option
@click.option("--host", help="Address to listen on (default: $PALACE_HOST or 127.0.0.1); others need a token.")
@click.option("--port", type=click.IntRange(0, 65535), help="(Default: $PALACE_PORT or 8765.) 0 picks a free one.")
@click.option(
    "--allowed-host",
    multiple=True,
    metavar="NAME",
    help="Another name by which clients call this server (default: $PALACE_ALLOWED_HOSTS).",
)
@click.option("--certificate", callback=path_given, help="Encrypt with this certificate (PEM).")
@click.option("--key", callback=path_given, help="The key of the certificate (PEM).")
@session_option(TOOLS)
@session_option(READ_ONLY)
@session_option(TOOL_PREFIX)
@json_option
def serve(
    palace: str | None,
    host: str | None,
    port: int | None,
    allowed_host: tuple[str, ...],
    certificate: Path | None,
    key: Path | None,
    profile: Literal["core", "full"],
    read_only: bool,
    prefix: str,
    as_json: bool,
) -> None:
    """Serve MCP over HTTP until stopped: /mcp, /sse with /messages/, and /health."""
    with reported(as_json):
        settings = load_settings(os.environ, palace)
        configure_logging(settings.log_level)
        with loading():
            from mempalace_mcp.cli.serve import serve_http
            from mempalace_mcp.cli.tokens import connecting
            from mempalace_mcp.daemon.daemon_session import ToolSelection
            from mempalace_mcp.runtime.app import open_app
            from mempalace_mcp.server.security import ListenSettings

        names = allowed_host or settings.allowed_hosts
        address = settings.host if host is None else host
        listen_settings = ListenSettings.read(address, names, certificate, key)

        def announce(address: str, token: str | None) -> None:
            announced = {"address": address, "palace": settings.shown, "pid": os.getpid()}
            plain = f"palace {settings.shown}\nserving {address}/mcp, {address}/sse and {address}/health"
            if token is not None:
                announced["token"] = token
                plain += f"\n{connecting(address, token)}"
            click.echo(json.dumps(announced) if as_json else plain)
            sys.stdout.flush()

        offer = ToolSelection(profile, read_only, prefix)
        bound = settings.port if port is None else port
        serve_http(settings, lambda: open_app(settings), offer, listen_settings, bound, announce)


@commands.command("import")
@palace_option
@click.argument("paths", nargs=-1, callback=path_given)
@click.option("--agents", is_flag=True, help="Also the histories of all agents that are found on this machine.")
@click.option("--include-tools", is_flag=True, help="File what tools returned too. It may hold secrets.")
@click.option("--turn-ended", is_flag=True, help="The assistant is done, as a hook knows: file the last exchange too.")
@click.option("--keep-secrets", is_flag=True, help="File keys, tokens and passwords as they are.")
@click.option("--wing", help="The wing to file in (default: the name of the project or folder).")
@click.option("--dry-run", is_flag=True, help="Say what would be filed, and file nothing.")
@json_option
def import_(palace: str | None, paths: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """File conversations with agents, Markdown and plain text. Or read an export of a palace back.

    PATHS are files or folders. What they are is recognized. A second run files nothing twice; changed files update what
    they filed.
    """
    if not paths and not options["agents"]:
        raise click.UsageError("Name files or folders, or use --agents.")
    with reported(as_json):
        settings = load_settings(os.environ, palace)
        from mempalace_mcp.cli.exporting import find_exports, run_restore
        from mempalace_mcp.cli.importing import ImportRequest, run_import

        if exports := find_exports(paths, [name for name in ("agents", "wing", "dry_run") if options[name]]):
            raise SystemExit(run_restore(settings, exports, as_json))
        raise SystemExit(run_import(settings, ImportRequest(paths, **options), as_json))


@commands.command()
@palace_option
@click.argument("source", required=False, callback=path_given)
@click.option("--wing", help="The wing of what names none (default: a name of the source).")
@click.option("--dry-run", is_flag=True, help="Say what would come and what not, and file nothing.")
@json_option
def migrate(palace: str | None, source: Path | None, wing: str | None, dry_run: bool, as_json: bool) -> None:
    """Bring the memory of another program here, and read it back. Without SOURCE, list what there is.

    SOURCE is a palace of MemPalace 3.x, a file of server-memory, a database of mcp-memory-service or claude-mem, a
    project of basic-memory, or a vault of Obsidian. Nothing is changed there. A second run brings only what is new.
    """
    with reported(as_json):
        settings = load_settings(os.environ, palace)
        from mempalace_mcp.cli import migrate as migrating

        if source is None:
            click.echo(migrating.list_memories(settings, as_json))
        else:
            raise SystemExit(migrating.run_migration(settings, source, wing, dry_run, as_json))


@commands.command()
@palace_option
@click.option("--client", "clients", multiple=True, metavar="NAME", help="Only this client; may be repeated.")
@click.option("--no-hooks", is_flag=True, help="Write no hooks.")
@click.option("--no-import", is_flag=True, help="Import no histories.")
@click.option("--force", is_flag=True, help="Replace another server of the same name, and add one beside a plugin.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say what would be changed, and change nothing.")
@click.option("--undo", is_flag=True, help="Take back what earlier runs have changed.")
@click.option("--status", is_flag=True, help="Say which clients are connected, and change nothing.")
@json_option
def setup(
    palace: str | None,
    clients: tuple[str, ...],
    no_hooks: bool,
    no_import: bool,
    force: bool,
    yes: bool,
    dry_run: bool,
    undo: bool,
    status: bool,
    as_json: bool,
) -> None:
    """Connect the clients on this machine: servers, hooks, histories. Shows the plan and asks before it does it."""
    from mempalace_mcp.cli import setup as setting_up
    from mempalace_mcp.setup.clients import IDS
    from mempalace_mcp.setup.plan import Wish

    if undo and status:
        raise click.UsageError("Give --undo or --status, not both.")
    for client in clients:
        if client not in IDS:
            raise click.BadParameter(f"{client!r} is none of {', '.join(IDS)}.", param_hint="--client")
    with reported(as_json):
        if undo:
            raise SystemExit(setting_up.run_undo(clients, dry_run=dry_run, as_json=as_json))
        settings = load_settings(os.environ, palace)
        if status:
            raise SystemExit(setting_up.run_status(settings, clients, as_json))
        wish = Wish(clients, not no_hooks, not no_import, force)
        raise SystemExit(setting_up.run_setup(settings, wish, yes=yes, dry_run=dry_run, as_json=as_json))


@commands.command()
@palace_option
@click.argument("query")
@click.option("--wing", help="Only in this wing.")
@click.option("--room", help="Only in rooms of this name.")
@click.option("--source-file", help="Only what came from this file.")
@click.option("--since", help="Only from this date or time on; also in words, as `last week`.")
@click.option("--before", help="Only before this date or time.")
@click.option("--now", help="As of when the query means words as `last week` (default: now).")
@click.option("--limit", default=5, show_default=True, help="How many drawers at most.")
@click.option("--mode", type=click.Choice(["hybrid", "semantic", "keyword"]), default="hybrid", show_default=True)
@json_option
def search(palace: str | None, query: str, mode: str, as_json: bool, **filters: Any) -> None:
    """Find drawers by meaning and by exact words."""
    with reported(as_json):
        settings = existing_palace(palace)
        from mempalace_mcp.cli import searching

        click.echo(searching.search(settings, query, mode, as_json, **filters))


@commands.command()
@palace_option
@json_option
def status(palace: str | None, as_json: bool) -> None:
    """Show what the palace holds and how it fares."""
    with reported(as_json):
        settings = existing_palace(palace)
        from mempalace_mcp.cli import manage

        click.echo(manage.status(settings, as_json))


@commands.command()
@palace_option
@click.option("--fix", is_flag=True, help="Fix what can be fixed without risk, and say what was done.")
@json_option
def doctor(palace: str | None, fix: bool, as_json: bool) -> None:
    """Check the palace: say what is wrong and what to do. The exit code is 0 if nothing is."""
    with reported(as_json):
        settings = load_settings(os.environ, palace)
        from mempalace_mcp.cli.doctor import doctor as check

        told, well = check(settings, fix, as_json)
        click.echo(told)
        raise SystemExit(0 if well else 1)


@commands.command()
@palace_option
@click.option("--vectors", is_flag=True, help="Embed every text anew, too.")
@click.option(
    "--model",
    type=click.Choice([MINILM, MULTILINGUAL]),
    help="Only move the palace to this embedding model, while sessions work with it.",
)
@json_option
def reindex(palace: str | None, vectors: bool, model: str | None, as_json: bool) -> None:
    """Build the Chroma index anew from the palace, and check it against the truth. Or move to another model."""
    if model is not None and vectors:
        raise click.UsageError("--model embeds every text anew by itself; leave out --vectors.")
    with reported(as_json):
        settings = existing_palace(palace)
        if model is None:
            from mempalace_mcp.cli import manage

            click.echo(manage.reindex(settings, vectors, as_json))
        else:
            from mempalace_mcp.cli.moving import move_model

            click.echo(move_model(settings, model, as_json))


@commands.command()
@palace_option
@click.argument("destination", callback=path_given)
@click.option("--keep", type=click.IntRange(1, 10_000), help="DESTINATION is a folder: keep the latest so many there.")
@json_option
def backup(palace: str | None, destination: Path, keep: int | None, as_json: bool) -> None:
    """Copy the palace to the file DESTINATION while it is in use, and verify the copy.

    With --keep it is a folder. The copy gets a name with the date, and older ones of this palace are removed.
    """
    with reported(as_json):
        settings = existing_palace(palace)
        from mempalace_mcp.cli import manage

        click.echo(manage.backup(settings, destination, keep, as_json))


@commands.command()
@palace_option
@click.argument("file", callback=path_given)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def restore(palace: str | None, file: Path, yes: bool, as_json: bool) -> None:
    """Put the backup FILE in the place of the palace, once it is verified. The former palace stays beside it.

    Sessions over stdio go on with the restored palace. A `serve` has to be stopped before.
    """
    with reported(as_json):
        settings = load_settings(os.environ, palace)
        from mempalace_mcp.cli import restoring

        raise SystemExit(restoring.restore(settings, file, yes=yes, as_json=as_json))


@commands.command()
@palace_option
@click.argument("destination", callback=path_given)
@click.option("--wing", "wings", multiple=True, metavar="NAME", help="Only this wing; may be repeated.")
@json_option
def export(palace: str | None, destination: Path, wings: tuple[str, ...], as_json: bool) -> None:
    """Write the palace to DESTINATION as JSON Lines, which `import` reads back.

    DESTINATION is a directory, in which the file `palace.jsonl` is written, or a file. One whose name ends in .gz or
    .zst is compressed. An earlier export there is replaced.
    """
    with reported(as_json):
        settings = existing_palace(palace)
        from mempalace_mcp.cli import exporting

        click.echo(exporting.export(settings, destination, wings, as_json))


@commands.command()
@click.argument("source")
@click.argument("target")
@json_option
def move(source: str, target: str, as_json: bool) -> None:
    """Copy the palace SOURCE to TARGET, and compare them row by row.

    Each is a directory, the address of a palace in PostgreSQL, or a file with that address. TARGET holds no palace yet.
    SOURCE stays as it was; nobody can write to it meanwhile. A move that was interrupted goes on where it stopped.
    """
    with reported(as_json):
        from mempalace_mcp.cli import move as moving

        moving.move(source, target, as_json)


@commands.command()
@click.option("--palace", metavar="DIRECTORY", help="Keep the demo's palace here (default: a temporary one).")
@json_option
def demo(palace: str | None, as_json: bool) -> None:
    """File sample texts, then ask a server for them as an MCP client would."""
    from mempalace_mcp.cli.demo import run_demo

    with reported(as_json):
        run_demo(palace, as_json)


def existing_palace(palace: str | None) -> Settings:
    """The settings, for a command that files nothing: it must not answer for a palace that it has just made.

    Raises:
        NotFound: there is no palace.
        ConfigurationError, StorageError: the path cannot be one, or cannot be reached.
    """
    settings = load_settings(os.environ, palace)
    if not is_there(settings):
        raise NotFound(
            f"there is no palace {'at' if settings.url else 'in'} {settings.shown}",
            argument="--palace",
            hint="Name another with --palace or PALACE_PATH, or make one with `mempalace-mcp import PATH...`.",
        )
    return settings


@commands.group()
def daemon() -> None:
    """Look after the process behind the sessions of a palace."""


@daemon.command("status")
@palace_option
@json_option
def daemon_status(palace: str | None, as_json: bool) -> None:
    """Show its process, version, uptime and sessions."""
    from mempalace_mcp.cli import daemons

    with reported(as_json):
        click.echo(daemons.status(load_settings(os.environ, palace).palace, as_json))


@daemon.command("stop")
@palace_option
@json_option
def daemon_stop(palace: str | None, as_json: bool) -> None:
    """Let it finish what is in flight, and end it."""
    from mempalace_mcp.cli import daemons

    with reported(as_json):
        click.echo(daemons.stop(load_settings(os.environ, palace).palace, as_json))


@daemon.command("logs")
@palace_option
@json_option
def daemon_logs(palace: str | None, as_json: bool) -> None:
    """Print what it has logged."""
    from mempalace_mcp.cli import daemons

    with reported(as_json):
        click.echo(daemons.logs(load_settings(os.environ, palace).palace, as_json), nl=as_json)


@commands.group()
def hook() -> None:
    """Take an event of a client: `mempalace-mcp hook CLIENT` is what clients run, with the event on stdin.

    CLIENT is claude-code, codex, codex-notify, copilot, cursor, gemini, opencode, vscode or windsurf. It hands the
    event over, answers at once and exits with 0 whatever happens. `mempalace-mcp setup` enters it in the settings of
    clients.
    """


@hook.command("status")
@palace_option
@json_option
def hook_status(palace: str | None, as_json: bool) -> None:
    """Show the latest events, what was filed for them, and errors."""
    from mempalace_mcp.cli import hooks

    with reported(as_json):
        click.echo(hooks.hook_status(existing_palace(palace).palace, as_json))


@commands.group()
def token() -> None:
    """Say who may use the palace over HTTP."""


@token.command("new")
@palace_option
@click.argument("name")
@click.option("--scope", type=click.Choice(["read", "write"]), required=True, help="What it allows.")
@click.option("--wing", "wings", multiple=True, metavar="WING", help="Limit it to this wing; may be repeated.")
@json_option
def token_new(palace: str | None, name: str, scope: str, wings: tuple[str, ...], as_json: bool) -> None:
    """Make a token and print it once; the palace keeps only its digest."""
    from mempalace_mcp.cli import tokens

    with reported(as_json):
        shown, is_first = tokens.make_token(load_settings(os.environ, palace), name, scope, wings, as_json)
        click.echo(shown)
        if is_first and not as_json:
            click.echo(tokens.FROM_NOW_ON, err=True)


@token.command("list")
@palace_option
@json_option
def token_list(palace: str | None, as_json: bool) -> None:
    """Show names, scopes and wings of the tokens."""
    with reported(as_json):
        settings = load_settings(os.environ, palace)
        from mempalace_mcp.cli import tokens

        click.echo(tokens.listed(settings, as_json))


@token.command("revoke")
@palace_option
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Revoke all, and let the next `serve` ask for none.")
@json_option
def token_revoke(palace: str | None, name: str | None, everything: bool, as_json: bool) -> None:
    """Let the token NAME open nothing any more, at once."""
    from mempalace_mcp.cli import tokens

    if (name is None) is not everything:
        raise click.UsageError("Give the name of a token, or --all.")
    with reported(as_json):
        settings = load_settings(os.environ, palace)
        click.echo(tokens.revoke_all(settings, as_json) if name is None else tokens.revoke(settings, name, as_json))


def use_utf8(as_json: bool) -> bool:
    """JSON is UTF-8 whatever the terminal's encoding is; there, text shows a `?` for what it cannot show."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        if as_json:
            sys.stdout.reconfigure(encoding="utf-8")
        else:
            sys.stdout.reconfigure(errors="replace")
    return as_json


@contextmanager
def reported(as_json: bool) -> Iterator[None]:
    """Turn a refusal into a message a person can act on and the exit code 1, an interrupt into that of interrupts."""
    try:
        yield
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except PalaceError as error:
        if as_json:
            click.echo(json.dumps({"error": error.as_dict()}, ensure_ascii=False))
        else:
            click.echo(f"Error: {error.message}", err=True)
            if error.hint:
                click.echo(f"  {error.hint}", err=True)
        raise SystemExit(1) from error
