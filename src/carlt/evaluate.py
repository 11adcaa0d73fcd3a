"""``python -m carlt.evaluate``; see ``carlt.commands.evaluate``."""

from carlt.commands import run_command


def main() -> None:
    """The command."""
    run_command("evaluate")


if __name__ == "__main__":
    main()
