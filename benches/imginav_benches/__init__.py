"""What the benches share: what is measured, how, and the tables at the end."""

from imginav_benches.cases import Case, cases_of, missing
from imginav_benches.coder import Coder
from imginav_benches.measuring import Pace, measure_in_turns, measure_passes, peak_bytes_of
from imginav_benches.subjects import ORIGINAL, Subject, arms, chosen, same_network_once

__all__ = [
    "ORIGINAL",
    "Case",
    "Coder",
    "Pace",
    "Subject",
    "arms",
    "cases_of",
    "chosen",
    "measure_in_turns",
    "measure_passes",
    "missing",
    "peak_bytes_of",
    "same_network_once",
]
