"""A backbone that stays as it was: statistics at several depths, each kind reduced to white principal components.

What the last layer pools knows objects. Its generalised mean (GeM; Radenovic, Tolias and Chum 2018) keeps what stands out in
one part of a picture, and means and deviations of earlier stages know textures and light. Whitening (Jegou and Chum 2012) keeps
the few directions in which photographs vary most from drowning the others. Each kind has unit length, and the share of a
cosine that the experiment gives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from geofix.errors import ConfigurationError
from geofix_training.experiment import BackboneConfig
from geofix_training.networks import TimmBackbone
from geofix_training.reduction import Reduction, fit_reduction
from geofix_training.rounding import round_weights, rounded_columns

KINDS = 3
"""Kinds of statistics that a network is read for."""
STAGES = 2
"""Last stages of the network whose means and deviations are read."""
GEM_POWER = 3.0
"""Exponent of the generalised mean, the usual one."""


class Depths(nn.Module):
    """Image batch (n, 3, h, w) to statistics (n, r): of each network the mean and GeM of the last layer, and mean and deviation
    of the last stages.

    Attributes:
        nets: the networks.
        kinds: how many statistics there are of each kind, `KINDS` a network; they sum to r.
        map_shapes: channels, height and width of the maps from which the layers of each network are taught, (c, h', w').

    Raises:
        ConfigurationError: a network gives no maps, as a transformer does not, or cannot be adapted.
    """

    def __init__(self, config: BackboneConfig, *, initial: bool = True) -> None:
        super().__init__()
        configs = (config, *config.beside)
        self.nets = nn.ModuleList([TimmBackbone(one, initial=initial).net.eval() for one in configs])
        self.requires_grad_(False)
        if config.weight_bits == 8:
            round_weights(self.nets)
        self._maps: list[Tensor] = []
        if config.adapt is not None:
            for one, net in zip(configs, self.nets, strict=True):
                self._keep_maps(one.timm, net, config.adapt.blocks)
        size = config.preprocessing.size
        with torch.no_grad():
            kinds, maps = self._read(torch.zeros(1, 3, size, size))
        self.kinds = tuple(kind.shape[1] for kind in kinds)
        self.map_shapes = tuple(tuple(one.shape[1:]) for one in maps)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Images (n, 3, h, w) to statistics (n, r) and, of each network that is taught, the maps (n, c, h', w') to start from."""
        kinds, maps = self._read(image)
        return torch.cat(kinds, dim=1), maps

    def _keep_maps(self, name: str, net: nn.Module, taught: int) -> None:
        blocks = blocks_of(net)
        if taught >= len(blocks):
            raise ConfigurationError(f"backbone.adapt.blocks: {name} has {len(blocks)}, and one must stay as it is")
        blocks[-taught - 1].register_forward_hook(lambda _, __, maps: self._maps.append(maps))

    def _read(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        self._maps.clear()
        kinds: list[Tensor] = []
        net: Any  # timm's, whose methods are not typed
        for net in self.nets:
            last, stages = net.forward_intermediates(image, indices=STAGES)
            if last.dim() != 4:
                raise ConfigurationError(
                    "backbone.components needs networks whose last layer gives maps, as convolutions do"
                )
            pooled = [part for stage in stages for part in (stage.mean(dim=(2, 3)), _deviation(stage))]
            kinds += [last.mean(dim=(2, 3)), gem(last), torch.cat(pooled, dim=1)]
        return kinds, list(self._maps)


class White(nn.Module):
    """Statistics (n, r) to their kinds, each white and of unit length; beyond `clip` deviations a statistic says no more."""

    def __init__(self, reductions: tuple[Reduction, ...], clip: float) -> None:
        super().__init__()
        self.clip = clip
        self.mean = _fixed(np.concatenate([part.mean for part in reductions]))
        self.scale = _fixed(np.concatenate([part.scale for part in reductions]))
        self.matrices = nn.ParameterList([_fixed(part.matrix) for part in reductions])

    def forward(self, statistics: Tensor) -> list[Tensor]:
        """Statistics (n, r) to unit vectors, (n, d_i) for each kind."""
        standard = ((statistics - self.mean) / self.scale).clamp(-self.clip, self.clip)
        kinds = torch.split(standard, [len(matrix) for matrix in self.matrices], dim=1)
        return [functional.normalize(kind @ matrix, dim=1) for kind, matrix in zip(kinds, self.matrices, strict=True)]


def joined(parts: Sequence[Tensor], shares: Sequence[float] = ()) -> Tensor:
    """Unit vectors (n, d_i) as one unit vector (n, d); each has its share of a cosine, shares sum to 1, none given are equal."""
    shares = shares or [1 / len(parts)] * len(parts)
    whole: Tensor = torch.cat([part * share**0.5 for part, share in zip(parts, shares, strict=True)], dim=1)
    return whole


@dataclass(frozen=True)
class Mix:
    """What share of a cosine of two features each part of them has.

    Attributes:
        kinds: of each kind of statistics of each network, beside the others; they sum to 1.
        taught: of what was taught, beside all kinds together; 0 where nothing was.
    """

    kinds: tuple[float, ...]
    taught: float

    @classmethod
    def of(cls, config: BackboneConfig) -> Mix:
        """As an experiment says."""
        each = [kind.weight for kind in config.kinds.each] * (1 + len(config.beside))
        return cls(tuple(one / sum(each) for one in each), 0.0 if config.adapt is None else config.adapt.share)

    def untaught(self, kinds: Sequence[Tensor]) -> Tensor:
        """Unit vectors of each kind, (n, d_i), as one, (n, d)."""
        return joined(kinds, self.kinds)

    def whole(self, untaught: Tensor, taught: Tensor) -> Tensor:
        """Unit vectors (n, d) of what stays and (n, e) of what was taught as one, (n, d + e)."""
        return joined([untaught, taught], [1 - self.taught, self.taught])

    def feature(self, kinds: Sequence[Tensor], taught: Tensor | None) -> Tensor:
        """One feature (n, d) of unit vectors (n, d_i), of length √d, so that a value is about 1."""
        own = self.untaught(kinds)
        feature = own if taught is None else self.whole(own, taught)
        scaled: Tensor = feature * feature.shape[1] ** 0.5
        return scaled


class FrozenBackbone(nn.Module):
    """Image batch (n, 3, h, w) to features (n, d); `tails`, if layers were taught, are those of `adapt.py`."""

    def __init__(self, depths: Depths, white: White, mix: Mix, tails: nn.Module | None = None) -> None:
        super().__init__()
        self.depths, self.white, self.mix, self.tails = depths, white, mix, tails

    def forward(self, image: Tensor) -> Tensor:
        """Images (n, 3, h, w) to features (n, d)."""
        statistics, maps = self.depths(image)
        return self.mix.feature(self.white(statistics), None if self.tails is None else self.tails(maps))


def fit_white(
    statistics: NDArray[np.float16], rows: NDArray[np.int64], kinds: tuple[int, ...], config: BackboneConfig, seed: int
) -> White:
    """Fit each kind's reduction on some rows of statistics, (n, r); no more components than a kind or the rows can give."""
    bounds = list(pairwise(np.cumsum([0, *kinds])))
    wanted = [kind.components or config.components for kind in config.kinds.each] * (1 + len(config.beside))
    most = [min(count, end - start, len(rows)) for count, (start, end) in zip(wanted, bounds, strict=True)]
    fitted = [
        fit_reduction([np.asarray(statistics[rows, start:end])], count, seed, clip=config.clip)
        for (start, end), count in zip(bounds, most, strict=True)
    ]
    if config.weight_bits == 8:
        fitted = [replace(one, matrix=rounded_columns(one.matrix)) for one in fitted]
    return White(tuple(fitted), config.clip)


def save_white(white: White, path: Path) -> None:
    """Write it whole or not at all."""
    partial = path.with_suffix(".partial")
    torch.save(white.state_dict(), partial)
    partial.replace(path)


def load_white(path: Path, clip: float) -> White:
    """Read what `save_white` wrote."""
    state: dict[str, Tensor] = torch.load(path, weights_only=True)
    mean, scale = state["mean"].numpy(), state["scale"].numpy()
    matrices = [state[f"matrices.{number}"].numpy() for number in range(len(state) - 2)]
    cuts = np.cumsum([len(matrix) for matrix in matrices])[:-1]
    parts = zip(np.split(mean, cuts), np.split(scale, cuts), matrices, strict=True)
    return White(tuple(Reduction(*part) for part in parts), clip)


def gem(x: Tensor) -> Tensor:
    """Generalised mean over the places of a map, (n, c, h, w) to (n, c)."""
    return x.clamp_min(1e-6).pow(GEM_POWER).mean(dim=(2, 3)).pow(1 / GEM_POWER)


def blocks_of(net: Any) -> list[nn.Module]:
    """The blocks of a network, first to last.

    Raises:
        ConfigurationError: it is not made of blocks as EfficientNet is.
    """
    if not all(hasattr(net, part) for part in ("blocks", "conv_head", "bn2")):
        raise ConfigurationError(
            f"backbone.adapt needs a network of blocks such as EfficientNet's, and {type(net).__name__} is none"
        )
    return [block for stage in net.blocks for block in stage]


def _deviation(x: Tensor) -> Tensor:
    return x.var(dim=(2, 3), unbiased=False).add(1e-6).sqrt()


def _fixed(values: NDArray[np.float32]) -> nn.Parameter:
    """A parameter and no buffer, so that it is stored with the other weights of an exported graph."""
    return nn.Parameter(torch.from_numpy(np.ascontiguousarray(values)), requires_grad=False)
