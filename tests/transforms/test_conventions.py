"""All transforms follow MONAI's own conventions."""

from __future__ import annotations

import inspect

import pytest
from monai.transforms import MapTransform
from monai.transforms.inverse import InvertibleTransform

from medfuse import transforms as mt


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


@pytest.mark.parametrize("name", [n for n in mt.__all__ if n.endswith("d")])
def test_dictionary_transforms_follow_the_conventions_of_monai(name):
    kind = getattr(mt, name)
    parameters = list(inspect.signature(kind).parameters.values())
    assert parameters[0].name in ("keys", "anatomical_key")
    assert parameters[-1].name == "allow_missing_keys"
    assert parameters[-1].default is False
    assert getattr(mt, f"{name[:-1]}D") is getattr(mt, f"{name[:-1]}Dict") is kind
    assert issubclass(kind, MapTransform)


def test_only_registration_claims_to_be_invertible():
    kinds = [getattr(mt, n) for n in mt.__all__ if n.endswith("d")]
    assert [k for k in kinds if issubclass(k, InvertibleTransform)] == [mt.RegisterRigidd]
