"""``python -m carlt.prepare``; see ``carlt.commands.prepare``."""

from carlt.commands import run_command


def main() -> None:
    """The command."""
    run_command("prepare")


if __name__ == "__main__":
    main()
