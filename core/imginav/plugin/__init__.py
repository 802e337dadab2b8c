"""What a plugin needs besides the classes that `imginav` itself has; docs/plugins.md describes each name.

Everything else of the core is internal, and may change in any version. A name is imported when it is asked for: some
need torch, which takes seconds to import.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imginav.errors import did_you_mean, in_one_line
    from imginav.files import DISK_FULL, sync_folder, umask, write_bytes, write_text
    from imginav.formatting import apart, format_duration
    from imginav.pixels import psnr_db, to_bytes, to_floats
    from imginav.plugin.checkpoint import Checkpoint, load_checkpoint
    from imginav.plugin.commands import Commands
    from imginav.plugin.components import MOST_CHANNELS, MOST_LAYOUTS, LossFunction, Sample, TrainsForOutputs
    from imginav.plugin.file_plugins import use_files
    from imginav.plugin.heads import Heads
    from imginav.plugin.palette import UNMATCHED, Palette
    from imginav.plugin.registry import Registry, installed
    from imginav.plugin.run_view import (
        BestEpoch,
        ComputeDevice,
        ConcludedPhase,
        EpochTotals,
        ExperimentState,
        FinishedRun,
        LoadedPhase,
        PhaseWinner,
        ProcessGroup,
        ResolvedRun,
        RunComponents,
        RunFiles,
        TrainingData,
        TrainingRun,
    )
    from imginav.plugin.validators import (
        MEMORY_UNITS,
        Check,
        above,
        at_least,
        between,
        bytes_of,
        duration,
        entry_names,
        file_name,
        from_to,
        one_line,
        seconds_of,
    )
    from imginav.processes.children import end_with_parent, living_process
    from imginav.processes.stop_request import block_signals, ignore_signals_in_worker
    from imginav.terminal import show_progress, shows_bars
    from imginav.verbosity import is_quiet
    from imginav_evaluation.csv_files import write_rows
    from imginav_evaluation.pictures import Pixels, grid, write_png
    from imginav_jobs.cluster import answer, ask, ranges

__all__ = [
    "DISK_FULL",
    "MEMORY_UNITS",
    "MOST_CHANNELS",
    "MOST_LAYOUTS",
    "UNMATCHED",
    "BestEpoch",
    "Check",
    "Checkpoint",
    "Commands",
    "ComputeDevice",
    "ConcludedPhase",
    "EpochTotals",
    "ExperimentState",
    "FinishedRun",
    "Heads",
    "LoadedPhase",
    "LossFunction",
    "Palette",
    "PhaseWinner",
    "Pixels",
    "ProcessGroup",
    "Registry",
    "ResolvedRun",
    "RunComponents",
    "RunFiles",
    "Sample",
    "TrainingData",
    "TrainingRun",
    "TrainsForOutputs",
    "above",
    "answer",
    "apart",
    "ask",
    "at_least",
    "between",
    "block_signals",
    "bytes_of",
    "did_you_mean",
    "duration",
    "end_with_parent",
    "entry_names",
    "file_name",
    "format_duration",
    "from_to",
    "grid",
    "ignore_signals_in_worker",
    "in_one_line",
    "installed",
    "is_quiet",
    "living_process",
    "load_checkpoint",
    "one_line",
    "psnr_db",
    "ranges",
    "seconds_of",
    "show_progress",
    "shows_bars",
    "sync_folder",
    "to_bytes",
    "to_floats",
    "umask",
    "use_files",
    "write_bytes",
    "write_png",
    "write_rows",
    "write_text",
]

_MODULES = {
    "imginav_evaluation.csv_files": "write_rows",
    "imginav.errors": "did_you_mean in_one_line",
    "imginav.files": "DISK_FULL sync_folder umask write_bytes write_text",
    "imginav.formatting": "apart format_duration",
    "imginav_evaluation.pictures": "Pixels grid write_png",
    "imginav.pixels": "psnr_db to_bytes to_floats",
    "imginav.plugin.checkpoint": "Checkpoint load_checkpoint",
    "imginav.plugin.commands": "Commands",
    "imginav.plugin.components": "MOST_CHANNELS MOST_LAYOUTS LossFunction Sample TrainsForOutputs",
    "imginav.plugin.file_plugins": "use_files",
    "imginav.plugin.heads": "Heads",
    "imginav.plugin.palette": "UNMATCHED Palette",
    "imginav.plugin.registry": "Registry installed",
    "imginav.plugin.run_view": (
        "BestEpoch ComputeDevice ConcludedPhase EpochTotals ExperimentState FinishedRun LoadedPhase "
        "PhaseWinner ProcessGroup ResolvedRun RunComponents RunFiles TrainingData TrainingRun"
    ),
    "imginav.plugin.validators": (
        "MEMORY_UNITS Check above at_least between bytes_of duration entry_names file_name from_to one_line seconds_of"
    ),
    "imginav.processes.children": "end_with_parent living_process",
    "imginav.processes.stop_request": "block_signals ignore_signals_in_worker",
    "imginav.terminal": "show_progress shows_bars",
    "imginav.verbosity": "is_quiet",
    "imginav_jobs.cluster": "answer ask ranges",
}
"""The names by the module that has them."""


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names.split():
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'imginav.plugin' has no attribute {name!r}")
