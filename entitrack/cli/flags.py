"""The words of a command line, told apart: flags, and overrides of the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from entitrack.core.errors import UserError

VERSION_BASE = "1.3"
"""The version of Hydra whose ways are followed."""


@dataclass(frozen=True)
class Flags:
    """A command line.

    Attributes:
        words: All of it.
        overrides: The words that are no flags.
        help: It asks what can be set.
        asks_hydra: It asks for something that Hydra tells: the composed configuration, where it comes from.
        multirun: It asks for a run of every combination.
        config_name: Name of the primary configuration.
        config_dir: A folder of configurations of one's own.
    """

    words: tuple[str, ...]
    overrides: tuple[str, ...]
    help: bool
    asks_hydra: bool
    multirun: bool
    config_name: str
    config_dir: Path | None


def _refuse(message: str) -> NoReturn:
    raise UserError("command line", message, fix="see --help")


def parse(words: Sequence[str]) -> Flags:
    """Tell the words of a command line apart.

    Raises:
        UserError: There is no such flag, or one that is not taken here.
    """
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]
    given = parser.parse_intermixed_args(list(words))
    for flag in ("config_path", "experimental_rerun"):
        if getattr(given, flag) is not None:
            raise UserError(f"--{flag.replace('_', '-')}", "is not taken here", ["--config-dir", "--config-name"])
    if given.config_dir is not None and not Path(given.config_dir).is_dir():
        raise UserError("--config-dir", f"no folder {given.config_dir!r}")
    return Flags(
        words=tuple(words),
        overrides=tuple(given.overrides),
        help=given.help,
        asks_hydra=any((given.hydra_help, given.cfg, given.info, given.shell_completion)),
        multirun=given.multirun,
        config_name=given.config_name or "config",
        config_dir=Path(given.config_dir) if given.config_dir is not None else None,
    )
