"""The errors a user can cause: one class, so that every command can print them as a plain line."""


class CarltError(ValueError):
    """A mistake of the user or of their data: names the value, the place and the remedy."""
