"""Time and memory of reading DICOM: `medfuse info` and `medfuse.load`, by the number of frames.

Two forms: one enhanced multi-frame file with four time points, and as many single files. Each
measurement is a process of its own; its CPU time and peak memory are the whole process's, import
of torch included.

    python workflows/benchmarks/reading.py --json reading.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

TIMES = 4
STEPS = {
    "info": "from medfuse.imaging.reader import describe; describe(path)",
    "load": "import medfuse; medfuse.load(path, frame=frame)",
}
CHILD = """
import json, resource, sys, time
path, frame = sys.argv[1], json.loads(sys.argv[2])
begun = time.monotonic()
{step}
used = resource.getrusage(resource.RUSAGE_SELF)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({{"seconds": time.monotonic() - begun, "cpu_s": used.ru_utime + used.ru_stime,
                   "peak_gb": int(peak.split()[1]) / 2**20}}))
"""


def main() -> None:
    """Run the benchmark and print its table."""
    options = _options()
    report: dict[str, Any] = {"size": options.size, "rows": []}
    with tempfile.TemporaryDirectory() as scratch:
        for form, counts in (("enhanced", options.frames), ("files", options.files)):
            for count in counts:
                folder = Path(scratch) / f"{form}-{count}"
                make = write_enhanced if form == "enhanced" else write_files
                make(folder, count, options.size)
                for step in STEPS:
                    row = {
                        "form": form,
                        "frames": count,
                        "step": step,
                        **_measure(folder, step, form),
                    }
                    report["rows"].append(row)
                    print(
                        f"{form:9} {count:6} {step:5} CPU {row['cpu_s']:6.1f} s  wall "
                        f"{row['seconds']:6.1f} s  peak {row['peak_gb']:5.2f} GB",
                        flush=True,
                    )
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _measure(folder: Path, step: str, form: str) -> dict[str, float]:
    frame = 0 if form == "enhanced" else None
    code = CHILD.format(step=STEPS[step])
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), json.dumps(frame)],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def write_enhanced(folder: Path, frames: int, size: int) -> None:
    """One enhanced MR file with four time points, sequences as scanners nest them."""
    folder.mkdir(parents=True)
    dataset = _dataset(EnhancedMRImageStorage)
    slices = frames // TIMES
    dataset.NumberOfFrames = slices * TIMES
    shared = Dataset()
    shared.PixelMeasuresSequence = [_item(PixelSpacing=[2, 2], SliceThickness=2)]
    shared.PlaneOrientationSequence = [_item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [
        _group(t, z) for t in range(TIMES) for z in range(slices)
    ]
    _set_pixels(dataset, (slices * TIMES, size, size))
    dataset.save_as(folder / "all.dcm", enforce_file_format=True)


def _group(t: int, z: int) -> Dataset:
    group = Dataset()
    group.PlanePositionSequence = [_item(ImagePositionPatient=[0, 0, 2.0 * z])]
    group.MREchoSequence = [_item(EffectiveEchoTime=3.0)]
    group.FrameContentSequence = [
        _item(TemporalPositionIndex=t + 1, InStackPositionNumber=z + 1, StackID="1")
    ]
    group.PixelValueTransformationSequence = [_item(RescaleSlope=1, RescaleIntercept=0)]
    group.MRTimingAndRelatedParametersSequence = [_item(RepetitionTime=2000, FlipAngle=9)]
    group.MRImageFrameTypeSequence = [_item(FrameType=["ORIGINAL", "PRIMARY", "M", "NONE"])]
    return group


def write_files(folder: Path, frames: int, size: int) -> None:
    """As many single files of one volume."""
    folder.mkdir(parents=True)
    dataset = _dataset(MRImageStorage)
    dataset.PixelSpacing, dataset.ImageOrientationPatient = [2, 2], [1, 0, 0, 0, 1, 0]
    _set_pixels(dataset, (size, size))
    for k in range(frames):
        dataset.InstanceNumber, dataset.ImagePositionPatient = k + 1, [0, 0, 0.5 * k]
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(folder / f"{k:06}.dcm", enforce_file_format=True)


def _dataset(sop_class: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.Modality, dataset.PatientID = "MR", "benchmark"
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "M", "NONE"]
    return dataset


def _set_pixels(dataset: Dataset, shape: tuple[int, ...]) -> None:
    dataset.Rows, dataset.Columns = shape[-2:]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation, dataset.SamplesPerPixel = 0, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    values = np.random.default_rng(0).integers(0, 900, shape).astype("<u2")
    dataset.PixelData = values.tobytes()


def _item(**tags: object) -> Dataset:
    item = Dataset()
    for keyword, value in tags.items():
        setattr(item, keyword, value)
    return item


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="*", default=[500, 1000, 2000])
    parser.add_argument("--files", type=int, nargs="*", default=[1000, 10000])
    parser.add_argument("--size", type=int, default=128, help="rows and columns")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
