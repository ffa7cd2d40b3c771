"""MeasureRegionsd in a chain, before and after resampling."""

from __future__ import annotations

import json

import numpy as np
from monai.transforms import Compose, CopyItemsd

from medfuse.transforms import MeasureRegionsd, RegisterRigidd
from tests._helpers.regions import image


def test_a_chain_measures_the_volume_as_loaded_and_says_where_it_was_resampled():
    rng = np.random.default_rng(5)
    values = rng.random((16, 14, 12)) * np.linspace(1, 3, 16)[:, None, None]
    pet = image(values, (4, 4, 4))
    mri = image(rng.random((32, 28, 24)), (2, 2, 2), unit="a.u.", modality="MRI", role="anatomical")
    labels = np.zeros((32, 28, 24))
    labels[8:16, 8:16, 8:16], labels[20:24, 8:12, 8:12] = 3, 5
    del pet.meta["source"]["patient"], mri.meta["source"]["patient"]
    data = {"functional": pet, "anatomical": mri, "regions": image(labels, (2, 2, 2))}
    chain = Compose(
        [
            CopyItemsd("functional", names="as_loaded"),
            RegisterRigidd("functional", "anatomical", method="identity", accept_suspect=True),
            MeasureRegionsd("as_loaded", names={3: "caudate"}, reference="caudate"),
            MeasureRegionsd("functional", table_key="resampled", region_keys=["regions"]),
        ]
    )
    done = chain(data)
    rows, again = json.loads(done["measurements"]), json.loads(done["resampled"])
    assert [row["region"] for row in rows] == ["caudate", "label 5"]
    assert [row["label"] for row in rows] == [3, 5]
    assert rows[0]["measured_on"] == "unresampled"
    assert rows[0]["ratio"] == 1
    assert rows[1]["remark"].startswith("its label has no name")
    assert again[0]["measured_on"] == "resampled"
    assert again[0]["region"] == "regions label 3"
    assert again[0]["anatomical_modality"] == "MRI"
    assert abs(again[0]["mean"] - rows[0]["mean"]) < 0.1
