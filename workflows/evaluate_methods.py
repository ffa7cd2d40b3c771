"""Judge guides on pictures of your own, and look at the pair on which one is worst.

    python workflows/evaluate_methods.py --a PET/ --b MRI/ --method swift --method my.safetensors

What ``medfuse evaluate`` prints, from Python: copy it and ask the table what you want to know.
Pictures are paired by name. Research use only.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from medfuse.evaluation import evaluate, render
from medfuse.terminal import out


def main(arguments: list[str] | None = None) -> None:
    """Print the table, and for every method the pair with the lowest metric."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--a", type=Path, required=True, help="folder of functional pictures")
    parser.add_argument("--b", type=Path, required=True, help="folder of anatomical pictures")
    parser.add_argument("--method", action="append", help="repeat for several [swift]")
    parser.add_argument("--metric", default="Qabf", help="by which the worst pair is found")
    options = parser.parse_args(arguments)
    found = evaluate(options.a, options.b, options.method or ["swift"])
    out.print(render(found))
    for row in found.rows:
        values = row.values[options.metric]
        worst = min(range(len(values)), key=lambda k: (math.isnan(values[k]), values[k]))
        print(f"{row.name}: lowest {options.metric} {values[worst]:.3f} on {found.pairs[worst]}")


if __name__ == "__main__":
    main()
