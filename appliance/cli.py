"""The `appliance` command."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from appliance import __version__, daemon
from appliance.access_config import MAIN_LISTENER
from appliance.banner import banner
from appliance.chat_client import ChatClient, read_key
from appliance.config import Config, load_config, load_models
from appliance.daemon import Settings
from appliance.demo import DEMO_MODELS
from appliance.errors import ApplianceError, ConfigError
from appliance.model_file import check_model_file
from appliance.safe_text import safe_lines
from appliance.security.allowlist import Allowlist
from appliance.security.clients import add_client, list_clients
from appliance.security.server_names import server_names
from appliance.security.tls import client_context
from appliance.state_dir import StateDir
from appliance.telemetry import logs
from appliance.types import ModelSpec

STATE_ENV: Final = "APPLIANCE_STATE_DIR"
DEFAULT_STATE: Final = Path("/var/lib/appliance")
DEFAULT_CONFIG: Final = Path("/etc/appliance/appliance.yaml")
DEFAULT_MODELS: Final = Path("/etc/appliance/models.yaml")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Serves local GGUF models over mutual TLS.",
)
clients = typer.Typer(no_args_is_help=True, help="Certificates and keys of those who may call.")
app.add_typer(clients, name="clients")

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help=f"appliance.yaml; {DEFAULT_CONFIG} where it exists, else the defaults.")
]
ModelsOption = Annotated[
    Path | None, typer.Option("--models", help=f"models.yaml; ./models.yaml or {DEFAULT_MODELS} where one exists.")
]
StateOption = Annotated[
    Path, typer.Option("--state-dir", envvar=STATE_ENV, help="Keys, certificates, clients, logs of this appliance.")
]


def main() -> None:
    """Entry point: errors that have a next step are one line and exit code 1."""
    try:
        app()
    except ApplianceError as error:
        typer.echo(f"appliance: {error}", err=True)
        sys.exit(1)


@app.command()
def serve(
    config: ConfigOption = None,
    models: ModelsOption = None,
    state_dir: StateOption = DEFAULT_STATE,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Overrides the port of the listener `api`; 0 takes a free one.")
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Serve the bundled demo model; needs no other file.")] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Run the daemon until it is told to stop."""
    logs.configure(log_level)
    settings = load_config(_existing(config, DEFAULT_CONFIG))
    if port is not None:
        name = MAIN_LISTENER if MAIN_LISTENER in settings.listeners else next(iter(settings.listeners))
        main = msgspec.structs.replace(settings.listeners[name], port=port)
        settings = msgspec.structs.replace(settings, listeners={**settings.listeners, name: main})
    daemon.serve(
        Settings(config=settings, models=_models(models, demo=demo), state=_state(state_dir)),
        lambda ready: typer.echo(banner(ready)),
    )


@app.command()
def check(config: ConfigOption = None, models: ModelsOption = None) -> None:
    """Validate appliance.yaml and models.yaml; exit code 1 with file, line and key when something is wrong."""
    config_path = _existing(config, DEFAULT_CONFIG)
    parsed = load_config(config_path)
    _check_listener(parsed, config_path)
    models_path = _existing(models, Path("models.yaml"), DEFAULT_MODELS)
    if models_path is None:
        raise ConfigError(f"no models.yaml here and no {DEFAULT_MODELS}; name one with --models")
    specs = load_models(models_path)
    for spec in specs:
        check_model_file(spec, models_path)
    typer.echo(f"{config_path or 'built-in defaults'}: ok")
    typer.echo(f"{models_path}: ok, {len(specs)} model{'' if len(specs) == 1 else 's'}")


@app.command()
def run(
    model: Annotated[str, typer.Argument(help="A model's id or alias.")],
    prompt: Annotated[str | None, typer.Argument(help="Ask this once; without it a chat begins.")] = None,
    state_dir: StateOption = DEFAULT_STATE,
    client: Annotated[str, typer.Option(help="The client bundle to present, under <state-dir>/clients.")] = "demo",
    url: Annotated[str | None, typer.Option(help="The API without /v1; default: the daemon of --state-dir.")] = None,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0, max=2)] = None,
) -> None:
    """Chat with a model in the terminal, through the API, as a client would."""
    state = _state(state_dir)
    bundle = state.clients / client
    chat = ChatClient(url or _daemon_url(state), read_key(bundle), client_context(bundle), model)
    _converse(chat, prompt, system, {} if temperature is None else {"temperature": temperature})


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@clients.command("add")
def clients_add(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and hyphens: the principal's name.")],
    state_dir: StateOption = DEFAULT_STATE,
) -> None:
    """Make a client: certificate, private key, CA file and API key, in a folder of its own."""
    bundle = add_client(_state(state_dir), name)
    typer.echo(f"{bundle.path}: client.crt client.key ca.crt api.key")
    typer.echo("Carry the folder to the client over a safe path; the key is stored here only as an HMAC.")


@clients.command("list")
def clients_list(state_dir: StateOption = DEFAULT_STATE) -> None:
    """List the clients and until when their certificates are valid."""
    table = Table("client", "API keys", "certificate valid until")
    for client in list_clients(_state(state_dir)):
        until = "no certificate here" if client.not_after is None else f"{client.not_after:%Y-%m-%d %H:%M} UTC"
        table.add_row(client.name, ", ".join(client.key_ids) or "none", until)
    Console().print(table)


def _state(path: Path) -> StateDir:
    """The state directory; the present folder is not one, it is what an unset shell variable gives."""
    if path == Path():
        raise ConfigError("--state-dir needs a folder of its own, not the present one")
    return StateDir(path)


def _existing(given: Path | None, *defaults: Path) -> Path | None:
    """What was asked for, else the first default that exists."""
    return given if given is not None else next((path for path in defaults if path.exists()), None)


def _models(given: Path | None, *, demo: bool) -> tuple[ModelSpec, ...]:
    """The demo's models, the file's, or both."""
    path = given if demo else _existing(given, Path("models.yaml"), DEFAULT_MODELS)
    if path is None and not demo:
        raise ConfigError(f"no models.yaml here and no {DEFAULT_MODELS}; name one with --models, or try --demo")
    listed = () if path is None else load_models(path)
    taken = {name for spec in listed for name in (spec.id, *spec.aliases)}
    bundled = load_models(DEMO_MODELS) if demo else ()
    return (*(spec for spec in bundled if spec.id not in taken), *listed)


def _check_listener(config: Config, path: Path | None) -> None:
    """What the security layer refuses at start, refused here with the key's name."""
    for name, listener in config.listeners.items():
        key = "allow"
        try:
            Allowlist.parse(listener.allow)
            key = "names"
            server_names([listener])
        except ValueError as error:
            raise ConfigError(f"listeners.{name}.{key}: {error}", path=path) from error


def _daemon_url(state: StateDir) -> str:
    try:
        return state.api_url.read_text()
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
