"""One pair fused: windows, colour, guide, fixed kernel, picture, audit."""

from medfuse.fusion.pair import FusionResult, fuse

__all__ = ["FusionResult", "fuse"]
