"""Work of a GPU that is recorded once as a CUDA graph and then replayed, without the program launching each kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

Tensors: TypeAlias = Mapping[str, Tensor]

Function: TypeAlias = Callable[[Tensors], dict[str, Tensor]]
"""Computes tensors from tensors; what else it reads lies at the same place each time, as weights do."""

WARM_UP_CALLS = 3
"""With inputs of the same shapes, before they are recorded: libraries choose their kernels in the first ones."""

MOST_SHAPES = 4
"""Each recording keeps the memory that its work needs; inputs of further shapes are computed without one."""

TOLERANCE = 1e-2
"""By which a replay may differ from what was computed just before it, as a share of its norm."""

SMALL = 1e-3
"""Of the largest norm: a tensor below it, such as a gradient that is zero but for rounding, counts as this large."""


class Recording(Protocol):
    """What was recorded: each replay computes `outputs` anew, in place."""

    outputs: dict[str, Tensor]

    def replay(self) -> None: ...


class CudaRecording:
    """A CUDA graph."""

    def __init__(self, compute: Callable[[], dict[str, Tensor]]) -> None:
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self.outputs = compute()

    def replay(self) -> None:
        self._graph.replay()


class Captured:
    """A function that is recorded for each combination of its inputs' shapes, once it has been called some times.

    Where it cannot be recorded, or the first replay does not give what the function gave, it is called as before, and
    `note` is told why.
    """

    def __init__(
        self,
        function: Function,
        record: Callable[[Callable[[], dict[str, Tensor]]], Recording],
        note: Callable[[str], None],
    ) -> None:
        self._function = function
        self._record = record
        self._note = note
        self._refused = False
        self._calls: Counter[object] = Counter()
        self._recorded: dict[object, tuple[Recording, dict[str, Tensor]]] = {}

    def __call__(self, inputs: Tensors) -> dict[str, Tensor]:
        """Return what the function gives; the tensors may be overwritten by the next call."""
        key = tuple((name, tensor.shape, tensor.dtype, tensor.stride()) for name, tensor in sorted(inputs.items()))
        self._calls[key] += 1
        if key not in self._recorded:
            outputs = self._function(inputs)
            if self._calls[key] >= WARM_UP_CALLS and len(self._recorded) < MOST_SHAPES and not self._refused:
                return self._begin_recording(key, inputs, outputs)
            return outputs
        recording, places = self._recorded[key]
        for name, place in places.items():
            place.copy_(inputs[name])
        recording.replay()
        return recording.outputs

    def _begin_recording(self, key: object, inputs: Tensors, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Record the function for inputs of which the outputs are known; return the outputs of these inputs."""
        places = {name: tensor.clone() for name, tensor in inputs.items()}
        expected = {name: tensor.clone() for name, tensor in outputs.items()}
        try:
            recording = self._record(lambda: self._function(places))
            recording.replay()
        except RuntimeError as error:  # as for a loss that reads a value; torch's OutOfMemoryError is one as well
            return self._refuse(f"torch refuses to record a step ({_first_line(error)})", inputs)
        if far := _farthest(recording.outputs, expected):
            return self._refuse(f"replayed, a step gave another {far.strip('/')}", inputs)
        self._recorded[key] = recording, places
        return recording.outputs

    def _refuse(self, reason: str, inputs: Tensors) -> dict[str, Tensor]:
        self._refused = True
        self._note(f"machine.capture = true has no effect: {reason}")
        return self._function(inputs)


def _first_line(error: RuntimeError) -> str:
    return " ".join(str(error).partition("\n")[0].split())[:200]


def _farthest(actual: Tensors, expected: Tensors) -> str:
    """Return the first name under which tensors differ by more than rounding can explain, or nothing."""
    norms = {name: torch.linalg.vector_norm(tensor.double()) for name, tensor in expected.items()}
    negligible = SMALL * max(norms.values())
    for name, norm in norms.items():
        difference = torch.linalg.vector_norm(actual[name].double() - expected[name].double())
        if not bool(difference <= TOLERANCE * torch.maximum(norm, negligible)):
            return name
    return ""
