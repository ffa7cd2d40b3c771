"""Small volumes and their layers, for tests of the panel."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st
from monai.data import MetaTensor
from napari.layers import Image

from napari_plugin.layers import layer_data

META = {"modality": "MRI", "unit": "a.u.", "spacing": [1, 1, 1], "source": {}, "notes": []}


def volume(shape=(5, 6, 7), affine=None, **meta) -> MetaTensor:
    """Every voxel has its own value."""
    values = torch.arange(float(np.prod(shape))).reshape(1, *shape)
    affine = np.diag([2.0, 3.0, 4.0, 1.0]) if affine is None else affine
    return MetaTensor(values, affine=torch.as_tensor(affine), meta={**META, **meta})


def as_layer(tensor: MetaTensor) -> Image:
    data, kwargs, kind = layer_data(tensor, name="scan")
    assert kind == "image"
    return Image(data, **kwargs)


def signed_permutations():
    return st.tuples(st.permutations(range(3)), st.tuples(*[st.sampled_from([-1, 1])] * 3))
