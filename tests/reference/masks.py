"""Reference figures of blends and masks: writes masks.json beside itself. Needs NumPy and PyTorch; run it by hand.

    python tests/reference/masks.py

Network, pictures and losses are those of losses.py, in float64 with PyTorch's autograd. A part of the picture has statistics
in which every position counts by its mask, brought to a layer's map by average pooling with ceil sizes; they are compared
with the styles' whole pictures' statistics, blended; the part's loss counts by its share of the map. The article's factor
1 / 2NC has the whole map's N. Where the content mask is 0 the picture is the content, and has no gradient.
"""

import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

from losses import UNIT, Root, content_loss, features, network, newton_schulz, noise, picture, scaled, variation

LEVELS = {"relu1_1": 0, "relu1_2": 0, "relu2_1": 1, "relu2_2": 1, "relu3_1": 2}


def mask(seed, size):
    values = np.float32(0.7) * noise(seed, size[0] * size[1]) + np.float32(0.5)
    return torch.from_numpy(np.clip(values, 0, 1).astype(np.float64).reshape(1, 1, *size))


def fitted(m, size):
    if list(m.shape[2:]) == list(size):
        return m
    return F.interpolate(m, size, mode="bilinear", align_corners=False)


def parts(case):
    """(indices of styles, mask or None for everything) of every part; styles with the same mask are one."""
    size, given = case["size"], case["masks"]
    paint = fitted(mask(20, case["paint"]), size) if case["paint"] else None
    if not given:
        return [(list(range(len(case["styles"]))), paint)], paint
    masks = {}
    for i, entry in enumerate(given):
        masks.setdefault("rest" if entry == "rest" else json.dumps(entry), []).append(i)
    made = {}
    for key in masks:
        if key != "rest":
            seed, *own = json.loads(key)
            made[key] = fitted(mask(seed, own) if seed else torch.zeros(1, 1, *own, dtype=torch.float64), size)
    rest = (1 - sum(made.values())).clamp(min=0) if made else torch.ones(1, 1, *size, dtype=torch.float64)
    found = []
    for key, styles in masks.items():
        m = rest if key == "rest" else made[key]
        found.append((styles, m if paint is None else m * paint))
    return found, paint


def moments(f, kind, m=None):
    """Gram matrix or mean and second moment, of positions that count by m."""
    n, c = f.shape
    m = torch.ones(n, dtype=f.dtype) if m is None else m
    if kind in ("scaled-mse", "wasserstein"):
        f = f / UNIT
    products = (f * m[:, None]).T @ f
    if kind in ("article", "classic"):
        return [products / (m.sum() * c)]
    if kind == "wasserstein":
        return [products / m.sum(), (f * m[:, None]).sum(0) / m.sum()]
    return [products / m.sum()]


def compared(ours, target, kind, count):
    c = len(ours[0])
    if kind == "wasserstein":
        (second, mean), (target_second, target_mean) = ours, target
        ridge = 1e-4 * torch.eye(c, dtype=second.dtype)
        cov = second - torch.outer(mean, mean) + ridge
        target_cov = target_second - torch.outer(target_mean, target_mean) + ridge
        half = newton_schulz(target_cov)
        cross = Root.apply(half @ cov @ half)
        return (mean - target_mean).square().mean() + (target_cov + cov - 2 * cross).diagonal().mean()
    d = ours[0] - target[0]
    if kind == "article":
        return d.square().sum() / (2 * count * c)
    if kind == "classic":
        return d.square().mean()
    if kind == "gatys":
        return 1000 / c**2 * d.square().mean()
    return scaled(d)


def evaluate(case, layers):
    kind, (height, width) = case["style_loss"], case["size"]
    regions, paint = parts(case)
    content = picture(1, height, width)
    start = picture(3, height, width)
    if paint is not None:
        start = torch.where(paint > 0, start, content)
    x = start.requires_grad_()
    f, target_content = features(x, layers, case), features(content, layers, case)
    targets = []
    for i, (rows, columns) in enumerate(case["styles"]):
        of = features(picture(30 + i, rows, columns), layers, case)
        targets.append({name: moments(of[name], kind) for name in case["style_layers"]})
    terms = {}
    for name, weight in case["content_layers"].items():
        terms["content/" + name] = weight * content_loss(f[name], target_content[name], kind)
    for number, (styles, m) in enumerate(regions, 1):
        blend = np.array([case["blend"][i] if case["blend"] else 1.0 for i in styles])
        blend = blend / blend.sum()
        for name, weight in case["style_layers"].items():
            count = len(f[name])
            own = torch.ones(1, 1, height, width, dtype=torch.float64) if m is None else m
            for _ in range(LEVELS[name]):
                own = F.avg_pool2d(own, 2, ceil_mode=True)
            own = own.flatten()
            assert len(own) == count
            key = ("style/" if number == 1 else f"style {number}/") + name
            if own.sum() == 0:
                terms[key] = torch.zeros((), dtype=torch.float64)
                continue
            columns = zip(*(targets[i][name] for i in styles))
            target = [sum(w * t for w, t in zip(blend.tolist(), column)).detach() for column in columns]
            loss = compared(moments(f[name], kind, own), target, kind, count)
            terms[key] = weight * case["style_weight"] * own.sum() / count * loss
    if case["tv_weight"] > 0:
        terms["tv"] = case["tv_weight"] * variation(x, "l2")
    sum(terms.values()).backward()
    gradient = x.grad if paint is None else x.grad * (paint > 0)
    return {name: loss.item() for name, loss in terms.items()}, gradient[0].permute(1, 2, 0).reshape(-1)


def cases():
    size = [9, 10]
    usual = dict(
        size=size, styles=[[11, 8], [6, 9]], blend=[], masks=[[10, *size], "rest"], paint=None, style_loss="article",
        pooling="max", pooling_scale=1.0, content_layers={}, style_weight=1.0, tv_weight=0.0,
        style_layers={"relu1_2": 1.0, "relu2_2": 0.5, "relu3_1": 2.0},
    )  # fmt: skip
    for kind in ("article", "classic", "gatys", "scaled-mse", "wasserstein"):
        yield f"{kind} blend", dict(
            usual, style_loss=kind, blend=[3.0, 1.0], masks=[], style_layers={"relu1_1": 1.0, "relu2_2": 0.5}
        )
        yield f"{kind} masks", dict(usual, style_loss=kind, pooling="average")
        yield f"{kind} content mask", dict(
            usual, style_loss=kind, masks=[], paint=size, content_layers={"relu2_1": 0.5}, tv_weight=1e-4
        )
    yield "odd sides", dict(usual, size=[7, 13], masks=[[10, 7, 13], "rest"], style_loss="scaled-mse")
    yield "masks of other sizes and a content mask", dict(
        usual, styles=[[11, 8], [6, 9], [7, 7], [5, 5]], blend=[1.0, 2.0, 3.0, 1.0], style_loss="gatys",
        masks=[[10, 4, 5], "rest", "rest", [11, 3, 10]], paint=[5, 7], content_layers={"relu1_1": 1.0},
    )  # fmt: skip
    yield "the same mask twice", dict(
        usual, styles=[[11, 8], [6, 9], [7, 7]], masks=[[10, *size], "rest", [10, *size]], blend=[1.0, 1.0, 3.0]
    )
    yield "a black mask", dict(usual, masks=[[0, *size], "rest"], style_loss="wasserstein")


def main():
    layers = network()
    figures = []
    for name, case in cases():
        terms, gradient = evaluate(case, layers)
        print(name, terms)
        gradient = [float(f"{value:.7g}") for value in gradient.tolist()]
        terms = {name: float(f"{value:.12g}") for name, value in terms.items()}
        figures.append(dict(name=name, **case, losses=terms, gradient=gradient))
    path = pathlib.Path(__file__).with_name("masks.json")
    lines = ",\n".join(json.dumps(figure, separators=(",", ":")) for figure in figures)
    path.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
