"""The command that enhances the selected layer; the work runs in a thread."""

import napari

from medfuse.errors import MedfuseError
from napari_plugin._qt.napari_tasks import NapariTask
from napari_plugin._qt.runner import JobRunner, report
from napari_plugin.jobs import Job, failure
from napari_plugin.layers import TAG


def enhance_layer(viewer: napari.Viewer) -> None:
    """Paint the selected image layer again by GIFNet and add it beside the original, warned."""
    from napari.utils.notifications import show_warning

    from napari_plugin.enhance import enhance_shown, read_shown

    try:
        shown = read_shown(viewer.layers.selection.active)
    except MedfuseError as error:
        report(failure(error))
        return
    menu = viewer.window.main_menu
    runner, task = JobRunner(menu), NapariTask(viewer)
    job = Job(f"Enhancing {shown.name}", lambda progress: enhance_shown(shown, progress))

    def add(layer: tuple) -> None:
        data, kwargs, _ = layer
        viewer.add_image(data, **kwargs)
        show_warning(" ".join(kwargs["metadata"][TAG]["meta"]["notes"]))

    runner.progressed.connect(task.progress)
    runner.ended.connect(lambda outcome: (task.end(), report(outcome), runner.deleteLater()))
    menu.destroyed.connect(job.cancel)
    task.begin(job.title, job.cancel)
    runner.start(job, add)
