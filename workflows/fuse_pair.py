"""Fuse one pair with MONAI transforms. Copy this file and change what you need.

    python workflows/fuse_pair.py                                 # a case of the sample study
    python workflows/fuse_pair.py t1.nii.gz pet_dicom/ -o fused

Writes the same result folder as ``medfuse fuse``. Research use only.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from monai.transforms import Compose, LoadImaged

from medfuse.errors import MedfuseError
from medfuse.imaging.monai_reader import ClinicalReader
from medfuse.transforms import AuditFusiond, FuseLuminanced, RegisterRigidd, SaveFusiond

STUDY = Path(__file__).resolve().parent.parent / "sample_data" / "study"


def workflow(out: Path, *, registration: str, method: str) -> Compose:
    """Chain of transforms from two paths to a result folder."""
    return Compose(
        [
            # Says why it refuses a scan; MONAI's own readers would load it all the same. NIfTI
            # files do not name their modality: ClinicalReader(modality="PET", values_in="SUVbw").
            LoadImaged(
                ["anatomical", "functional"], reader=ClinicalReader, ensure_channel_first=True
            ),
            RegisterRigidd("functional", key_dst="anatomical", method=registration),
            FuseLuminanced("anatomical", "functional", method=method),
            AuditFusiond(),
            SaveFusiond(output_dir=out),
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the workflow on one pair; returns the exit code."""
    options = _parse(arguments)
    chain = workflow(options.out, registration=options.registration, method=options.method)
    case: dict[str, Any] = {
        "case": options.case,
        "anatomical": options.anatomical,
        "functional": options.functional,
    }
    if options.initial:
        case["initial"] = options.initial
    try:
        done = chain(case)
    except RuntimeError as error:  # MONAI wraps what a transform raises
        refusal = find_refusal(error)
        if refusal is None:
            raise
        print(refusal, file=sys.stderr)
        return 1
    for check in done["audit"]["checks"]:
        print(f"{check['verdict']:5} {check['title']}: {check['value']:.3g} {check['unit']}")
    print(f"audit: {done['audit']['verdict']}; results in {done['result_folder']}")
    return 0


def find_refusal(error: BaseException | None) -> MedfuseError | None:
    """Find the one-line error of medfuse behind an error of MONAI."""
    while error is not None and not isinstance(error, MedfuseError):
        error = error.__cause__
    return error


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    sample = STUDY / "simulated-brain"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("anatomical", nargs="?", default=sample / "t1.nii.gz", type=Path)
    parser.add_argument("functional", nargs="?", default=sample / "simulated-pet.nii.gz", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("fused"))
    parser.add_argument("--case", default="case")
    parser.add_argument("--initial", type=Path, help="4x4 text, fixed -> moving point, RAS mm")
    parser.add_argument("--registration", choices=["auto", "rigid", "identity"], default="auto")
    parser.add_argument("--method", default="swift", help="a guide, or a .safetensors file")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
