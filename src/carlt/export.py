"""``python -m carlt.export``; see ``carlt.commands.export``."""

from carlt.commands.export import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
