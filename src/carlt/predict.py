"""``python -m carlt.predict``; see ``carlt.commands.predict``."""

from carlt.commands import run_command


def main() -> None:
    """The command."""
    run_command("predict")


if __name__ == "__main__":
    main()
