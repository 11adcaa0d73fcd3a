"""A progress bar in the output of a notebook's cell."""

from typing import Any

from rich.progress import Progress


class NotebookBar(Progress):
    """rich's own bar needs the package ipywidgets in a notebook; this one is a display that is updated."""

    handle: Any = None

    def start(self) -> None:
        from IPython.display import display

        self.handle = display(self.make_tasks_table(self.tasks), display_id=True)

    def update(self, *args: Any, **fields: Any) -> None:
        super().update(*args, **fields)
        if self.handle is not None:
            self.handle.update(self.make_tasks_table(self.tasks))

    def stop(self) -> None:
        """The display stays as it is."""
