"""``python -m carlt.prepare``; see ``carlt.commands.prepare``."""
# PYTHON_ARGCOMPLETE_OK: a shell may ask this command for completions.

from carlt.commands import run_command


def main() -> None:
    """The command."""
    run_command("prepare")


if __name__ == "__main__":
    main()
