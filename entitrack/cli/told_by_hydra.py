"""What Hydra itself has to tell: its own help, the composed configuration, where it comes from."""

from __future__ import annotations

import contextlib
import io
import sys

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from entitrack.cli.command_line import Job, composer
from entitrack.cli.config import CONF
from entitrack.cli.flags import VERSION_BASE, Flags
from entitrack.cli.hydra_errors import explain_composition
from entitrack.core.confidential import Keys
from entitrack.core.errors import UserError


def tell(flags: Flags, keys: Keys) -> str:
    """What the flags ask of Hydra, without keys."""
    with composer(flags) as jobs, contextlib.suppress(UserError):
        keys.add(jobs.compose(Job(flags.overrides)).key)
    others = [*flags.words]
    for word in flags.overrides:
        others.remove(word)

    @hydra.main(version_base=VERSION_BASE, config_path=str(CONF), config_name="config")
    def nothing(config: DictConfig) -> None:
        """Nothing is run."""

    told, before = io.StringIO(), sys.argv
    sys.argv = [before[0], *flags.overrides, *others]  # Hydra takes them in this order alone
    try:
        with contextlib.redirect_stdout(told), explain_composition(flags.words):
            nothing()
    except SystemExit as stop:
        if stop.code:
            raise UserError("command line", "Hydra cannot show this", fix="see --hydra-help") from stop
    finally:
        sys.argv = before
        GlobalHydra.instance().clear()
    return keys.hide(told.getvalue())
