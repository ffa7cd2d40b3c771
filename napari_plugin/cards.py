"""What is known of a method, in a few lines, without loading its weights."""

from __future__ import annotations

from functools import lru_cache

from medfuse.errors import MedfuseError
from medfuse.methods.zoo import WEIGHTS, Card, paints, read_card, weights_name

JUDGED = ("VIF", "Qabf", "SSIM")


def method_card(name: str, summary: str) -> str:
    """A few lines about a method: data, size, judgement, limits.

    Parameters
    ----------
    name, summary : str
        As ``medfuse.methods.registry.list_methods`` gives them.
    """
    try:
        card = _card(name)
    except MedfuseError as error:  # a damaged card must not close the panel
        return f"{name}: {summary}\nNot available: {error}"
    if card is None:
        return f"{name}: {summary}\nA fixed rule: nothing was learned."
    deed = "paints the pixels itself" if is_painter(name) else "only chooses weights"
    lines = [
        f"{name}: {card.summary}",
        f"Network: {card.architecture}, {card.parameters:,} parameters; it {deed}.",
        f"Trained on: {card.data.get('name', 'unknown')}, {card.data.get('pairs', '?')} pairs.",
        *_judged(card),
        f"Limits: {card.limitations}",
        card.notice,
    ]
    return "\n".join(lines)


@lru_cache
def is_painter(name: str) -> bool:
    """Whether a method is a network that makes the luminance itself, without weights to shift."""
    try:
        card = _card(name)
    except MedfuseError:
        return False
    return card is not None and paints(card.architecture, card.options)


def _card(name: str) -> Card | None:
    return read_card(WEIGHTS / f"{weights_name(name)}.safetensors")


def _judged(card: Card) -> list[str]:
    numbers = {name: card.validation[name] for name in JUDGED if name in card.validation}
    if not numbers:
        return []
    told = ", ".join(f"{name} {value:.2f}" for name, value in numbers.items())
    return [f"On held-out pairs: {told}."]
