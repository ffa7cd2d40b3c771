"""What the first fused slice of the panel costs, in processor seconds of all threads.

Without a window, from the click on Fuse on: preparing, searching, fusing one slice. What came
before (reading, windows) is done while the images are looked at, and is printed too.

    python workflows/benchmarks/first_slice.py
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari.components import ViewerModel

from napari_plugin import sample
from napari_plugin.jobs import Cancelled
from napari_plugin.model import FusionModel

CASES: dict[str, Callable[[], list[Any]]] = {"sample": sample.brain, "sarcoma": sample.sarcoma}


def first_slice(case: str) -> dict[str, Any]:
    """Processor and wall seconds until a slice can be shown."""
    start = time.process_time()
    viewer = ViewerModel()
    for data, options, _ in CASES[case]():
        viewer.add_image(data, **options)
    model = FusionModel(viewer)
    model.windows_job().run()
    job, ready = model.fusion_job(), time.process_time()
    clicked, spent = time.perf_counter(), []

    def shown(early: Any) -> None:
        spent.append((time.process_time() - ready, time.perf_counter() - clicked))
        job.cancel()

    def stop(fraction: float, text: str) -> None:
        if spent:
            raise Cancelled

    job.run(stop, shown)
    processor, wall = spent[0]
    return {"case": case, "before": ready - start, "processor_s": processor, "wall_s": wall}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the rows here too")
    options = parser.parse_args()
    rows = [first_slice(case) for case in CASES]
    for row in rows:
        print(
            f"{row['case']:8} opened {row['before']:.1f} s; click to slice: "
            f"processor {row['processor_s']:.1f} s, wall {row['wall_s']:.1f} s"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
