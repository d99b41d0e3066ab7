# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of an evaluation, the atlas that a run keeps, and the measures by networks."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage

from neural_avatar.neural_backend.interface.messages import BackendError
from neural_avatar.training import atlas, frechet, measures
from neural_avatar.training.config import TrainConfig
from neural_avatar.training.dataset import View
from neural_avatar.training.figures import FIGURES, Frame
from neural_avatar.training.metrics import FrameMetrics
from neural_avatar.training.plots import Curve, line_plot
from neural_avatar.training.quadrants import QUADRANTS
from neural_avatar.training.reports.curves import read_log, row_curves, run_curves
from neural_avatar.training.vgg import random_vgg
from support.commands import words_of as run

#: Elements that have no end.
VOID = {"img", "meta", "input", "br"}


class Page(HTMLParser):
    """A page read strictly: its words, its pictures, and whatever would need the network or is not closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.words: list[str] = []
        self.images: list[tuple[str, np.ndarray]] = []
        self.faults: list[str] = []
        self.tags: list[str] = []
        self._open: list[str] = []
        self.feed(path.read_text("utf-8"))
        self.close()
        self.faults += self._open
        self.text = " ".join(self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        own = dict(attrs)
        for name in ("src", "href"):
            if name in own and not str(own[name]).startswith("data:"):
                self.faults.append(f"{tag} {name} {own[name]}")
        if tag == "img":
            data = base64.b64decode(str(own["src"]).partition(",")[2], validate=True)
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            self.images.append((str(own["alt"]), image))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"{tag} ends at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script") and data.strip():
            self.words.append(data.strip())


@pytest.fixture(scope="module")
def small(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few rows of the footage by a camera to train on and one that is held out."""
    folder = tmp_path_factory.mktemp("data") / "small"
    folder.mkdir()
    with np.load(footage / "joints.npz") as data:
        splits = data["split"].astype(str)
        rows = [*np.flatnonzero(splits == "train")[:60:5], *np.flatnonzero(splits != "train")[:4]]
        kept = {name: data[name][rows] if len(data[name]) == len(splits) else data[name] for name in data.files}
    np.savez(folder / "joints.npz", **kept)
    shutil.copy(footage / "cameras.json", folder)
    for camera in ("cam00", "cam03"):
        (folder / "images" / camera).mkdir(parents=True)
        for i, row in enumerate(rows):
            shutil.copy(footage / "images" / camera / f"{row:05d}.png", folder / "images" / camera / f"{i:05d}.png")
    return folder


@pytest.fixture(scope="module")
def trained(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An avatar of three steps, beside the folder of its run."""
    avatar = tmp_path_factory.mktemp("run") / "person & <co>.avatar"
    run("train", small, "-o", avatar, "--steps", 3, "--size", 64, "--batch", 2, "--texture-size", 32,
        "--proxy-steps", 1, "--cameras", "cam00", "--threads", 1, "--device", "cpu", "--image-loss", "vgg-random",
        "--license", "<b>mine</b>")  # fmt: skip
    return avatar


def test_a_run_keeps_its_textures_before_and_after(trained: Path) -> None:
    folder = trained.with_name(trained.name + ".train")
    start, end = (atlas.read_picture(folder / name) for name in (atlas.START, atlas.END))
    seen = atlas.read_seen(folder, 32)
    assert start is not None and end is not None and seen is not None
    assert start.shape == end.shape == (4 * 36 + 4, 6 * 36 + 4, 3)
    assert 0.1 < seen.mean() < 0.9
    tiles = start[4:, 4:].reshape(4, 36, 6, 36, 3)[:, :32, :, :32].transpose(0, 2, 1, 3, 4).reshape(24, 32, 32, 3)
    assert not tiles[~seen].any(), "unassigned texels are black"
    assert tiles[seen].mean() > 20
    assert (start != end).any(), "training changed nothing"
    seams = atlas.atlas(torch.zeros(24, 3, 8, 8))
    assert (seams[0] > 0).all() and (seams[:, 12] == seams[0, 0]).all() and not seams[4:12, 4:12].any()


def test_the_page_holds_all_and_needs_nothing(small: Path, trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    said = run("evaluate", trained, small, "--quadrants", "--cameras", "cam00", "cam03", "--most", 2,
               "--report", path, "--device", "cpu", "--json", tmp_path / "a.json")  # fmt: skip
    page, result = Page(path), json.loads((tmp_path / "a.json").read_text())
    assert page.faults == [] and len(list(tmp_path.iterdir())) == 2
    source = path.read_text("utf-8")
    assert "http:" not in source and "https:" not in source and "<b>mine</b>" not in source
    assert "person & <co>" in page.text and "<b>mine</b>" in page.text
    for words in ("Worst frames first", "Textures before and after training", "Image loss (equation 2)", *QUADRANTS,
                  "random VGG19 features", "texels were seen", "Fréchet", *result["missing"]):  # fmt: skip
        assert words in page.text, words
    assert all(sentence in said for sentence in result["missing"])
    for name, figure in FIGURES.items():
        measured = result["all"][name] is not None
        assert (figure.meaning in page.text) == measured, name
    assert result["all"]["frechet_random"] > 0
    names = [alt for alt, _ in page.images]
    assert names.count("film") == names.count("render") == names.count("difference") >= 6
    assert names[-2:] == ["textures before training", "textures after training"]
    for words in ("Film to the slider's left", "By split and camera"):
        assert page.text.count(words) == (words[0] == "F"), "few groups are not folded"
    assert page.text.index("Worst frames first") < page.text.index("Film to the slider's left")
    # The worst first, and pictures of the person and not of something else.
    worst = min(frame["ssim_box"] for frame in result["frames"])
    assert page.text.index(f"SSIM box {worst:.4f}") < page.text.index("Textures before and after")
    film, render = page.images[names.index("film")][1], page.images[names.index("render")][1]
    assert film.shape == render.shape and 0 < np.abs(film.astype(float) - render).mean() < 60
    assert page.tags.count("input") == names.count("film") + 1, "a slider for each pair, and for the atlas"


#: A hand on the first slider.
DRAG = """<script>addEventListener('load', () => {
  const slider = document.querySelector('.slider input');
  slider.value = 20; slider.dispatchEvent(new Event('input', {bubbles: true}));
})</script></head>"""


def test_the_slider_moves_in_a_real_browser(small: Path, trained: Path, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if browser is None:
        pytest.skip("BROWSER MISSING: the report's page is tried where chromium or chrome is installed")
    page = tmp_path / "report.html"
    run("evaluate", trained, small, "--cameras", "cam03", "--every", 4, "--report", page, "--device", "cpu")
    page.write_text(page.read_text("utf-8").replace("</head>", DRAG, 1), "utf-8")
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
             "--dump-dom", page.as_uri()]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert '<html lang="en" class="js">' in done.stdout, done.stderr[-2000:]
    assert re.search(r'class="slider" style="--x: ?20%;?"', done.stdout), "the first slider follows the hand"
    assert done.stdout.count("--x: 20%") + done.stdout.count("--x:20%") == 1, "and no other"


def test_the_page_says_what_is_not_there(root: Path, footage: Path, tmp_path: Path) -> None:
    """The bundled avatar lies without the folder of its run, and rows of split train alone prove little."""
    path = tmp_path / "report.html"
    run("evaluate", root / "assets" / "demo.avatar", footage, "--split", "train", "--cameras", "cam03",
        "--every", 80, "--report", path, "--device", "cpu")  # fmt: skip
    page = Page(path)
    assert page.faults == []
    for words in ("there is no log.csv", "atlas_start.png is not in", "Every row here was open to training",
                  "Flicker was not measured", "pictures are few"):  # fmt: skip
        assert words in page.text, words


def test_a_report_needs_a_folder(root: Path, footage: Path, tmp_path: Path) -> None:
    path = tmp_path / "none" / "report.html"
    said = run("evaluate", root / "assets" / "demo.avatar", footage, "--report", path, code=1)
    assert "There is no folder" in said and "Traceback" not in said
    (tmp_path / "file").touch()
    for option, place, words in (("--csv", tmp_path, "is a folder"), ("--pictures", tmp_path / "file", "cannot be")):
        said = run("evaluate", root / "assets" / "demo.avatar", footage, option, place, code=1)
        assert words in said and "Evaluating" not in said and "Traceback" not in said


def test_curves_stand_at_their_steps_and_rows() -> None:
    """A log is denser at first; frames of a quadrant are sparse."""
    plot = line_plot([Curve("x", np.array([0.0, 1, 2]), 0)], "", places=[0, 10, 100])
    places = [float(x) for x in re.findall(r"[ML]([\d.]+) ", plot)]
    assert places[1] - places[0] == pytest.approx((places[2] - places[0]) / 10, abs=0.1)
    metrics = FrameMetrics(30, 20, 0.9, 0.8, 0.9, 1)
    frames = [Frame(View(row, c), f"cam<{c}>", "test", metrics) for row in range(0, 40, 5) for c in (0, 1)]
    curves = row_curves(frames)
    assert curves.count("<svg") == 3 and "cam&lt;1&gt;" in curves and "cam<1>" not in curves
    assert "Nothing was measured." in curves, "flicker, here"
    assert row_curves(frames[:4]) == ""


def test_a_broken_log_is_no_log(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    assert read_log(log) is None
    for text in ("", "step,loss\n", "loss\n1\n2\n", "step,loss\n2,1\n1,1\n"):
        log.write_text(text)
        assert read_log(log) is None
    log.write_bytes(b"\xff\xfe")
    assert read_log(log) is None
    log.write_text("step,seconds,loss,temporal\n1,1,0.5,2\n2,2,,1\n3,3,x,1\n4,4,0.25,0\n")
    found = read_log(log)
    assert found is not None and found["step"].tolist() == [1, 2, 3, 4] and np.isfinite(found["loss"]).sum() == 2
    curves = run_curves(found)
    assert curves.count("<svg") == 2 and ">Temporal<" in curves, "columns of later losses are curves too"


def test_every_column_of_a_log_that_is_no_plain_name_has_a_title() -> None:
    named = run_curves({"step": np.arange(3.0), **{n: np.ones(3) for n in ("parts", "surface", "preview_psnr")}})
    assert "Pre-training" not in named, "most networks are guided beside the pictures"
    for words in ("Parts, off a known", "Coordinates, off a known", "two not where any are held out"):
        assert words in named


def person(seed: int) -> np.ndarray:
    """A noisy figure of 40 x 80 pixels in 128 x 96, RGBA."""
    rng = np.random.default_rng(seed)
    out = np.zeros((128, 96, 4), np.float32)
    out[24:104, 28:68, 3] = 1
    out[..., :3] = rng.random((128, 96, 3)) * out[..., 3:]
    return out


def blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Its colours softened within its outline."""
    soft = ndimage.gaussian_filter(picture[..., :3], (sigma, sigma, 0))
    return np.concatenate([soft * picture[..., 3:], picture[..., 3:]], 2).astype(np.float32)


def test_frechet_distance_is_that_of_gaussians() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(0, 1, (4000, 3))
    assert frechet.frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet.frechet(a, a + [3, 4, 0]) == pytest.approx(25, abs=1e-6)
    assert frechet.frechet(a, 3 * a) == pytest.approx(4 * a.var(0, ddof=1).sum() + 4 * (a.mean(0) ** 2).sum())
    few = rng.normal(0, 1, (3, 50))
    assert frechet.frechet(few, few) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="two vectors"):
        frechet.frechet(a[:1], a)


def test_random_features_see_blur_and_know_equals() -> None:
    found = measures.find_measures(torch.device("cpu"))
    truths = [person(seed) for seed in range(3)]
    values = []
    for sigma in (0.0, 0.5, 1.0, 2.0):
        looked = [found.look(blurred(truth, sigma), truth) for truth in truths]
        values.append(measures.distances(looked)["frechet_random"])
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values[0] < values[1] < values[2] < values[3]
    empty = np.zeros((32, 32, 4), np.float32)
    assert found.look(empty, empty).features == {}
    assert np.isnan(measures.distances([])["frechet_random"])


def test_random_vgg_is_the_same_everywhere() -> None:
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    a, b, other = random_vgg()(image), random_vgg()(image), random_vgg(20)(image)
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True)) and not torch.equal(a[-1], other[-1])
    assert [x.shape[1] for x in a] == [64, 64, 128, 128, 256]
    assert all(0.1 < float(x.std()) < 10 for x in a), "the variance is kept through the layers"


LPIPS = """
import torch
class LPIPS(torch.nn.Module):
    def __init__(self, net, verbose):
        super().__init__()
        assert net == "alex"
    def forward(self, a, b):
        assert a.shape == b.shape == (1, 3, 256, 256) and -1 <= a.min() and a.max() <= 1
        return (a - b).abs().mean().view(1, 1, 1, 1)
"""
MODELS = """
import torch
class _Weights:
    def __init__(self, url): self.url = url
class AlexNet_Weights: IMAGENET1K_V1 = _Weights("https://example.invalid/alexnet-{alex}.pth")
class Inception_V3_Weights: IMAGENET1K_V1 = _Weights("https://example.invalid/inception-00000000.pth")
class inception_v3(torch.nn.Module):
    def __init__(self, weights, init_weights, aux_logits, transform_input):
        super().__init__()
        assert weights is None, "it would be downloaded"
        self.layer, self.fc = torch.nn.Conv2d(3, 8, 13, 13), torch.nn.Linear(8, 10)
    def forward(self, x):
        assert x.shape[1:] == (3, 299, 299)
        return self.fc(self.layer(x).mean((2, 3)))
"""


def test_lpips_and_fid_where_their_weights_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for both packages: nothing is downloaded, cached weights are checked, figures come out."""
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    content = b"weights of AlexNet"
    digest = hashlib.sha256(content).hexdigest()[:8]
    (tmp_path / "site" / "torchvision").mkdir(parents=True)
    (tmp_path / "site" / "lpips.py").write_text(LPIPS)
    (tmp_path / "site" / "torchvision" / "__init__.py").write_text("")
    (tmp_path / "site" / "torchvision" / "models.py").write_text(MODELS.replace("{alex}", digest))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    for name in ("lpips", "torchvision", "torchvision.models"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    cpu = torch.device("cpu")

    without = measures.find_measures(cpu)
    assert without.lpips is None and "fid" not in without.features
    assert "are not in torch's cache" in without.missing["LPIPS"] and "--inception-weights" in without.missing["FID"]
    (cache / f"alexnet-{digest}.pth").write_bytes(b"half of them")
    assert "are damaged" in measures.find_measures(cpu).missing["LPIPS"]

    (cache / f"alexnet-{digest}.pth").write_bytes(content)
    given = tmp_path / "inception.pth"
    given.write_bytes(b"nonsense")
    with pytest.raises(BackendError, match="cannot be read as the weights"):
        measures.find_measures(cpu, given)
    network = sys.modules["torchvision.models"].inception_v3(None, False, True, False)
    torch.save(network.state_dict(), given)
    found = measures.find_measures(cpu, given)
    assert not {"LPIPS", "FID"} & set(found.missing)
    truths = [person(seed) for seed in range(3)]
    same = [found.look(truth, truth) for truth in truths]
    soft = [found.look(blurred(truth, 2), truth) for truth in truths]
    assert [x.lpips for x in same] == [0, 0, 0] and all(0 < x.lpips < 1 for x in soft)
    assert same[0].features["fid"][0].shape == (1, 8)
    equal, unlike = (measures.distances(looked)["fid"] for looked in (same, soft))
    assert equal == pytest.approx(0, abs=1e-6) and unlike > 1e-6
    for name in ("lpips", "torchvision", "torchvision.models"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_inception_weights_without_torchvision_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(BackendError, match="needs the package torchvision"):
        measures.find_measures(torch.device("cpu"), tmp_path / "weights.pth")


def test_vgg_random_is_an_image_loss_of_its_own() -> None:
    from neural_avatar.training.prepare import make_image_loss

    loss, name = make_image_loss(TrainConfig(image_loss="vgg-random"))
    assert name.startswith("random VGG19")
    truth = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    near, far = (float(loss(truth + d, truth)) for d in (0.01, 0.1))
    assert float(loss(truth, truth)) == 0 and 0 < near < far
