"""``python -m carlt.report``; see ``carlt.commands.report``."""
# PYTHON_ARGCOMPLETE_OK: a shell may ask this command for completions.

from carlt.commands import run_command


def main() -> None:
    """The command."""
    run_command("report")


if __name__ == "__main__":
    main()
