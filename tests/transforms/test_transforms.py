"""MONAI transforms: the same results as the library, in MONAI's own conventions."""

from __future__ import annotations

import inspect
import json
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import (
    Compose,
    Flipd,
    Invertd,
    LoadImaged,
    MapTransform,
    ResampleToMatchd,
    SpatialCropd,
)
from monai.transforms.inverse import InvertibleTransform
from torch.utils.data import default_collate

import medfuse
from medfuse import transforms as mt
from medfuse.case.pipeline import CaseSettings, run_case
from medfuse.errors import MedfuseError, SeriesError, SuvUnavailable, UsageError
from medfuse.imaging.monai_reader import ClinicalReader
from medfuse.results.folder import is_complete
from medfuse.transforms.facts import audit_of
from medfuse.verification.verify import verify

IMAGES = ("fused", "luminance", "weights", "share")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def chain(out, *, method="mean", registration="identity", report=False) -> Compose:
    """The chain of the documentation."""
    return Compose(
        [
            LoadImaged(["mri", "pet"], reader=ClinicalReader, ensure_channel_first=True),
            mt.RegisterRigidd("pet", key_dst="mri", method=registration, preset="fast"),
            mt.FuseLuminanced("mri", "pet", method=method),
            mt.AuditFusiond(),
            mt.SaveFusiond(output_dir=out, report=report),
        ]
    )


@pytest.fixture(scope="module")
def pair(sample_data) -> dict[str, str]:
    """CT and PET of one person, aligned."""
    folder = sample_data / "study" / "sts001-aligned"
    return {
        "mri": str(folder / "ct.nii.gz"),
        "pet": str(folder / "pet-suv-dicom"),
        "case": "sts001",
    }


@pytest.fixture(scope="module")
def fused(pair, tmp_path_factory):
    """The chain, run once on the aligned pair with the default guide."""
    out = tmp_path_factory.mktemp("fused")
    return chain(out, method="swift", report=True)(pair), out


def refusal(error: BaseException) -> BaseException:
    """What lies behind MONAI's "applying transform ..."."""
    while not isinstance(error, MedfuseError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def volume(shape=(10, 12, 8), *, spacing=(2.0, 1.5, 3.0), seed=0, **meta) -> MetaTensor:
    rng = np.random.default_rng(seed)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-9.0, 4.0, 7.0]
    values = torch.from_numpy(rng.random((1, *shape), np.float32))
    return MetaTensor(values, affine=torch.from_numpy(affine), meta=meta)


# --- colour ---------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([(5, 4), (3, 4, 2)]))
def test_rgb_survives_the_way_to_ycbcr_and_back(seed, shape):
    rgb = torch.from_numpy(np.random.default_rng(seed).random((3, *shape), np.float32))
    chain = Compose([mt.RGBToYCbCrd("x"), mt.YCbCrToRGBd("x")])
    assert torch.allclose(chain({"x": rgb})["x"].as_tensor(), rgb, atol=1e-6)


def test_colouring_first_gives_the_picture_that_fusing_the_scalar_gives():
    scalar, mri = volume(unit="SUVbw", modality="PET"), volume(seed=1)
    scalar *= 6
    d = Compose([mt.ColorizeFunctionald("pet"), mt.FuseLuminanced("mri", "pet", method="mean")])(
        {"pet": scalar, "mri": mri}
    )
    direct = medfuse.fuse(functional=scalar, anatomical=mri, method="mean")
    assert torch.allclose(d["fused"].as_tensor(), direct.rgb.as_tensor(), atol=1e-5)


def test_colour_transforms_keep_geometry_facts_and_history():
    image = volume(unit="SUVbw", modality="PET")
    image.applied_operations = [{"class": "Spacing"}]
    d = Compose([mt.ColorizeFunctionald("a"), mt.RGBToYCbCrd("a"), mt.YCbCrToRGBd("a")])(
        {"a": image}
    )
    assert torch.equal(d["a"].affine, image.affine)
    assert d["a"].meta["unit"] == "SUVbw"
    assert d["a"].applied_operations == [{"class": "Spacing"}]
    assert d["a"].shape == (3, 10, 12, 8)


def test_values_without_a_unit_outside_0_to_1_are_not_coloured():
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\], got 0 to 7"):
        mt.ColorizeFunctional()(np.array([[[0.0, 7.0]]], np.float32))
    coloured = mt.ColorizeFunctional("gray", window=(0, 7))(np.array([[[0.0, 7.0]]], np.float32))
    assert torch.allclose(coloured[:, 0].T, torch.tensor([[0.0] * 3, [1.0] * 3]))


@pytest.mark.parametrize(
    ("options", "message"), [({"colormap": "jet"}, "choose one of"), ({"window": (3, 3)}, "rise")]
)
def test_impossible_colours_are_refused_when_the_chain_is_built(options, message):
    with pytest.raises(ValueError, match=message):
        mt.ColorizeFunctionald("pet", **options)


# --- units ----------------------------------------------------------------------------------


def test_to_suv_lets_suv_pass_untouched():
    pet = volume(unit="SUVbw", modality="PET")
    assert mt.ToSUVd("pet")({"pet": pet})["pet"] is pet


def test_to_suv_names_what_the_header_lacks():
    pet = volume(
        unit="Bq/ml", suv={"refusal": "PatientWeight (0010,1030) is missing"}, source={"name": "p"}
    )
    with pytest.raises(SuvUnavailable, match=r"PatientWeight \(0010,1030\) is missing"):
        mt.ToSUV()(pet)
    with pytest.raises(SuvUnavailable, match=r"in counts .* no DICOM header"):
        mt.ToSUV()(volume(unit="counts"))


# --- registration ---------------------------------------------------------------------------


def test_a_mask_drawn_in_fused_space_comes_back_to_the_functional_grid(sample_data, tmp_path):
    """Known motion (7, -5, 11 degrees; 9, -14, 21 mm); the mask is a ball in the PET's world."""
    study = sample_data / "study" / "simulated-brain"
    truth = json.loads((sample_data / "truth" / "simulated-brain.json").read_text())
    pet_from_t1 = np.array(truth["moving_from_fixed_ras_mm"])
    np.savetxt(tmp_path / "start.txt", pet_from_t1)
    register = mt.RegisterRigidd("pet", key_dst="mri", method="identity")
    pet = medfuse.load(study / "simulated-pet.nii.gz")
    centre = np.array([-30.0, 26.0, 20.0])  # of the hot lesion, in the T1's world
    d = register(
        {
            "mri": medfuse.load(study / "t1.nii.gz", modality="MRI"),
            "pet": pet,
            "initial": tmp_path / "start.txt",
        }
    )
    d["mask"] = ball_in(d["pet"], centre, radius_mm=12.0)
    back = Invertd("mask", transform=register, orig_keys="pet")(d)["mask"]
    assert back.shape == pet.shape
    assert torch.allclose(back.affine, pet.affine)
    expected = ball_in(pet, (pet_from_t1 @ [*centre, 1])[:3], radius_mm=12.0)
    assert dice(back, expected) > 0.95
    assert set(back.unique().tolist()) == {0.0, 1.0}


def ball_in(image: MetaTensor, centre: np.ndarray, *, radius_mm: float) -> MetaTensor:
    index = np.stack(np.meshgrid(*map(np.arange, image.shape[1:]), indexing="ij"), axis=-1)
    affine = np.asarray(image.affine)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    inside = np.linalg.norm(world - centre, axis=-1) <= radius_mm
    return MetaTensor(torch.from_numpy(inside[None].astype(np.float32)), affine=image.affine)


def dice(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(2 * (a.as_tensor() * b.as_tensor()).sum() / (a.sum() + b.sum()))


def test_labels_follow_the_image_without_being_blurred():
    pet, mri = (
        volume(modality="PET"),
        volume((20, 20, 20), spacing=(1.1, 1.0, 1.4), seed=1, modality="MRI"),
    )
    label = MetaTensor((pet.as_tensor() > 0.5).float(), affine=pet.affine)
    d = mt.RegisterRigidd(["pet", "label"], "mri", mode=["bilinear", "nearest"], method="identity")(
        {"pet": pet, "label": label, "mri": mri}
    )
    assert d["label"].shape == d["pet"].shape == (1, 20, 20, 20)
    assert set(d["label"].unique().tolist()) == {0.0, 1.0}


def test_history_before_registration_can_be_undone_after_it():
    pet, mri = (
        volume(modality="PET"),
        volume((20, 20, 20), spacing=(1.1, 1.0, 1.4), seed=1, modality="MRI"),
    )
    both = Compose(
        [
            SpatialCropd("pet", roi_start=[2, 3, 1], roi_end=[9, 11, 7]),
            mt.RegisterRigidd("pet", key_dst="mri", method="identity", accept_suspect=True),
        ]
    )
    d = both({"pet": pet, "mri": mri})
    assert [step["class"] for step in d["pet"].applied_operations] == [
        "SpatialCrop",
        "RegisterRigidd",
    ]
    back = both.inverse(d)
    assert back["pet"].shape == pet.shape
    assert torch.allclose(back["pet"].affine, pet.affine)
    assert back["pet"].applied_operations == []


def test_two_patients_are_neither_registered_nor_fused():
    pet = volume(source={"patient": "a", "name": "pet"})
    mri = volume(source={"patient": "b", "name": "mr"})
    for step in (
        mt.RegisterRigidd("pet", "mri", method="identity"),
        mt.FuseLuminanced("mri", "pet"),
    ):
        with pytest.raises(SeriesError, match=r"mr and pet: the headers name two .* patients"):
            step({"pet": pet, "mri": mri})


@pytest.mark.parametrize(
    ("step", "data"),
    [
        (mt.ToSUVd("x", allow_missing_keys=True), {"y": 1}),
        (mt.ColorizeFunctionald("x", allow_missing_keys=True), {"y": 1}),
        (mt.RegisterRigidd("x", "y", allow_missing_keys=True), {"y": 1}),
        (mt.RegisterRigidd("x", "y", allow_missing_keys=True), {"x": 1}),
        (mt.FuseLuminanced("x", "y", allow_missing_keys=True), {"y": 1}),
        (mt.AuditFusiond("x", allow_missing_keys=True), {"y": 1}),
        (mt.SaveFusiond("x", allow_missing_keys=True), {"y": 1}),
    ],
)
def test_missing_keys_are_skipped_where_that_is_allowed_and_named_where_not(step, data):
    assert step(data) == data
    step.allow_missing_keys = False
    with pytest.raises(KeyError, match=r"x|y"):
        step(data)


# --- fusion and audit -----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(16, 20), (12, 10, 6)])
def test_the_fusion_transform_gives_what_the_library_call_gives(shape):
    a, b = (np.random.default_rng(s).random((1, *shape), np.float32) for s in (0, 1))
    d = mt.FuseLuminanced(method="saliency", window=(0.1, 0.8))({"functional": a, "anatomical": b})
    direct = medfuse.fuse(functional=a, anatomical=b, method="saliency", window=(0.1, 0.8))
    for key, expected in zip(
        IMAGES, (direct.rgb, direct.luminance, direct.weights, direct.share), strict=True
    ):
        assert torch.equal(torch.as_tensor(d[key].as_tensor()), expected)
    assert d["fusion"]["guide"]["name"] == "saliency"
    assert d["fusion"]["window"]["high"] == 0.8


def test_what_was_cut_from_the_anatomical_image_can_be_put_back_on_the_result():
    pet, mri = volume(), volume(seed=1)
    crop = SpatialCropd(["mri", "pet"], roi_start=[2, 3, 1], roi_end=[9, 11, 7])
    d = Compose([crop, mt.FuseLuminanced("mri", "pet", method="mean")])({"mri": mri, "pet": pet})
    back = Invertd("fused", transform=crop, orig_keys="mri", nearest_interp=False)(d)["fused"]
    assert back.shape == (3, 10, 12, 8)
    assert torch.equal(back.as_tensor()[:, 2:9, 3:11, 1:7], d["fused"].as_tensor())


def test_what_monai_has_put_off_is_done_before_registration_and_fusion():
    """Compose(lazy=True): one interpolation for MONAI's steps, then ours as they always are."""
    pair = {"pet": volume(), "mri": volume((20, 20, 20), spacing=(1.1, 1.0, 1.4), seed=1)}
    steps = [
        SpatialCropd("mri", roi_start=[2, 3, 1], roi_end=[18, 17, 15]),
        Flipd("mri", spatial_axis=0),
        mt.RegisterRigidd("pet", "mri", method="identity", accept_suspect=True),
        mt.FuseLuminanced("mri", "pet", method="mean"),
    ]
    now, late = (Compose(steps, lazy=lazy)(pair) for lazy in (False, True))
    assert late["mri"].pending_operations == []
    assert torch.allclose(late["mri"].affine, now["mri"].affine)
    for key in ("mri", "pet", "fused"):
        assert torch.allclose(late[key].as_tensor(), now[key].as_tensor(), atol=1e-5), key


def test_aligned_volumes_may_be_matched_by_monai_itself():
    pet = volume()
    pair = {"pet": pet, "mri": volume((20, 20, 20), spacing=(1.1, 1.0, 1.4), seed=1)}
    matched = ResampleToMatchd("pet", key_dst="mri", padding_mode="zeros", dtype=None)
    rest = [mt.FuseLuminanced("mri", "pet", method="mean"), mt.AuditFusiond()]
    theirs = Compose([matched, *rest])(pair)
    register = mt.RegisterRigidd("pet", "mri", method="identity", accept_suspect=True)
    ours = Compose([register, *rest])(pair)
    inside = (slice(None), slice(3, 14), slice(3, 14), slice(3, 14))
    difference = (theirs["pet"].as_tensor() - ours["pet"].as_tensor())[inside].abs()
    assert float(difference.max()) < 1e-5
    assert theirs["audit"]["verdict"] == ours["audit"]["verdict"]
    back = Invertd("fused", transform=matched, orig_keys="pet")(theirs)["fused"]
    assert back.shape[1:] == pet.shape[1:]


def test_several_fusions_of_one_pair_live_side_by_side():
    pair = {"mri": volume(), "pet": volume(seed=1)}
    names = ("rgb_key", "luminance_key", "weights_key", "share_key", "fusion_key")
    both = [
        mt.FuseLuminanced("mri", "pet", method=m, **{n: f"{m}_{n}" for n in names})
        for m in ("mean", "anatomical-luma")
    ]
    d = Compose([*both, mt.AuditFusiond("mean_fusion_key", audit_key="audit_mean")])(pair)
    assert float(d["mean_weights_key"].mean()) == 0.5
    assert float(d["anatomical-luma_weights_key"].mean()) == 1.0
    assert d["audit_mean"]["verdict"] in ("pass", "look")


def test_images_changed_after_fusion_are_neither_audited_nor_saved(tmp_path):
    fusion = mt.FuseLuminanced("mri", "pet", method="mean")
    d = fusion({"mri": volume(), "pet": volume(seed=1)})
    d["fused"] = d["fused"] * 0.5
    for step in (mt.AuditFusiond(), mt.SaveFusiond(output_dir=tmp_path)):
        with pytest.raises(UsageError, match="E_CHANGED"):
            step(d)
    assert not any(tmp_path.iterdir())


def test_the_audit_judges_registration_and_unit_too(fused):
    d, _ = fused
    checks = {check["id"]: check for check in d["audit"]["checks"]}
    assert checks["registration"]["verdict"] == "pass"
    assert checks["unit"]["text"].startswith("PET in SUVbw")
    assert checks["linearity"]["verdict"] == "pass"


# --- the whole chain ------------------------------------------------------------------------


def files(folder) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def test_the_chain_writes_what_medfuse_fuse_writes_byte_for_byte(fused, pair, tmp_path):
    d, out = fused
    settings = CaseSettings(registration="identity", preset="fast")
    run_case(Path(pair["mri"]), Path(pair["pet"]), tmp_path / "c", settings, case="sts001")
    ours, theirs = files(out / "sts001"), files(tmp_path / "c")
    assert ours.keys() == theirs.keys()
    told_apart = {"manifest.json", "provenance.json", "provenance.prov.json", "report.html"}
    assert sum(name.endswith(".nii.gz") for name in theirs) == 6
    for name in theirs.keys() - told_apart:
        assert ours[name] == theirs[name], name
    assert d["result_folder"] == str((out / "sts001").resolve())


@pytest.mark.slow
def test_the_chain_registers_as_medfuse_fuse_does(sample_data, tmp_path):
    folder = sample_data / "study" / "simulated-brain"
    paths = folder / "t1.nii.gz", folder / "simulated-pet.nii.gz"
    case = {"mri": str(paths[0]), "pet": str(paths[1]), "case": "brain"}
    chain(tmp_path, registration="auto", report=True)(case)
    settings = CaseSettings(method="mean", preset="fast")
    run_case(*paths, tmp_path / "c", settings, case="brain")
    ours, theirs = files(tmp_path / "brain"), files(tmp_path / "c")
    names = [n for n in theirs if n.endswith((".nii.gz", ".tfm")) or n == "audit.json"]
    assert len(names) == 8
    assert [n for n in names if ours[n] != theirs[n]] == []
    assert b'"method": "rigid"' in theirs["transform.json"]
    assert [f for f in verify(tmp_path / "brain", inputs=folder) if not f.ok] == []


def test_provenance_of_the_chain_says_what_was_done_to_what(fused):
    record = json.loads((fused[1] / "sts001" / "provenance.json").read_text())
    assert record["inputs"]["functional"]["shape"] == [41, 43, 59]  # as loaded, not as resampled
    assert record["inputs"]["anatomical"]["sha256"]
    assert [step["name"] for step in record["steps"]][:2] == ["register", "resample"]
    assert record["guide"]["name"].startswith("swift")
    assert len(record["guide"]["weights_sha256"]) == 64


def test_result_folders_of_the_chain_are_whole_and_free_of_paths(fused, sample_data):
    folder = fused[1] / "sts001"
    assert is_complete(folder, rehash=True)
    text = b"".join(p.read_bytes() for p in folder.glob("*.json"))
    assert str(sample_data).encode() not in text
    assert str(fused[1]).encode() not in text


def test_medfuse_verify_makes_the_result_of_the_chain_again(fused, pair):
    findings = verify(fused[1] / "sts001", inputs=Path(pair["mri"]).parent)
    assert len(findings) > 10
    assert [f for f in findings if not f.ok] == []


def test_a_data_loader_with_two_workers_makes_the_same_files(fused, pair, tmp_path):
    cases = [{**pair, "case": name} for name in ("one", "two")]
    loader = DataLoader(
        Dataset(cases, chain(tmp_path, method="swift")), batch_size=1, num_workers=2
    )
    batches = list(loader)
    assert [b["case"] for b in batches] == [["one"], ["two"]]
    assert batches[0]["fused"].shape == (1, *fused[0]["fused"].shape)
    assert batches[0]["audit"]["verdict"] == [fused[0]["audit"]["verdict"]]
    expected = files(fused[1] / "sts001")
    for name in ("one", "two"):
        made = {n: c for n, c in files(tmp_path / name).items() if n.endswith((".nii.gz", ".tfm"))}
        assert len(made) == 7
        assert all(content == expected[n] for n, content in made.items())


def test_audits_of_two_cases_can_be_batched():
    """They hold hot spots and slices of their own number."""
    made = []
    for seed, size in ((0, 64), (1, 96)):
        functional, anatomical = torch.rand(
            (2, 1, size, size), generator=torch.Generator().manual_seed(seed)
        )
        fuse = mt.FuseLuminanced(method="saliency", bounded=True)
        made.append(fuse({"anatomical": anatomical, "functional": functional}))
        fusion = made[-1]["fusion"]
        assert audit_of(fusion["audit"])["bounded"].details["maximum"] > 0
        assert made[-1]["bound_change"].shape == (1, size, size)
    batch = default_collate([{"audit": m["fusion"]["audit"]} for m in made])
    assert len(batch["audit"]["verdict"]) == 2


def test_the_chain_survives_pickling(fused, pair, tmp_path):
    again = pickle.loads(pickle.dumps(chain(tmp_path, method="swift")))(pair)
    for key in IMAGES:
        assert torch.equal(again[key].as_tensor(), fused[0][key].as_tensor())


def test_a_scan_that_the_reader_refuses_is_not_read_by_another_reader(pair, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        chain(tmp_path)({**pair, "pet": str(tmp_path)})
    assert isinstance(refusal(caught.value), MedfuseError)


@pytest.mark.parametrize("name", ["../escape", "a/b", "", "..", "a\\b"])
def test_case_names_cannot_leave_the_output_folder(fused, tmp_path, name):
    d = {**fused[0], "case": name}
    with pytest.raises(UsageError, match="E_CASE_NAME"):
        mt.SaveFusiond(output_dir=tmp_path / "out")(d)
    assert not any(tmp_path.iterdir())


def test_cases_without_a_name_are_named_by_their_content(fused, tmp_path):
    nameless = {k: v for k, v in fused[0].items() if k != "case"}
    save = mt.SaveFusiond(output_dir=tmp_path, report=False)
    first, second = (save(nameless)["result_folder"] for _ in range(2))
    assert first == second
    assert re.fullmatch(r"case-[0-9a-f]{8}", Path(first).name)


def test_saving_says_which_step_is_missing(tmp_path):
    d = mt.FuseLuminanced("mri", "pet", method="mean")({"mri": volume(), "pet": volume(seed=1)})
    with pytest.raises(KeyError, match="put AuditFusiond and RegisterRigidd before it"):
        mt.SaveFusiond(output_dir=tmp_path)(d)


# --- conventions ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in mt.__all__ if n.endswith("d")])
def test_dictionary_transforms_follow_the_conventions_of_monai(name):
    kind = getattr(mt, name)
    parameters = list(inspect.signature(kind).parameters.values())
    assert parameters[0].name in ("keys", "anatomical_key")
    assert parameters[-1].name == "allow_missing_keys"
    assert parameters[-1].default is False
    assert getattr(mt, f"{name[:-1]}D") is getattr(mt, f"{name[:-1]}Dict") is kind
    assert issubclass(kind, MapTransform)


def test_one_chain_may_run_in_several_threads():
    steps = [mt.ColorizeFunctionald("pet"), mt.FuseLuminanced("mri", "pet"), mt.AuditFusiond()]
    both = Compose(steps)
    pairs = [{"mri": volume(seed=k), "pet": volume(seed=k + 9)} for k in range(6)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(both, pairs))
    for pair, d in zip(pairs, together, strict=True):
        assert torch.equal(both(pair)["fused"].as_tensor(), d["fused"].as_tensor())


def test_only_registration_claims_to_be_invertible():
    kinds = [getattr(mt, n) for n in mt.__all__ if n.endswith("d")]
    assert [k for k in kinds if issubclass(k, InvertibleTransform)] == [mt.RegisterRigidd]
