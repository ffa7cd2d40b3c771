"""Numbers of regions: uptake on the functional image as it was measured, and what goes with it."""
