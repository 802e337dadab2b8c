"""The trainings of the flow probe, one for each seed: how they resume, their samples, and what these show."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import evolve
from torch import Tensor

from imginav.errors import UserError
from imginav.files import write_bytes
from imginav.plugin.checkpoint import DAMAGES
from imginav.processes.stop_request import Interrupted
from imginav.runs.evaluation_result import ProbeMetric
from imginav.seeds import Seeds
from imginav.terminal import show_progress
from imginav.training.device import Device
from imginav.verbosity import unless_quiet
from imginav_probe.flow_model import FlowTransformer
from imginav_probe.flow_settings import Settings
from imginav_probe.flow_training import FlowTraining, sample, shift_of
from imginav_probe.probe import ProbeSubject, Workplace
from imginav_probe.sample_metrics import MORE_IS_BETTER, definitions
from imginav_probe.truth import Truth, control_metrics

SAMPLED_AT_ONCE = 128

SAVED_EVERY = 50
"""Steps between two saves of the state; it is also saved after the last step, and where it is asked to stop."""

TIMED_STEPS = 4
"""Steps from which the time of all is foretold, the fastest of them."""

STATE = "state.pt"

RATES = (0.02, 2e-3)
"""Peak learning rates of Muon and of AdamW."""


def measure_flow(
    subject: ProbeSubject, settings: Settings, workplace: Workplace, *, walls: bool
) -> dict[str, ProbeMetric]:
    """Train and measure with each seed, going on from the state in the workplace's folder."""
    subject = evolve(subject, windows=evolve(subject.windows, side=settings.window))
    if settings.window % subject.latents.factor:
        raise UserError(
            f"the probe flow cannot look at windows of {settings.window} pixels: a cell of the latent has "
            f"{subject.latents.factor}; set its window to a multiple of that"
        )
    truth = Truth.of(subject, settings.samples, workplace, walls=walls)
    state = _load_state(workplace.folder / STATE)
    done: list[dict[str, float]] = state.get("done", [])
    for seed in range(len(done), settings.seeds):
        run = FlowRun(subject, settings, seed, truth, workplace, done, state.pop("found", {}))
        if not run.found:
            run.unconditional(state.pop("free", None))
        if walls:
            run.conditional(state.pop("walls", None))
        done.append(run.found)
        run.save({}, found={})
        unless_quiet(workplace.log)(f"seed {len(done)} of {settings.seeds}: FDD {run.found['fdd']:.3g}")
    return {
        name: ProbeMetric(
            values=tuple(found[name] for found in done),
            definition=f"{text}; {settings.described}",
            more_is_better=name in MORE_IS_BETTER,
            floor=truth.floors.get(name),
            reconstructed=truth.reconstructed.get(name),
        )
        for name, text in definitions(control=walls).items()
        if name in done[0]
    }


def seconds_of(settings: Settings, channels: int, side: int, device: Device) -> float:
    """Return how long one training and its samples take for latents (N, channels, side, side), from a few steps."""
    model = FlowTransformer(channels, side, settings.window, width=settings.width, depth=settings.depth)
    training = FlowTraining(model.to(device.device), Seeds(0), settings.steps, 1.0, RATES)
    latents = torch.randn(settings.batch_size, channels, side, side, device=device.device)
    took = []
    for _ in range(TIMED_STEPS):
        began = time.monotonic()
        training.advance(latents, None, device.autocast)
        device.wait()
        took.append(time.monotonic() - began)
    began = time.monotonic()
    sample(model, latents, None, 1.0, device.autocast)
    device.wait()
    sampled = (time.monotonic() - began) / len(latents)
    return settings.steps * min(took) + settings.samples * sampled


class FlowRun:
    """One seed of the probe: its training, its samples, and what they show."""

    def __init__(
        self,
        subject: ProbeSubject,
        settings: Settings,
        seed: int,
        truth: Truth,
        workplace: Workplace,
        done: list[dict[str, float]],
        found: dict[str, float],
    ) -> None:
        """Go on with the metrics `found` for this seed so far; those of the seeds before it are `done`."""
        self.found = found
        self._subject, self._settings, self._truth = subject, settings, truth
        self._workplace, self._done, self._number = workplace, done, seed
        self._seeds = Seeds(seed)
        self._side = subject.windows.side
        self._device = subject.device.device
        self._cells = subject.latents.cells(self._side)
        self._shift = shift_of(subject.latents.channels * self._cells**2)

    def save(self, training: Mapping[str, Any], found: Mapping[str, float] | None = None) -> None:
        """Keep the results so far, and the state of the training that is going on."""
        buffer = io.BytesIO()
        torch.save({"done": self._done, "found": self.found if found is None else found, **training}, buffer)
        write_bytes(self._workplace.folder / STATE, buffer.getbuffer())

    def unconditional(self, state: dict[str, Any] | None) -> None:
        """Train the model, and measure its samples; of the first seed, draw them."""
        training = self._train("free", state, condition=0)
        images = self._subject.decode(self._sample(training, None))
        if self._number == 0:
            self._truth.draw(images, self._workplace.folder)
        self.found |= self._truth.metrics(images)

    def conditional(self, state: dict[str, Any] | None) -> None:
        """Train the model that is given walls, and measure how well those of validation layouts come back."""
        training = self._train("walls", state, condition=1)
        given = self._truth.validation_walls
        images = self._subject.decode(self._sample(training, torch.from_numpy(given[:, None]).float()))
        found = self._truth.walls_of(images)
        if self._number == 0:
            self._truth.draw_control(images, self._workplace.folder)
        self.found |= control_metrics(given, found)

    def _train(self, name: str, state: dict[str, Any] | None, *, condition: int) -> FlowTraining:
        subject, settings = self._subject, self._settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seeds.derive(name, "initialisation"))
            model = FlowTransformer(
                subject.latents.channels,
                self._cells,
                self._side,
                width=settings.width,
                depth=settings.depth,
                condition=condition,
            )
        training = FlowTraining(model.to(self._device), self._seeds, settings.steps, self._shift, RATES)
        if state is not None:
            training.load_state_dict(state)
        steps = range(training.step, settings.steps)
        what = f"training the probe, seed {self._number + 1} of {settings.seeds}{', walls' if condition else ''}"
        try:
            for step in show_progress(self._workplace.unless_stopped(steps), what, len(steps)):
                training.advance(*self._batch(step, condition=condition), subject.device.autocast)
                if training.step % SAVED_EVERY == 0 or training.step == settings.steps:
                    self.save({name: training.state_dict()})
        except Interrupted:
            self.save({name: training.state_dict()})
            raise
        training.use_average()
        return training

    def _batch(self, step: int, *, condition: int) -> tuple[Tensor, Tensor | None]:
        """Return the latents of a step, drawn anew, and the walls of the same windows."""
        subject = self._subject
        generator = self._seeds.generator("batch", step)
        layouts = range(len(subject.training.indices))
        places = subject.windows.draw(self._settings.batch_size, layouts, generator)
        latents = subject.latents.of(places, self._side, generator).to(self._device)
        if not condition:
            return latents, None
        walls = self._truth.is_wall(subject.training.classes(places, self._side))
        return latents, torch.from_numpy(walls[:, None]).float().to(self._device)

    def _sample(self, training: FlowTraining, condition: Tensor | None) -> Tensor:
        """Return samples, as many as are measured; with a condition one for each of it."""
        count = self._settings.samples if condition is None else len(condition)
        shape = (count, self._subject.latents.channels, self._cells, self._cells)
        noise = torch.randn(shape, generator=self._seeds.generator("samples"))
        parts = list(range(0, count, SAMPLED_AT_ONCE))
        model = training.model.eval()
        drawn = []
        for start in show_progress(self._workplace.unless_stopped(parts), "sampling", len(parts)):
            part = slice(start, start + SAMPLED_AT_ONCE)
            given = None if condition is None else condition[part].to(self._device)
            drawn.append(sample(model, noise[part].to(self._device), given, self._shift, self._subject.device.autocast))
        return torch.cat(drawn)


def _load_state(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGES:
        return {}  # there is none, or it is damaged: it begins anew
    return state
