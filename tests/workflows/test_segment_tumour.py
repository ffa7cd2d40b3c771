"""Contours become masks, folds do not leak, and every input is judged alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

import medfuse


def circle(radius: float, *, z: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(200, z)], axis=1)


def test_a_contour_within_another_is_a_hole_in_its_slice(script):
    affine = np.diag([0.5, 0.8, 4.0, 1.0])
    affine[:3, 3] = [-20, -20, -8]
    image = MetaTensor(torch.zeros(1, 80, 50, 5), affine=affine)
    mask = script.rasterize([circle(12, z=4.0), circle(5, z=4.0)], image)[0]
    assert mask.amax(dim=(0, 1)).tolist() == [0, 0, 0, 1, 0]
    area = float(mask.sum()) * 0.5 * 0.8
    assert area == pytest.approx(np.pi * (12**2 - 5**2), rel=0.02)
    with pytest.raises(SystemExit, match="do not lie in slices"):
        script.rasterize([circle(12, z=400.0)], image)


def test_real_contours_fill_the_volume_that_they_enclose(script, shared_data):
    folder = shared_data / "volumes/sts001-pet-mr-dicom"
    contours = script.read_contours(folder / "rtstruct/mr-t2-gtv.dcm", "GTV_Mass")
    mr = medfuse.load(folder / "mr-t2")
    mask = script.rasterize(contours, mr)
    areas = [np.linalg.norm(np.cross(c, np.roll(c, -1, axis=0)).sum(axis=0)) / 2 for c in contours]
    step = float(np.linalg.norm(np.asarray(mr.affine)[:3, 2]))
    voxel = abs(np.linalg.det(np.asarray(mr.affine)[:3, :3]))
    assert float(mask.sum()) * voxel == pytest.approx(sum(areas) * step, rel=0.01)
    assert int((mask[0].amax(dim=(0, 1)) > 0).sum()) == len(contours) == 20
    with pytest.raises(SystemExit, match="no 'Liver', only GTV_Mass, GTV_Edema"):
        script.read_contours(folder / "rtstruct/mr-t2-gtv.dcm", "Liver")


def made_up_case(script, name: str, *, slices: int = 12):
    generator = torch.Generator().manual_seed(len(name))
    images = {
        channel: torch.rand((slices, 3 if channel == "fused" else 1, 96, 96), generator=generator)
        for channel in ("mr", "pet", "fused", "luminance")
    }
    mask = torch.zeros(slices, 1, 96, 96)
    mask[2:-2, :, 30:60, 30:60] = 1
    return script.Slices(name, images, mask, step_mm=4.0)


def test_slices_near_those_that_are_judged_are_not_learned_from(script):
    case = made_up_case(script, "only", slices=20)
    found = list(script.folds([case]))
    judged = [k for fold in found for _, k in fold.judge]
    assert judged == list(range(2, 18)), "every slice of the tumour once"
    for fold in found:
        distance = min(abs(k - j) for _, k in fold.learn for _, j in fold.judge)
        assert distance * case.step_mm > script.GAP_MM


def test_of_several_cases_each_is_left_out_once(script):
    cases = [made_up_case(script, name) for name in ("a", "bb", "ccc")]
    found = list(script.folds(cases))
    assert [fold.name for fold in found] == ["a", "bb", "ccc"]
    for number, fold in enumerate(found):
        assert {c for c, _ in fold.judge} == {number}
        assert {c for c, _ in fold.learn} == {0, 1, 2} - {number}


def test_every_input_is_trained_on_the_same_slices_and_is_a_row(script, monkeypatch):
    monkeypatch.setattr(script, "BATCH", 2)
    rows = script.run([made_up_case(script, "only")], seeds=1, steps=1)
    assert [row["input"] for row in rows] == script.BLOCKS * list(script.INPUTS)
    assert all(0 <= row["dice"] <= 1 for row in rows)
    lines = script.table(rows).splitlines()
    assert len(lines) == 2 + len(script.INPUTS)
    assert lines[2 + list(script.INPUTS).index(script.RIVAL)].endswith("+0.000 (SD 0.000) |")


def test_a_training_can_be_repeated_to_the_bit(script):
    case = made_up_case(script, "only", slices=4)
    first, again = (script.train(case.images["mr"], case.mask, seed=3, steps=2) for _ in range(2))
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
