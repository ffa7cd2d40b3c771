"""``medfuse-bids BIDS_DIR OUTPUT_DIR participant|group``: medfuse as a BIDS App.

References
----------
Gorgolewski et al. 2017, BIDS apps: improving ease of use, accessibility, and reproducibility of
neuroimaging data analysis methods. PLoS Comput Biol 13(3): e1005209.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from medfuse.cli import terminal
from medfuse.cli.app import guarded
from medfuse.cli.options import MaxMemory, add_command, takes_settings
from medfuse.errors import UsageError
from medfuse.settings import CaseSettings, as_flag

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@takes_settings("Fusion", "Registration", "Reading", "Output", single=False)
def fuse_dataset(
    bids_dir: Annotated[Path, typer.Argument(help="BIDS data set (raw).")],
    output_dir: Annotated[Path, typer.Argument(help="Folder for the derivative data set.")],
    analysis_level: Annotated[
        Literal["participant", "group"],
        typer.Argument(help="participant fuses; group writes the study report anew."),
    ],
    participant_label: Annotated[
        list[str] | None,
        typer.Option("--participant-label", "--participant_label", help="Without sub-."),
    ] = None,
    session_label: Annotated[
        list[str] | None, typer.Option("--session-label", "--session_label", help="Without ses-.")
    ] = None,
    n_cpus: Annotated[int | None, typer.Option("--n_cpus", min=1, help="Cores to use.")] = None,
    max_memory: MaxMemory = None,
    skip_bids_validation: Annotated[
        bool, typer.Option("--skip-bids-validation", help="Accepted; nothing is validated here.")
    ] = False,
    *,
    settings: CaseSettings,
) -> None:
    """Fuse every PET of a BIDS data set with the subject's MRI, into a BIDS derivative."""
    from medfuse.batch.bids_layout import CASES, run_bids_batch
    from medfuse.batch.ledger import write_summary
    from medfuse.batch.tables import write_tables
    from medfuse.report.study import write_study_report
    from medfuse.study import discover

    if analysis_level == "group":
        write_summary(output_dir / CASES)
        write_tables(output_dir / CASES)
        terminal.say(f"Wrote {write_study_report(output_dir / CASES)}", style="green")
        return
    study = discover(bids_dir)
    if study.kind != "bids":
        raise UsageError(
            "E_USAGE",
            what="Cannot run as a BIDS App",
            cause=f"{bids_dir.name} is no BIDS data set (no sub-*/anat or sub-*/pet)",
            remedy="Give its top folder, or use medfuse batch, which takes any folders",
        )
    wanted = [case for case in study.cases if _is_wanted(case, participant_label, session_label)]
    if not wanted:
        raise UsageError(
            "E_USAGE",
            what="Nothing to do",
            cause=f"no case of {len(study.cases)} has the given participant and session labels",
            remedy="List the cases with: medfuse batch BIDS_DIR -o OUT --dry-run",
        )
    with terminal.batch_progress() as on_event:
        summary = run_bids_batch(
            replace(study, cases=tuple(wanted)),
            output_dir,
            settings,
            workers=max(1, n_cpus // 2) if n_cpus else None,
            on_event=on_event,
            command="medfuse-bids",
            max_memory_gb=max_memory,
        )
    terminal.answer(summary.to_dict(), lambda: terminal.show_summary(summary))
    raise typer.Exit(summary.exit_code)


def _is_wanted(case: Any, participants: list[str] | None, sessions: list[str] | None) -> bool:
    parts = {*case.anatomical.parts, *case.functional.parts}
    return all(
        not labels or any(f"{entity}-{label.removeprefix(f'{entity}-')}" in parts
                          for label in labels)
        for entity, labels in (("sub", participants), ("ses", sessions))
    )  # fmt: skip


add_command(
    app,
    fuse_dataset,
    examples=(
        "medfuse-bids /data /out participant --participant-label 01 02",
        "medfuse-bids /data /out group",
    ),
)


def run() -> None:
    """Entry point: errors become one line and an exit code."""
    sys.exit(guarded(app, _one_each(sys.argv[1:]), as_flag))


def _one_each(arguments: list[str]) -> list[str]:
    """Turn ``--participant-label 01 02`` as BIDS Apps have it into an option for each label."""
    spread, option = [], ""
    for argument in arguments:
        if argument.startswith("--"):
            option = argument if argument.replace("_", "-") in _LISTS else ""
            if not option:
                spread.append(argument)
        elif option:
            spread += [option, argument]
        else:
            spread.append(argument)
    return spread


_LISTS = ("--participant-label", "--session-label")
