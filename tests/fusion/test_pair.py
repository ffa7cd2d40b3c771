"""One registered pair in, one accountable picture out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

import medfuse
from medfuse.errors import GeometryError, UsageError
from medfuse.kernel.color import rgb_to_ycbcr
from medfuse.kernel.colormaps import COLORMAPS
from medfuse.kernel.scratch import on_disk
from medfuse.kernel.two_way import two_way_table
from medfuse.kernel.two_way_reading import take_apart
from medfuse.methods.base import MethodInfo


def pair(*shape: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((1, *shape), np.float32), rng.random((1, *shape), np.float32)


class Constant:
    """A guide that always asks for the same weight; counts what it was shown."""

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.shapes: list[tuple[int, ...]] = []

    @property
    def info(self) -> MethodInfo:
        return MethodInfo("constant", "for tests", "rule")

    def weights(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(a.shape))
        return torch.full_like(b, self.weight)


@pytest.mark.parametrize("shape", [(40, 30), (33, 17, 9)])
@pytest.mark.parametrize("mode", ["slices", "volume"])
def test_a_constant_guide_gives_the_plain_blend_of_both_luminances(shape, mode):
    a, b = pair(*shape)
    res = medfuse.fuse(functional=a, anatomical=b, method=Constant(0.3), mode=mode)
    expected = 0.7 * res.functional_luminance + 0.3 * torch.from_numpy(b)
    assert res.luminance.shape == (1, *shape)
    assert torch.allclose(res.luminance, expected, atol=1e-5)
    assert res.rgb.shape == (3, *shape)
    assert res.audit["linearity"].verdict == "pass"


def test_chroma_of_the_functional_image_is_kept_where_the_gamut_allows_it():
    rng = np.random.default_rng(1)
    rgb = torch.from_numpy((0.4 + 0.2 * rng.random((3, 24, 20))).astype(np.float32))
    mri = torch.from_numpy((0.45 + 0.1 * rng.random((1, 24, 20))).astype(np.float32))
    res = medfuse.fuse(functional=rgb, anatomical=mri, method="mean")
    before, after = (rgb_to_ycbcr(x[None])[:, 1:] for x in (rgb, res.rgb))
    assert torch.allclose(before, after, atol=1e-5)
    assert res.audit["chroma"].value == 0


@pytest.mark.parametrize("gamut", ["fit", "clip", "desaturate"])
def test_scalar_and_its_own_colour_map_as_rgb_give_the_same_picture(gamut):
    a, b = pair(20, 21)
    table = COLORMAPS["dusk"].numpy()
    grid = np.linspace(0, 1, 256)
    rgb = np.stack([np.interp(a[0], grid, table[:, c]) for c in range(3)]).astype(np.float32)
    scalar = medfuse.fuse(functional=a, anatomical=b, method="mean", colormap="dusk", gamut=gamut)
    colour = medfuse.fuse(functional=rgb, anatomical=b, method="mean", gamut=gamut)
    assert torch.allclose(scalar.rgb, colour.rgb, atol=1e-5)


def test_the_guide_sees_axial_slices_of_a_plain_array_one_by_one():
    a, b = pair(12, 10, 37)
    guide = Constant(0.5)
    medfuse.fuse(functional=a, anatomical=b, method=guide)
    in_any_order = [(5, 1, 12, 10), (16, 1, 12, 10), (16, 1, 12, 10)]  # blocks run side by side
    assert sorted(guide.shapes) == in_any_order


def test_storage_order_of_the_voxels_does_not_change_the_result():
    a, b = pair(16, 18, 7)
    affine = np.diag([-1.0, 2.0, 3.0, 1.0])
    res = medfuse.fuse(
        functional=MetaTensor(a, affine=affine), anatomical=MetaTensor(b, affine=affine),
        method="swift",
    )  # fmt: skip
    flipped = affine @ np.array([[-1, 0, 0, 15], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    other = medfuse.fuse(
        functional=MetaTensor(a[:, ::-1].copy(), affine=flipped),
        anatomical=MetaTensor(b[:, ::-1].copy(), affine=flipped),
        method="swift",
    )
    assert torch.equal(res.rgb.as_tensor(), other.rgb.as_tensor().flip(1))
    assert np.allclose(res.rgb.affine, affine)


def volume_with_field_of_view(turn: int = 1) -> tuple[MetaTensor, MetaTensor]:
    """PET that covers only x < 6 of a 12-voxel wide MRI; x and y run to R and A, or to L and P."""
    a, b = pair(12, 20, 20)
    affine = np.diag([turn, turn, 1.0, 1.0])
    pet = MetaTensor(a, affine=affine)
    pet.meta |= {
        "field_of_view": {
            "shape": [6, 20, 20],
            "affine": affine.tolist(),
            "moving_from_fixed": affine.tolist(),
        }
    }
    pet[:, 6:] = 0
    return pet, MetaTensor(b, affine=affine)


def test_outside_the_functional_field_of_view_the_picture_is_the_anatomical_image():
    pet, mri = volume_with_field_of_view()
    res = medfuse.fuse(functional=pet, anatomical=mri, method="mean", colormap="ember")
    grey = mri.as_tensor()[:, 6:].expand(3, -1, -1, -1)
    assert torch.allclose(res.rgb.as_tensor()[:, 6:], grey, atol=1e-6)
    assert torch.all(res.share[:, 6:] == 1)
    assert torch.all(res.weights[:, 6:] == 1)
    assert not res.coverage[:, 6:].any()
    assert res.coverage[:, :6].all()
    assert res.audit["coverage"].value == pytest.approx(0.5)
    assert res.audit["linearity"].verdict == "pass"


@pytest.mark.parametrize("method", ["mean", "anatomical-luma", "local-energy"])
def test_outside_the_field_of_view_the_two_way_picture_is_the_map_without_uptake(method):
    pet, mri = volume_with_field_of_view()
    res = medfuse.fuse(functional=pet, anatomical=mri, method=method)
    assert (res.colormap, res.gamut) == ("glow", "band")
    outside = ~res.coverage[0]
    assert torch.equal(res.luminance[0][outside], mri.as_tensor()[0][outside])
    white = two_way_table("glow").width[0]
    grey = (mri.as_tensor()[0][outside] * white).expand(3, -1)
    assert (res.rgb.as_tensor()[:, outside] - grey).abs().max() < 1 / 255
    apart = take_apart(res.rgb.as_tensor()[None], "glow")
    assert apart.uptake[0, 0][outside].max() < 0.1
    assert (apart.anatomy[0, 0] - mri.as_tensor()[0]).abs()[outside].max() < 0.006


def test_the_field_of_view_counts_beside_an_anatomical_image_without_geometry():
    pet, mri = volume_with_field_of_view()
    res = medfuse.fuse(functional=pet, anatomical=mri.as_tensor(), method="mean")
    assert not res.coverage[:, 6:].any()
    assert res.coverage[:, :6].all()


@pytest.mark.parametrize("method", ["swift", "mean", "max", "anatomical-luma", "saliency"])
@pytest.mark.parametrize("kernel", ["binomial", "paper"])
def test_every_method_passes_the_linearity_check(method, kernel):
    a, b = pair(65, 50)
    res = medfuse.fuse(functional=a, anatomical=b, method=method, kernel=kernel)
    assert res.audit["linearity"].value < 1e-5
    assert res.audit["weights"].verdict == "pass"
    assert res.audit["finite"].value == 0
    total = res.from_functional + res.from_anatomical
    assert torch.allclose(total, res.luminance, atol=1e-5)


def test_fit_keeps_chroma_and_clip_reproduces_the_published_picture():
    a, b = pair(40, 40)
    fit = medfuse.fuse(functional=a, anatomical=b, method="mean", colormap="hot", gamut="fit")
    clip = medfuse.fuse(functional=a, anatomical=b, method="mean", colormap="hot", gamut="clip")
    assert torch.equal(fit.luminance, clip.luminance)
    assert fit.audit["chroma"].details["maximum"] < 1e-5
    assert clip.audit["chroma"].details["maximum"] > 0.05
    assert fit.audit["chroma"].details["maximum_before_clipping"] < 1e-5
    assert clip.gamut == "clip"


def test_uptake_is_read_back_from_the_default_colours_and_not_from_grey():
    a, b = pair(60, 50)
    good = medfuse.fuse(functional=a, anatomical=b)
    assert (good.colormap, good.gamut) == ("glow", "band")
    ember = medfuse.fuse(functional=a, anatomical=b, method="swift", colormap="ember")
    assert ember.gamut == "fit"
    for found in (good, ember):
        assert found.audit["read_back"].details["median"] < 0.005
        assert found.audit["read_back"].value < 0.01
    assert good.audit["anatomy_back"].value < 0.01
    assert "anatomy_back" not in {check.id for check in ember.audit.checks}
    hot = medfuse.fuse(
        functional=a, anatomical=b, method="anatomical-luma", colormap="hot", gamut="clip"
    )
    assert hot.audit["read_back"].verdict == "look"
    grey = medfuse.fuse(functional=a, anatomical=b, colormap="gray")
    assert "read_back" not in {check.id for check in grey.audit.checks}


def test_max_takes_the_brighter_source_voxel_by_voxel():
    a, b = pair(30, 30)
    res = medfuse.fuse(functional=a, anatomical=b, method="max")
    expected = torch.maximum(res.functional_luminance, torch.from_numpy(b))
    assert torch.allclose(res.luminance, expected, atol=1e-6)
    assert res.audit["overshoot"].value == 0


@pytest.mark.parametrize("method", ["auto", "swift", "both-pet"])
def test_two_runs_give_identical_bits(method):
    a, b = pair(70, 60, 5)
    first, second = (medfuse.fuse(functional=a, anatomical=b, method=method) for _ in range(2))
    assert torch.equal(first.rgb, second.rgb)
    assert torch.equal(first.weights, second.weights)


def test_inputs_are_left_untouched():
    a, b = pair(20, 20, 4)
    before = a.copy(), b.copy()
    medfuse.fuse(functional=a, anatomical=b, method="mean", window=(0.2, 0.8))
    assert np.array_equal(a, before[0])
    assert np.array_equal(b, before[1])


def test_given_weights_are_left_untouched_even_where_they_lie_as_the_slices_do():
    pet, mri = volume_with_field_of_view(turn=-1)
    weights = torch.full((1, 20, 20, 12), 0.25).permute(0, 3, 2, 1)
    res = medfuse.fuse(functional=pet, anatomical=mri, weights=weights)
    assert bool((res.weights == 1).any())
    res.weights[:, :6] = 0.0
    assert bool((weights == 0.25).all())


def test_values_without_unit_outside_0_and_1_are_refused_with_the_remedy():
    a, b = pair(16, 16)
    with pytest.raises(ValueError, match=r"functional image without a unit.*window=\(low, high\)"):
        medfuse.fuse(functional=a * 5, anatomical=b)
    with pytest.raises(ValueError, match=r"anatomical image without a unit.*anatomical_window"):
        medfuse.fuse(functional=a, anatomical=b * 900)
    res = medfuse.fuse(functional=a * 5, anatomical=b, window=(0, 5), method="mean")
    assert torch.allclose(
        res.luminance, medfuse.fuse(functional=a, anatomical=b, method="mean").luminance, atol=1e-5
    )


def test_saturation_above_the_window_is_counted():
    a, b = pair(50, 40)
    res = medfuse.fuse(functional=a, anatomical=b, window=(0, 0.5), method="mean")
    assert res.audit["window"].value == pytest.approx(float((a > 0.5).mean()))
    assert res.audit["window"].verdict == "look"


def test_shapes_grids_and_channels_are_checked():
    a, b = pair(16, 16, 4)
    with pytest.raises(ValueError, match=r"registration\.resample"):
        medfuse.fuse(functional=a[:, :8], anatomical=b)
    with pytest.raises(ValueError, match="must be"):
        medfuse.fuse(functional=a[0, 0, 0], anatomical=b[0, 0, 0])
    with pytest.raises(ValueError, match="one channel"):
        medfuse.fuse(functional=a, anatomical=np.concatenate([b, b, b / 2]))
    with pytest.raises(GeometryError, match="E_GRID_MISMATCH"):
        medfuse.fuse(
            functional=MetaTensor(a, affine=np.eye(4)),
            anatomical=MetaTensor(b, affine=np.diag([2.0, 1, 1, 1])),
        )
    with pytest.raises(ValueError, match="must rise"):
        medfuse.fuse(functional=a, anatomical=b, window=(3, 3))
    with pytest.raises(ValueError, match="unknown color map"):
        medfuse.fuse(functional=a, anatomical=b, colormap="jet2000")
    with pytest.raises(UsageError, match="E_UNKNOWN_METHOD"):
        medfuse.fuse(functional=a, anatomical=b, method="swiftt")


def test_volume_mode_averages_the_guide_over_three_axes():
    a, b = pair(20, 24, 28)
    guide = Constant(0.5)
    medfuse.fuse(functional=a, anatomical=b, method=guide, mode="volume")
    seen = {shape[2:] for shape in guide.shapes}
    assert seen == {(20, 24), (24, 28), (20, 28)}


@pytest.mark.parametrize(
    ("spacing", "shape", "expected"),
    [
        ((1.0, 1.0, 1.2), (32, 33, 34), "volume"),
        ((1.0, 1.0, 3.0), (32, 33, 34), "slices"),
        ((1.0, 1.0, 1.0), (32, 33, 12), "slices"),
    ],
)
def test_auto_mode_is_volume_for_near_isotropic_voxels_and_is_recorded_resolved(
    spacing, shape, expected
):
    images = [MetaTensor(x, affine=np.diag([*spacing, 1.0])) for x in pair(*shape)]
    found = medfuse.fuse(functional=images[0], anatomical=images[1], method="saliency")
    asked = medfuse.fuse(
        functional=images[0], anatomical=images[1], method="saliency", mode=expected
    )
    assert found.mode == expected
    assert torch.equal(found.rgb, asked.rgb)


def test_auto_mode_takes_arrays_without_geometry_slice_by_slice():
    a, b = pair(40, 40, 40)
    assert medfuse.fuse(functional=a, anatomical=b, method="mean").mode == "slices"


def ripple(weights: torch.Tensor, axis: int) -> float:
    return float(weights.diff(n=2, dim=1 + axis).square().mean().sqrt())


def test_volume_mode_takes_the_steps_between_slices_out_of_the_weights(shared_data):
    folder = shared_data / "volumes" / "mni-templates"
    mri = medfuse.load(folder / "spm-single-subject-t1.nii.gz", modality="MRI")
    pet = medfuse.load(folder / "spm-pet.nii.gz", modality="PET")
    pet = medfuse.register(fixed=mri, moving=pet, method="identity").resample(pet)
    across = {}
    for mode in ("slices", "volume"):
        result = medfuse.fuse(
            functional=pet, anatomical=mri, method="swift", colormap="ember", mode=mode
        )
        weights = result.weights.as_tensor()
        across[mode] = ripple(weights, 2) / (ripple(weights, 0) + ripple(weights, 1))
    assert across["volume"] < 0.7 * across["slices"]


def test_cancelling_from_the_progress_callback_stops_the_work():
    class Cancelled(Exception):
        pass

    def stop(fraction: float, text: str) -> None:
        if text == "kernel":
            raise Cancelled

    a, b = pair(20, 20, 4)
    with pytest.raises(Cancelled):
        medfuse.fuse(functional=a, anatomical=b, method="mean", progress=stop)


@pytest.mark.parametrize(("bias", "expected"), [(1, 1.0), (-1, 0.0), (0.5, 0.65), (-0.5, 0.15)])
def test_bias_shifts_the_weights_and_stays_in_range(bias, expected):
    a, b = pair(20, 20)
    res = medfuse.fuse(
        functional=a, anatomical=b, method=Constant(0.3), bias=bias, colormap="ember"
    )
    assert torch.allclose(res.weights, torch.full_like(res.weights, expected))


@pytest.mark.parametrize("bias", [1, -1, 0.5, -0.5])
def test_bias_of_a_two_way_picture_leaves_the_weights_and_the_luminance_alone(bias):
    a, b = pair(20, 20)
    res, plain = (
        medfuse.fuse(functional=a, anatomical=b, method=Constant(0.3), bias=x) for x in (bias, 0)
    )
    assert torch.all(res.weights == 0.3)
    assert torch.equal(res.luminance, plain.luminance)
    assert not torch.equal(res.rgb, plain.rgb)


@pytest.mark.parametrize("mode", ["slices", "volume"])
def test_a_stored_weight_map_replays_the_fusion_to_the_bit(mode):
    a, b = pair(34, 30, 18)
    swift = {"functional": a, "anatomical": b, "mode": mode, "method": "swift", "colormap": "ember"}
    first = medfuse.fuse(**swift, bias=0.2)
    again = medfuse.fuse(**swift, weights=first.weights)
    assert torch.equal(first.luminance, again.luminance)
    assert torch.equal(first.rgb, again.rgb)


@pytest.mark.parametrize("mode", ["slices", "volume"])
@pytest.mark.parametrize(
    "options",
    [
        {"method": "swift", "colormap": "ember"},
        {"method": "local-energy"},
        {"bounded": True, "bias": 0.3, "method": "max", "colormap": "ember"},
        {"kernel": "paper", "method": "mean"},
    ],
)
@pytest.mark.parametrize("turn", [(1, 1, 1), (-1, 1, 1), (-1, -1, -1)])
def test_planes_on_disk_give_the_same_bytes(tmp_path, mode, options, turn):
    affine = np.diag([*turn, 1.0])
    a, b = (MetaTensor(x, affine=affine) for x in pair(70, 66, 72))
    expected = medfuse.fuse(functional=a, anatomical=b, mode=mode, **options)
    with on_disk(tmp_path, limit=0):
        found = medfuse.fuse(functional=a, anatomical=b, mode=mode, **options)
    for name in ("rgb", "luminance", "weights", "share", "overshoot", "gamut_change", "coverage"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    assert len(found.band_weights) == len(expected.band_weights)
    assert all(map(torch.equal, found.band_weights, expected.band_weights))
    assert found.rgb.stride() == expected.rgb.stride()
    assert found.audit == expected.audit


def test_weights_of_another_shape_or_range_and_wild_bias_are_refused():
    a, b = pair(20, 20)
    with pytest.raises(ValueError, match="like the anatomical image"):
        medfuse.fuse(functional=a, anatomical=b, weights=a[:, :10])
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        medfuse.fuse(functional=a, anatomical=b, weights=a + 1)
    with pytest.raises(ValueError, match="bias"):
        medfuse.fuse(functional=a, anatomical=b, bias=1.5)


@pytest.mark.parametrize("method", ["swift", "local-energy"])
def test_the_number_of_threads_of_torch_changes_no_bit(method):
    a, b = pair(128, 160, 40)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(medfuse.fuse(functional=a, anatomical=b, method=method, mode="volume"))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for name in ("weights", "luminance", "share", "rgb"):
        assert torch.equal(getattr(found[0], name), getattr(found[1], name)), name
    assert found[0].audit == found[1].audit
