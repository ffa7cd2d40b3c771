from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from medfuse.errors import UsageError, WeightsError
from medfuse.fusion.choice import CANDIDATES
from medfuse.methods import zoo
from medfuse.methods.base import Painter
from medfuse.methods.network import build_seeded
from medfuse.methods.registry import get_method, list_methods
from medfuse.methods.swift import SwiftNet

HEADER = {"medfuse": json.dumps({"architecture": "swift", "options": {}})}
PACKAGE = Path(zoo.__file__).resolve().parent.parent


@pytest.fixture
def tensors():
    return build_seeded(SwiftNet, 0).state_dict()


@pytest.fixture
def weights(tmp_path, tensors):
    path = tmp_path / "mine.safetensors"
    save_file(tensors, path, HEADER)
    return path


@pytest.mark.parametrize("name", zoo.shipped())
def test_every_shipped_card_is_complete_and_its_hash_is_right(name):
    path = zoo.WEIGHTS / f"{name}.safetensors"
    card = zoo.read_card(path)
    assert card is not None
    assert card.schema_ == zoo.SCHEMA
    assert card.name == name
    assert card.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.stat().st_size <= 4e6
    for text in (card.summary, card.command, card.limitations, card.notice, card.data["name"]):
        assert len(text) > 10
    assert card.data["pairs"] > 0
    assert card.steps > 0
    assert card.validation["pairs"] > 0
    assert set(card.software) >= {"medfuse", "torch"}


@pytest.mark.parametrize("name", ["swift", *zoo.shipped()])
def test_shipped_weights_work_by_name(name):
    method = get_method(name)
    a, b = torch.rand(1, 1, 40, 56), torch.rand(1, 1, 40, 56)
    answer = method.luminance(a, b) if isinstance(method, Painter) else method.weights(a, b)
    for k, level in enumerate([answer] if isinstance(answer, torch.Tensor) else answer):
        assert level.shape[2:] == tuple(-(-n // 2**k) for n in a.shape[2:])
        assert level.std() > 0
    assert method.info.weights_sha256 == method.info.card["sha256"]


@pytest.mark.parametrize("name", ["gifnet", "unfolding", "unfolding-features", "unet-paints"])
def test_what_has_no_pyramid_has_none_without_its_card_either(name, tmp_path):
    path = tmp_path / f"{name}.safetensors"
    shutil.copy(zoo.WEIGHTS / path.name, path)
    told, untold = zoo.load_shipped(name).info, zoo.load_guide(path).info
    assert (untold.levels, untold.kind) == (told.levels, told.kind)
    assert untold.levels == 0


def test_swift_is_the_default_weights():
    assert get_method("swift").info.weights_sha256 == get_method(zoo.DEFAULT).info.weights_sha256
    assert [name for name, _ in list_methods()][:3] == ["auto", "swift", zoo.DEFAULT]


def test_own_weights_load_by_path_without_a_card(weights):
    method = get_method(weights)
    assert method.info.name == "mine"
    assert method.info.parameters == 488_208
    assert method.info.card == {}


def test_tampered_weights_are_refused(tmp_path):
    source = zoo.WEIGHTS / f"{zoo.DEFAULT}.safetensors"
    data = bytearray(source.read_bytes())
    data[-5] ^= 1
    copy = tmp_path / source.name
    copy.write_bytes(data)
    copy.with_suffix(".json").write_bytes(source.with_suffix(".json").read_bytes())
    with pytest.raises(WeightsError, match=r"sha256 is .*\[E_WEIGHTS\]") as error:
        zoo.load_guide(copy)
    assert error.value.remedy


def test_shipped_weights_are_read_again_only_where_they_changed(tmp_path, monkeypatch):
    for suffix in (".safetensors", ".json"):
        shutil.copy(zoo.WEIGHTS / f"{zoo.DEFAULT}{suffix}", tmp_path)
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path)
    first, again = zoo.load_shipped(zoo.DEFAULT), zoo.load_shipped(zoo.DEFAULT)
    assert first is not again
    assert first.net is again.net
    path = tmp_path / f"{zoo.DEFAULT}.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(WeightsError, match="sha256"):
        zoo.load_shipped(zoo.DEFAULT)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".ckpt"])
def test_pickle_suffixes_are_refused_without_opening(tmp_path, suffix):
    missing = tmp_path / f"weights{suffix}"  # not even there: nothing may be opened
    with pytest.raises(WeightsError, match="run code"):
        zoo.load_guide(missing)


def test_pickle_under_a_false_name_is_refused(tmp_path, tensors):
    bare = tmp_path / "bare.safetensors"
    bare.write_bytes(pickle.dumps({"x": 1}))
    archive = tmp_path / "archive.safetensors"
    torch.save(tensors, archive)
    for path in (bare, archive):
        with pytest.raises(WeightsError, match=r"pickle.*\[E_WEIGHTS\]"):
            zoo.load_guide(path)


@pytest.mark.parametrize(
    "data", [b"", b"abc", b"<html></html>" * 9, (2**40).to_bytes(8, "little") + b"{}"]
)
def test_foreign_bytes_are_refused(tmp_path, data):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="E_WEIGHTS"):
        zoo.load_guide(path)


def test_missing_file_and_unknown_name_are_said(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        get_method(tmp_path / "gone.safetensors")
    with pytest.raises(UsageError, match="swift-msrs"):
        get_method("swift-unheard-of")


def test_tensors_of_another_shape_or_name_are_refused(tmp_path, tensors):
    wrong = dict(tensors)
    wrong["leave.bias"] = torch.zeros(3)
    path = tmp_path / "wrong.safetensors"
    save_file(wrong, path, HEADER)
    with pytest.raises(WeightsError, match=r"1 tensors are missing or of another shape"):
        zoo.load_guide(path)
    save_file({**tensors, "more": torch.zeros(1)}, path, HEADER)
    with pytest.raises(WeightsError, match="1 are unknown"):
        zoo.load_guide(path)


def test_nan_weights_and_unknown_architectures_are_refused(tmp_path, tensors):
    path = tmp_path / "x.safetensors"
    save_file({**tensors, "leave.bias": torch.full((16,), torch.nan)}, path, HEADER)
    with pytest.raises(WeightsError, match="NaN"):
        zoo.load_guide(path)
    save_file(tensors, path, {"medfuse": json.dumps({"architecture": "resnet"})})
    with pytest.raises(WeightsError, match="unknown architecture 'resnet'"):
        zoo.load_guide(path)
    save_file(tensors, path)
    with pytest.raises(WeightsError, match="which network"):
        zoo.load_guide(path)


def test_broken_card_is_refused(weights):
    weights.with_suffix(".json").write_text("{}")
    with pytest.raises(WeightsError, match="card"):
        zoo.load_guide(weights)


def test_package_never_unpickles():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for forbidden in ("torch.load", "import pickle", "from pickle", "import joblib"):
            assert forbidden not in text, f"{path.name} uses {forbidden}"


def test_the_hash_of_shipped_weights_is_known_without_building_the_network():
    for name in CANDIDATES:
        assert zoo.shipped_sha256(name) == get_method(name).info.weights_sha256
    assert zoo.shipped_sha256("swift") == zoo.shipped_sha256(zoo.DEFAULT) is not None
