"""Convolutional networks, resampling and normalization."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .sample import Sample, Sizes, floats

BATCH = ({0: "batch"},)
BATCHES: tuple[Sizes, ...] = ({"batch": 2}, {"batch": 1}, {"batch": 5})
PICTURE = ({0: "batch", 2: "height", 3: "width"},)
PICTURES: tuple[Sizes, ...] = (
    {"batch": 2, "height": 32, "width": 24},
    {"batch": 1, "height": 17, "width": 40},
    {"batch": 3, "height": 16, "width": 16},
)


class Classifier(nn.Module):
    """Convolutions, pooling, flatten by a size that is read from the input."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(16, 24, 3, stride=2, padding=1, groups=4), nn.Hardswish(), nn.AvgPool2d(2),
        )  # fmt: skip
        self.head = nn.Linear(24 * 4 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.head(x.view(x.size(0), -1)).log_softmax(-1)


class Block(nn.Module):
    """ResNet's basic block, with a projection where the size changes."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outer), nn.BatchNorm2d(outer)])
        self.skip = nn.Conv2d(inner, outer, 1, stride, bias=False) if stride != 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.norms[1](self.second(functional.relu(self.norms[0](self.first(x)))))
        return functional.relu(out + self.skip(x))


def residual() -> nn.Module:
    stem = [nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(*stem, Block(16, 16, 1), Block(16, 32, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class SqueezeExcite(nn.Module):
    """MobileNet's block: depthwise, squeeze and excitation, GroupNorm, SiLU."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(3, 24, 1), nn.GroupNorm(4, 24), nn.SiLU())
        self.depthwise = nn.Conv2d(24, 24, 5, padding=2, groups=24)
        self.gate = nn.Sequential(nn.Conv2d(24, 6, 1), nn.GELU(), nn.Conv2d(6, 24, 1), nn.Hardsigmoid())
        self.project = nn.Conv2d(24, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.expand(x))
        return self.project(x * self.gate(x.mean((2, 3), keepdim=True)))


class UNet(nn.Module):
    """Down, up by interpolation to the size of the skip, concatenation, transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, 2, 1)])
        self.lift = nn.ConvTranspose2d(16, 16, 2, 2)
        self.last = nn.Conv2d(24, 4, 3, padding=1, padding_mode="reflect")
        self.norm = nn.InstanceNorm2d(8, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        skip = functional.leaky_relu(self.norm(self.down[0](x)), 0.1)
        deep = self.lift(functional.elu(self.down[1](skip)))
        deep = functional.interpolate(deep, size=skip.shape[2:], mode="bilinear", align_corners=False)
        return self.last(torch.cat([skip, deep], 1)).softmax(1)


class Interpolate(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return (
            functional.interpolate(x, scale_factor=2, mode="nearest"),
            functional.interpolate(x, scale_factor=1.5, mode="bilinear", align_corners=False),
            functional.interpolate(x, size=(19, 23), mode="bilinear", align_corners=True),
            functional.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False),
        )


class Warp(nn.Module):
    """A spatial transformer: an affine grid from a small network, sampled."""

    def __init__(self) -> None:
        super().__init__()
        self.angles = nn.Linear(3, 6)

    def forward(self, x: Tensor) -> Tensor:
        theta = self.angles(x.mean((2, 3))).view(-1, 2, 3)
        ones = torch.linspace(-1, 1, 8, device=x.device)
        grid = torch.stack([ones.repeat(8, 1), ones.view(-1, 1).repeat(1, 8), torch.ones(8, 8)], -1)
        points = torch.einsum("hwc,bdc->bhwd", grid, theta)
        return functional.grid_sample(x, points, align_corners=False)


class Detector(nn.Module):
    """A YOLO-like head: a grid of anchors decoded, the best k boxes gathered."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 6, 3, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.head(x)
        rows, columns = y.shape[2], y.shape[3]
        ys, xs = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        grid = torch.stack([xs, ys]).to(y.dtype)
        centres = (y[:, :2].sigmoid() + grid) * 4
        sides = y[:, 2:4].exp() * 4
        boxes = torch.cat([centres - sides / 2, centres + sides / 2], 1).flatten(2).transpose(1, 2)
        scores = y[:, 4:].sigmoid().amax(1).flatten(1)
        best, where = scores.topk(5, dim=1)
        return best, boxes.gather(1, where.unsqueeze(-1).expand(-1, -1, 4))


class Volume(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.max_pool3d(functional.relu(self.conv(x)), 2).mean((2, 3, 4))


class Shuffle(nn.Module):
    """Pixel shuffle, unfold and fold, roll, flip, padding of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        up = functional.pixel_shuffle(self.conv(x), 2)
        padded = functional.pad(functional.pad(x, (1, 2, 0, 1), mode="replicate"), (0, 1, 2, 0), value=0.5)
        return functional.pixel_unshuffle(up, 2), padded.roll(1, 2).flip(3), x.unfold(2, 4, 2).sum(-1)


def picture(sizes: Sizes) -> tuple[Tensor, ...]:
    return (floats(sizes["batch"], 3, sizes["height"], sizes["width"]),)


SAMPLES = [
    Sample("classifier", Classifier, lambda s: (floats(s["batch"], 3, 32, 32),), BATCH, BATCHES),
    Sample("residual", residual, picture, PICTURE, PICTURES),
    Sample("squeeze_excite", SqueezeExcite, picture, PICTURE, PICTURES),
    Sample("unet", UNet, picture, PICTURE, PICTURES),
    Sample("interpolate", Interpolate, lambda s: (floats(s["batch"], 2, 9, 7),), BATCH, BATCHES),
    Sample("warp", Warp, picture, PICTURE, PICTURES),
    Sample("detector", Detector, picture, PICTURE, PICTURES),
    Sample("volume", Volume, lambda s: (floats(s["batch"], 1, 6, 8, 10),), BATCH, BATCHES),
    Sample("shuffle", Shuffle, lambda s: (floats(s["batch"], 3, 12, 10),), BATCH, BATCHES),
]
