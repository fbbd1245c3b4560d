"""EfficientNet-Lite0 on 20 labelled ImageNet pictures, 10 views each; calibrated on other photographs."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import numpy as np
from PIL import Image

from accuracy_check.task import Answers, Array, Feeds, Task, assert_disjoint, wilson
from accuracy_check.wheels import FOOLBOX, SCIKIT_IMAGE, opened

SIZE, LARGE = 224, 256
MEAN = DEVIATION = 0.5  # what EfficientNet-Lite was trained on
PHOTOS = (
    "astronaut", "brick", "camera", "cell", "chelsea", "coffee", "coins", "grass", "gravel", "hubble_deep_field", "ihc",
    "moon", "motorcycle_left", "motorcycle_right", "retina", "rocket",
)  # fmt: skip
CROPS = 6


def task() -> Task:
    """200 views to judge by; 96 crops of 16 photographs to calibrate on."""
    judged, labels = [], []
    files = []
    with opened(FOOLBOX) as wheel:
        for name in sorted(wheel.namelist()):
            match = re.fullmatch(r"foolbox/data/imagenet_\d\d_(\d+)\.jpg", name)
            if match:
                files.append(wheel.read(name))
                views = list(_ten_views(_picture(files[-1])))
                judged += views
                labels += [int(match[1])] * len(views)
    with opened(SCIKIT_IMAGE) as wheel:
        names = {name.rsplit("/", 1)[-1].split(".")[0]: name for name in wheel.namelist() if "skimage/data/" in name}
        photos = [wheel.read(names[name]) for name in PHOTOS]
    assert_disjoint(files, photos)
    random = np.random.default_rng(0)
    crops = [_random_crop(_picture(photo), random) for photo in photos for _ in range(CROPS)]
    truth = np.array(labels)

    def score(found: Answers, exact: Answers) -> dict[str, float]:
        ours, floats = (np.array([int(answer.argmax()) for answer in answers]) for answers in (found, exact))
        agreement = float((ours == floats).mean())
        low, high = wilson(agreement, ours.size)
        values = {"agreement %": 100 * agreement, "from %": 100 * low, "to %": 100 * high}
        return {"top-1 %": 100 * float((ours == truth).mean()), **values}

    return Task("efficientnet_lite0", [_feeds(crop) for crop in crops], [_feeds(view) for view in judged], score)


def _picture(data: bytes) -> Image.Image:
    """The shorter side is LARGE pixels."""
    with Image.open(io.BytesIO(data)) as file:
        picture = file.convert("RGB")
    scale = LARGE / min(picture.size)
    size = (max(LARGE, round(picture.width * scale)), max(LARGE, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.BICUBIC)


def _ten_views(picture: Image.Image) -> Iterator[Array]:
    """Centre and four corners, and each of them mirrored: Krizhevsky's ten."""
    right, bottom = picture.width - SIZE, picture.height - SIZE
    for left, top in ((right // 2, bottom // 2), (0, 0), (right, 0), (0, bottom), (right, bottom)):
        view = np.asarray(picture.crop((left, top, left + SIZE, top + SIZE)))
        yield view
        yield view[:, ::-1]


def _random_crop(picture: Image.Image, random: np.random.Generator) -> Array:
    left, top = (int(random.integers(0, side - SIZE + 1)) for side in picture.size)
    crop = np.asarray(picture.crop((left, top, left + SIZE, top + SIZE)))
    return crop[:, ::-1] if random.integers(2) else crop


def _feeds(pixels: Array) -> Feeds:
    image = (np.asarray(pixels, np.float64) / 255 - MEAN) / DEVIATION
    return {"input": np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)}
