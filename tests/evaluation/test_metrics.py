"""Metrics agree with their definitions, with published numbers, and with common sense."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.signal import convolve2d

from medfuse.evaluation.images import gaussian, prepare, smooth
from medfuse.evaluation.metrics import METRICS, PROFILES, Judge, compute
from medfuse.evaluation.structure import Fidelity, Similarity
from medfuse.kernel.color import clip_gamut, rgb_to_ycbcr, ycbcr_to_rgb
from tests._helpers import naive_metrics

profiles = pytest.mark.parametrize("profile", PROFILES)

# HybridFusion Table 6, rows without a network: means over all pairs of the public repository.
GOLDEN = ("SSIM", "EN", "MI", "VIF", "Qabf")
PUBLISHED = {
    ("PET", "MRI"): (1.2513, 4.3019, 4.8312, 1.0456, 0.8153),
    ("PET", "PET"): (1.2513, 1.9273, 3.0904, 1.0167, 0.2149),
    ("CT", "MRI"): (1.3897, 3.2199, 4.0174, 1.0246, 0.5275),
    ("CT", "CT"): (1.3897, 2.5587, 3.3562, 1.0273, 0.5431),
    ("SPECT", "MRI"): (1.2884, 3.5153, 4.2290, 1.0429, 0.7837),
    ("SPECT", "SPECT"): (1.2884, 3.4363, 3.7092, 1.0261, 0.2376),
}
# The same over the pairs at hand: (count, values). 12 pairs a task are withheld.
PINNED_TEST = {
    ("PET", "MRI"): (12, (1.24452, 4.45603, 5.05201, 1.04418, 0.79466)),
    ("PET", "PET"): (12, (1.24452, 2.17088, 3.50061, 1.01936, 0.24487)),
    ("CT", "MRI"): (12, (1.32040, 3.61632, 4.53193, 1.01880, 0.56644)),
    ("CT", "CT"): (12, (1.32040, 2.98338, 3.89898, 1.01954, 0.53177)),
    ("SPECT", "MRI"): (12, (1.26853, 3.76653, 4.55639, 1.04228, 0.76959)),
    ("SPECT", "SPECT"): (12, (1.26853, 3.86114, 4.16123, 1.02731, 0.25528)),
}
PINNED_ALL = {
    ("PET", "MRI"): (257, (1.25204, 4.29760, 4.82442, 1.04552, 0.81625)),
    ("PET", "PET"): (257, (1.25204, 1.91784, 3.07691, 1.01663, 0.21376)),
    ("CT", "MRI"): (172, (1.39360, 3.19815, 3.98653, 1.02472, 0.52504)),
    ("CT", "CT"): (172, (1.39360, 2.53165, 3.32003, 1.02757, 0.54359)),
    ("SPECT", "MRI"): (345, (1.29043, 3.50125, 4.21334, 1.04293, 0.78398)),
    ("SPECT", "SPECT"): (345, (1.29043, 3.41827, 3.69298, 1.02611, 0.23715)),
}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def read(path: Path, mode: str) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(Image.open(path).convert(mode))).float() / 255
    return pixels.permute(2, 0, 1)[None] if mode == "RGB" else pixels[None, None]


def harvard(data: Path, task: str, split: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    folder = data / "harvard" / f"{task}-MRI" / split
    paths = sorted((folder / task).glob("*.png"))
    return [(read(p, "RGB"), read(folder / "MRI" / p.name, "L")) for p in paths]


def with_luminance(a: torch.Tensor, luminance: torch.Tensor) -> torch.Tensor:
    ycbcr = torch.cat([luminance, rgb_to_ycbcr(a)[:, 1:]], dim=1)
    return clip_gamut(ycbcr_to_rgb(ycbcr))[0]


def pictures(
    size: tuple[int, int] = (72, 64), *, count: int = 1, channels: int = 1, seed: int = 0
) -> list[torch.Tensor]:
    """A, B and F: three different smooth 8-bit pictures."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    for _ in range(3):
        coarse = torch.rand((count, channels, 9, 8), generator=generator)
        fine = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1)
        out.append((fine * 255).round() / 255)
    return out


def judged_alone(judge, a, b, fused) -> dict[str, list[float]]:
    rows = [judge(*(x[i].numpy() for x in (a, b, fused))) for i in range(len(a))]
    return {name: [row[name] for row in rows] for name in rows[0]}


def assert_agrees(fast: dict[str, torch.Tensor], slow: dict[str, list[float]]) -> None:
    assert set(fast) == set(slow)
    for name, values in slow.items():
        np.testing.assert_allclose(fast[name].numpy(), values, atol=1e-4, rtol=1e-5, err_msg=name)


@profiles
@pytest.mark.parametrize("task", ["PET", "CT", "SPECT"])
def test_metrics_of_real_pairs_equal_their_definitions(shared_data, task, profile):
    a, b = harvard(shared_data, task, "test")[5]
    y = rgb_to_ycbcr(a)[:, :1]
    naive = naive_metrics.Naive(profile, separable=True)
    for luminance in (b, torch.maximum(y, b), 0.5 * (y + b)):
        fused = with_luminance(a, luminance)
        slow = judged_alone(naive, a, b, fused)
        assert_agrees(compute(a, b, fused, profile=profile), slow)


@profiles
def test_metrics_of_a_gray_visible_and_infrared_pair_equal_their_definitions(shared_data, profile):
    folder = shared_data / "msrs" / "test"
    path = sorted((folder / "vi").iterdir())[0]
    a, b = read(path, "L"), read(folder / "ir" / path.name, "L")
    a, b = a[..., :230, :321], b[..., :230, :321]
    fused = 0.3 * a + 0.7 * b
    slow = judged_alone(naive_metrics.Naive(profile), a, b, fused)
    assert_agrees(compute(a, b, fused, profile=profile), slow)


@profiles
@pytest.mark.parametrize("channels", [1, 3])
def test_metrics_of_made_pictures_equal_their_definitions(profile, channels):
    a, b, fused = pictures((177, 190), count=2, channels=channels)
    slow = judged_alone(naive_metrics.Naive(profile), a, b[:, :1], fused)
    assert_agrees(compute(a, b[:, :1], fused, profile=profile), slow)


def golden_means(pairs, task: str) -> dict[tuple[str, str], tuple[int, torch.Tensor]]:
    rows = {"MRI": [], task: []}
    for start in range(0, len(pairs), 4):
        a, b = (torch.cat(x) for x in zip(*pairs[start : start + 4], strict=True))
        judge = Judge(a, b, profile="paper", only=GOLDEN)
        for name, fused in (("MRI", b), (task, a)):
            values = judge(fused)
            rows[name].append(torch.stack([values[m] for m in GOLDEN], dim=1))
    every = {name: torch.cat(r) for name, r in rows.items()}
    return {(task, name): (len(r), r.mean(dim=0)) for name, r in every.items()}


def assert_pinned(found, pinned) -> None:
    for row, (count, means) in found.items():
        assert count == pinned[row][0]
        assert means.tolist() == pytest.approx(pinned[row][1], abs=2e-4), row


@pytest.mark.parametrize("task", ["PET", "CT", "SPECT"])
def test_paper_profile_gives_pinned_numbers_on_the_test_pairs(shared_data, task):
    assert_pinned(golden_means(harvard(shared_data, task, "test"), task), PINNED_TEST)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["PET", "CT", "SPECT"])
def test_paper_profile_gives_the_published_numbers(shared_data, task):
    train = golden_means(harvard(shared_data, task, "train"), task)
    test = golden_means(harvard(shared_data, task, "test"), task)
    every, whole = {}, {}
    for row in train:
        (n, train_mean), (m, test_mean) = train[row], test[row]
        every[row] = (n + m, (n * train_mean + m * test_mean) / (n + m))
        # The test pairs at hand are half of that split: they stand for the withheld half too.
        whole[row] = (n * train_mean + 2 * m * test_mean) / (n + 2 * m)
    assert_pinned(every, PINNED_ALL)
    for row, means in whole.items():
        assert means.tolist() == pytest.approx(PUBLISHED[row], abs=0.02), row


def test_information_is_counted_inside_a_region_alone():
    a, b, _ = pictures((96, 96))
    left = torch.zeros(1, 96, 96, dtype=torch.bool)
    left[..., :48] = True
    half = torch.cat([a[..., :48], b[..., 48:]], dim=3)[:, 0] * 255
    source = a[None, :, 0] * 255
    inside, outside = (Fidelity(source, where=w) for w in (left, ~left))
    assert inside(half).item() > 0.8 > 0.5 > outside(half).item()  # windows reach over the seam
    whole = Fidelity(source)
    total = inside.information + outside.information
    torch.testing.assert_close(total, whole.information)
    assert inside(source[0]).item() == pytest.approx(1, abs=1e-6)


@profiles
def test_a_copy_of_a_source_is_perfect_for_that_source(profile):
    a, b, _ = pictures((180, 180))
    values = {name: v.item() for name, v in compute(a, b, a, profile=profile).items()}
    for name in ("VIF_A", "SSIM_A", "MS-SSIM_A", "CC_A", "uptake_correlation"):
        assert values[name] == pytest.approx(1, abs=1e-6)
    assert values["hot_spot_share"] == values["lesion_contrast"] == 1
    assert values["Qabf_A"] > 0.97
    assert values["Nabf"] == values["MSE_A"] == 0
    assert values["PSNR_A"] == np.inf
    assert values["VIF_B"] < 0.5


def test_a_copy_of_b_scores_high_sums_but_loses_the_functional_signal(shared_data):
    a, b = harvard(shared_data, "PET", "test")[3]
    copy, mean = (
        {k: v.item() for k, v in compute(a, b, f, profile="paper").items()}
        for f in (b, 0.5 * (rgb_to_ycbcr(a)[:, :1] + b))
    )
    assert copy["VIF"] > mean["VIF"]
    assert copy["Qabf"] > mean["Qabf"]
    assert copy["uptake_correlation"] < mean["uptake_correlation"] - 0.3
    assert copy["hot_spot_share"] == pytest.approx(0)
    assert copy["VIF_A"] < mean["VIF_A"]


def test_sums_are_the_sums_of_their_terms():
    values = compute(*pictures((180, 180), count=2), profile="reference")
    for name in ("VIF", "SSIM", "MS-SSIM", "MI"):
        torch.testing.assert_close(values[name], values[f"{name}_A"] + values[f"{name}_B"])
    for name in ("CC", "MSE"):
        torch.testing.assert_close(values[name], (values[f"{name}_A"] + values[f"{name}_B"]) / 2)
    assert (values["Qabf"] <= torch.maximum(values["Qabf_A"], values["Qabf_B"])).all()


@profiles
@settings(max_examples=10)
@given(seed=st.integers(0, 99))
def test_swapping_gray_sources_swaps_the_terms_and_keeps_the_sums(profile, seed):
    a, b, fused = pictures(seed=seed)
    one, other = compute(a, b, fused, profile=profile), compute(b, a, fused, profile=profile)
    for name, metric in METRICS.items():
        if name in ("uptake_correlation", "hot_spot_share", "lesion_contrast"):
            continue
        torch.testing.assert_close(one[name], other[name], equal_nan=True)
        if metric.terms:
            torch.testing.assert_close(one[f"{name}_A"], other[f"{name}_B"], equal_nan=True)


@profiles
def test_a_batch_gives_what_each_pair_gives_alone(profile):
    a, b, fused = pictures((180, 177), count=3, channels=3)
    batch = compute(a, b, fused, profile=profile)
    for i in range(3):
        alone = compute(a[i : i + 1], b[i : i + 1], fused[i : i + 1], profile=profile)
        for name, values in batch.items():
            torch.testing.assert_close(values[i : i + 1], alone[name], rtol=1e-6, atol=1e-9)


def test_a_batch_larger_than_a_chunk_is_whole_and_in_order():
    pair = pictures((256, 256), count=6)
    whole = compute(*pair, profile="paper", only=["MI", "SD"])
    last = compute(*(x[5:] for x in pair), profile="paper", only=["MI", "SD"])
    assert len(whole["MI"]) == 6
    assert all(whole[name][5] == last[name][0] for name in last)


def test_a_judge_gives_the_same_for_the_first_and_the_second_result():
    a, b, fused = pictures((180, 180))
    judge = Judge(a, b, profile="paper")
    judge(fused)
    again, alone = judge(a), compute(a, b, a, profile="paper")
    assert all(torch.equal(again[name], alone[name]) for name in alone)


def test_published_psnr_is_48_decibels_too_high():
    pair = pictures()
    paper = compute(*pair, profile="paper", only=["PSNR"])["PSNR"]
    reference = compute(*pair, profile="reference", only=["PSNR"])["PSNR"]
    assert (paper - reference).item() == pytest.approx(20 * np.log10(255), abs=1e-4)


def test_published_spatial_frequency_cannot_exceed_its_wrapped_bound():
    stripes = (torch.arange(64) % 2).float().expand(1, 1, 64, 64)
    a, b, _ = pictures((64, 64))
    assert compute(a, b, stripes, profile="paper", only=["SF"])["SF"].item() < 22.6
    assert compute(a, b, stripes, profile="reference", only=["SF"])["SF"].item() == 255


def test_tiny_constants_punish_one_level_of_noise_in_flat_areas():
    flat = torch.full((1, 1, 64, 64), 100 / 255)
    flat[..., :20, :20] = 0.8
    noisy = (
        flat + torch.randint(-1, 2, flat.shape, generator=torch.Generator().manual_seed(0)) / 255
    )
    reference = compute(flat, flat, noisy, profile="reference", only=["SSIM"])["SSIM_A"]
    paper = compute(flat, flat, noisy, profile="paper", only=["SSIM"])["SSIM_A"]
    assert reference > 0.95
    assert paper < 0.3


def test_entropy_counts_bits():
    levels = torch.arange(256).float().view(1, 1, 16, 16) / 255
    a, b, _ = pictures((16, 16))
    assert compute(a, b, levels, profile="reference", only=["EN"])["EN"].item() == 8
    half = (levels > 0.5).float()
    assert compute(a, b, half, profile="reference", only=["EN"])["EN"].item() == 1


def test_paper_entropy_pools_the_colour_channels():
    red = torch.zeros(1, 3, 16, 16)
    red[:, 0] = 1
    a, b, _ = pictures((16, 16))
    paper = compute(a, b, red, profile="paper", only=["EN"])["EN"].item()
    assert paper == pytest.approx(np.log2(3) - 2 / 3, abs=1e-5)  # a third of the samples is 255
    assert compute(a, b, red, profile="reference", only=["EN"])["EN"].item() == 0


def test_information_of_a_picture_with_itself_is_its_entropy():
    a, b, _ = pictures()
    values = compute(a, b, a, profile="reference", only=["MI", "EN"])
    torch.testing.assert_close(values["MI_A"], values["EN"])


@profiles
def test_a_blank_source_is_nan_for_everything_that_needs_it_and_only_in_its_pair(profile):
    a, b, fused = pictures((180, 180), count=2)
    clean = compute(a, b, fused, profile=profile)
    a[1] = 0.4
    judge = Judge(a, b, profile=profile)
    values = judge(fused)
    assert judge.blank.tolist() == [False, True]
    for name, value in values.items():
        torch.testing.assert_close(value[0], clean[name][0], rtol=1e-6, atol=1e-9)
        usable = name in METRICS and METRICS[name].alone
        assert value[1].isnan().item() == (not usable and not name.endswith("_B")), name


@pytest.mark.parametrize(("metric", "side"), [("VIF", 41), ("SSIM", 11), ("MS-SSIM", 176)])
def test_a_picture_smaller_than_the_window_is_nan(metric, side):
    enough = compute(*pictures((side, side)), profile="reference", only=[metric])
    small = compute(*pictures((side - 1, 300)), profile="reference", only=[metric])
    assert enough[metric].isfinite()
    assert small[metric].isnan()
    assert small[f"{metric}_A"].isnan()


@settings(max_examples=20)
@given(weight=st.floats(0, 1), seed=st.integers(0, 20))
def test_hot_spot_share_is_the_weight_of_a_plain_blend(weight, seed):
    a, b, _ = pictures(seed=seed)
    fused = weight * a + (1 - weight) * b
    share = compute(a, b, fused, profile="paper", only=["hot_spot_share"])["hot_spot_share"]
    assert share.item() == pytest.approx(weight, abs=1e-4)


@settings(max_examples=20)
@given(gain=st.floats(0.1, 1), gamma=st.floats(0.5, 2))
def test_uptake_correlation_does_not_mind_a_monotone_change_of_brightness(gain, gamma):
    a, b, _ = pictures()
    fused = torch.where(a > 0.05, gain * a**gamma, b)  # outside the mask anything may be there
    r = compute(a, b, fused, profile="paper", only=["uptake_correlation"])["uptake_correlation"]
    assert r.item() == pytest.approx(1, abs=1e-3)


def test_rounding_noise_does_not_change_the_uptake_correlation(shared_data):
    a, b = harvard(shared_data, "SPECT", "test")[2]
    noise = 1e-6 * torch.rand(b.shape, generator=torch.Generator().manual_seed(0))
    one, other = (
        compute(a, b, f, profile="paper", only=["uptake_correlation"])["uptake_correlation"]
        for f in (b, (b + noise).clamp(0, 1))
    )
    assert one.item() == pytest.approx(other.item(), abs=1e-6)


@settings(max_examples=20)
@given(gain=st.floats(-0.5, 0.5))
def test_lesion_contrast_is_the_gain_of_the_result(gain):
    a, b, _ = pictures()
    fused = gain * a + 0.5
    left = compute(a, b, fused, profile="paper", only=["lesion_contrast"])["lesion_contrast"]
    assert left.item() == pytest.approx(gain, abs=1e-4)


def test_lesion_contrast_looks_at_the_given_lesion_and_its_surround():
    a = torch.full((1, 1, 64, 64), 0.02)
    a[..., 20:30, 20:30] = 0.6
    a[..., 50:60, 50:60] = 1.0  # hotter, but not what is asked for
    b = pictures((64, 64))[1]
    lesion = torch.zeros(a.shape, dtype=torch.bool)
    lesion[..., 20:30, 20:30] = True
    fused = torch.where(lesion, 0.31, a)
    given = compute(a, b, fused, profile="paper", only=["lesion_contrast"], lesion=lesion)
    assert given["lesion_contrast"].item() == pytest.approx(0.5, abs=1e-4)
    hottest = compute(a, b, fused, profile="paper", only=["lesion_contrast"])
    assert hottest["lesion_contrast"].item() == pytest.approx(1, abs=1e-4)


def test_a_scalar_takes_the_place_of_the_colours_of_a():
    a, b, scalar = pictures(channels=3)
    scalar = scalar[:, :1]
    values = compute(a, b, scalar, profile="paper", uptake=scalar)
    assert values["uptake_correlation"].item() == pytest.approx(1)
    assert values["hot_spot_share"].item() == pytest.approx(1, abs=1e-4)
    assert compute(a, b, scalar, profile="paper")["uptake_correlation"] < 0.9


def test_nothing_hot_is_nan_not_an_error():
    dark = torch.rand(1, 1, 64, 64) * 0.04
    values = compute(dark, pictures((64, 64))[1], dark, profile="paper")
    for name in ("uptake_correlation", "hot_spot_share", "lesion_contrast"):
        assert values[name].isnan()


def test_invented_edges_raise_nabf():
    a, b, _ = pictures((64, 64))
    fused = 0.5 * (a + b)
    dots = fused.clone()
    dots[..., ::8, ::8] = 1
    clean, dotted = (
        compute(a, b, f, profile="reference", only=["Nabf"])["Nabf"] for f in (fused, dots)
    )
    assert clean < 1e-6
    assert dotted > 0.01


def test_pictures_of_three_pixels_are_judged_by_what_is_defined_there():
    values = compute(*pictures((3, 3)), profile="reference")
    assert all(values[name].isfinite() for name in ("Qabf", "Nabf", "MI", "CC", "AG", "SF", "EN"))


def test_results_come_in_the_order_of_the_list_with_terms_behind_their_sum():
    names = list(compute(*pictures(), profile="paper", only=["SD", "VIF", "Nabf"]))
    assert names == ["VIF", "VIF_A", "VIF_B", "Nabf", "SD"]


@profiles
def test_asking_for_one_metric_gives_what_asking_for_all_gives(profile):
    a, b, fused = pictures((180, 180))
    every = compute(a, b, fused, profile=profile)
    for name in METRICS:
        torch.testing.assert_close(
            compute(a, b, fused, profile=profile, only=[name])[name], every[name]
        )


def test_reference_ssim_in_single_precision_is_exact_on_saturated_backgrounds():
    a, _, fused = pictures((128, 128))
    a[..., 60:], fused[..., 60:] = 1, 254 / 255
    gray = [prepare(x, "reference").gray for x in (a, fused)]
    found, _ = Similarity(gray[0][None], (6.5025, 58.5225), scales=1)(gray[1])
    expected = naive_metrics.Naive("reference").ssim(*(g[0].double().numpy() for g in gray))
    assert found.item() == pytest.approx(expected, abs=1e-5)


@settings(max_examples=20)
@given(
    st.sampled_from([3, 5, 11]),
    st.integers(1, 3),
    st.tuples(st.integers(11, 30), st.integers(11, 30)),
)
def test_smooth_equals_a_two_dimensional_convolution(size, step, shape):
    taps = gaussian(size, size / 5)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    expected = convolve2d(x.numpy(), np.outer(taps, taps), mode="valid")[::step, ::step]
    np.testing.assert_allclose(smooth(x, taps, step=step).numpy(), expected, atol=1e-12)


def test_published_gray_of_a_neutral_pixel_is_one_level_too_dark():
    levels = torch.arange(256).float().view(1, 1, 16, 16)
    neutral = (levels / 255).expand(1, 3, 16, 16)
    assert torch.equal(prepare(neutral, "paper").gray, (levels[:, 0] - 1).clamp_min(0))
    assert torch.equal(prepare(neutral, "reference").gray, levels[:, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"profile": "papers"}, "profile must be one of"),
        ({"only": ["VIFF"]}, "unknown metric VIFF"),
        ({"b": torch.zeros(1, 1, 72, 63)}, "b is"),
        ({"fused": torch.zeros(2, 1, 72, 64)}, "fused is"),
        ({"fused": torch.zeros(1, 2, 72, 64)}, "expected"),
        ({"b": torch.zeros(2, 1, 72, 64)}, "b is"),
        ({"fused": torch.full((1, 1, 72, 64), torch.nan)}, "finite"),
        ({name: torch.zeros(1, 1, 2, 64) for name in ("a", "b", "fused")}, "3 pixels or more"),
        ({name: torch.zeros(0, 1, 72, 64) for name in ("a", "b", "fused")}, "expected"),
        ({"lesion": torch.zeros(1, 1, 9, 9, dtype=torch.bool)}, "lesion is"),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    a, b, fused = pictures()
    arguments = {"a": a, "b": b, "fused": fused, "profile": "paper"} | change
    with pytest.raises(ValueError, match=message):
        compute(**arguments)
