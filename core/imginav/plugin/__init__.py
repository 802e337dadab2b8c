"""What a plugin needs besides the classes that `imginav` itself has; docs/plugins.md describes each name.

Everything else of the core is internal, and may change in any version. A name is imported when it is asked for: some
need torch, which takes seconds to import.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imginav.csv_files import write_rows
    from imginav.errors import did_you_mean, in_one_line
    from imginav.files import DISK_FULL, sync_folder, umask, write_bytes, write_text
    from imginav.formatting import apart, format_duration
    from imginav.image_files import (
        UnusableImageError,
        digest_of,
        fault_of,
        ignore_warnings_of_pillow,
        read_image,
        read_image_with_digest,
    )
    from imginav.pictures import Pixels, grid, write_png
    from imginav.pixels import psnr_db, to_bytes, to_floats
    from imginav.plugin.checkpoint import Checkpoint, load_checkpoint
    from imginav.plugin.cluster import MEMORY_UNITS, answer, ask, bytes_of, ranges
    from imginav.plugin.commands import Commands
    from imginav.plugin.components import MOST_LAYOUTS, LossFunction, Sample
    from imginav.plugin.heads import Heads
    from imginav.plugin.palette import UNMATCHED, Palette
    from imginav.plugin.registry import Registry
    from imginav.plugin.run_view import (
        BestEpoch,
        ComputeDevice,
        ConcludedPhase,
        EpochTotals,
        ExperimentState,
        FinishedRun,
        PhaseFiles,
        PhaseWinner,
        ProcessGroup,
        ResolvedRun,
        RunFiles,
        TrainingData,
        TrainingRun,
    )
    from imginav.plugin.validators import (
        Check,
        above,
        at_least,
        between,
        duration,
        entry_names,
        file_name,
        from_to,
        one_line,
        seconds_of,
    )
    from imginav.processes.living import living_process
    from imginav.processes.stop_request import block_signals, ignore_signals_in_worker
    from imginav.terminal import show_progress

__all__ = [
    "DISK_FULL",
    "MEMORY_UNITS",
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
    "LossFunction",
    "Palette",
    "PhaseFiles",
    "PhaseWinner",
    "Pixels",
    "ProcessGroup",
    "Registry",
    "ResolvedRun",
    "RunFiles",
    "Sample",
    "TrainingData",
    "TrainingRun",
    "UnusableImageError",
    "above",
    "answer",
    "apart",
    "ask",
    "at_least",
    "between",
    "block_signals",
    "bytes_of",
    "did_you_mean",
    "digest_of",
    "duration",
    "entry_names",
    "fault_of",
    "file_name",
    "format_duration",
    "from_to",
    "grid",
    "ignore_signals_in_worker",
    "ignore_warnings_of_pillow",
    "in_one_line",
    "living_process",
    "load_checkpoint",
    "one_line",
    "psnr_db",
    "ranges",
    "read_image",
    "read_image_with_digest",
    "seconds_of",
    "show_progress",
    "sync_folder",
    "to_bytes",
    "to_floats",
    "umask",
    "write_bytes",
    "write_png",
    "write_rows",
    "write_text",
]

_MODULES = {
    "BestEpoch": "imginav.plugin.run_view",
    "Check": "imginav.plugin.validators",
    "Checkpoint": "imginav.plugin.checkpoint",
    "Commands": "imginav.plugin.commands",
    "ComputeDevice": "imginav.plugin.run_view",
    "ConcludedPhase": "imginav.plugin.run_view",
    "DISK_FULL": "imginav.files",
    "EpochTotals": "imginav.plugin.run_view",
    "ExperimentState": "imginav.plugin.run_view",
    "FinishedRun": "imginav.plugin.run_view",
    "Heads": "imginav.plugin.heads",
    "LossFunction": "imginav.plugin.components",
    "MEMORY_UNITS": "imginav.plugin.cluster",
    "MOST_LAYOUTS": "imginav.plugin.components",
    "Palette": "imginav.plugin.palette",
    "PhaseFiles": "imginav.plugin.run_view",
    "PhaseWinner": "imginav.plugin.run_view",
    "Pixels": "imginav.pictures",
    "ProcessGroup": "imginav.plugin.run_view",
    "Registry": "imginav.plugin.registry",
    "ResolvedRun": "imginav.plugin.run_view",
    "RunFiles": "imginav.plugin.run_view",
    "Sample": "imginav.plugin.components",
    "TrainingData": "imginav.plugin.run_view",
    "TrainingRun": "imginav.plugin.run_view",
    "UNMATCHED": "imginav.plugin.palette",
    "UnusableImageError": "imginav.image_files",
    "above": "imginav.plugin.validators",
    "answer": "imginav.plugin.cluster",
    "apart": "imginav.formatting",
    "ask": "imginav.plugin.cluster",
    "at_least": "imginav.plugin.validators",
    "between": "imginav.plugin.validators",
    "bytes_of": "imginav.plugin.cluster",
    "did_you_mean": "imginav.errors",
    "digest_of": "imginav.image_files",
    "duration": "imginav.plugin.validators",
    "entry_names": "imginav.plugin.validators",
    "fault_of": "imginav.image_files",
    "file_name": "imginav.plugin.validators",
    "format_duration": "imginav.formatting",
    "from_to": "imginav.plugin.validators",
    "grid": "imginav.pictures",
    "block_signals": "imginav.processes.stop_request",
    "ignore_warnings_of_pillow": "imginav.image_files",
    "in_one_line": "imginav.errors",
    "ignore_signals_in_worker": "imginav.processes.stop_request",
    "living_process": "imginav.processes.living",
    "load_checkpoint": "imginav.plugin.checkpoint",
    "one_line": "imginav.plugin.validators",
    "psnr_db": "imginav.pixels",
    "ranges": "imginav.plugin.cluster",
    "read_image": "imginav.image_files",
    "read_image_with_digest": "imginav.image_files",
    "seconds_of": "imginav.plugin.validators",
    "show_progress": "imginav.terminal",
    "sync_folder": "imginav.files",
    "to_bytes": "imginav.pixels",
    "to_floats": "imginav.pixels",
    "umask": "imginav.files",
    "write_bytes": "imginav.files",
    "write_png": "imginav.pictures",
    "write_rows": "imginav.csv_files",
    "write_text": "imginav.files",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'imginav.plugin' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
