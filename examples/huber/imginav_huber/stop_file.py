from attrs import frozen

from imginav import Callback, hookimpl


@frozen(kw_only=True)
class StopFile(Callback):
    """End the training after the epoch in which a file of this name appears in the run folder."""

    name: str = "STOP"  # relative to the run folder

    def build(self):
        return Watcher(self.name)


class Watcher:
    def __init__(self, name):
        self.name = name

    @hookimpl
    def run_started(self, folder):
        self.path = folder.root / self.name

    @hookimpl
    def epoch_finished(self, trainer):
        if self.path.exists():
            trainer.stop(f"{self.path} is there")
