"""One declaration of a setting for all front ends, and remedies that exist in each of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from medfuse import settings
from medfuse.cli import bids_app
from medfuse.cli.app import app, run
from medfuse.errors import MedfuseError, option
from medfuse.settings import CaseSettings, as_flag, as_flag_or_column, option_of, settings_from

PACKAGE = Path(__file__).resolve().parents[2] / "medfuse"
MENTION = re.compile(r"""\boption\(\s*["'](\w+)["'](?:,\s*["']([^"']*)["'])?""")
#: Names that a loader uses for one image; `load_image` says which of the two it was.
OF_ONE_IMAGE = {
    "method": ("registration",),  # of `medfuse.register`
    "series": ("anatomical_series", "functional_series"),
    "modality": ("anatomical_modality", "functional_modality"),
    "values_in": ("functional_unit",),
}
#: Settings that are no `CaseSettings`, with the commands whose errors mention them.
OTHERS = {
    "max_memory": ("fuse", "batch", "medfuse-bids"),
    "uid_salt": ("fuse", "batch"),
    "timeout": ("batch",),
    "force": ("fuse",),
    "inputs": ("verify", "measure", "followup"),
    "drawn_on": ("measure",),
    "reference": ("measure",),
    "layout": ("fuse", "batch"),
    "transform": ("audit",),
    "provenance": ("unfuse",),
    "a": ("train", "evaluate"),
    "b": ("train", "evaluate"),
}
WHERE_IMAGES_ARE_READ = ("fuse", "batch", "register", "audit", "medfuse-bids")


def flags() -> dict[str, set[str]]:
    """Long and short options of every command."""
    group = typer.main.get_command(app)
    commands = dict(group.commands)  # type: ignore[attr-defined]
    commands["medfuse-bids"] = typer.main.get_command(bids_app.app)
    return {
        name: {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
        for name, command in commands.items()
    }


def mentions() -> set[tuple[str, str]]:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        found |= set(MENTION.findall(path.read_text("utf-8")))
    return found


def test_remedies_mention_settings():
    assert ("series", "NUMBER") in mentions()
    assert len({name for name, _ in mentions()}) > 12


def test_no_text_outside_the_command_line_names_a_flag():
    for path in PACKAGE.rglob("*.py"):
        others = ("settings.py", "privacy.py", "shard.py", "cluster.py")  # the last: flags of Dask
        if path.parent.name == "cli" or path.name in others:
            continue
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            text = re.sub(r"``[^`]*``", "", line)  # docstrings may explain a command
            assert not re.search(r"""["' (]--[a-z]{2}""", text), (
                f"{path.name} line {number}: {line}"
            )


@pytest.mark.parametrize(("name", "value"), sorted(mentions()))
def test_every_remedy_exists_on_every_command_that_can_raise_it(name: str, value: str) -> None:
    offered = flags()
    if name in OTHERS:
        for command in OTHERS[name]:
            assert as_flag(name, value).split()[0] in offered[command], command
        return
    for setting in OF_ONE_IMAGE.get(name, (name,)):
        assert setting in CaseSettings.model_fields, setting
        flag = as_flag(setting, value).split()[0]
        group = option_of(setting).group
        for command in WHERE_IMAGES_ARE_READ:
            if group == "Reading" and command != "batch" and not option_of(setting).single:
                assert flag in offered[command], (command, flag)
        assert flag in offered["fuse"]
        in_batch = as_flag_or_column(setting, value)
        assert f"column {setting}" in in_batch
        if "--" in in_batch:
            assert in_batch.split()[0] in offered["batch"]


@pytest.mark.parametrize("name", CaseSettings.model_fields)
def test_every_setting_is_a_flag_of_fuse_and_a_flag_or_column_of_a_batch(name: str) -> None:
    dashed = f"--{name.replace('_', '-')}"
    offered = flags()
    assert dashed in offered["fuse"]
    single = option_of(name).single
    for command in ("batch", "medfuse-bids"):
        assert (dashed in offered[command]) is not single


def test_help_and_default_of_an_option_are_those_of_the_setting():
    fuse = typer.main.get_command(app).commands["fuse"]  # type: ignore[attr-defined]
    shown: dict[str, Any] = {p.name: p for p in fuse.params}
    for name, field in CaseSettings.model_fields.items():
        assert shown[name].help == option_of(name).help
        assert shown[name].default == field.default


@pytest.mark.parametrize("command", ["fuse", "batch"])
def test_help_of_the_big_commands_stays_short_at_80_columns(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert run([command, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 120
    assert max(map(len, lines)) <= 80
    groups = [line for line in lines if line and not line.startswith(" ") and line.endswith(":")]
    assert groups[:2] == ["Arguments:", "Common options:"]
    assert {"Reading:", "Registration:", "Fusion:", "Output:"} <= set(groups)


def test_a_wrong_value_names_the_setting_as_the_front_end_has_it():
    with pytest.raises(MedfuseError) as found:
        settings_from({"frame": "last"})
    assert "--frame is 'last'" in found.value.told(as_flag)
    assert "column frame" in found.value.told(as_flag_or_column)
    assert "frame is 'last'" in str(found.value)


def test_an_error_can_be_told_under_the_names_of_the_caller():
    error = MedfuseError("E_X", what="A", cause="b", remedy=f"Use {option('series', '3')}")
    renamed = error.renamed({"series": "functional_series"})
    assert str(error) == "A: b. Use series=3. [E_X]"
    assert "--functional-series 3" in renamed.told(as_flag)
    assert settings.label_of("accept_suspect") == "Accept a suspect registration"
