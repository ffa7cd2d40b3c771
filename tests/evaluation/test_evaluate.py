"""`medfuse evaluate`: pairs by name, trivial rules in every table, honest counts."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from medfuse.errors import InputError, OutputError, UsageError
from medfuse.evaluation.evaluate import TRIVIAL_RULES, evaluate, render, write_json
from medfuse.evaluation.metrics import METRICS, compute
from medfuse.kernel.color import clip_gamut, desaturate, rgb_to_ycbcr, ycbcr_to_rgb
from medfuse.methods.base import Rule
from medfuse.methods.registry import fuse_by, get_method


def picture(size: tuple[int, int], seed: int, *, channels: int = 1) -> np.ndarray:
    """A smooth 8-bit picture, (H, W) or (H, W, 3)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((1, channels, 6, 7), generator=generator)
    fine = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1)
    pixels = (fine[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return pixels if channels == 3 else pixels[..., 0]


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """Three pairs of two sizes; A in colour as PNG, B in gray as WebP."""
    a, b = tmp_path / "PET", tmp_path / "MRI"
    a.mkdir()
    b.mkdir()
    for seed, (name, size) in enumerate([("x", (48, 60)), ("y", (64, 44)), ("z", (48, 60))]):
        Image.fromarray(picture(size, seed, channels=3)).save(a / f"{name}.png")
        Image.fromarray(picture(size, seed + 50)).save(b / f"{name}.webp", lossless=True)
    return a, b


def read(path: Path, mode: str) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(Image.open(path).convert(mode))).float() / 255
    return pixels.permute(2, 0, 1)[None] if mode == "RGB" else pixels[None, None]


def test_trivial_rules_are_rows_of_every_table(folders):
    table = evaluate(*folders, ["saliency"], profile="reference")
    assert [row.name for row in table.rows] == [*TRIVIAL_RULES, "saliency"]
    assert {row.kind for row in table.rows} == {"rule"}
    assert [row.name for row in evaluate(*folders, ["max"], profile="paper").rows] == [
        *TRIVIAL_RULES
    ]


@pytest.mark.parametrize("profile", ["reference", "paper"])
def test_rows_are_the_metrics_of_the_rules_pair_by_pair(folders, profile):
    table = evaluate(*folders, [], profile=profile, keep_names=True)
    clipped = evaluate(*folders, [], profile=profile, gamut="clip")
    assert table.pairs == ("x", "y", "z")
    for i, name in enumerate(table.pairs):
        a, b = read(folders[0] / f"{name}.png", "RGB"), read(folders[1] / f"{name}.webp", "L")
        ycbcr = rgb_to_ycbcr(a)
        y = ycbcr[:, :1]
        for rule, formula in (
            ("anatomical-luma", b),
            ("max", torch.maximum(y, b)),
            ("mean", 0.5 * (y + b)),
        ):
            luminance = fuse_by(get_method(rule), y, b)
            torch.testing.assert_close(luminance, formula, atol=1e-5, rtol=0)
            cut, _ = clip_gamut(ycbcr_to_rgb(torch.cat([luminance, ycbcr[:, 1:]], dim=1)))
            paler, _ = desaturate(luminance, ycbcr[:, 1:])
            for rgb, row in ((paler, table[rule]), (cut, clipped[rule])):
                for metric, value in compute(a, b, rgb, profile=profile).items():
                    found = row.values[metric][i]
                    assert found == pytest.approx(value.item(), abs=2e-3, nan_ok=True), metric


def test_mean_and_deviation_are_over_the_pairs(folders):
    row = evaluate(*folders, [], profile="reference", kernel="paper")["mean"]
    assert row.mean("VIF") == pytest.approx(np.mean(row.values["VIF"]))
    assert row.std("VIF") == pytest.approx(np.std(row.values["VIF"], ddof=1))
    assert math.isnan(row.mean("MS-SSIM"))  # the pictures are too small for five scales


def test_saved_results_judged_as_a_folder_give_the_same_row(folders, tmp_path):
    saved = tmp_path / "out"
    first = evaluate(*folders, [], profile="reference", save=saved, keep_names=True)
    assert sorted(p.name for p in (saved / "max").iterdir()) == ["x.png", "y.png", "z.png"]
    second = evaluate(*folders, [], profile="reference", fused={"theirs": saved / "max"})
    assert second["theirs"].kind == "folder"
    for metric, values in first["max"].values.items():
        assert second["theirs"].values[metric] == pytest.approx(values, abs=1e-9, nan_ok=True)


def test_real_pairs_give_the_table_of_trivial_rules(shared_data):
    folder = shared_data / "harvard" / "PET-MRI" / "test"
    table = evaluate(folder / "PET", folder / "MRI", [], profile="paper", gamut="clip")
    assert len(table.pairs) == 12
    pinned = {"anatomical-luma": (0.9116, 0.7748, 1.2545), "max": (0.8525, 0.7356, 1.2510)}
    for name, (vif, qabf, ssim) in pinned.items():
        row = table[name]
        assert row.mean("VIF") == pytest.approx(vif, abs=2e-4)
        assert row.mean("Qabf") == pytest.approx(qabf, abs=2e-4)
        assert row.mean("SSIM") == pytest.approx(ssim, abs=2e-4)
    copy, maximum = table["anatomical-luma"], table["max"]
    assert copy.mean("uptake_correlation") < 0.3 < 0.7 < maximum.mean("uptake_correlation")


def test_unpaired_files_are_listed(folders):
    a, b = folders
    (a / "x.png").rename(a / "w.png")
    with pytest.raises(UsageError, match=r"w\.png \(PET\).*x\.webp \(MRI\)") as caught:
        evaluate(a, b, [], profile="paper")
    assert caught.value.code == "E_UNPAIRED"
    assert str(a) not in str(caught.value)


def test_a_result_folder_must_have_every_pair_and_may_have_more(folders, tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for name, size in (("x", (48, 60)), ("y", (64, 44)), ("other", (9, 9))):
        Image.fromarray(picture(size, 3)).save(theirs / f"{name}.png")
    with pytest.raises(UsageError, match=r"no z \(theirs\)") as caught:
        evaluate(*folders, [], profile="paper", fused={"theirs": theirs})
    assert caught.value.code == "E_UNPAIRED"
    Image.fromarray(picture((48, 60), 3)).save(theirs / "z.png")
    table = evaluate(*folders, [], profile="paper", fused={"theirs": theirs})
    assert len(table["theirs"].values["EN"]) == 3


def test_partners_of_different_size_are_refused_with_both_sizes(folders):
    Image.fromarray(picture((47, 60), 1)).save(folders[1] / "x.webp")
    with pytest.raises(UsageError, match=r"60 x 48 \(PET\) and 60 x 47 \(MRI\)") as caught:
        evaluate(*folders, [], profile="paper")
    assert caught.value.code == "E_SIZE"


def test_pictures_too_small_for_any_metric_are_refused(folders):
    Image.fromarray(picture((2, 60), 1)).save(folders[0] / "x.png")
    Image.fromarray(picture((2, 60), 1)).save(folders[1] / "x.webp")
    with pytest.raises(UsageError, match="60 x 2 pixels"):
        evaluate(*folders, [], profile="paper")


@pytest.mark.parametrize(
    ("content", "code"), [(b"", "E_EMPTY_FILE"), (b"<html>", "E_UNREADABLE"), (None, "E_CORRUPT")]
)
def test_a_bad_picture_is_one_line_that_names_it(folders, content, code):
    path = folders[0] / "y.png"
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    with pytest.raises(InputError, match=r"PET/y\.png") as caught:
        evaluate(*folders, [], profile="paper")
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


def test_two_files_of_one_name_are_refused(folders):
    Image.fromarray(picture((48, 60), 1)).save(folders[1] / "x.png")
    with pytest.raises(UsageError, match=r"x\.png and x\.webp have the same name"):
        evaluate(*folders, [], profile="paper")


def test_folders_without_pictures_are_refused(folders, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="E_NO_IMAGES"):
        evaluate(folders[0], empty, [], profile="paper")
    with pytest.raises(InputError, match="not a folder"):
        evaluate(tmp_path / "missing", folders[1], [], profile="paper")


def test_16_bit_gray_keeps_its_depth_and_unknown_ranges_are_refused(folders):
    a, b = folders
    for folder, suffix in ((a, "png"), (b, "webp")):
        (folder / f"x.{suffix}").unlink()
    deep = picture((48, 60), 7).astype(np.uint16) * 257
    Image.fromarray(deep).save(a / "x.tif")
    Image.fromarray(picture((48, 60), 7)).save(b / "x.png")
    same = evaluate(a, b, [], profile="reference")["anatomical-luma"]
    assert same.values["MSE_A"][0] == pytest.approx(0)
    Image.fromarray(deep.astype(np.float32)).save(a / "x.tif")
    with pytest.raises(InputError, match="E_DTYPE"):
        evaluate(a, b, [], profile="reference")


def test_blank_pairs_are_counted_and_left_out_of_the_mean(folders):
    Image.fromarray(np.full((48, 60), 9, np.uint8)).save(folders[1] / "x.webp", lossless=True)
    table = evaluate(*folders, [], profile="reference")
    row = table["mean"]
    assert table.blank == ("x",)
    assert math.isnan(row.values["VIF"][0])
    assert row.mean("VIF") == pytest.approx(np.mean(row.values["VIF"][1:]))
    assert table.to_dict()["rows"][0]["defined"]["VIF"] == 2
    assert "blank source do not count: x" in printed(table)


def test_a_method_object_is_a_row_and_decides_its_pyramid(folders):
    half = Rule("half", "half of B", lambda a, b: torch.full_like(b, 0.5), levels=2)
    table = evaluate(*folders, [half], profile="reference")
    assert table["half"].mean("VIF") == pytest.approx(table["mean"].mean("VIF"), abs=1e-3)


def test_two_rows_of_one_name_are_refused(folders):
    with pytest.raises(UsageError, match="two rows would be named saliency"):
        evaluate(*folders, ["saliency", "saliency"], profile="paper")
    with pytest.raises(UsageError, match="two rows would be named max"):
        evaluate(*folders, [], profile="paper", fused={"max": folders[0]})


@pytest.mark.parametrize("option", [{"profile": "papers"}, {"profile": "paper", "kernel": "none"}])
def test_unknown_profile_or_kernel_is_a_usage_error(folders, option):
    with pytest.raises(UsageError, match="E_UNKNOWN_OPTION"):
        evaluate(*folders, [], **option)


def test_results_are_never_written_into_an_input_folder(folders):
    with pytest.raises(UsageError, match="E_UNSAFE_PATH"):
        evaluate(*folders, [], profile="paper", save=folders[0] / "fused")
    assert sorted(p.name for p in folders[0].iterdir()) == ["x.png", "y.png", "z.png"]


def test_a_place_that_cannot_be_written_is_an_output_error(folders, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="E_WRITE"):
        evaluate(*folders, [], profile="paper", save=tmp_path / "file")
    table = evaluate(*folders, [], profile="paper")
    with pytest.raises(OutputError, match="E_WRITE"):
        write_json(table, tmp_path / "missing" / "table.json")


def test_json_names_the_profile_and_holds_no_path(folders, tmp_path):
    path = tmp_path / "table.json"
    write_json(evaluate(*folders, [], profile="paper"), path)
    text = path.read_text()
    found = json.loads(text)
    assert found["schema"] == "medfuse-evaluation/1"
    assert (found["profile"], found["kernel"], found["pairs"]) == ("paper", "binomial", 3)
    assert (found["a"], found["b"]) == ("PET", "MRI")
    assert str(tmp_path) not in text
    row = found["rows"][0]
    assert METRICS.keys() <= row["mean"].keys()
    assert row["mean"]["MS-SSIM"] is None
    assert len(row["values"]["VIF"]) == 3


def printed(table) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(render(table))
    return console.file.getvalue()


def test_every_printed_table_names_its_profile_and_fits_80_columns(folders):
    text = printed(evaluate(*folders, [], profile="paper"))
    titles = [line for line in text.splitlines() if "(profile paper)" in line]
    assert len(titles) == 5
    assert all(name in text for name in (*TRIVIAL_RULES, "VIF_A", "VIF_B", "uptake r", "±"))
    assert "…" not in text


def test_progress_rises_to_one_and_torch_keeps_its_threads(folders):
    threads = torch.get_num_threads()
    seen: list[float] = []
    evaluate(*folders, [], profile="paper", on_progress=lambda part, text: seen.append(part))
    assert seen == sorted(seen)
    assert seen[-1] == 1
    assert torch.get_num_threads() == threads
