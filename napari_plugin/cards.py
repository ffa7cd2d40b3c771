"""What is known of a method, in a few lines, without loading its weights."""

from __future__ import annotations

from medfuse.errors import MedfuseError
from medfuse.methods.zoo import DEFAULT, WEIGHTS, Card, read_card

JUDGED = ("VIF", "Qabf", "SSIM")


def method_card(name: str, summary: str) -> str:
    """A few lines about a method: data, size, judgement, limits.

    Parameters
    ----------
    name, summary : str
        As ``medfuse.methods.base.list_methods`` gives them.
    """
    try:
        card = read_card(WEIGHTS / f"{DEFAULT if name == 'swift' else name}.safetensors")
    except MedfuseError as error:  # a damaged card must not close the panel
        return f"{name}: {summary}\nNot available: {error}"
    if card is None:
        return f"{name}: {summary}\nA fixed rule: nothing was learned."
    lines = [
        f"{name}: {card.summary}",
        f"Network: {card.architecture}, {card.parameters:,} parameters; it only chooses weights.",
        f"Trained on: {card.data.get('name', 'unknown')}, {card.data.get('pairs', '?')} pairs.",
        *_judged(card),
        f"Limits: {card.limitations}",
        card.notice,
    ]
    return "\n".join(lines)


def _judged(card: Card) -> list[str]:
    numbers = {name: card.validation[name] for name in JUDGED if name in card.validation}
    if not numbers:
        return []
    told = ", ".join(f"{name} {value:.2f}" for name, value in numbers.items())
    return [f"On held-out pairs: {told}."]
