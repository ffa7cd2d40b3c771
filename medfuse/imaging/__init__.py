"""CLINICAL. Files, geometry, units, registration, export."""
