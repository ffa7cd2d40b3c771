"""The napari plugin of medfuse: the panel "Fuse MRI+PET", readers, sample data.

All logic lives in modules without Qt; widgets are in ``_qt``.
"""
