"""``python -m carlt.train``: one run, the rest of one, or a sweep."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from carlt.commands.arguments import command, reword_argparse_error
from carlt.commands.completion import answer_shell, complete_override, shell_script
from carlt.commands.run import CHILD, compose_resumed, compose_run, config_of_run, is_first_process, resume, run
from carlt.config import overrides, second_stage
from carlt.config.choices import named_choices
from carlt.config.compose import SEARCH_PATH, add_config_dir, conf_dir, search_path_override, take_search_path
from carlt.config.stored import load_config
from carlt.errors import CarltError, exit_with
from carlt.runs.faults import check_place, write_errors
from carlt.runs.heartbeat import heartbeat
from carlt.runs.paths import with_home
from carlt.sweeps import plan

NAME = "carlt.train"
AGAIN = "mend that, then give the same command again"
INFORMATION = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
"""What Hydra's flag ``--info`` can show."""


def main() -> None:
    """The command."""
    with command(NAME):
        sys.argv[1:] = map(with_home, sys.argv[1:])
        arguments = _parse(sys.argv[1:])
        if CHILD in os.environ and not is_first_process():  # a further process of a run on several devices
            folder = Path(os.environ[CHILD])
            run(load_config(folder, trust=True), folder)
        elif arguments.shell_completion:
            print(shell_script())
        elif arguments.information:
            _show(arguments)
        elif arguments.resume:
            _resume(arguments)
        elif arguments.multirun:
            raise SystemExit(_sweep(arguments))
        else:
            config, folder, named = compose_run(arguments.overrides, trust=arguments.trust)
            run(config, folder, hash_in_name=not named)


def _parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line. Flags are Hydra's own and may stand anywhere."""
    parser = argparse.ArgumentParser(prog=f"python -m {NAME}", add_help=False, allow_abbrev=False)
    parser.error = lambda message: exit_with(  # type: ignore[method-assign]
        NAME, CarltError(f"{reword_argparse_error(message)}; --help shows the usage")
    )
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--config-dir", "-cd", action="append", default=[])
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--hydra-help", action="store_true")
    parser.add_argument("--cfg", "-c", choices=("job", "hydra", "all"))
    parser.add_argument("--package", "-p")
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--info", "-i", choices=INFORMATION)
    parser.add_argument("--shell-completion", "-sc", action="store_true")
    answer_shell(parser, "overrides", complete_override)
    arguments = parser.parse_intermixed_args(_with_values(words))
    given = dict(text.partition("=")[::2] for text in arguments.overrides)
    arguments.trust = given.get("trust") == "true"
    arguments.resume = given.get("resume") if given.get("resume") != "null" else None
    for folder in arguments.config_dir:
        add_config_dir(folder)
    arguments.overrides = take_search_path(arguments.overrides)
    if arguments.resume == "":
        raise CarltError("resume= has no value: give the run folder to go on with")
    if given.get("trust", "false") not in ("true", "false"):
        raise CarltError(f"trust={given['trust']}: expected true or false")
    arguments.overrides = [o for o in arguments.overrides if not o.startswith("trust=")]
    arguments.multirun |= "hydra.mode=MULTIRUN" in arguments.overrides
    flags = ("help", "hydra_help", "cfg", "info")
    arguments.information = any(getattr(arguments, flag) for flag in flags)
    return arguments


def _with_values(words: Sequence[str]) -> list[str]:
    """The value of ``--info``, which may be left out, as ``--info=all``: what follows may be an override."""
    found: list[str] = []
    for word in words:
        if found and found[-1] in ("--info", "-i"):
            found[-1] = f"--info={word}" if word in INFORMATION else "--info=all"
            if word in INFORMATION:
                continue
        found.append(word)
    return [*found[:-1], "--info=all"] if found and found[-1] in ("--info", "-i") else found


def _show(arguments: argparse.Namespace) -> None:
    """What Hydra prints without running anything: help, the composed config, information."""
    logging.raiseExceptions = False  # Hydra shows information as log lines, which may end in a closed pipe
    own = ("trust=", SEARCH_PATH)
    words = [word for word in _with_values(sys.argv[1:]) if word not in arguments.overrides]
    words = [word for word in words if not word.startswith(own)]
    if arguments.cfg or arguments.info:
        if arguments.multirun:
            raise CarltError(f"--{'cfg' if arguments.cfg else 'info'} shows the config of one run: leave -m out")
        overrides.check_single(arguments.overrides)
        stage = second_stage.is_second_stage(arguments.overrides)
        if arguments.cfg == "job" and (stage or arguments.resume):  # Hydra does not know what they keep of a run
            if arguments.resume:
                config, *_ = compose_resumed(arguments.resume, arguments.overrides, trust=arguments.trust)
            else:
                config, *_ = compose_run(arguments.overrides, trust=arguments.trust)
            print(OmegaConf.to_yaml(config, resolve=arguments.resolve), end="")
            return
        checked = _checked(arguments)
    else:
        checked = [f"hydra.help.footer='{overrides.list_options()}'"]
    _hydra_command([*words, *checked, search_path_override()], lambda config: None)


def _resume(arguments: argparse.Namespace) -> None:
    if arguments.multirun:
        raise CarltError("resume= goes on with one run: leave -m out; a sweep goes on by the command it began with")
    resume(arguments.resume, arguments.overrides, trust=arguments.trust)


def _checked(arguments: argparse.Namespace) -> list[str]:
    """The overrides, all checked, in the form in which Hydra composes them."""
    if second_stage.is_second_stage(arguments.overrides):
        return second_stage.sweep_overrides("train", arguments.overrides, trust=arguments.trust)
    return overrides.sweep_overrides("train", arguments.overrides)


def _sweep(arguments: argparse.Namespace) -> int:
    """Run a sweep, or its unfinished jobs; returns the exit code."""
    sweep, complete = plan.plan(_checked(arguments))
    check_place("hydra.sweep.dir", sweep.folder)
    with write_errors(sweep.folder, AGAIN):
        return _run_jobs(sweep, complete, arguments.trust)


def _run_jobs(sweep: plan.Sweep, overrides: Sequence[str], trust: bool) -> int:

    def job(composed: DictConfig) -> Any:
        from hydra.core.hydra_config import HydraConfig

        from carlt.sweeps.job import run_job

        hydra = HydraConfig.get()

        def compose() -> DictConfig:
            if not composed.init_run:
                return config_of_run(composed, hydra)
            with open_dict(composed):
                composed.choices = named_choices(composed, hydra)
            return config_of_run(second_stage.stage_config(composed, hydra.overrides.task, trust=trust), hydra)

        name = f"job {hydra.job.num + 1}  "
        with heartbeat(name) if is_first_process() else nullcontext():
            return run_job(plan.current(), compose, composed.objective, is_first_process(), run)

    def jobs() -> None:
        with write_errors(sweep.folder, AGAIN):  # Hydra makes the sweep's folder
            _hydra_command(["--multirun", *overrides, search_path_override()], job)

    code, failed = _outcome(jobs)
    if failed:  # Hydra did not reach the end of the sweep
        plan.conclude(sweep)
    return plan.exit_code(sweep, code)


def _hydra_command(words: Sequence[str], job: Callable[[DictConfig], Any]) -> None:
    import hydra

    sys.argv = [sys.argv[0], *words]
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(job)()


def _outcome(command: Callable[[], Any]) -> tuple[Any, bool]:
    """Run a command of Hydra's; returns its exit code, and whether it ended early. An error outside of the jobs (in a
    launcher or a search) is one line, too."""
    full = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # or else Hydra prints a traceback itself
    try:
        command()
    except SystemExit as end:
        return end.code, True
    except CarltError:
        raise
    except Exception as error:
        if full == "1":
            raise
        print(f"{NAME}: error: {type(error).__name__}: {str(error).strip()}", file=sys.stderr)
        return 1, True
    finally:
        os.environ["HYDRA_FULL_ERROR"] = full or "0"
    return 0, False


if __name__ == "__main__":
    main()
