"""Guides as ONNX and TorchScript answer with the weights that medfuse computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medfuse.methods.network import network_input
from medfuse.methods.registry import get_method


@pytest.fixture(scope="module")
def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """Two stacks of slices whose sides are no multiple of anything."""
    random = np.random.default_rng(7).random((2, 3, 1, 37, 101), np.float32)
    return torch.from_numpy(random[0]), torch.from_numpy(random[1])


def test_onnx_gives_the_weights_of_the_guide_for_any_size(script, pictures, tmp_path, capsys):
    onnx = pytest.importorskip("onnx", reason="medfuse[export] is not installed")
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "swift.onnx"
    assert script.main(["swift", "-o", str(path)]) == 0
    guide = get_method("swift")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (weights,) = session.run(["weights"], {"images": network_input(*pictures).numpy()})
    assert np.abs(weights - guide.weights(*pictures).numpy()).max() < 1e-4
    facts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert facts["weights_sha256"] == guide.info.weights_sha256
    assert facts["notice"].startswith("Research use only")
    assert "differ from PyTorch by at most" in capsys.readouterr().out


def test_torchscript_gives_the_weights_of_the_guide_to_the_bit(script, pictures, tmp_path):
    assert script.main(["swift", "-o", str(tmp_path / "swift.ts")]) == 0
    extra = {"weights_sha256": ""}
    network = torch.jit.load(tmp_path / "swift.ts", _extra_files=extra)
    guide = get_method("swift")
    with torch.inference_mode():
        assert torch.equal(network(network_input(*pictures)), guide.weights(*pictures))
    assert extra["weights_sha256"].decode() == guide.info.weights_sha256


@pytest.mark.parametrize(
    ("guide", "name", "words"), [("mean", "a.onnx", "no network"), ("swift", "a.pt", "ending")]
)
def test_what_cannot_be_exported_is_one_line_and_no_file(
    script, tmp_path, capsys, guide, name, words
):
    assert script.main([guide, "-o", str(tmp_path / name)]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not any(tmp_path.iterdir())
