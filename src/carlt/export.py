"""``python -m carlt.export``; see ``carlt.commands.export``."""

from carlt.commands import run_command


def main() -> None:
    """The command."""
    run_command("export")


if __name__ == "__main__":
    main()
