"""Numbers of regions: uptake on the functional image as it was measured, and what goes with it."""

from medfuse.measurement.measure import measure
from medfuse.measurement.region import Isocontour, Region, Sphere, Threshold
from medfuse.measurement.table import RegionTable, Row

__all__ = ["Isocontour", "Region", "RegionTable", "Row", "Sphere", "Threshold", "measure"]
