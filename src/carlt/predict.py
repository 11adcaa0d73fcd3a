"""``python -m carlt.predict``; see ``carlt.commands.predict``."""

from carlt.commands.predict import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
