"""CLIP's image tower (Radford et al. 2021), filled from a state dict under the names of Hugging Face's `transformers`.

Its size is the file's: width, layers, patch and tokens are read from the shapes.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from geofix.errors import InvalidInput
from geofix_training.weights import State, load_into, read_state

HEAD_DIM = 64
"""Values of an attention head, in every tower that OpenAI published with a vision transformer."""
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's training images, for values from 0 to 1."""
_PATCH, _POSITION = (
    "vision_model.embeddings.patch_embedding.weight",
    "vision_model.embeddings.position_embedding.weight",
)
_HIDDEN, _PROJECTION = "vision_model.encoder.layers.0.mlp.fc1.weight", "visual_projection.weight"
_ELSEWHERE = re.compile(r"text_model\.|text_projection\.|logit_scale$|.*\.position_ids$")
"""What files of the whole of CLIP hold beside the image tower."""


class _Embeddings(nn.Module):
    def __init__(self, width: int, patch: int, tokens: int) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.patch_embedding = nn.Conv2d(3, width, patch, patch, bias=False)
        self.position_embedding = nn.Embedding(tokens, width)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patch_embedding(image).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(image), 1, -1)
        return torch.cat([first, patches], dim=1) + self.position_embedding.weight


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            project(x).unflatten(2, (-1, HEAD_DIM)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        out: Tensor = self.out_proj(mixed)
        return out


class _Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.fc1(x)
        out: Tensor = self.fc2(
            inner * torch.sigmoid(1.702 * inner)
        )  # the GELU's approximation that CLIP was trained with
        return out


class _Layer(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.self_attn, self.mlp = _Attention(width), _Mlp(width, hidden)
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        out: Tensor = x + self.mlp(self.layer_norm2(x))
        return out


class _Encoder(nn.Module):
    def __init__(self, width: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(width, hidden) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class _Vision(nn.Module):
    def __init__(self, width: int, patch: int, tokens: int, layers: int, hidden: int) -> None:
        super().__init__()
        self.embeddings = _Embeddings(width, patch, tokens)
        self.pre_layrnorm = nn.LayerNorm(width)  # as transformers spells it
        self.encoder = _Encoder(width, hidden, layers)
        self.post_layernorm = nn.LayerNorm(width)

    def forward(self, image: Tensor) -> Tensor:
        x = self.encoder(self.pre_layrnorm(self.embeddings(image)))
        out: Tensor = self.post_layernorm(x[:, 0])
        return out


class ClipVision(nn.Module):
    """Images to CLIP's projected embeddings.

    Attributes:
        size: pixels a side that the tower takes.
        dim: values of an embedding.
    """

    def __init__(self, width: int, patch: int, side: int, layers: int, hidden: int, dim: int) -> None:
        super().__init__()
        self.size, self.dim = patch * side, dim
        self.vision_model = _Vision(width, patch, side**2 + 1, layers, hidden)
        self.visual_projection = nn.Linear(width, dim, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """Images (n, 3, size, size) to embeddings (n, dim), not of norm 1."""
        out: Tensor = self.visual_projection(self.vision_model(image))
        return out


def read_clip(path: Path) -> ClipVision:
    """The image tower in a file of it alone (`CLIPVisionModelWithProjection`) or of the whole of CLIP, in eval mode.

    Raises:
        InvalidInput: the file is not there, is no checkpoint, or is of another network; the message names file and key.
    """
    state = {name: tensor for name, tensor in read_state(path).items() if not _ELSEWHERE.match(name)}
    tower = _empty(path, state)
    load_into(tower, state, path)
    return tower.eval()


def _empty(path: Path, state: State) -> ClipVision:
    for name, axes in ((_PATCH, 4), (_POSITION, 2), (_HIDDEN, 2), (_PROJECTION, 2)):
        if name not in state or state[name].dim() != axes:
            what = "lacks" if name not in state else f"has no {axes} axes in"
            raise InvalidInput(f"{path} is no image tower of CLIP under the names of transformers: it {what} {name}")
    width, _, patch, _ = state[_PATCH].shape
    side = math.isqrt(max(len(state[_POSITION]) - 1, 0))
    if width % HEAD_DIM or not side:
        raise InvalidInput(
            f"{path} is no image tower of CLIP: {width} values a token are no whole number of heads of {HEAD_DIM}, "
            f"or {len(state[_POSITION])} positions are not those of a class and a square of patches"
        )
    layers = {found[1] for name in state if (found := re.match(r"vision_model\.encoder\.layers\.(\d+)\.", name))}
    return ClipVision(width, patch, side, len(layers), len(state[_HIDDEN]), len(state[_PROJECTION]))
