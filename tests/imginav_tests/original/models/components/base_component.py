"""Modules that are built from a config, keep it, and are saved with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

PLAIN = (int, float, str, bool, list, dict, type(None))


class BaseComponent(nn.Module):
    """Keeps its settings, those too that it does not know, as attributes and in `_init_kwargs`, and builds itself."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self._init_kwargs = settings
        for name, value in settings.items():
            setattr(self, name, value)
        self._build()

    def _build(self) -> None:
        """Build the layers."""

    @classmethod
    def from_config(cls, cfg: dict[str, Any]) -> Any:
        table = dict(cfg.get("model", cfg))
        table.pop("type", None)
        return cls(**table)

    def to_config(self) -> dict[str, Any]:
        kept = {name: value for name, value in self._init_kwargs.items() if isinstance(value, PLAIN)}
        return {"type": type(self).__name__, **kept}

    def save_checkpoint(self, path: str | Path) -> None:
        torch.save({"state_dict": self.state_dict(), "config": self.to_config()}, path)

    @classmethod
    def load_checkpoint(cls, path: str | Path, map_location: str = "cpu") -> Any:
        return cls._loaded(path, map_location, strict=False)  # so that weights that fit nothing are silently left out

    @classmethod
    def _loaded(cls, path: str | Path, map_location: str, *, strict: bool) -> Any:
        held = torch.load(path, map_location=map_location)
        config = held.get("config")
        made = cls.from_config(config) if config else cls()
        made.load_state_dict(held["state_dict"], strict=strict)
        return made

    def freeze(self) -> None:
        self.requires_grad_(requires_grad=False)
