"""Make sample_data/ from the open data sets it comes from, the same every time.

    python tools/make_sample_data.py --data ../shared/data -o sample_data

The sources and their licences are in sample_data/ATTRIBUTION.md. What is changed: slices are left
out, DICOM pixels are packed (RLE, lossless), contours are thinned, the brain PET is simulated.
README.md and ATTRIBUTION.md are written by hand and stay as they are.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import RLELossless
from simulate_brain import Simulation, write_case

RAW, ALIGNED = "volumes/sts001-pet-mr-dicom", "volumes/sts001-aligned-pet-ct-mr"
TEMPLATE = "volumes/mni-templates/cit168-t1-brain.nii.gz"

#: Slices that hold the tumour (GTV_Mass) with a margin.
MR_SLICES = slice(9, 33)
ALIGNED_SLICES = slice(8, 48)
#: Every n-th contour point is kept.
CONTOUR_STEP = 15
RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])

CASES = """\
case,anatomical,functional,registration,initial
sts001-pet-mr,sts001/mr-t2,sts001/pet-fdg,,sts001/start.txt
sts001-aligned-ct-mr,sts001-aligned/mr-t1.nii.gz,sts001-aligned/ct.nii.gz,identity,
sts001-aligned-pet-ct,sts001-aligned/ct.nii.gz,sts001-aligned/pet-suv-dicom,identity,
simulated-brain-pet-mr,simulated-brain/t1.nii.gz,simulated-brain/simulated-pet.nii.gz,,
"""

#: The thigh lies about so much steeper in the MR than in the PET, about the left-right axis.
START_TURN_DEG = 35.0
START_REMARK = """\
# A rough start, as by hand: the middles of the tumour laid on each other, turned by 35 degrees
# about the left-right axis. MR point -> PET point, RAS, mm.
"""


def pack_dicom(source: Path, target: Path, keep: slice) -> None:
    """Copy a series with its pixels in RLE; UIDs and all other values stay as they are."""
    target.mkdir(parents=True)
    for file in sorted(source.glob("*.dcm"))[keep]:
        dataset = pydicom.dcmread(file)
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(target / file.name)


def crop_nifti(source: Path, target: Path, keep: slice) -> None:
    """Leave out axial slices; values, spacing and world positions of the rest stay."""
    target.parent.mkdir(parents=True, exist_ok=True)
    content = nib.load(source).slicer[:, :, keep].to_bytes()
    target.write_bytes(gzip.compress(content, 9, mtime=0))


def contour_points(rtstruct: Path) -> dict[str, list[list[float]]]:
    """Thinned contour points (n, 3) by structure name, RAS mm."""
    dataset = pydicom.dcmread(rtstruct)
    names = {roi.ROINumber: str(roi.ROIName) for roi in dataset.StructureSetROISequence}
    found = {}
    for roi in dataset.ROIContourSequence:
        lps = [np.reshape(np.array(c.ContourData, float), (-1, 3)) for c in roi.ContourSequence]
        points = np.concatenate(lps)[::CONTOUR_STEP] * [-1, -1, 1]
        found[names[roi.ReferencedROINumber]] = np.round(points, 2).tolist()
    return found


def sts001_truth(raw: Path) -> dict[str, Any]:
    """Reference transform and tumour contours of the raw pair."""
    pet_to_mr = np.loadtxt(raw / "pet_to_mr_ras.txt")
    _check_frames(raw, pet_to_mr)
    return {
        "case": "sts001-pet-mr",
        "fixed": "mr-t2",
        "moving": "pet-fdg",
        "moving_from_fixed_ras_mm": np.linalg.inv(pet_to_mr).round(9).tolist(),
        "note": "A clinical rigid fusion, recovered to about 0.05 mm: a silver standard, not "
        "fiducial-based. The contours were drawn in either frame, point i of one is not point i "
        "of the other.",
        "contours_ras_mm": {
            "mr-t2": contour_points(raw / "rtstruct/mr-t2-gtv.dcm"),
            "pet-fdg": contour_points(raw / "rtstruct/pet-gtv.dcm"),
        },
    }


def write_start(path: Path, truth: dict[str, Any]) -> None:
    """Write a rough start of the registration as 4x4 text."""
    mr, pet = (
        np.mean(truth["contours_ras_mm"][frame]["GTV_Mass"], axis=0)
        for frame in ("mr-t2", "pet-fdg")
    )
    cosine, sine = np.cos(np.deg2rad(START_TURN_DEG)), np.sin(np.deg2rad(START_TURN_DEG))
    matrix = np.eye(4)
    matrix[1:3, 1:3] = [[cosine, -sine], [sine, cosine]]
    matrix[:3, 3] = np.round(pet - matrix[:3, :3] @ mr)
    rows = "\n".join(" ".join(f"{value:.9f}" for value in row) for row in matrix)
    path.write_text(f"{START_REMARK}{rows}\n", encoding="utf-8")


def _check_frames(raw: Path, ras: NDArray[np.float64]) -> None:
    lps = np.loadtxt(raw / "pet_to_mr_lps.txt")
    if not np.allclose(RAS_FROM_LPS @ lps @ RAS_FROM_LPS, ras, atol=1e-6):
        raise SystemExit("pet_to_mr_ras.txt and pet_to_mr_lps.txt contradict each other")


def make(data: Path, out: Path) -> None:
    """Write study/ and truth/ anew."""
    study, truth = out / "study", out / "truth"
    for folder in (study, truth):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    (study / "cases.csv").write_text(CASES, encoding="utf-8")
    raw, aligned = data / RAW, data / ALIGNED
    pack_dicom(raw / "pet-fdg", study / "sts001/pet-fdg", slice(None))
    pack_dicom(raw / "mr-t2", study / "sts001/mr-t2", MR_SLICES)
    for name in ("mr-t1.nii.gz", "ct.nii.gz"):
        crop_nifti(aligned / name, study / "sts001-aligned" / name, ALIGNED_SLICES)
    copy_folder(aligned / "pet-suv-dicom", study / "sts001-aligned/pet-suv-dicom")
    brain = study / "simulated-brain"
    brain.mkdir()
    shutil.copyfile(data / TEMPLATE, brain / "t1.nii.gz")
    write_case(brain / "t1.nii.gz", brain, truth, Simulation())
    pair = sts001_truth(raw)
    write_start(study / "sts001/start.txt", pair)
    text = json.dumps(pair, separators=(",", ":"))
    (truth / "sts001-pet-mr.json").write_text(text + "\n", encoding="utf-8")


def copy_folder(source: Path, target: Path) -> None:
    """Copy the files of a folder, not their times or permissions."""
    target.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        shutil.copyfile(file, target / file.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds volumes/")
    parser.add_argument("-o", "--out", type=Path, required=True, help="sample_data")
    arguments = parser.parse_args()
    make(arguments.data, arguments.out)


if __name__ == "__main__":
    main()
