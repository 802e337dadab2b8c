"""Images to latents."""

from __future__ import annotations

from torch import Tensor, nn

from models.components.base_component import BaseComponent


def block(convolution: nn.Module, width: int, groups: int, activation: nn.Module) -> list[nn.Module]:
    return [convolution, nn.GroupNorm(groups, width), activation]


class Encoder(BaseComponent):
    def _build(self) -> None:
        given = self._init_kwargs.get
        self.variational = given("variational", False)
        activation = getattr(nn, given("activation", "SiLU"))()
        before, width, groups = given("in_channels", 3), given("base_channels", 64), given("norm_groups", 8)
        layers: list[nn.Module] = []
        for _ in range(given("downsampling_steps", 4)):
            layers += block(nn.Conv2d(before, width, 3, padding=1), width, groups, activation)
            layers += block(nn.Conv2d(width, width, 4, stride=2, padding=1), width, groups, activation)
            before, width = width, width * 2
        layers += block(nn.Conv2d(before, before, 3, padding=1), before, groups, activation)
        self.feature_extractor = nn.Sequential(*layers)
        for name in ("mu_head", "logvar_head") if self.variational else ("latent_proj",):
            setattr(self, name, nn.Conv2d(before, given("latent_channels", 4), 1))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.feature_extractor(x)
        if self.variational:
            return {"mu": self.mu_head(features), "logvar": self.logvar_head(features), "latent_features": features}
        return {"latent": self.latent_proj(features), "latent_features": features}
