"""Inputs of which every text names somebody, and the search for it in what was written."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import re
import socket
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from medfuse.cli.app import run
from tests._helpers.make import MARKER, SeriesPlan, save, slice_dataset

NAME, HOST, USER = "ZZNAME", "zzphi-host", "zzphi-user"
SHAPE, SPACING = (40, 36, 12), (2.0, 2.0, 4.0)
UIDS = ("1.2.826.0.1.3680043.8.498.4", "1.2.826.0.1.3680043.8.498.2", "1.2.826.0.1.3680043.8.498.7")
DATES = ("19460507", "1946-05-07", "20240305", "2024-03-05")
# Tags with a meaning that decides how an image is read, or whether.
DECISIVE = re.compile(r"Timezone|PhotometricInterp|Modality|Units|Presentation|Rescale|LUT|Pixel")
TEXT = {"LO": 64, "SH": 16, "PN": 64, "LT": 80, "ST": 80, "UT": 80, "UC": 80, "AE": 16, "CS": 16}


def mark_everything(dataset: Dataset) -> None:
    """Every text element of the dictionary that is not there yet; private and nested ones too."""
    for tag, (vr, _, name, retired, keyword) in DicomDictionary.items():
        is_plain = (
            keyword and not retired and tag >> 16 not in (0x0000, 0x0002, 0x0004, 0x5000, 0x6000)
        )
        decisive = vr == "CS" or DECISIVE.search(f"{name} {keyword}")
        if is_plain and vr in TEXT and tag not in dataset and not decisive:
            dataset.add_new(tag, vr, MARKER)
    dataset.BodyPartExamined = MARKER
    inner, outer = Dataset(), Dataset()
    inner.PatientName = inner.CodeMeaning = MARKER
    inner.private_block(0x0013, MARKER, create=True).add_new(1, "UN", MARKER.encode())
    outer.ReferencedPatientSequence = DicomSequence([inner])
    dataset.RequestAttributesSequence = DicomSequence([outer])
    block = dataset.private_block(0x0029, f"{MARKER} CSA", create=True)
    block.add_new(0x10, "OB", b"\0" + MARKER.encode() * 3 + b"\0\0")
    block.add_new(0x20, "SQ", [inner])
    dataset.PatientBirthDate, dataset.StudyDate = DATES[0], DATES[2]
    dataset.add_new(0xFFFCFFFC, "OB", MARKER.encode() + b"\0")
    dataset.file_meta.SourceApplicationEntityTitle = MARKER
    dataset.file_meta.PrivateInformationCreatorUID = "1.2.3"
    dataset.file_meta.PrivateInformation = MARKER.encode() + b"\0"
    dataset.preamble = (MARKER.encode() * 26)[:128]


def ball(scale: int) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    middle = (np.array(SHAPE) - 1) / 2
    distance = np.linalg.norm((index - middle) * SPACING, axis=-1)
    return (np.clip(1.3 - distance / 28, 0, 1) * scale + index[..., 0]).astype(np.int16)


def write_marked(folder: Path, modality: str, *, leave_out: int = -1, again: bool = False) -> None:
    """A series; of the same modality `again` another one, which shows more."""
    folder.mkdir(parents=True)
    series = UIDS[0] if modality == "MR" else UIDS[2]
    scale = 900 if modality == "MR" else 20000
    if again:
        series, scale = f"{series}.2", scale + 1000
    plan = SeriesPlan(ball(scale), modality, spacing=SPACING, series_uid=series)
    for k in range(SHAPE[2]):
        if k != leave_out:
            dataset = slice_dataset(plan, k)
            mark_everything(dataset)
            save(dataset, folder / f"{NAME}_{k:03d}.dcm")


def write_marked_nifti(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> None:
    affine = np.diag([*SPACING, 1.0]) if affine is None else affine
    image = nib.Nifti1Image(values.astype(np.float32), affine)
    header = image.header
    header.set_xyzt_units("mm")
    for name in ("descrip", "aux_file", "intent_name", "db_name"):
        header[name] = MARKER.encode()
    for code in (2, 6, 4):  # DICOM, comment, AFNI
        header.extensions.append(nib.nifti1.Nifti1Extension(code, MARKER.encode() * 4))
    nib.save(image, path)
    sidecar = {
        "PatientName": MARKER, "PatientID": f"{MARKER}-1", "InstitutionName": MARKER,
        "SeriesDescription": MARKER, "Modality": "PT", "Units": "SUV",
        "AcquisitionDateTime": f"{DATES[3]}T10:00:00", "Nested": {"OperatorsName": MARKER},
    }  # fmt: skip
    if "pet" in path.name:
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(sidecar))


def own_environment(home: Path) -> dict[str, str]:
    home.mkdir(parents=True, exist_ok=True)
    return {"HOME": str(home), "USER": USER, "LOGNAME": USER, "HOSTNAME": HOST, "COLUMNS": "400"}


def medfuse(*arguments: str | Path, cwd: Path) -> tuple[int, str]:
    """Run a command in this process, at a marked place in a marked environment."""
    words, printed = [str(argument) for argument in arguments], io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own_environment(cwd.parent / USER).items():
            patch.setenv(name, value)
        patch.setattr(socket, "gethostname", lambda: HOST)
        patch.setattr(sys, "argv", ["medfuse", *words])
        patch.chdir(cwd)
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = run(words)
    return code, printed.getvalue()


def contents(root: Path) -> Iterator[tuple[str, bytes]]:
    """Every file and whatever is packed in it."""
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        name, data = path.relative_to(root).as_posix(), path.read_bytes()
        yield f"name of {name}", name.encode()
        yield name, data
        if name.endswith(".gz"):
            yield f"{name} unpacked", gzip.decompress(data)
        if name.endswith(".png"):
            with Image.open(path) as picture:
                yield f"{name} chunks", repr(picture.info).encode()
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield from ((f"{name} {n}", archive.read(n)) for n in archive.namelist())
        if name.endswith(".html"):
            for packed in re.findall(rb"base64,([A-Za-z0-9+/=]+)", data):
                yield f"{name} picture", base64.b64decode(packed)
        if name.endswith(".json"):
            yield f"{name} unescaped", json.dumps(json.loads(data), ensure_ascii=False).encode()


def traces(root: Path, *words: str) -> list[str]:
    """Where a word is found, in any case and as UTF-16."""
    wanted = [word.lower() for word in words]
    codes = [w.encode(code) for w in wanted for code in ("utf-8", "utf-16-le", "utf-16-be")]
    return [name for name, data in contents(root) if any(w in data.lower() for w in codes)]
