"""The commands behind ``python -m carlt.<name>``, and the composition of a run."""
