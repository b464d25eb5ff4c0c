"""The options that commands share, each declared once, and commands that take several of them as one parameter."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import typer
from typer.core import TyperCommand

STATE_ENV: Final = "APPLIANCE_STATE_DIR"
REMOTE_ENV: Final = "APPLIANCE_ADMIN_URL"
DEFAULT_STATE: Final = Path("/var/lib/appliance")

# Neither is looked at here: who may not read them may still reach the daemon.
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", readable=False, help="The appliance.yaml; else that in /etc/appliance, else the defaults."
    ),
]
StateOption = Annotated[
    Path,
    typer.Option(
        "--state-dir", envvar=STATE_ENV, readable=False, help="Keys, certificates, clients, logs of this appliance."
    ),
]
PlanOption = Annotated[bool, typer.Option("--plan", help="Say what would happen, and change nothing.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Do it although it does the harm that was named.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the audit log.")]
ApprovalOption = Annotated[
    str | None, typer.Option("--approval", help="Of a second administrator, where one is asked for.")
]
GenerationOption = Annotated[
    int | None, typer.Option("--if-generation", help="Only if nothing has changed since that generation (see --plan).")
]
OutOption = Annotated[Path | None, typer.Option("--out", help="The folder to write to.")]


Command = Callable[..., None]


@dataclasses.dataclass(frozen=True, slots=True)
class How:
    """How something is to be done: the options of every command whose act can be planned."""

    plan: PlanOption = False
    approval: ApprovalOption = None
    generation: GenerationOption = None


class CommandGroup(typer.Typer):
    """Commands whose parameters may be groups of options: dataclasses with an option in each field.

    typer sees the options of a group after the command's own.
    """

    def __init__(self, help: str) -> None:
        super().__init__(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=help)

    def command(  # type: ignore[override]
        self, name: str | None = None, *, cls: type[TyperCommand] = TyperCommand
    ) -> Callable[[Command], Command]:
        """As typer does, without its other settings."""

        def add(command: Command) -> Command:
            add_to = super(CommandGroup, self).command(name, cls=cls, help=_unfolded(command.__doc__ or ""))
            add_to(_spelled_out(command))
            return command

        return add

    def default(self, command: Command) -> Command:
        """What the group's name alone does, without a command after it."""
        spelled_out = _spelled_out(command)

        def run(ctx: typer.Context, **options: Any) -> None:
            if ctx.invoked_subcommand is None:
                spelled_out(**options)

        own = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        shared = inspect.signature(spelled_out).parameters.values()
        run.__signature__ = inspect.Signature([own, *shared])  # type: ignore[attr-defined]
        add = self.callback(invoke_without_command=True, no_args_is_help=False, help=_unfolded(command.__doc__ or ""))
        add(run)
        return command


def _spelled_out(command: Command) -> Command:
    """The same command with every option as a parameter of its own."""
    given = inspect.signature(command, eval_str=True).parameters
    groups = {name: parameter.annotation for name, parameter in given.items() if _is_group(parameter.annotation)}

    @functools.wraps(command)
    def spelled_out(**options: Any) -> None:
        made = {
            name: group(**{field.name: options.pop(field.name) for field in dataclasses.fields(group)})
            for name, group in groups.items()
        }
        command(**made, **options)

    own = [given[name].replace(kind=inspect.Parameter.KEYWORD_ONLY) for name in given if name not in groups]
    shared = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hint)
        for group in groups.values()
        for field, hint in zip(
            dataclasses.fields(group), get_type_hints(group, include_extras=True).values(), strict=True
        )
    ]
    spelled_out.__signature__ = inspect.Signature(own + shared)  # type: ignore[attr-defined]
    return spelled_out


def _unfolded(docstring: str) -> str:
    """As help: its lines are as long as the terminal is wide, and an example has one of its own."""
    return re.sub(r"(?<!\n)\n(?!\n|Example: )", " ", inspect.cleandoc(docstring))


def _is_group(annotation: object) -> bool:
    return isinstance(annotation, type) and dataclasses.is_dataclass(annotation)
