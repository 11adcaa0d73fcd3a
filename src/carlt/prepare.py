"""``python -m carlt.prepare``; see ``carlt.commands.prepare``."""

from carlt.commands.prepare import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
