"""Pages of the documentation that are made from the code, for `make docs` (a hook of MkDocs).

Commands from the command line itself, settings from `CaseSettings`, errors from the calls that
raise them, the Python API from the docstrings. Nothing of this is written by hand or committed.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HOME = "https://github.com/medfuse/medfuse/blob/main"
CODE = re.compile(r"E_[A-Z0-9_]+")
#: Links of a page to files of the repository that are no pages.
OUTSIDE = re.compile(r"\]\((?:\.\./)+((?:workflows|sample_data|tools|medfuse|tests)[^)#]*)\)")
GROUPS = {
    "InputError": "a file or folder cannot be read as an image",
    "SeriesError": "the files do not make one volume",
    "GeometryError": "position, orientation or spacing",
    "UnitError": "values without a usable unit",
    "SuvUnavailable": "SUV cannot be computed",
    "RegistrationError": "the images could not be aligned well enough",
    "OutputError": "results cannot be written",
    "UsageError": "wrong use",
}
#: Order of the Python API: the package first, then what its users may need.
MODULES = (
    ("medfuse", "The package"),
    ("medfuse.transforms", "MONAI transforms"),
    ("medfuse.imaging.grid", "Grids"),
    ("medfuse.audit.model", "Audit"),
    ("medfuse.registration.model", "Registration"),
    ("medfuse.settings", "Settings of a case"),
    ("medfuse.errors", "Errors"),
    ("medfuse.results.folder", "Result folders"),
    ("medfuse.evaluation.metrics", "Metrics"),
)


@dataclass(frozen=True)
class Raised:
    """One place in the code that raises an error with a code."""

    group: str
    what: str
    cause: str
    remedy: str


def on_files(files: Any, config: Any) -> Any:
    """MkDocs: add the generated pages."""
    from mkdocs.structure.files import File

    for name, make in PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=make()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs: links to scripts of the repository lead to the repository."""
    return OUTSIDE.sub(rf"]({HOME}/\1)", markdown)


def commands_page() -> str:
    """The help of every command, as a terminal shows it."""
    from typer.testing import CliRunner

    from medfuse.cli.app import app
    from medfuse.cli.bids_app import app as bids

    def help_of(program: Any, *words: str) -> str:
        shown = CliRunner().invoke(program, [*words, "--help"], env={"COLUMNS": "100"})
        return f"```text\n{shown.output.strip()}\n```\n"

    names = [name for name, _ in _commands(app)]
    parts = ["# All commands and options\n\nWhat `medfuse COMMAND --help` shows.\n"]
    parts += [f"## medfuse {name}\n\n{help_of(app, name)}" for name in names]
    return "\n".join([*parts, f"## medfuse-bids\n\n{help_of(bids)}"])


def _commands(app: Any) -> Iterator[tuple[str, Any]]:
    import typer.main

    yield from typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]


def settings_page() -> str:
    """Every field of `CaseSettings`, by group."""
    from medfuse.settings import CaseSettings, option_of

    groups: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for name, field in CaseSettings.model_fields.items():
        told = option_of(name)
        default = "–" if field.default is None else f"`{field.default}`"
        groups[told.group].append((f"`{name}`", f"`{_type(field)}`", default, told.help))
    head = (
        "# Settings of a case\n\nA setting has one name everywhere: a column of `cases.csv`, a "
        "keyword in Python and MONAI, and, with hyphens, an option of `medfuse fuse` and `medfuse "
        "batch`. The panel offers the same.\n"
    )
    columns = ("name", "values", "default", "what it does")
    return head + "".join(
        f"\n## {group}\n\n{table(columns, rows)}" for group, rows in groups.items()
    )


def _type(field: Any) -> str:
    text = str(field.annotation).replace("typing.", "").replace("NoneType", "None")
    found = re.search(r"Literal\[(.*?)\]", text)
    if found:
        return " | ".join(word.strip("' ") for word in found[1].split(","))
    return text.removeprefix("<class '").removesuffix("'>")


def errors_page() -> str:
    """Every code with what fails, why, and what to do."""
    parts = [
        "# Errors\n\nAn error is one line: what failed, where, why, what to do, and a stable code "
        "in brackets. Scripts and the ledger of a batch rely on the code. `…` stands for what is "
        "only known when it happens. Settings are named as in Python; the command line names its "
        "option instead.\n"
    ]
    for code, places in sorted(errors().items()):
        groups = dict.fromkeys(GROUPS[p.group] for p in places if p.group in GROUPS)
        rows = [(p.what, p.cause, p.remedy) for p in dict.fromkeys(places)]
        said = "; ".join(groups)
        parts.append(f"## {code}\n\n" + (f"{said[0].upper()}{said[1:]}.\n" if said else ""))
        if not any(p.remedy.strip("… /") for p in places):
            parts.append("What to do depends on the case; the line itself says it.\n")
        if rows:
            parts.append(table(("what failed", "cause", "what to do"), rows))
    return "\n".join(parts)


def errors() -> dict[str, list[Raised]]:
    """All codes of the code base with the places that raise them."""
    modules = [
        Module(ast.parse(path.read_text(encoding="utf-8")))
        for folder in ("medfuse", "napari_plugin")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    functions: Functions = defaultdict(list)
    for module in modules:
        for name, function in module.functions.items():
            functions[name].append((function, module))
    found: dict[str, list[Raised]] = defaultdict(list)
    for module in modules:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call):
                codes = _codes([*node.args, *(word.value for word in node.keywords)])
                raised = _raised(node, module, functions, {}) if codes else None
            elif isinstance(node, ast.Tuple):  # tables of codes with their causes
                codes = _codes(node.elts[:1])
                texts = [_words(item, module.texts) for item in node.elts[1:]]
                raised = Raised("", "…", *[*texts, "…", "…"][:2])
            else:
                codes, raised = _codes([node]) if isinstance(node, ast.Constant) else [], None
            for code in codes:
                found[code] += [raised] if raised else []
    return {code: _told(places) for code, places in found.items()}


class Module:
    """The functions and the texts with a name of one module."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.functions = {n.name: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
        self.texts = _named(tree.body, {})
        self.owner = {
            node: function for function in self.functions.values() for node in ast.walk(function)
        }

    def texts_at(self, node: ast.AST) -> dict[str, str]:
        """Texts by the names that a place in the code can use."""
        function = self.owner.get(node)
        if function is None:
            return self.texts
        return self.texts | _named(ast.walk(function), self.texts)


def _named(nodes: Iterable[ast.AST], texts: dict[str, str]) -> dict[str, str]:
    """Texts that are given a name; what a name may stand for is joined."""
    found: dict[str, list[str]] = defaultdict(list)
    for node in nodes:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found[target.id].append(_words(node.value, texts))
    return {name: " / ".join(dict.fromkeys(each)) for name, each in found.items()}


Functions = dict[str, list[tuple[ast.FunctionDef, Module]]]


def _told(places: list[Raised]) -> list[Raised]:
    """Each text once; places that say nothing only where no other does."""
    unique = list(dict.fromkeys(places))
    return [p for p in unique if p.cause.strip("… ") or p.remedy.strip("… ")] or unique


def _codes(nodes: list[ast.expr]) -> list[str]:
    return [
        node.value
        for node in nodes
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and CODE.fullmatch(node.value)
    ]


def _raised(
    call: ast.Call, module: Module, functions: Functions, known: dict[str, str], depth: int = 0
) -> Raised | None:
    """What a call says of an error, by itself or by the function that it calls for that."""
    texts = module.texts_at(call) | known
    given = {word.arg: _words(word.value, texts) for word in call.keywords if word.arg}
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if "cause" in given and "remedy" in given and "what" in given:
        group = name if name in GROUPS else ""
        return Raised(group, given["what"], given["cause"], given["remedy"])
    if depth > 2:
        return None
    own = module.functions.get(name)
    found = [
        raised
        for function, there in ([(own, module)] if own else functions.get(name, []))
        if (raised := _raised_by(function, there, functions, (call, given, texts), depth))
    ]
    return max(found, key=lambda raised: len(raised.cause + raised.remedy), default=None)


def _raised_by(
    function: ast.FunctionDef,
    there: Module,
    functions: Functions,
    called: tuple[ast.Call, dict[str, str], dict[str, str]],
    depth: int,
) -> Raised | None:
    """What a function says of an error that is called for it with these texts."""
    call, given, texts = called
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args) if a.arg != "self"]
    bound = dict(zip(names, (_words(a, texts) for a in call.args), strict=False)) | given
    for inner in ast.walk(function):
        if isinstance(inner, ast.Call):
            raised = _raised(inner, there, functions, bound, depth + 1)
            if raised is not None:
                return raised
    return None


def _words(node: ast.expr, texts: dict[str, str]) -> str:
    """A text as a person reads it; what is only known when it is raised becomes an ellipsis."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_words(value, texts) for value in values)
        case ast.FormattedValue(value=value):
            return _words(value, texts)
        case ast.Name(id=name):
            return texts.get(name, "…")
        case ast.Call(func=ast.Name(id="option"), args=arguments):
            return "=".join(word for a in arguments if (word := _words(a, texts)))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _words(left, texts) + _words(right, texts)
        case ast.BoolOp(values=values):
            return _words(values[-1], texts)
        case ast.IfExp(body=body, orelse=other):
            return " / ".join(word for n in (body, other) if (word := _words(n, texts)))
    return "…"


def api_page() -> str:
    """Directives for mkdocstrings."""
    parts = [
        "# Python API\n\nMade from the docstrings. What is not listed here may change without "
        "notice.\n"
    ]
    for name, title in MODULES:
        filters = '    options:\n      filters: ["!^_"]\n'
        parts.append(f"## {title}\n")
        for member in public(name):
            parts.append(f"::: {member}\n{filters}")
    return "\n".join(parts)


def public(module: str) -> list[str]:
    """Full names of what a module offers, where it is defined."""
    import importlib

    found = importlib.import_module(module)
    names = getattr(found, "__all__", None) or [
        name
        for name, value in vars(found).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module
    ]
    objects = {name: getattr(found, name) for name in names}
    places = (
        f"{value.__module__}.{value.__qualname__}"
        for value in objects.values()
        if hasattr(value, "__qualname__") and value.__module__.startswith("medfuse")
    )
    return list(dict.fromkeys(places))


def changes_page() -> str:
    """The change log; its links lead from the root of the repository."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return re.sub(r"\]\(docs/", "](../", text)


def table(columns: tuple[str, ...], rows: Any) -> str:
    """A table in Markdown."""
    lines = [columns, ("---",) * len(columns), *rows]
    cells = (
        [str(c).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;") for c in r]
        for r in lines
    )
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


#: The generated pages by name.
PAGES = {
    "commands": commands_page,
    "settings": settings_page,
    "errors": errors_page,
    "api": api_page,
    "changes": changes_page,
}
