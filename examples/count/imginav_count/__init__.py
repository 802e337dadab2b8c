"""The command `imginav count`."""

from pathlib import Path

from imginav import hookimpl, load_phase


def count(options):
    """Count the layouts that the experiments of a phase are trained and validated on."""
    for run in load_phase(options.phase, options).experiments:
        print(f"{run.name}: {len(run.manifest.data.open())} layouts")
    return 0


def add_arguments(command):
    command.add_argument("phase", type=Path, help="the phase's manifest, such as phases/1_5.toml")


@hookimpl
def imginav_commands(commands):
    commands.add("count", count, add_arguments, options=("loading", "scale"))
