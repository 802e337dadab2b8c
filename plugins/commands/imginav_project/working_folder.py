"""`imginav init`: a folder to work in, with phases to change and a site file that explains itself."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from importlib import resources
from pathlib import Path

from imginav.errors import UserError
from imginav.files import PART, umask, write_error, write_text
from imginav.manifest.site import SITE_FILE
from imginav.study.phase_files import PHASES, packaged_phases


def begin(folder: Path) -> None:
    """Write `phases/` and `imginav.toml` into a folder, which is made if it is missing.

    Raises UserError, and writes nothing, if one of them exists or the folder cannot be written.
    """
    for name in (PHASES, SITE_FILE):
        if (folder / name).exists() or (folder / name).is_symlink():
            raise UserError(
                f"{folder / name} exists, and imginav init overwrites nothing; move it away, or name another folder"
            )
    _copy(packaged_phases(), folder / PHASES)
    write_text(folder / SITE_FILE, resources.files(__package__).joinpath("templates/site.toml").read_text("utf-8"))


def next_steps(folder: Path) -> str:
    """Return what was written, and the commands to type next."""
    go = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
    return (
        f"wrote {folder / PHASES}/ (the phases, to run and to change) and {folder / SITE_FILE} (your images, where "
        "files go, the GPU)\n\n"
        "next:\n"
        f"  {go}imginav run 1.5 --quick    # train an autoencoder on embedded layouts, to see that all is well\n"
        f"  imginav check    # after each change of a phase or of {SITE_FILE}\n"
        "  imginav study    # all phases, one after the other"
    )


def _copy(source: Path, target: Path) -> None:
    """Copy a folder, whole or not at all."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=PART, dir=target.parent))
    except OSError as error:
        raise write_error(target, error) from error
    try:
        shutil.copytree(source, beside, dirs_exist_ok=True, copy_function=shutil.copyfile)
        beside.chmod(0o777 & ~umask())
        beside.rename(target)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise UserError(f"cannot copy {source} to {target}: {error}; choose another folder") from error
