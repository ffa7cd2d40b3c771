"""Write a guide as ONNX or TorchScript, for programs that have no medfuse.

    python workflows/export_guide.py swift -o swift.onnx      # needs medfuse[export]
    python workflows/export_guide.py my_guide.safetensors -o my_guide.ts

The file takes ``images`` (N, 2, H, W) float32 in [-1, 1], luminance of the functional image and
then of the anatomical one, and answers with ``weights`` (N, 1, H, W) in [0, 1]; 0 takes the
functional, 1 the anatomical image. Any N, H and W will do: padding to the network's multiple and
cropping are part of the graph. It is run on SIZES and compared with the guide before it is kept.
Blending, colour and audit are not in it: weights alone make no picture. Research use only.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medfuse.errors import NOTICE, MedfuseError, UsageError
from medfuse.methods.network import NetworkGuide
from medfuse.methods.registry import get_method

#: Neither side of the first is a multiple of anything: so tracing keeps the padding.
SIZES = ((2, 45, 70), (1, 256, 256), (3, 31, 200))
#: Largest difference of weights from the guide in PyTorch.
TOLERANCE = 1e-4

Run = Callable[[Tensor], Tensor]


def export_guide(name: str, out: Path) -> float:
    """Write the network of a guide and return the largest difference of its weights.

    Parameters
    ----------
    name : str
        A guide that is a network, or a .safetensors file.
    out : Path
        Ends in ``.onnx`` or ``.ts``.

    Raises
    ------
    UsageError
        ``E_EXPORT``: not a network, another ending, or the file computes something else.
    """
    guide = get_method(name)
    if not isinstance(guide, NetworkGuide):
        raise refusal(name, "it is no network with one answer a pixel", "Choose a guide")
    facts = {
        "guide": guide.info.name,
        "weights_sha256": guide.info.weights_sha256 or "",
        "notice": NOTICE,
    }
    writers = {".onnx": write_onnx, ".ts": write_torchscript}
    if out.suffix not in writers:
        raise refusal(out.name, "the ending says neither ONNX nor TorchScript", "Use .onnx or .ts")
    part = out.with_name(f"{out.stem}.part{out.suffix}")
    try:
        run = writers[out.suffix](guide.net, part, facts)
        worst = difference(guide.net, run)
        if not worst <= TOLERANCE:
            raise refusal(out.name, f"its weights differ by up to {worst:.2g}", "Report it")
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return worst


def write_onnx(net: torch.nn.Module, path: Path, facts: dict[str, str]) -> Run:
    """Trace into ONNX; torch.export cannot keep a padding that depends on the size."""
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise refusal(
            path.name, f"{error.name} is missing", "pip install 'medfuse[export]'"
        ) from error
    free = {0: "n", 2: "h", 3: "w"}
    torch.onnx.export(
        net, (sample(SIZES[0]),), path, dynamo=False, input_names=["images"],
        output_names=["weights"], dynamic_axes={"images": free, "weights": free},
    )  # fmt: skip
    model = onnx.load(path)
    onnx.helper.set_model_props(model, facts)
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def write_torchscript(net: torch.nn.Module, path: Path, facts: dict[str, str]) -> Run:
    """Trace and save; facts are extra files of the archive."""
    torch.jit.save(torch.jit.trace(net, sample(SIZES[0])), path, _extra_files=facts)
    return torch.jit.load(path)


def difference(net: torch.nn.Module, run: Run) -> float:
    """Largest difference of weights on pictures of several sizes; NaN counts."""
    with torch.inference_mode():
        worst = [float((run(x) - net(x)).abs().max()) for x in map(sample, SIZES)]
    return float(np.max(worst))


def sample(size: tuple[int, int, int]) -> Tensor:
    """(N, 2, H, W) in [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand((size[0], 2, *size[1:]), generator=generator) * 2 - 1


def refusal(where: str, cause: str, remedy: str) -> UsageError:
    return UsageError(
        "E_EXPORT", what="Cannot export the guide", where=where, cause=cause, remedy=remedy
    )


def main(arguments: list[str] | None = None) -> int:
    """Export one guide; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("guide", help="a name (medfuse methods) or a .safetensors file")
    parser.add_argument("-o", "--out", type=Path, required=True, help="NAME.onnx or NAME.ts")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # of tracing, which the comparison makes harmless
    try:
        worst = export_guide(options.guide, options.out)
    except MedfuseError as error:
        print(error, file=sys.stderr)
        return 1
    digest = hashlib.sha256(options.out.read_bytes()).hexdigest()
    print(f"{options.out.name}: sha256 {digest}")
    print(f"weights differ from PyTorch by at most {worst:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
