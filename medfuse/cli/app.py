"""The command line: all commands in one, errors as one line and an exit code."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from pathlib import PurePath
from typing import Annotated

import typer

from medfuse.cli import about, cases, describe, images, learn, samples, terminal, trust
from medfuse.cli import audit as audit_command
from medfuse.cli import enhance as enhance_command
from medfuse.cli import followup as followup_command
from medfuse.cli import measure as measure_command
from medfuse.cli.options import Commands, add_command
from medfuse.errors import NOTICE, MedfuseError, Words
from medfuse.kernel.cores import wait_asleep
from medfuse.settings import as_flag, as_flag_or_column

INTERRUPTED = "interrupted; nothing half-written was left"
EXIT_OK, EXIT_INTERNAL, EXIT_USAGE, EXIT_NO_CASE = 0, 1, 2, 3
EXIT_OUTPUT, EXIT_FAILED, EXIT_INTERRUPTED = 4, 8, 130

app = typer.Typer(
    name="medfuse",
    cls=Commands,
    help="Fuse MRI with PET, SPECT or CT of the same person into one trustworthy image.\n\n"
    f"{NOTICE}",
    epilog="0  all done | 1  internal failure (--debug shows the trace) | 2  wrong use | "
    "3  no case found | 4  output cannot be written | 8  some cases failed, or something differs | "
    "130  interrupted",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from medfuse import __version__

        typer.echo(__version__)
        raise typer.Exit


def explain(
    command: Annotated[str | None, typer.Argument(help="Name of a command.")] = None,
) -> None:
    """Show the help of a command."""
    raise typer.Exit(run([*([command] if command else []), "--help"]))


for room in (
    samples,
    cases,
    measure_command,
    followup_command,
    audit_command,
    learn,
    describe,
    images,
    enhance_command,
    trust,
    about,
):
    room.add_commands(app)
add_command(app, explain, name="help", examples=("medfuse help fuse",))


def main() -> None:
    """Entry point: errors become one line and an exit code."""
    wait_asleep()
    code = run(sys.argv[1:])
    gc.freeze()  # nothing is left to be done that the end of the process does not do
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    words = as_flag_or_column if arguments[:1] == ["batch"] else as_flag
    return guarded(app, arguments, words)


def guarded(command: typer.Typer, arguments: list[str], words: Words) -> int:
    """Run a command line; whatever goes wrong becomes one line and an exit code."""
    debug = "--debug" in arguments
    arguments = [_at_home(argument) for argument in arguments if argument != "--debug"]
    terminal.take_any_text()
    terminal.mode = terminal.Mode(as_json="--json" in arguments)  # until the command has parsed it
    try:
        code = int(command(args=arguments, standalone_mode=False) or 0)
        if code == EXIT_INTERRUPTED:  # typer turns Ctrl-C into this code and says nothing
            terminal.say(INTERRUPTED, style="yellow")
        return code
    except MedfuseError as error:
        _tell(error, words)
        return _exit_code(error)
    except (KeyboardInterrupt, typer.Abort):
        terminal.say(INTERRUPTED, style="yellow")
        return EXIT_INTERRUPTED
    except typer.Exit as stop:
        return int(stop.exit_code)
    except BrokenPipeError:  # who reads the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except OSError as error:
        if debug:
            traceback.print_exc()
        _tell(_refused(error), words)
        return EXIT_FAILED
    except Exception as error:
        return _unexpected(error, debug=debug)


def _at_home(argument: str) -> str:
    """An argument whose path begins with the user's folder, which shells leave in ``--out=~/x``."""
    name, equals, value = argument.partition("=")
    if equals and name.startswith("--") and value.startswith("~/"):
        return f"{name}={os.path.expanduser(value)}"
    return os.path.expanduser(argument) if argument.startswith("~/") else argument


def _refused(error: OSError) -> MedfuseError:
    """What the system said about a file, as our error."""
    return MedfuseError(
        "E_SYSTEM",
        what="The system refused a file",
        where=PurePath(os.fsdecode(error.filename or "")).name[:80],
        cause=(error.strerror or type(error).__name__).lower(),
        remedy="Check the path, the permissions and the disk",
    )


def _tell(error: MedfuseError, words: Words) -> None:
    line = error.told(words)
    terminal.complain(line)
    if terminal.mode.as_json:
        remedy = error.remedy_in(words)
        answer = {"code": error.code, "message": line, "remedy": remedy}
        terminal.print_json({"error": answer})


def _unexpected(error: Exception, *, debug: bool) -> int:
    if hasattr(error, "exit_code") and hasattr(error, "show"):  # a usage error of the parser
        error.show()
        if terminal.mode.as_json:
            message = " ".join(str(error).split())
            answer = {"code": "E_USAGE", "message": message, "remedy": "See --help"}
            terminal.print_json({"error": answer})
        return int(error.exit_code)
    if debug:
        traceback.print_exc()
    text = " ".join(str(error).split())[:300]
    _tell(
        MedfuseError(
            "E_INTERNAL",
            what="Internal failure",
            cause=f"{type(error).__name__}: {text}",
            remedy="Run again with --debug and report it",
        ),
        as_flag,
    )
    return EXIT_INTERNAL


def _exit_code(error: MedfuseError) -> int:
    if error.code == "E_NO_IMAGES":
        return EXIT_NO_CASE
    return {"usage": EXIT_USAGE, "output": EXIT_OUTPUT}.get(error.group, EXIT_FAILED)


if __name__ == "__main__":
    main()
