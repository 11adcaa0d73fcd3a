"""``python -m carlt.report``; see ``carlt.commands.report``."""

from carlt.commands.report import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
