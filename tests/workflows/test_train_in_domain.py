"""In-domain training: what the guide is shown, and that its weights can be used."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import medfuse
from medfuse.methods.base import get_method
from medfuse.pipeline import CaseSettings
from medfuse.study import Case

SCRIPT = Path(__file__).resolve().parents[2] / "workflows" / "train_in_domain.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("train_in_domain", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_guide_is_shown_what_it_will_see_when_fusing(script, sample_data, tmp_path):
    folder = sample_data / "study" / "sts001-aligned"
    settings = {"registration": "identity", "anatomical_modality": "CT"}
    case = Case("sts", folder / "ct.nii.gz", folder / "pet-suv-dicom", "", settings)
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
    count = script.write_slices(case, CaseSettings(), tmp_path)
    names = [{p.name for p in (tmp_path / part).iterdir()} for part in ("a", "b")]
    assert names[0] == names[1]
    assert len(names[0]) == count > 30
    ct = medfuse.load(folder / "ct.nii.gz", modality="CT")
    seen = medfuse.fuse(functional=ct, anatomical=ct, method="mean").anatomical
    slices = script.slices(seen, ct)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "b" / "sts020.png")), slices[20])


@pytest.mark.slow
def test_a_study_becomes_a_guide_that_fuses(script, sample_data, tmp_path):
    folder = sample_data / "study" / "sts001-aligned"
    rows = ["case,anatomical,functional,anatomical_modality,registration"]
    pairs = ("ct.nii.gz", "pet-suv-dicom", "CT"), ("mr-t1.nii.gz", "pet-suv-dicom", "MRI")
    for anatomical, functional, kind in pairs:
        rows.append(f"{kind},{folder / anatomical},{folder / functional},{kind},identity")
    manifest = tmp_path / "cases.csv"
    manifest.write_text("\n".join(rows))
    out = tmp_path / "mine.safetensors"
    assert script.main([str(manifest), "-o", str(out), "--steps", "1"]) == 0
    guide = get_method(out)
    a, b = (np.random.default_rng(k).random((1, 64, 64), np.float32) for k in (0, 1))
    weights = medfuse.fuse(functional=a, anatomical=b, method=guide).weights
    assert float(weights.min()) >= 0
    assert float(weights.max()) <= 1
    assert guide.info.card["data"]["name"] == "own study"
