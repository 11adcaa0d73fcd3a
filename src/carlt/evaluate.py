"""``python -m carlt.evaluate``; see ``carlt.commands.evaluate``."""

from carlt.commands.evaluate import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
