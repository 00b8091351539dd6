"""The door: compose a configuration, run one method, record what it found.

python -m entitrack.run method=cmap donor=float
python -m entitrack.run --multirun method=cmap donor=float,goat,vicuna
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from time import perf_counter

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from entitrack.backends import Runner
from entitrack.config import CONF, METHODS, RunConfig, check
from entitrack.core.result import Result
from entitrack.errors import UserError
from entitrack.methods.experiment import Experiment
from entitrack.progress import track
from entitrack.report import figures, record, terminal
from entitrack.store import Store
from entitrack.tracking import check_tracking
from entitrack.tracking import record as record_in_wandb

_USER_MISTAKE = 2
_INTERRUPTED = 130
_KEY = "backend.key="


def execute(config: RunConfig) -> tuple[Result, Runner]:
    """Run the configured method."""
    runner = Runner(config.backend, Store(Path(config.store)) if config.store else None)
    experiment = Experiment(
        family=config.family,
        task=config.task,
        runner=runner,
        donor=config.donor,
        circuit_name=config.circuit,
        batch_size=config.batch_size,
        padding=config.padding,
        seed=config.seed,
        track=track,
    )
    return METHODS[config.method].run(experiment, config.settings), runner


def run_and_record(composed: DictConfig, folder: Path) -> None:
    """Check a configuration, run it, and leave its result on the terminal, in `folder` and in W&B."""
    config = check(composed)
    check_tracking(config.tracking.mode)
    begun = perf_counter()
    result, runner = execute(config)
    seconds = perf_counter() - begun
    terminal.show(result)
    record.write(config, result, runner.cost, seconds, folder)
    figure = figures.draw(result, folder)
    record_in_wandb(config, result, figure, folder)
    for line in terminal.cost_lines(runner.cost, seconds):
        print(f"  {line}")
    print(f"  recorded in {folder}")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _main(composed: DictConfig) -> None:
    try:
        run_and_record(composed, Path(HydraConfig.get().runtime.output_dir))
    except UserError as error:
        _complain(str(error))
    except OSError as error:
        _complain(_unusable(error))
    except KeyboardInterrupt:
        _complain(_how_to_resume(composed.store), _INTERRUPTED)


def _how_to_resume(store: str | None) -> str:
    """What a run that was stopped by hand leaves behind, and how to go on."""
    if not store:
        return "interrupted; nothing is kept (store=null)"
    jobs = Store(Path(store)).job_count()
    waiting = f", {jobs} jobs go on on the server and will be collected" if jobs else ""
    command = shlex.join(["python", "-m", "entitrack.run", *sys.argv[1:]])
    return f"interrupted; finished sessions are kept in {store}{waiting}; to go on: {command}"


def _unusable(error: OSError) -> str:
    """Which file or folder cannot be used, and why; any other error of the system goes on."""
    if error.filename is None:
        raise error
    return f"cannot use {str(error.filename)!r} ({error.strerror})"


def _complain(line: str, code: int = _USER_MISTAKE) -> None:
    """Say what is wrong, and leave; the exit code is that of a user's mistake."""
    print(f"entitrack: {line}", file=sys.stderr)
    raise SystemExit(code)


def main() -> None:
    """Entry point; a mistake in the configuration is one line on standard error and exit code 2."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    _hide_key()
    try:
        _main()
    except MissingConfigException as error:
        key = str(error.missing_cfg_file).rpartition("/")
        known = ", ".join(error.options or ())
        _complain(f"{key[0]}: there is no {key[0]} {key[2]!r}; available: {known}")
    except (HydraException, OmegaConfBaseException) as error:
        _complain(_explain(" ".join(str(error).split())))
    except OSError as error:
        _complain(_unusable(error))
    except KeyboardInterrupt:
        _complain("interrupted", _INTERRUPTED)


def _hide_key() -> None:
    """Move an API key from the command line to the environment: command lines are recorded."""
    given = [word for word in sys.argv if word.startswith(_KEY)]
    for word in given:
        os.environ["NDIF_API_KEY"] = word.removeprefix(_KEY)
        sys.argv.remove(word)


def _explain(message: str) -> str:
    """Hydra's complaint, with the keys that exist where it is about one that does not."""
    unknown = re.match(r"Could not override '([\w.]+)'", message)
    if not unknown:
        return message
    key = unknown[1]
    others = [word for word in sys.argv[1:] if not word.startswith("-") and not word.lstrip("+~").startswith(key)]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose("config", overrides=[word for word in others if "," not in word])
    section = OmegaConf.select(composed, key.rpartition(".")[0]) if "." in key else composed
    known = list(section) if isinstance(section, DictConfig) else []
    return str(UserError(key, "there is no such key", known))


if __name__ == "__main__":
    main()
