"""GeoCLIP becomes a bundle that says what GeoCLIP says: the weights of its package, beside a small CLIP with random weights.

What it is compared with is written out here: timm's vision transformer, the package's own location encoder, one softmax.
"""

from __future__ import annotations

import importlib
import io
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from typer.testing import CliRunner, Result

from geoclip_package import GALLERY as PLACES
from geoclip_package import fetch, own_location_encoder, shortened
from geofix.bundle import CLASSIFIER, GALLERY, Bundle
from geofix.cli.app import app
from geofix.decision import Method, Strategy
from geofix.errors import InvalidInput
from geofix.geo import latlon_to_xyz
from geofix.local import Heads, LocalEngine
from geofix_training.backbone import declare_torchvision_operators
from geofix_training.clip import ClipVision, read_clip
from geofix_training.geoclip import read_geoclip
from geofix_training.import_geoclip import import_geoclip
from image_factory import photograph

pytestmark = [
    pytest.mark.training,
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),  # the package's own code
]

COUNT, CELLS = 1200, 60
WIDTH, PATCH, LAYERS = 128, 32, 2
MEAN, STD = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def whole_package() -> Path:
    try:
        return fetch()
    except subprocess.SubprocessError as error:
        pytest.skip(f"the package geoclip cannot be fetched on this machine: {error}")


@pytest.fixture(scope="module")
def package(whole_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shortened(whole_package, tmp_path_factory.mktemp("package"), COUNT)


@pytest.fixture(scope="module")
def tower() -> State:
    """An image tower with random weights of the size that trained ones have, so that images differ in what it says."""
    torch.manual_seed(5)
    net = ClipVision(WIDTH, PATCH, 224 // PATCH, LAYERS, 4 * WIDTH, 768)
    for name, parameter in net.named_parameters():
        mean = float("norm" in name and name.endswith("weight"))
        nn.init.normal_(parameter, mean, 0.1 if parameter.dim() == 1 else 2 * parameter[0].numel() ** -0.5)
    return net.state_dict()


@pytest.fixture(scope="module")
def clip(tower: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the hub has it: the whole of CLIP, its text tower too."""
    rest = {"text_model.final_layer_norm.bias": torch.zeros(8), "text_projection.weight": torch.zeros(8, 8)}
    rest |= {"logit_scale": torch.ones(()), "vision_model.embeddings.position_ids": torch.arange(50)[None]}
    path = tmp_path_factory.mktemp("clip") / "model.safetensors"
    save_file(tower | rest, path)
    return path


@pytest.fixture(scope="module")
def imported(package: Path, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What the command says that makes the bundle."""
    words = ["bundle", "import", "geoclip", "--clip", clip, "--package", package.parent, "--cells", CELLS]
    out = tmp_path_factory.mktemp("bundle") / "geoclip"
    done = CliRunner().invoke(app, [*map(str, words), str(out)])
    assert done.exit_code == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def engine(imported: Result) -> LocalEngine:
    return LocalEngine(Bundle.load(imported.stdout.split(" in ")[1].split(":")[0]))


@pytest.fixture(scope="module")
def gallery(whole_package: Path) -> tuple[NDArray[np.float64], Tensor]:
    """The places of the short gallery, (n, 2) degrees, and their unit embeddings by the package's own code."""
    places = np.genfromtxt(whole_package / PLACES, delimiter=",", skip_header=1, max_rows=COUNT)
    places = np.concatenate([places, places[:1]])
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        embedding = own_location_encoder(whole_package, patch).LocationEncoder()(
            torch.tensor(places, dtype=torch.float32)
        )
    return places, nn.functional.normalize(embedding, dim=1)


def clip_input(data: bytes) -> Tensor:
    """CLIP's transform, written out: the short side to 224 with the bicubic filter, the middle of it, normalised."""
    image: Image.Image = Image.open(io.BytesIO(data))
    long = int(224 * max(image.size) / min(image.size))
    image = image.resize((224, long) if image.width <= image.height else (long, 224), Image.Resampling.BICUBIC)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float64) / 255
    return torch.from_numpy(((pixels - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32))


def timm_tower(state: State) -> nn.Module:
    """The same tower as timm builds it, filled under timm's names."""
    declare_torchvision_operators()
    timm, layers = importlib.import_module("timm.models.vision_transformer"), importlib.import_module("timm.layers")
    net: nn.Module = timm.VisionTransformer(
        patch_size=PATCH,
        embed_dim=WIDTH,
        depth=LAYERS,
        num_heads=WIDTH // 64,
        num_classes=768,
        pre_norm=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-5),
        act_layer=layers.get_act_layer("quick_gelu"),
    )
    inside = "vision_model.embeddings."
    named = {
        "cls_token": state[f"{inside}class_embedding"][None, None],
        "pos_embed": state[f"{inside}position_embedding.weight"][None],
        "patch_embed.proj.weight": state[f"{inside}patch_embedding.weight"],
        "head.weight": state["visual_projection.weight"],
        "head.bias": torch.zeros(768),
    }
    pairs = [("norm_pre", "pre_layrnorm"), ("norm", "post_layernorm")]
    for layer in range(LAYERS):
        ours, theirs = f"blocks.{layer}", f"encoder.layers.{layer}"
        pairs += [(f"{ours}.norm{n}", f"{theirs}.layer_norm{n}") for n in (1, 2)]
        pairs += [(f"{ours}.mlp.fc{n}", f"{theirs}.mlp.fc{n}") for n in (1, 2)]
        pairs += [(f"{ours}.attn.proj", f"{theirs}.self_attn.out_proj")]
        for part in ("weight", "bias"):
            qkv = [state[f"vision_model.{theirs}.self_attn.{name}_proj.{part}"] for name in "qkv"]
            named[f"{ours}.attn.qkv.{part}"] = torch.cat(qkv)
    for one, other in pairs:
        named |= {f"{one}.{part}": state[f"vision_model.{other}.{part}"] for part in ("weight", "bias")}
    net.load_state_dict(named)
    return net.eval()


def heads(engine: LocalEngine, data: bytes) -> Heads:
    return engine.heads(engine.feature(data)[None])[0]


@pytest.mark.parametrize(("width", "height"), [(410, 820), (640, 480), (333, 333), (997, 301)])
def test_the_bundle_says_what_geoclip_says(
    engine: LocalEngine,
    tower: State,
    package: Path,
    gallery: tuple[NDArray[np.float64], Tensor],
    width: int,
    height: int,
) -> None:
    data = photograph(width, height)
    places, embeddings = gallery
    mlp = torch.load(package / "model/weights/image_encoder_mlp_weights.pth")
    scale = torch.load(package / "model/weights/logit_scale_weights.pth").detach().exp()
    with torch.no_grad():
        feature = timm_tower(tower)(clip_input(data))
        hidden = torch.relu(feature @ mlp["0.weight"].T + mlp["0.bias"])
        embedding = nn.functional.normalize(hidden @ mlp["2.weight"].T + mlp["2.bias"], dim=1)
        weights = (scale * embedding @ embeddings.T).softmax(dim=1)[0].double().numpy()
    cells = engine.bundle.cells
    expected = np.bincount(cells.assign(*places.T), weights, len(cells))
    found = heads(engine, data)
    assert found.feature == pytest.approx(feature[0].numpy(), abs=1e-4 * float(feature.abs().max()))
    assert found.embedding == pytest.approx(embedding[0].numpy(), abs=1e-4)
    assert expected.max() > 3 / len(cells), "weights that say nothing agree with everything"
    assert np.exp(found.cells.log_weight) == pytest.approx(expected[found.cells.cell_id], abs=1e-4)
    assert found.cells.cell_id[0] == expected.argmax()
    answer = engine.decide(found, Strategy.RETRIEVAL)  # the best place of all is GeoCLIP's own answer
    best = places[weights.argmax()]
    assert np.rad2deg(np.arcsin(answer.xyz[2])) == pytest.approx(best[0], abs=1e-6)
    assert np.rad2deg(np.arctan2(answer.xyz[1], answer.xyz[0])) == pytest.approx(best[1], abs=1e-6)


def test_an_image_is_located_among_the_places(engine: LocalEngine, gallery: tuple[NDArray[np.float64], Tensor]) -> None:
    one, other = (heads(engine, photograph(*size)) for size in ((410, 820), (640, 480)))
    assert float(one.embedding @ other.embedding) < 0.99, "the tower says the same of every image"
    answer = engine.decide(one)
    assert answer.method is Method.CELL_SEARCH
    assert len(answer.weights) == engine.bundle.manifest.decision.k
    assert (latlon_to_xyz(*gallery[0].T) @ answer.xyz).max() == pytest.approx(1, abs=1e-9)


def test_locations_are_encoded_as_by_the_package(whole_package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edges = [(90.0, 0.0), (-90.0, 10.0), (0.0, 180.0), (0.0, -180.0), (0.0, 0.0), (48.137, 11.575), (-33.9, 151.2)]
    rng = np.random.default_rng(1)
    places = np.concatenate([edges, np.stack([rng.uniform(-90, 90, 200), rng.uniform(-180, 180, 200)], axis=1)])
    degrees = torch.tensor(places, dtype=torch.float32)
    with torch.no_grad():
        ours = read_geoclip(whole_package).location(degrees)
        theirs = own_location_encoder(whole_package, monkeypatch).LocationEncoder()(degrees)
    assert (ours - nn.functional.normalize(theirs, dim=1)).abs().max() < 1e-5


def test_cells_and_gallery_are_the_places(
    imported: Result, engine: LocalEngine, gallery: tuple[NDArray[np.float64], Tensor]
) -> None:
    bundle = engine.bundle
    table, cells = pq.read_table(bundle.path(GALLERY)), bundle.cells
    places, embeddings = gallery
    once = np.sort(np.unique(places, axis=0, return_index=True)[1])
    repeated = len(places) - len(once)
    assert repeated > 0
    assert imported.stdout == (
        f"{bundle.version} in {bundle.directory}: gallery of {len(once):,} places, {repeated} repeated rows left out; "
        f"{len(cells)} cells\n"
    )
    assert table["lat"].to_numpy() == pytest.approx(places[once, 0])
    assert table["lon"].to_numpy() == pytest.approx(places[once, 1])
    flat = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    assert np.abs(flat.reshape(len(once), -1) - embeddings[once].numpy()).max() < 1e-3
    assert np.array_equal(np.bincount(table["cell_id"].to_numpy(), minlength=len(cells)), cells.images)
    assert CELLS / 3 < len(cells) <= CELLS + 3
    assert all(cells.containing(*place) is not None for place in places)
    assert bundle.path(CLASSIFIER).stat().st_size < 2 * 512 * (COUNT + 1) + 4.5e6  # the head, places as float16


def test_a_tower_alone_and_in_half_precision_is_read(tower: State, tmp_path: Path) -> None:
    torch.save({name: tensor.half() for name, tensor in tower.items()}, tmp_path / "tower.bin")
    found = read_clip(tmp_path / "tower.bin")
    assert (found.size, found.dim) == (224, 768)
    assert all(torch.allclose(found.state_dict()[name], tensor, atol=4e-3) for name, tensor in tower.items())


Change = Callable[[State], object]
LAYER, PATCHES = "vision_model.encoder.layers.1.", "vision_model.embeddings.patch_embedding.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop(f"{LAYER}mlp.fc2.bias"), f"lacks {LAYER}mlp.fc2.bias"),
        (lambda s: s.update({f"{LAYER}gate": torch.zeros(1)}), f"has the unknown {LAYER}gate"),
        (lambda s: s.pop("visual_projection.weight"), "lacks visual_projection.weight"),
        (lambda s: s.update({"visual_projection.weight": torch.zeros(512, WIDTH)}), "gives 512 values.*takes 768"),
        (lambda s: s.update({f"{LAYER}mlp.fc1.bias": torch.zeros(3)}), r"fc1.bias has the shape \(3,\), not \(512,\)"),
        (lambda s: s.update({"vision_model.embeddings.position_embedding.weight": torch.zeros(9, 2)}), "shape"),
        (lambda s: s.update({PATCHES: torch.zeros(100, 3, 32, 32)}), "100 values a token are no whole number of heads"),
        (lambda s: s.update({f"vision_model.encoder.layers.{10**9}.x": torch.zeros(1)}), "lacks .*layers.2"),
        (lambda s: s.clear(), "no image tower of CLIP .*patch_embedding"),
    ],
)
def test_another_clip_is_named(package: Path, tower: State, tmp_path: Path, change: Change, message: str) -> None:
    state = dict(tower)
    change(state)
    torch.save(state, tmp_path / "clip.pt")
    with pytest.raises(InvalidInput, match=message):
        import_geoclip(package, tmp_path / "clip.pt", tmp_path / "out", lambda _done, _all: None)
    assert not (tmp_path / "out").exists()


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(InvalidInput, match="cannot be read as tensors"):
        read_clip(tmp_path / "text.safetensors")
    with pytest.raises(InvalidInput, match="there is no file"):
        read_clip(tmp_path / "none.safetensors")


def test_what_is_not_the_package_is_named(tmp_path: Path, package: Path) -> None:
    with pytest.raises(InvalidInput, match=r"is not the package geoclip.*pip install --no-deps geoclip"):
        read_geoclip(tmp_path)
    weights = tmp_path / "geoclip/model/weights"
    weights.mkdir(parents=True)
    with pytest.raises(InvalidInput, match=r"there is no file .*image_encoder_mlp_weights.pth"):
        read_geoclip(tmp_path)
    for path in (package / "model/weights").iterdir():
        (weights / path.name).symlink_to(path)
    (weights / "logit_scale_weights.pth").unlink()
    torch.save(torch.ones(2), weights / "logit_scale_weights.pth")
    with pytest.raises(InvalidInput, match=r"logit_scale_weights.pth holds no single finite number"):
        read_geoclip(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"lat,lon\n1,2\n", "has no column LAT and LON"),
        (b"LAT,LON\n1,2\n120,10\n", "line 3 is no place on Earth: 120, 10"),
        (b"LAT,LON\n1,here\n", "line 2 is no place"),
        (b"LAT,LON\n1\n", "line 2 is no place"),
        (b"LAT,LON\n", "holds no place"),
        (b"\xff\xfe\x00PK", "is no CSV file"),
        (None, "there is no file"),
    ],
)
def test_a_gallery_that_does_not_fit_is_named(package: Path, tmp_path: Path, text: bytes | None, message: str) -> None:
    path = shortened(package, tmp_path, 1) / PLACES
    path.unlink()
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(InvalidInput, match=message):
        read_geoclip(tmp_path)
