"""What Hydra and OmegaConf complain about, as one line that names the key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from entitrack.core.errors import UserError

_QUOTE = "quote values with spaces, commas or brackets twice, as in 'key=\"a, b\"'"
CONFIGURATION = "configuration"
"""Where something is wrong, if no key can be named."""


@contextmanager
def explain_composition(words: Sequence[str]) -> Iterator[None]:
    """Turn whatever goes wrong in composing a configuration into one line: all of it comes from what a user wrote."""
    try:
        yield
    except (UserError, KeyboardInterrupt, OSError) as error:
        if isinstance(error, MissingConfigException):
            raise _missing(error) from error
        raise
    except OverrideParseException as error:
        raise UserError(key_of(error.override), f"cannot be read ({_reason(error)})", fix=_QUOTE) from error
    except HydraException as error:
        raise _composition(error) from error
    except OmegaConfBaseException as error:
        raise omegaconf_error(error) from error
    except MarkedYAMLError as error:
        raise UserError(_yaml_place(error), f"cannot be read ({error.problem})") from error
    except UserWarning as error:  # of a folder that is not there
        raise UserError("hydra.searchpath", " ".join(str(error).split())) from error
    except RecursionError as error:
        raise UserError(_longest(words), "is nested too deeply") from error
    except Exception as error:
        place = key_of(words[0]) if len(words) == 1 else CONFIGURATION
        raise UserError(place, f"cannot be composed ({type(error).__name__}: {_first_line(error)})") from error


def omegaconf_error(error: OmegaConfBaseException, place: str = "") -> UserError:
    """What is wrong with a value, and where."""
    where = ".".join(part for part in (place, str(error.full_key or error.key or "")) if part)
    return UserError(where or CONFIGURATION, _first_line(error))


def key_of(word: str) -> str:
    """The key that a word of the command line is about."""
    return word.partition("=")[0].strip().lstrip("+~").rstrip(".")


def _missing(error: MissingConfigException) -> UserError:
    group, _, name = str(error.missing_cfg_file).removesuffix(".yaml").rpartition("/")
    if not group:
        return UserError("--config-name", f"there is no configuration {name!r}")
    return UserError(group, f"there is no {group} {name!r}", error.options or ())


def _composition(error: HydraException) -> UserError:
    """Hydra's complaint about a whole configuration."""
    text, cause = str(error), error.__cause__
    for pattern, problem, fix in _KNOWN:
        known = re.search(pattern, text)
        if known:
            return UserError(key_of(known["key"]), problem, fix=fix)
    if isinstance(cause, OmegaConfBaseException):
        merged = re.match(r"Error merging override (?P<word>.*)", text, re.DOTALL)
        return UserError(key_of(merged["word"]), _first_line(cause)) if merged else omegaconf_error(cause)
    return UserError(CONFIGURATION, " ".join(text.split()))


_KNOWN = (
    (
        r"Ambiguous value for argument '(?P<key>[^=']*)",
        "several values",
        "add --multirun to run each of them, or write [a,b] for a list",
    ),
    (r"Sweep parameters '(?P<key>[^=']*)", "several values", "add --multirun to run each of them"),
    (r"Could not delete from config\. '(?P<key>[^']*)' does not exist", "there is no such key", ""),
    (r"Could not delete from config\. The value of '(?P<key>[^']*)'", "has another value than the one to delete", ""),
    (r"Could not (?:override|append|delete) '(?P<key>[^']*)'", "there is no such key or group of configurations", ""),
    (
        r"Override (?P<key>\S+) looks like a config group override",
        "there is no such group of configurations",
        "",
    ),
    (r"Multiple values for (?P<key>[\w/.-]+)", "is given twice", "give it once"),
)
"""Pattern with the key, what is wrong, what to do."""


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _reason(error: BaseException) -> str:
    """What a parser stumbled over, without the list of everything that it would have taken."""
    lines = [line for line in str(error).strip().splitlines() if not line.startswith("Error parsing override")]
    return re.sub(r" expecting \{.*\}", "", lines[0] if lines else _first_line(error))


def _yaml_place(error: MarkedYAMLError) -> str:
    mark = error.problem_mark
    return f"{mark.name}:{mark.line + 1}" if mark else CONFIGURATION


def _longest(words: Sequence[str]) -> str:
    return key_of(max(words, key=len, default=""))
