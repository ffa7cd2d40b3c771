"""What a person sees in the terminal: tables, progress, errors. No logic, no heavy imports."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medfuse.imaging.pet.header import NO_UNIT_STATED
from medfuse.record.privacy import printable
from medfuse.settings import Progress

if TYPE_CHECKING:
    from rich.console import Console

COLOURS = {"pass": "green", "look": "yellow", "fail": "red", "good": "green", "suspect": "red"}


#: What a person reads of each stage of a case; others are shown as they are.
STAGES = {
    "loading": "reading the images",
    "preparing": "registration: preparing both images",
    "searching for a start": "registration: searching for the position",
    "looking near by": "registration: refining the given position",
    "checking the headers, coarse": "registration: checking the position in the headers, coarse",
    "checking the headers, fine": "registration: checking the position in the headers, fine",
    "trying the starts": "registration: comparing the best positions",
    "searching among turned positions": "registration: searching among turned positions",
    "coarse refinement": "registration: refining the best positions, coarse",
    "fine refinement": "registration: refining the best positions, fine",
    "affine refinement": "registration: fitting scale and shear",
    "deforming": "registration: estimating the local deformation",
    "checking the result": "registration: estimating its error",
    "registered": "registration: finished",
    "colour": "fusion: coloring the functional image",
    "guide": "fusion: choosing the weights",
    "kernel": "fusion: combining both images",
    "picture": "fusion: making the fused image",
    "audit": "fusion: checking the fused image",
    "fused": "fusion: finished",
    "writing": "writing the volumes",
    "figures": "drawing the figures of the report",
    "report": "writing the report",
    "registering": "follow-up: registering both times",
    "measuring": "follow-up: measuring the regions at both times",
    "done": "finished",
}


@dataclass(frozen=True)
class Mode:
    """What the options of every command ask of the terminal."""

    as_json: bool = False
    json_file: Path | None = None
    quiet: bool = False
    verbose: bool = False

    @property
    def shows(self) -> bool:
        """Whether tables and progress are shown to a person."""
        return not (self.as_json or self.quiet)


mode = Mode()


@cache
def console(*, stderr: bool = False) -> Console:
    """Standard output, or standard error, to print on; `rich` is imported when it is needed."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def answer(content: Any, show: Callable[[], None]) -> None:
    """What a command found: as JSON where that was asked for, else shown to a person."""
    if mode.json_file is not None:
        from medfuse.results.folder import write_through, writing

        with writing(mode.json_file):
            write_through(mode.json_file, (_json(content) + "\n").encode())
    if mode.as_json:
        print_json(content)
    elif not mode.quiet:
        show()


def print_json(content: Any) -> None:
    """Machine-readable answer on standard output."""
    sys.stdout.write(_json(content) + "\n")


def _json(content: Any) -> str:
    return json.dumps(content, indent=2, default=str)


def say(text: str, *, style: str = "") -> None:
    """One line for the user, on standard error so that pipes stay clean; no markup is read."""
    if not mode.quiet:
        console(stderr=True).print(printable(text), style=style, markup=False)


def complain(text: str) -> None:
    """One line about what went wrong; it is printed in every mode."""
    console(stderr=True).print(printable(f"error: {text}"), style="red", markup=False)


def take_any_text() -> None:
    """Write what the terminal has no letters for as ``\\u...`` and never fail for it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def progress_bar(title: str, *, after: float = 0.0) -> Iterator[Progress]:
    """Show ``(fraction, text)`` reports as a bar; plain silence where nobody looks.

    In verbose mode every new step is a line with the seconds since the start. A bar that is to
    come only where it takes long starts `after` some seconds.
    """
    if mode.verbose:
        yield _steps(title)
        return
    if not mode.shows or not console(stderr=True).is_terminal:
        yield lambda fraction, text: None
        return
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[stage]}"),
    )
    bar, begun = Bar(*columns, console=console(stderr=True), transient=True), time.monotonic()
    task = bar.add_task(title, total=1.0, stage="")

    def update(fraction: float, text: str) -> None:
        if time.monotonic() - begun >= after:
            bar.start()
        bar.update(task, completed=fraction, stage=STAGES.get(text, text))

    if not after:
        bar.start()
    try:
        yield update
    finally:
        bar.stop()


def _steps(title: str) -> Progress:
    begun, last = time.monotonic(), ""

    def update(fraction: float, text: str) -> None:
        nonlocal last
        if text != last:
            last = text
            say(f"{title}: {time.monotonic() - begun:6.1f} s  {STAGES.get(text, text)}")

    return update


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table; verdict words are coloured."""
    from rich.table import Table

    grid = Table(title=title, title_justify="left", title_style="bold", expand=False)
    for name in columns:
        grid.add_column(name, overflow="fold")
    for row in rows:
        grid.add_row(*(_cell(cell) for cell in row))
    console().print(grid)


def audit_table(audit: dict[str, Any]) -> None:
    """Print ``audit.json``: all checks in brief, the meaning of those that need eyes."""
    from medfuse.report.words import limit_in_words, value_in_words

    rows = []
    for check in audit["checks"]:
        told = ", ".join(filter(None, (value_in_words(check), limit_in_words(check))))
        rows.append((check["title"], told, check["verdict"]))
    table(f"Audit: {audit['verdict']}", ("check", "found", "verdict"), rows)
    for check in audit["checks"]:
        if check["verdict"] != "pass":
            say(f"{check['verdict']}: {check['title']}. {check['text']}", style="yellow")


def _cell(cell: Any) -> str:
    from rich.markup import escape

    text = escape(printable(str(cell)))
    return f"[{COLOURS[text]}]{text}[/]" if text in COLOURS else text


def answer_result(result: Any, **more: Any) -> None:
    """Audit, notes and place of a finished case, and more for the machine-readable answer."""
    audit = json.loads((result.folder / "audit.json").read_text())
    content = {**vars(result), "folder": result.folder.name, "audit": audit, **more}
    for name in ("code", "message"):
        content.pop(name)
    answer(content, lambda: _show_result(result, audit))


def _show_result(result: Any, audit: dict[str, Any]) -> None:
    audit_table(audit)
    if result.chosen:
        say(f"method: {result.chosen}")
    for note in result.notes:
        say(f"note: {note}", style="yellow")
    say(
        f"Wrote {result.folder} in {result.seconds:.1f} s; open {result.folder}/report.html",
        style="green",
    )


def show_training(result: Any) -> None:
    """How far a training came and where its weights are."""

    def change(name: str) -> str:
        before, after = result.before.get(name), result.validation[name]
        return f"{after:.4g}" if before in (None, after) else f"{before:.4g} -> {after:.4g}"

    rows = [
        ("stopped", result.stopped),
        ("steps", result.steps),
        ("seconds", f"{result.seconds:.0f}"),
        ("loss", f"{result.first_loss:.4f} -> {result.last_loss:.4f}"),
        *((f"validation {name}", change(name)) for name in result.validation),
    ]
    table("Training", ("what", "value"), rows)
    _show_beside(result)
    say(f"Wrote {result.weights} and its card {result.card.name}.", style="green")
    if result.kept:
        say(
            f"{result.kept.name} was there and is better on the same pairs, so it was kept.",
            style="yellow",
        )


def _show_beside(result: Any) -> None:
    """What was trained beside its start and the rules, and in words whether it is better."""
    found = {"trained": result.validation, "start": result.before, **result.beside}
    names = ("kept_A", "kept_B", "Qabf", "VIF", "contradicting")
    rows = {
        title: [f"{values[name]:.3f}" for name in names]
        for title, values in found.items()
        if all(name in values for name in names)
    }
    if "trained" not in rows:
        return
    columns = ("held-out pairs", "detail A", "detail B", "Qabf", "VIF", "flag px")
    table("Beside its start and rules", columns, [(t, *cells) for t, cells in rows.items()])
    judged = {title: found[title] for title in rows}
    figures = {
        "weaker source": {t: min(v["kept_A"], v["kept_B"]) for t, v in judged.items()},
        "Qabf": {t: v["Qabf"] for t, v in judged.items()},
    }
    for what, values in figures.items():
        ours = values.pop("trained")
        worse = [title for title, value in values.items() if value > ours]
        words = f"worse than {', '.join(worse)}" if worse else "better than all of these"
        say(f"{what}: {words}", style="yellow" if worse else "green")


def _about_deformation(deformation: Any) -> list[tuple[str, str]]:
    if deformation is None:
        return []
    facts = deformation.to_dict()
    if not deformation.moves:
        return [("deformation", "not used (see the reasons)")]
    rows = [
        (
            "deformation",
            f"estimated, {facts['mean_mm']:.1f} mm on average, {facts['largest_mm']:.1f} at most",
        ),
        ("least Jacobian", f"{facts['least_jacobian']:.2f} (a fold is 0 or less)"),
    ]
    if facts["inverse_mm"] is not None:
        rows.append(("inverse consistency", f"{facts['inverse_mm']:.1f} mm"))
    if region := facts.get("region"):
        rows.append(
            (
                "hottest region",
                f"volume {100 * (region['volume_change'] - 1):+.0f} %, mean "
                f"{region['mean_before']:.4g} -> {region['mean_after']:.4g} {region['unit']}",
            )
        )
    return rows


def show_registration(found: Any, out: Path) -> None:
    """Quality and size of a registration."""
    rows = [
        ("verdict", found.verdict),
        ("reasons", "; ".join(found.reasons) or "-"),
        ("method", found.method),
        ("moved", f"{found.shift_mm:.2f} mm, {found.rotation_deg:.2f} degrees"),
        ("mutual information", f"{found.metric_before:.4f} -> {found.metric_after:.4f}"),
        ("sharpness", f"fits {found.sharpness:.2f} times better than 8 mm or 8 degrees away"),
        ("overlap", f"{found.overlap:.2f}"),
        ("expected error", f"{found.error_words()} (90 % of cases)" if found.expected else "-"),
        *_about_deformation(found.deformation),
        *(
            (f"position {a.name}", f"{a.away_mm:.1f} mm, {a.away_deg:.1f} degrees from the headers")
            for a in found.alternatives
        ),
        ("stopped", f"after {found.iterations} iterations: {found.stop_reason}"),
    ]
    table("Registration (fixed -> moving)", ("what", "value"), rows)
    say(f"Wrote {out}", style="green")


MAX_ROWS = 40


def show_plan(plan: Any) -> None:
    """Which images make a case, and why; of a long study the first ones."""
    from medfuse.study import explain

    rows = list(islice(explain(plan), MAX_ROWS))
    table("Study", ("case", "anatomical", "functional", "why"), rows)
    left = len(plan.cases) + len(plan.skipped) - len(rows)
    if left > 0:
        say(f"... and {left} more rows ({len(plan.cases)} cases; --dry-run --json lists all)")


def print_plan(plan: Any) -> None:
    """All rows of a plan as one JSON object, written row by row."""
    from medfuse.study import explain

    sys.stdout.write('{"cases": [')
    for number, row in enumerate(explain(plan)):
        sys.stdout.write(("," if number else "") + "\n" + json.dumps(row))
    sys.stdout.write("\n]}\n")


@contextmanager
def batch_progress() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Show the events of a batch: a line for a case that ended, a bar with rate and time left."""
    total, done, worked, begun = 0, 0, 0, time.monotonic()
    running: dict[str, float] = {}
    with progress_bar("medfuse batch") as update:

        def on_event(event: dict[str, Any]) -> None:
            nonlocal total, done, worked
            case = str(event.get("case"))
            if event["event"] == "batch-start":
                total = event["cases"]
            elif event["event"] == "progress":
                running[case] = event["fraction"]
            elif event["event"] == "case-end":
                running.pop(case, None)
                done += 1
                worked += event["status"] != "skipped"
                if mode.shows:
                    show_event(event)
            elif event["event"] == "follow-up":
                running.pop(case, None)
                if mode.shows:
                    show_event(event, of="registration")
            under_way = sum(running.values())
            left = total - done - under_way
            rate = pace(worked + under_way, left, time.monotonic() - begun)
            update((done + under_way) / max(total, 1), f"{done} of {total} cases{rate}")

        yield on_event


def pace(worked: float, left: float, seconds: float) -> str:
    """Cases an hour and time left, as soon as there is something to judge by.

    >>> pace(10, 20, 360)
    ', 100 an hour, 12 min left'
    """
    if worked < 0.5 or seconds <= 0:
        return ""
    rate = worked / seconds
    minutes = left / rate / 60
    rest = f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
    return f", {3600 * rate:.0f} an hour, {rest} left"


def show_summary(summary: Any) -> None:
    """Counts and where to look; the failed cases last, a line each."""
    counts = ", ".join(f"{summary.count(s)} {s}" for s in ("done", "skipped", "failed"))
    for note in (*summary.notes, *_once_a_study(summary.results)):
        say(f"note: {note}", style="yellow")
    say(f"{counts} in {summary.seconds:.0f} s; open {summary.out}/study.html")
    if summary.count("failed"):
        for result in summary.results:
            if result.status == "failed":
                say(f"failed: {result.case}: {result.message}", style="red")


def show_event(event: dict[str, Any], *, of: str = "audit") -> None:
    """One line for a case, or a comparison of two, that ended."""
    styles = {"done": "green", "skipped": "dim", "failed": "red"}
    verdict = event.get("verdict")
    text = f"{of}: {verdict}" if verdict else event.get("code") or ""
    style = styles[event["status"]]
    say(f"{event['status']:8} {event['case']}  {text}".rstrip(), style=style)
    for note in event.get("notes") or ():
        if note != NO_UNIT_STATED:
            say(f"         note: {note}", style="yellow")


def _once_a_study(results: Iterable[Any]) -> Iterator[str]:
    """What is the same for many cases, and can be changed for all of them."""
    count = sum(NO_UNIT_STATED in result.notes for result in results)
    if count:
        yield f"{count} case(s): {NO_UNIT_STATED} (--functional-unit, or a column of cases.csv)"


def rows_of(item: dict[str, Any]) -> list[tuple[str, str]]:
    """A description as rows; the steps of the SUV say the same as its record, and better."""
    shown = {k: v for k, v in item.items() if v not in (None, [], {}) and k != "suv"}
    return [(key, _plain(value)) for key, value in shown.items()]


def _plain(value: Any) -> str:
    if isinstance(value, list):
        numbers = all(isinstance(v, int | float) for v in value)
        return " x ".join(f"{v:g}" for v in value) if numbers else "\n".join(map(str, value))
    return str(value)
