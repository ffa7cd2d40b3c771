"""The commands about trust: verify, sign, keygen. Parse, call, print; heavy imports inside."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from medfuse.cli import terminal
from medfuse.cli.options import add_command
from medfuse.errors import UsageError

EXIT_FAILED = 8
PASSWORD_VARIABLE = "MEDFUSE_KEY_PASSWORD"
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        help="File whose first line is the password of the key, for scripts. Without it the "
        f"environment variable {PASSWORD_VARIABLE} is used, or the terminal asks."
    ),
]


def add_commands(app: typer.Typer) -> None:
    """Hang the commands into the command line."""
    add_command(
        app,
        verify,
        examples=(
            "medfuse verify results/case1",
            "medfuse verify results/ --inputs study/",
            "medfuse verify results/ --public-key lab.key.pub",
        ),
        codes="0 nothing differs, 8 something differs, 2 wrong use",
    )
    add_command(
        app,
        sign,
        examples=(
            "medfuse sign results/ --key lab.key",
            "minisign -Vm results/manifests.sha256 -p lab.key.pub",
        ),
    )
    add_command(app, keygen, examples=("medfuse keygen ~/keys/lab.key",))


def verify(
    folder: Annotated[
        Path, typer.Argument(help="Result folder of a case or of a whole batch, or a follow-up.")
    ],
    inputs: Annotated[
        Path | None,
        typer.Option(help="Folder with the input images (any names): the run is repeated too."),
    ] = None,
    public_key: Annotated[
        Path | None, typer.Option(help="Must be signed with this key (.pub of keygen or minisign).")
    ] = None,
    made_by: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION",
            help="State which other version of medfuse made the results. Pages that it may have "
            "written differently are then listed as not checked.",
        ),
    ] = None,
) -> None:
    """Verify results: hashes, records, the re-created image; with --inputs the whole run.

    Everything that could not be compared is listed as not checked. Without the inputs, a forger who
    remakes every file consistently is found by a signature alone.
    """
    from medfuse.results.folder import read_manifest
    from medfuse.verification.followup import is_follow_up
    from medfuse.verification.verify import verify as verify_case
    from medfuse.verification.verify import verify_study

    chosen: dict[str, Any] = {"inputs": inputs, "public_key": public_key, "made_by": made_by}
    is_case = read_manifest(folder) is not None or is_follow_up(folder)
    with terminal.progress_bar("medfuse verify") as progress:
        if is_case:
            found = {folder.name: verify_case(folder, progress=progress, **chosen)}
        else:
            found = verify_study(folder, progress=progress, **chosen)
    plain = {case: [vars(f) for f in findings] for case, findings in found.items()}

    def show() -> None:
        if is_case:
            rows = [(f.what, _verdict(f), _text(f)) for f in found[folder.name]]
            terminal.table("Verification", ("what", "verdict", "finding"), rows)
        else:
            _show_study(found)
        _hint(folder, inputs, public_key)

    terminal.answer(plain[folder.name] if is_case else plain, show)
    if not all(finding.ok for findings in found.values() for finding in findings):
        raise typer.Exit(EXIT_FAILED)


def sign(
    folder: Annotated[Path, typer.Argument(help="Result folder of a case, or of a whole batch.")],
    key: Annotated[Path, typer.Option(help="Secret key of medfuse keygen or minisign -G.")],
    password_file: PasswordFile = None,
) -> None:
    """Sign a result or a whole batch in the format of minisign.

    If the key is locked, the terminal asks for its password. medfuse verify --public-key finds
    whatever is changed, added or removed after signing.
    """
    from medfuse.verification import signing

    path, public, count = signing.sign(folder, key, lambda: _password(key, password_file))
    terminal.answer(
        {"signature": path.name, "key": public.name, "results": count},
        lambda: terminal.say(
            f"Signed {count} result(s) with key {public.name}: {path}", style="green"
        ),
    )


def keygen(
    key: Annotated[
        Path, typer.Argument(help="File for the secret key; KEY.pub is the public one.")
    ],
    password: Annotated[
        bool, typer.Option("--password", help="Lock the secret key with a password.")
    ] = False,
    password_file: PasswordFile = None,
) -> None:
    """Make a key pair for medfuse sign. Existing files are never overwritten.

    Without --password or --password-file the secret key is not encrypted, and whoever can read its
    file can sign. The file is readable by its owner alone.
    """
    from medfuse.verification import signing

    locked = password or password_file is not None
    ask = (lambda: _password(key, password_file, new=True)) if locked else None
    beside, public = signing.make_key(key, ask)
    lock = "locked with the password" if locked else "not encrypted; --password would lock it"

    def show() -> None:
        terminal.say(f"Wrote the secret key {key} ({lock}). Keep it where only you can read it.")
        terminal.say(f"Wrote the public key {beside} (number {public.name}). Give it to receivers.")

    files = {"secret_key": key.name, "public_key": beside.name}
    terminal.answer({**files, "key": public.name, "locked": locked}, show)


def _password(key: Path, file: Path | None, *, new: bool = False) -> str:
    """Password from the file, the environment or the terminal, in this order."""
    cause = "there is no terminal to ask for its password"
    remedy = f"Give --password-file FILE or set {PASSWORD_VARIABLE}"
    if file is not None:
        try:
            return file.read_text("utf-8-sig").partition("\n")[0]
        except OSError as error:
            cause = f"the password file {file.name} cannot be read: {error.strerror}"
        except ValueError:
            cause = f"the password file {file.name} is not UTF-8 text"
        remedy = "Give a text file whose first line is the password"
    elif PASSWORD_VARIABLE in os.environ:
        return os.environ[PASSWORD_VARIABLE]
    elif sys.stdin.isatty():
        text = f"New password for {key.name}" if new else f"Password of {key.name}"
        default = None if new else ""  # minisign allows keys with an empty password
        answer: str = typer.prompt(
            text, default, hide_input=True, confirmation_prompt=new, show_default=False, err=True
        )
        return answer
    raise UsageError(
        "E_PASSWORD", what="Cannot use the key", where=key.name, cause=cause, remedy=remedy
    )


def _hint(folder: Path, inputs: Path | None, public_key: Path | None) -> None:
    """Say what was not asked for: agreement with oneself proves less than a replay."""
    if inputs is None:
        terminal.say("Checked against itself; --inputs DIR repeats the run from its images.")
    if public_key is None and any(folder.glob("*.minisig")):
        terminal.say("It is signed; --public-key FILE checks by whom.")


def _show_study(found: Mapping[str, Sequence[Any]]) -> None:
    rows = []
    for case, findings in found.items():
        wrong = [f"{f.what}: {_brief(f.text)}" for f in findings if not f.ok]
        checked = [f for f in findings if f.checked]
        brief = "; ".join(wrong) or ("; ".join(f.text for f in checked) if not case else "")
        text = brief or f"{len(checked)} checks"
        rows.append((case or "(the study)", _word(not wrong), text))
    terminal.table("Verification", ("case", "verdict", "finding"), rows)
    open_ones = {f.what: _text(f) for findings in found.values() for f in findings if not f.checked}
    for what, text in open_ones.items():
        terminal.say(f"Not checked ({what}): {text}.")


def _brief(text: str) -> str:
    """The first names of a long list; the whole list is shown for the case alone."""
    names = text.split(", ")
    return text if len(names) < 5 else f"{', '.join(names[:3])} and {len(names) - 3} more"


def _verdict(finding: Any) -> str:
    return _word(finding.ok) if finding.checked else "not checked"


def _text(finding: Any) -> str:
    text: str = finding.text
    return text if finding.checked else text.removeprefix("not checked: ")


def _word(ok: bool) -> str:
    return "pass" if ok else "fail"
