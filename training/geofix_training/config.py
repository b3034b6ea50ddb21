"""An experiment: one small YAML file. Unknown keys are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from geofix.decision import DecisionRule
from geofix.errors import ConfigurationError


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CropsConfig(_Part):
    """Which crops are trained on."""

    count: int = Field(ge=1000, description="damaged crops")
    footprint_km: tuple[float, float] = (150.0, 1500.0)
    rotation_deg: float = 20.0


class GalleryLevel(_Part):
    """Clean crops on a grid over all land."""

    footprint_km: float = Field(gt=0)
    spacing_km: float = Field(gt=0)


class HeadConfig(_Part):
    """The mixture head and its training."""

    hidden: int = 1024
    dropout: float = 0.2
    feature_noise: float = 0.1
    kappa_range: tuple[float, float] = (20.0, 20_000.0)
    epochs: int = 12
    batch: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 0.02


class EmbedderConfig(_Part):
    """The retrieval module and its training."""

    hidden: int = 2048
    embedding_dim: int = 128
    temperature: float = 0.07
    feature_noise: float = 0.1
    nearest: int = 4
    negatives: int = 1024
    epochs: int = 6
    batch: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 0.02


class HeldOutConfig(_Part):
    """Crops of the user's kind at new places: for the decision rule, for calibration and for the check."""

    tuning: int = 1500
    calibration: int = 4000
    footprint_km: tuple[float, float] = (150.0, 800.0)


class OrbitConfig(_Part):
    """A bundle of overhead imagery."""

    name: str
    description: str
    license: str = "Apache-2.0"
    attribution: str
    seed: int = 1
    feature_dim: int = Field(512, description="principal components; features carry one value more")
    cells: int = Field(1000, description="about how many cells")
    min_images: int = 10
    crops: CropsConfig
    gallery: tuple[GalleryLevel, ...]
    head: HeadConfig = HeadConfig()
    embedder: EmbedderConfig = EmbedderConfig()
    held_out: HeldOutConfig = HeldOutConfig()
    foreign: int = Field(3000, ge=100, description="pictures of nothing that the domain score is fitted with")
    decision: DecisionRule = DecisionRule()
    domain_quantile: float = Field(0.97, gt=0.5, lt=1, description="share of held-out crops that the gate lets pass")


Config = TypeVar("Config", bound=BaseModel)


def read_config(path: Path) -> OrbitConfig:
    """Read an experiment of `orbit`; raises as `read_yaml`."""
    return read_yaml(path, OrbitConfig)


def read_yaml(path: Path, model: type[Config]) -> Config:
    """Read an experiment.

    Raises:
        ConfigurationError: the file is not there, not YAML, or a key is unknown or wrong; the message names it.
    """
    try:
        content: Any = yaml.safe_load(path.read_text())
        return model.model_validate(content)
    except OSError as error:
        raise ConfigurationError(f"the config {path} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"the config {path} is not YAML: {error}") from error
    except ValidationError as error:
        lines = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ConfigurationError(f"the config {path} is wrong: " + "; ".join(lines)) from error
