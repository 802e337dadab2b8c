"""The kinds of plugins that `imginav new plugin` can write."""

from __future__ import annotations

COMMAND = "command"
"""The kind that is not a component."""

KINDS = {
    "callback": "Callback",
    "cluster": "Cluster",
    COMMAND: "Command",
    "dataset": "Dataset",
    "decoder": "Decoder",
    "encoder": "Encoder",
    "exporter": "Exporter",
    "head": "Head",
    "loss": "Loss",
    "lr_schedule": "LRSchedule",
    "metric": "Metric",
    "optimizer": "Optimizer",
    "probe": "Probe",
    "selector": "Selector",
}
"""Each kind with the last word of its class's name."""
