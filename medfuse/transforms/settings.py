"""Settings of a case as keywords of a transform."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from medfuse.settings import CaseSettings, settings_from

Kind = TypeVar("Kind", bound=type)


def takes_settings(*names: str) -> Callable[[Kind], Kind]:
    """Let a transform take some settings of `CaseSettings` as keywords.

    Its ``__init__`` gets them as `settings`; its signature lists them, with their defaults, before
    ``allow_missing_keys``.
    """

    def decorate(kind: Kind) -> Kind:
        plain = kind.__init__  # type: ignore[misc]
        own = list(inspect.signature(plain).parameters.values())

        @functools.wraps(plain)
        def init(self: Any, *args: Any, **values: Any) -> None:
            chosen = {name: values.pop(name) for name in names if name in values}
            plain(self, *args, settings=settings_from(chosen), **values)

        fields = CaseSettings.model_fields
        offered = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=fields[name].default,
                annotation=fields[name].annotation,
            )
            for name in names
        ]
        kept = [p for p in own if p.name not in ("settings", "allow_missing_keys")]
        last = next(p for p in own if p.name == "allow_missing_keys")
        last = last.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        init.__signature__ = inspect.Signature([*kept, *offered, last])  # type: ignore[attr-defined]
        kind.__init__ = init  # type: ignore[misc]
        return kind

    return decorate
