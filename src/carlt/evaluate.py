"""``python -m carlt.evaluate``; see ``carlt.commands.evaluate``."""
# PYTHON_ARGCOMPLETE_OK: a shell may ask this command for completions.

from carlt.commands import run_command


def main() -> None:
    """The command."""
    run_command("evaluate")


if __name__ == "__main__":
    main()
