"""Where things are computed: every test here runs on each device that this machine has."""

import pytest
import torch

from medfuse.errors import UsageError
from medfuse.evaluation.metrics import compute
from medfuse.fusion import fuse
from medfuse.kernel.devices import devices_here, find_device
from medfuse.methods.base import Painter, on_device
from medfuse.methods.registry import get_method

HERE = devices_here()
METHODS = ["both-pet", "swift-msrs", "local-energy", "ct-mri", "fitted", "gifnet", "unfolding"]
# Networks without a step that looks at values: torch can follow them without computing.
FOLLOWED = ["swift-msrs", "unet", "gifnet", "unet-paints"]


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """Two smooth images (1, 1, 72, 96) that differ."""
    rows, columns = torch.meshgrid(
        torch.linspace(0, 6, 72), torch.linspace(0, 9, 96), indexing="ij"
    )
    a, b = (rows.sin() * columns.cos() + 1) / 2, (rows + columns).sin().abs()
    return a[None, None], b[None, None]


def test_auto_is_the_processor():
    assert find_device("auto") == find_device("cpu") == torch.device("cpu")


def test_device_that_is_not_here_is_refused_with_those_that_are():
    missing = sorted({"cuda", "mps"} - set(HERE))
    with pytest.raises(UsageError, match="can use cpu") as caught:
        find_device(missing[0])
    assert caught.value.code == "E_DEVICE"
    a, b = pictures()
    with pytest.raises(UsageError, match="E_DEVICE"):
        fuse(functional=a[0], anatomical=b[0], device=missing[0])


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("device", HERE)
def test_method_answers_on_the_device_of_its_images(device, name):
    a, b = pictures()
    method, moved = get_method(name), on_device(get_method(name), torch.device(device))
    ask = "luminance" if isinstance(method, Painter) else "weights"
    expected, answer = getattr(method, ask)(a, b), getattr(moved, ask)(a, b)
    pairs = (
        [(answer, expected)]
        if isinstance(answer, torch.Tensor)
        else list(zip(answer, expected, strict=True))
    )
    for got, wanted in pairs:
        assert got.device.type == "cpu"
        torch.testing.assert_close(got, wanted, atol=2e-3, rtol=0)


@pytest.mark.parametrize("name", FOLLOWED)
def test_network_computes_nothing_beside_its_device(name):
    # On "meta" torch follows shapes and devices, and stops where two devices are mixed.
    meta = torch.device("meta")
    a, b = (x.to(meta) for x in pictures())
    moved = on_device(get_method(name), meta)
    answer = moved.luminance(a, b) if isinstance(moved, Painter) else moved.weights(a, b)
    assert answer.device == meta


@pytest.mark.parametrize("volume", [False, True])
@pytest.mark.parametrize("device", HERE)
def test_fusion_is_the_same_to_rounding(device, volume):
    a, b = (x[0] for x in pictures())
    if volume:
        a, b = (x.unsqueeze(-1).repeat(1, 1, 1, 36) for x in (a, b))
    mode = "volume" if volume else "slices"
    there = fuse(functional=a, anatomical=b, method="swift-msrs", mode=mode, device=device)
    here = fuse(functional=a, anatomical=b, method="swift-msrs", mode=mode)
    torch.testing.assert_close(there.luminance, here.luminance, atol=2e-3, rtol=0)
    torch.testing.assert_close(
        there.from_functional + there.from_anatomical, there.luminance, atol=1e-5, rtol=0
    )
    assert there.audit.verdict == here.audit.verdict


@pytest.mark.parametrize("device", HERE)
def test_metrics_are_the_same_to_rounding(device):
    a, b = pictures()
    fused = (a + b) / 2
    there = compute(*(x.to(device) for x in (a, b, fused)), profile="reference")
    here = compute(a, b, fused, profile="reference")
    for name, wanted in here.items():
        torch.testing.assert_close(there[name].cpu(), wanted, atol=1e-4, rtol=1e-4, equal_nan=True)
