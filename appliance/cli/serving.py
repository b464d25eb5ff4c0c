"""`appliance serve`, `check`, `run` and `version`.

What a daemon is made of is imported where it is used: every other command would wait for it.
"""

from __future__ import annotations

import asyncio
import faulthandler
import functools
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from appliance import __version__
from appliance.access_config import MAIN_LISTENER
from appliance.alias_spec import ModelsFile
from appliance.cli.common import DEFAULT_CONFIG, existing, state_of
from appliance.cli.options import DEFAULT_STATE, STATE_ENV, ConfigOption, StateOption
from appliance.config import Config, load_config, load_models
from appliance.demo import DEMO_MODELS
from appliance.errors import ApplianceError, ConfigError, StateError
from appliance.model_file import check_model_file
from appliance.process_hardening import keep_memory_private
from appliance.safe_text import safe_lines
from appliance.state_dir import StateDir
from appliance.systemd import PassedSockets, ServiceManager, passed_fds
from appliance.telemetry import logs
from appliance.telemetry.log_buffer import LogBuffer
from appliance.types import ModelSpec
from appliance.upstream_spec import ServedModel

if TYPE_CHECKING:
    from appliance.chat_client import ChatClient

DEFAULT_MODELS: Final = Path("/etc/appliance/models.yaml")


class LogFormat(StrEnum):
    """Of the service log."""

    TEXT = "text"
    JSON = "json"


ModelsOption = Annotated[
    Path | None, typer.Option("--models", help="The models.yaml; else the one here, else that in /etc/appliance.")
]


def serve(
    config: ConfigOption = None,
    models: ModelsOption = None,
    state_dir: StateOption = DEFAULT_STATE,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Overrides the port of the listener `api`; 0 takes a free one.")
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Serve the bundled demo model; needs no other file.")] = False,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error; overrides service_log.level.")
    ] = None,
    log_format: Annotated[
        LogFormat | None, typer.Option("--log-format", help="As lines for people, or an object of JSON a line.")
    ] = None,
    engine_socket: Annotated[
        Path | None, typer.Option(help="Where each connection has a worker, as under systemd; else they are started.")
    ] = None,
) -> None:
    """Run the daemon until it is told to stop."""
    from appliance.banner import banner
    from appliance.daemon import Settings
    from appliance.daemon import serve as run_daemon
    from appliance.models.kept import KEPT_PREFIX

    keep_memory_private()
    faulthandler.enable()
    manager = ServiceManager.of(os.environ, os.getpid())
    fds = passed_fds(os.environ, os.getpid())
    lines = tuple(one for one in fds if one.name.startswith(KEPT_PREFIX))
    passed = PassedSockets(one for one in fds if one not in lines)
    path = existing(config, DEFAULT_CONFIG)

    def adjust(loaded: Config) -> Config:
        return loaded if port is None else _with_port(loaded, port)

    loaded = adjust(load_config(path))
    log = loaded.service_log
    buffer = LogBuffer(lines_max=log.buffer_lines_max, bytes_max=log.buffer_bytes_max)
    logs.configure(log_level or log.level, log_format.value if log_format else log.format, buffer)
    run_daemon(
        Settings(
            config=loaded,
            models=_models(models, demo=demo),
            read_models=functools.partial(_checked_models, models, demo=demo),
            state=state_of(state_dir),
            path=path,
            adjust=adjust,
            log_buffer=buffer,
            manager=manager,
            passed=passed,
            lines=lines,
            engine_socket=engine_socket,
        ),
        # A log has no reader who could copy from it.
        lambda ready: None if manager.listens else typer.echo(banner(ready)),
    )


def check(config: ConfigOption = None, models: ModelsOption = None) -> None:
    """Validate appliance.yaml and models.yaml; exit code 1 with file, line and key when something is wrong."""
    config_path = existing(config, DEFAULT_CONFIG)
    parsed = load_config(config_path)
    _check_access(parsed, config_path)
    typer.echo(f"{config_path or 'built-in defaults'}: ok")
    models_path = existing(models, Path("models.yaml"), DEFAULT_MODELS)
    if models_path is None:
        raise ConfigError(f"no models.yaml here and no {DEFAULT_MODELS}; name one with --models")
    file = load_models(models_path)
    for spec in file.models:
        _check_served(spec, models_path)
    typer.echo(f"{models_path}: ok, {len(file.models)} model{'' if len(file.models) == 1 else 's'}")


def run(
    model: Annotated[str, typer.Argument(help="A model's id or alias.")],
    prompt: Annotated[str | None, typer.Argument(help="Ask this once; without it a chat begins.")] = None,
    state_dir: StateOption = DEFAULT_STATE,
    client: Annotated[str, typer.Option(help="The client bundle to present, under <state-dir>/clients.")] = "demo",
    url: Annotated[str | None, typer.Option(help="The API without /v1; default: the daemon of --state-dir.")] = None,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=2, help="0: always the likeliest word.")] = None,
) -> None:
    """Chat with a model in the terminal, through the API, as a client would."""
    from appliance.chat_client import ChatClient, read_key
    from appliance.security.tls import client_context

    state = state_of(state_dir)
    bundle = state.clients / client
    chat = ChatClient(url or _daemon_url(state), read_key(bundle), client_context(bundle), model)
    _converse(chat, prompt, system, {} if temperature is None else {"temperature": temperature})


def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _check_served(spec: ServedModel, source: Path) -> None:
    """That the files a model needs are there. Nothing is loaded, and no server is asked."""
    from appliance.security.replica_files import read_access

    if isinstance(spec, ModelSpec):
        check_model_file(spec, source)
        return
    for replica in spec.replicas:
        try:
            read_access(replica)
        except StateError as error:
            raise ConfigError(f"model {spec.id!r}: {error}", path=source) from error


def _models(given: Path | None, *, demo: bool) -> ModelsFile:
    """The demo's models, the file's, or both."""
    path = given if demo else existing(given, Path("models.yaml"), DEFAULT_MODELS)
    if path is None and not demo:
        raise ConfigError(f"no models.yaml here and no {DEFAULT_MODELS}; name one with --models, or try --demo")
    listed = ModelsFile() if path is None else load_models(path)
    taken = {spec.id for spec in listed.models} | {name for name, _ in listed.every_alias()}
    bundled = load_models(DEMO_MODELS).models if demo else ()
    return msgspec.structs.replace(listed, models=(*(spec for spec in bundled if spec.id not in taken), *listed.models))


def _checked_models(given: Path | None, *, demo: bool) -> ModelsFile:
    """The same, with their files."""
    file = _models(given, demo=demo)
    for spec in file.models:
        _check_served(spec, given or Path("models.yaml"))
    return file


def _with_port(config: Config, port: int) -> Config:
    name = MAIN_LISTENER if MAIN_LISTENER in config.listeners else next(iter(config.listeners))
    main = msgspec.structs.replace(config.listeners[name], port=port)
    return msgspec.structs.replace(config, listeners={**config.listeners, name: main})


def _check_access(config: Config, path: Path | None) -> None:
    """What access control refuses at start, refused here with the key's name."""
    from appliance.admin.app import check_two_persons
    from appliance.admin.model_signers import read_signers
    from appliance.admin.routes import ROUTES
    from appliance.alerting.delivery.outbox import receivers
    from appliance.clock import utc_now
    from appliance.security.access_view import ConfiguredAccess
    from appliance.security.allow_changes import allowlists
    from appliance.security.replica_files import read_access

    folder = Path.cwd() if path is None else path.resolve().parent
    try:
        allowlists(config.listeners, ())
        ConfiguredAccess.load(config, folder, utc_now())
        check_two_persons(config.admin.two_persons, ROUTES)
        read_signers(config)
        receivers(config.alerts)
        if (collector := config.tracing.collector()) is not None:
            read_access(collector)
    except (ValueError, ConfigError, StateError) as error:
        raise ConfigError(str(error), path=path) from error


def _daemon_url(state: StateDir) -> str:
    try:
        return state.api_url.read_text()
    except PermissionError:
        raise ConfigError(
            f"{state.path} is closed to this user; run the command as the user that the appliance runs as"
        ) from None
    except OSError:
        raise ConfigError(
            f"no running appliance found under {state.path}; name its folder with --state-dir or {STATE_ENV}"
        ) from None


def _converse(chat: ChatClient, prompt: str | None, system: str | None, parameters: dict[str, float]) -> None:
    """Asks `prompt`, or what is piped in, or whatever the person types until the end of input.

    Ctrl-C ends an answer that is under way, and at the prompt the chat.
    """
    messages = [{"role": "system", "content": system}] if system else []
    once = prompt is not None or not sys.stdin.isatty()
    with asyncio.Runner() as runner:
        runner.run(chat.__aenter__())
        try:
            while (asked := prompt if prompt is not None else _ask()) is not None:
                messages.append({"role": "user", "content": asked})
                try:
                    answer = runner.run(_answer(chat, messages, parameters))
                except KeyboardInterrupt:
                    typer.echo()
                    if once:
                        raise typer.Exit(130) from None
                    messages.pop()
                    continue
                if once:
                    return
                messages.append({"role": "assistant", "content": answer})
        finally:
            runner.run(chat.__aexit__())


async def _answer(chat: ChatClient, messages: list[dict[str, str]], parameters: dict[str, float]) -> str:
    """Prints the answer as it comes, and returns it."""
    answer = []
    async for text in chat.stream(messages, **parameters):
        typer.echo(safe_lines(text), nl=False)
        answer.append(text)
    typer.echo()
    return "".join(answer)


def _ask() -> str | None:
    """The next question; None at the end of input. What is piped in is one question."""
    if not sys.stdin.isatty():
        try:
            return sys.stdin.buffer.read().decode() or None
        except UnicodeDecodeError:
            raise ApplianceError("what was piped in is not UTF-8 text") from None
    try:
        return input(">>> ")
    except (EOFError, KeyboardInterrupt):
        typer.echo()
        return None
