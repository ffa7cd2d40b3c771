"""How commands get their options: settings of a case from `CaseSettings`, the rest from here.

No heavy imports. :func:`add_command` gives every command the options that steer the terminal.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from medfuse.cli import terminal
from medfuse.errors import UsageError
from medfuse.settings import FILES, CaseSettings, Group, names_in, option_of, settings_from

COMMON = "Common options"
ALWAYS = "Options of every command"

Out = Annotated[
    Path,
    typer.Option(
        "--out", "-o", "--output", help="Result folder, whole or absent.",
        rich_help_panel=COMMON,
    ),
]  # fmt: skip
Landmarks = Annotated[
    Path | None,
    typer.Option(
        help="Initial transform from point pairs: CSV, fixed x,y,z, moving x,y,z, RAS mm.",
        rich_help_panel="Registration",
    ),
]
MaxMemory = Annotated[
    float | None,
    typer.Option(
        metavar="GB",
        min=0.1,
        help="Limit per case; larger ones use the disk.",
        rich_help_panel="Output",
    ),
]
ResultLayout = Annotated[
    Literal["cases", "bids"],
    typer.Option(
        "--layout",
        help="bids: a BIDS derivative data set.",
        rich_help_panel="Output",
    ),
]
UidSalt = Annotated[
    Path | None,
    typer.Option(
        help="Secret file to hash UIDs; made if missing.",
        rich_help_panel="Output",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Say what would be done, do nothing.", rich_help_panel=COMMON
    ),
]  # fmt: skip
Force = Annotated[
    bool, typer.Option("--force", help="Replace what is there.", rich_help_panel=COMMON)
]


class Command(TyperCommand):
    """A command whose help lists its options in groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Common options first, then the groups, what every command has last."""
        arguments: list[tuple[str, str]] = []
        groups: dict[str, list[tuple[str, str]]] = {COMMON: []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            if parameter.param_type_name == "argument":
                arguments.append(record)
                continue
            panel = getattr(parameter, "rich_help_panel", None)
            if "--help" in parameter.opts:
                panel = ALWAYS
            groups.setdefault(panel or COMMON, []).append(record)
        groups[ALWAYS] = groups.pop(ALWAYS)
        for title, rows in {"Arguments": arguments, **groups}.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows, col_max=26)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Examples, a line each."""
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.strip().splitlines():
                    formatter.write(f"  {line}\n")


class Commands(TyperGroup):
    """All commands, each with its whole first sentence; exit codes stand below them."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Name and first line of the help of each command."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, (command.help or "").partition("\n")[0])
                 for name, command in self.commands.items()]
            )  # fmt: skip

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Exit codes, a line each."""
        rows = [row.strip().split("  ", 1) for row in (self.epilog or "").split("|")]
        with formatter.section("Exit codes"):
            formatter.write_dl([(code, text) for code, text in rows])


def takes_settings(
    *groups: Group, single: bool = True, without: Sequence[str] = (), only: Sequence[str] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options of some groups of settings.

    The command gets them as its keyword `settings`, a `CaseSettings`. With `single` False, what
    belongs to one case is left to the manifest; `only` names further settings one by one.
    """
    names = [name for name in names_in(groups, single=single) if name not in without]
    names += only

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def run(**values: Any) -> Any:
            chosen = {name: values.pop(name) for name in names}
            return command(settings=_case_settings(chosen, values), **values)

        signature = inspect.signature(command, eval_str=True)
        own = [p.replace(kind=p.KEYWORD_ONLY) for p in signature.parameters.values()]
        offered = [_parameter(name) for name in names]
        parameters = [p for p in own if p.name != "settings"] + offered
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def _case_settings(chosen: dict[str, Any], values: dict[str, Any]) -> CaseSettings:
    landmarks = values.pop("landmarks", None)
    if landmarks is not None:
        if chosen["initial"] is not None:
            raise UsageError(
                "E_USAGE",
                what="Cannot start the registration",
                cause="both --initial and --landmarks were given",
                remedy="Give one of them",
            )
        chosen |= {"initial": landmarks, "initial_kind": "landmarks"}
    for name in FILES:
        if chosen.get(name) is not None:
            chosen[name] = str(chosen[name])
    return settings_from(chosen)


def _parameter(name: str) -> inspect.Parameter:
    """A setting as a parameter of a command, as Typer reads it."""
    option, field = option_of(name), CaseSettings.model_fields[name]
    kind: Any = field.annotation
    if option.choices:
        kind = Literal[option.choices] | None
    elif option.is_path:
        kind = Path | None
    elif name == "frame":
        kind = str | None
    elif name == "regions":
        kind = list[str]
    dashed = name.replace("_", "-")
    flags = [f"--{dashed}/--no-{dashed}" if field.default is True else f"--{dashed}"]
    low, high = (
        next((getattr(item, end) for item in field.metadata if hasattr(item, end)), None)
        for end in ("ge", "le")
    )
    about = typer.Option(
        *flags,
        *([option.short] if option.short else []),
        help=option.help,
        metavar=option.metavar or None,
        min=low,
        max=high,
        rich_help_panel=COMMON if option.common else option.group,
        show_default=not isinstance(field.default, bool | tuple | None),
    )
    annotation = Annotated[kind, about]
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=field.default,
        annotation=annotation,
    )


def add_command(
    app: typer.Typer,
    command: Callable[..., Any],
    *,
    name: str | None = None,
    examples: Sequence[str] = (),
    codes: str = "",
) -> None:
    """Hang a command into the command line, with the options that every command has.

    Parameters
    ----------
    app : Typer
    command : callable
    name : str, optional
        Default: its own.
    examples : sequence of str
        Whole command lines.
    codes : str
        Exit codes that the command has beside those of all.
    """
    signature = inspect.signature(command, eval_str=True)
    always = inspect.signature(_begin, eval_str=True).parameters

    @functools.wraps(command)
    def run(**values: Any) -> Any:
        _begin(**{name: values.pop(name) for name in always})
        return command(**values)

    own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in signature.parameters.values()]
    parameters = [*own, *always.values()]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    lines = [*examples, *([f"Exit codes: {codes}"] if codes else [])]
    app.command(name, cls=Command, epilog="\n".join(lines))(run)


def _begin(
    *,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print a machine-readable answer on stdout.", rich_help_panel=ALWAYS
        ),
    ] = False,
    json_file: Annotated[
        Path | None,
        typer.Option(help="Write the machine-readable answer to a file.", rich_help_panel=ALWAYS),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=ALWAYS)
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="Print every step.", rich_help_panel=ALWAYS),
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads per case.", rich_help_panel=ALWAYS),
    ] = None,
) -> None:
    """Set up the terminal, and how many threads the libraries start."""
    terminal.mode = terminal.Mode(as_json, json_file, quiet, verbose)
    if threads is not None:
        for name in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
            os.environ[name] = str(threads)
