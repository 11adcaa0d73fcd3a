"""``python -m carlt.report``; see ``carlt.commands.report``."""

from carlt.commands import run_command


def main() -> None:
    """The command."""
    run_command("report")


if __name__ == "__main__":
    main()
