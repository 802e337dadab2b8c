"""Which file a user means by a phase: a path, or the number or name of a phase of the working folder or of imginav."""

from __future__ import annotations

from pathlib import Path

from imginav.errors import UserError, did_you_mean
from imginav.manifest.reading import read_toml

PHASES = Path("phases")
"""The folder of a study's phases, in the working folder."""


def packaged_phases() -> Path:
    """Return the folder of the phases that come with imginav: inside the package, or at the top of a checkout."""
    package = Path(__file__).parents[1]
    return next((at for at in (package / PHASES, package.parents[1] / PHASES) if at.is_dir()), package / PHASES)


def study_folder() -> Path:
    """Return the phases that a command without a path means: those of the working folder, or else the packaged ones."""
    if PHASES.is_dir():
        return PHASES
    return Path() if any(_phases(Path()).values()) else packaged_phases()


def phase_file(text: str) -> Path:
    """Return the file of a phase: `text` is its path, or its number or name, such as 1.5, 1_5 or baseline/1_5_original.

    Numbers and names are those of `phases/`, of the working folder, and of the packaged phases, in this order. Raises
    UserError for what is none of them.
    """
    if found := find_phase(text):
        return found
    known = {name: folder for folder in (packaged_phases(), Path(), PHASES) for name in _names(folder)}
    folders = list(dict.fromkeys(reversed(known.values())))
    there = [f"{', '.join(name for name in known if known[name] == folder)} in {folder}" for folder in folders]
    hint = "; imginav init copies these into a folder of yours" if folders == [packaged_phases()] else ""
    name = _name(Path(text))
    meant = did_you_mean(name, known) or did_you_mean(name.replace("_", "."), known)
    raise UserError(f"{text}: no such file or phase{meant}; there are {' and '.join(there) or 'none'}{hint}")


def find_phase(text: str) -> Path | None:
    """Return what `phase_file` does, or None if there is no such file or phase."""
    path = Path(text)
    return path if _exists(path) else next(filter(None, map(_phase_at, _places(path))), None)


def study_path(text: str) -> Path:
    """Return the folder of this name; `phases/` is that of the packaged phases if the working folder has none."""
    path = Path(text)
    return path if _exists(path) else next((place for place in _places(path) if place.is_dir()), path)


def phase_or_folder(text: str) -> Path:
    """Return the folder that `study_path` finds, or else the file that `phase_file` finds."""
    return folder if _exists(folder := study_path(text)) else phase_file(text)


def _places(path: Path) -> tuple[Path, ...]:
    """Return where a path that does not exist may lead to."""
    if path.parts[:1] == PHASES.parts and not _exists(PHASES):
        return (packaged_phases().joinpath(*path.parts[1:]),)
    return (path,) if path.is_absolute() else (PHASES / path, path, packaged_phases() / path)


def _phase_at(place: Path) -> Path | None:
    """Return the phase whose file has this name, with or without its suffix, or else the one of this number."""
    known, name = _phases(place.parent), _name(place)
    for path in known:
        if path.stem in (name, name.replace(".", "_")):
            return path
    same = [path for path, number in known.items() if number == name]
    if len(same) > 1:
        raise UserError(f"{' and '.join(map(str, same))} are both phase {name}; name the file")
    return same[0] if same else None


def _phases(folder: Path) -> dict[Path, str]:
    """Return the phases of a folder with their numbers.

    A phase without a readable number has none here: whoever loads it says what is wrong with it.
    """
    found = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            tables = read_toml(path)
        except UserError:
            found[path] = ""
        else:
            if "phase" in tables:
                number = tables["phase"].get("id") if isinstance(tables["phase"], dict) else None
                found[path] = number if isinstance(number, str) else ""
    return found


def _names(folder: Path) -> list[str]:
    """Return the numbers and names of the phases in a folder, and in the folders of a folder of phases."""
    own = [number or path.stem for path, number in _phases(folder).items()]
    inside = [] if folder == Path() else sorted(path for path in folder.glob("*") if path.is_dir())
    return own + [f"{path.name}/{phase.stem}" for path in inside for phase in _phases(path)]


def _name(path: Path) -> str:
    return path.name.removesuffix(".toml")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # whoever reads it says what is wrong with it
        return True
