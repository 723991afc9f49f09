"""Reference figures of the losses: writes losses.json beside itself. Needs NumPy and PyTorch; run it by hand.

    python tests/reference/losses.py

Everything is computed in float64 by PyTorch's own operations and its autograd, from network, pictures and weights that
tests/reference.rs makes from the same seeded numbers. Only the square root's gradient is written out: crowsonkb's, which
solves Lyapunov's equation by as many Newton-Schulz steps as the root took (Lin and Maji 2017, "Improved Bilinear Pooling
with CNNs", section 4), where autograd would go back through the root's own steps. The two agree where the steps converge.
"""

import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

STEPS = 12  # of Newton-Schulz, part of the definition
CHANNELS = [3, 64, 64, 128, 128, 256]
NAMES = ["relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1"]
MEAN = np.float32(128)
UNIT = 32.0


def noise(seed, count):
    """tests/common/mod.rs: `noise`."""
    z = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(seed << 32)
    z = z * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    word = (z ^ (z >> np.uint64(31))) & np.uint64(0xFFFFFFFF)
    return (word >> np.uint64(8)).astype(np.float32) / np.float32(8388608) - np.float32(1)


def picture(seed, height, width):
    """[1, 3, H, W] minus the mean."""
    rgb = np.float32(127.5) + np.float32(127.5) * noise(seed, height * width * 3)
    values = (rgb - MEAN).astype(np.float64).reshape(height, width, 3)
    return torch.from_numpy(values.transpose(2, 0, 1)[None].copy())


def network():
    """Kernels [Co, Ci, 3, 3] and biases, of factors that are powers of two."""
    layers = []
    for k, (ci, co) in enumerate(zip(CHANNELS, CHANNELS[1:])):
        scale = 2.0 ** np.round(np.log2(np.sqrt(6 / (9 * ci))))
        kernel = noise(1000 + k, 9 * ci * co).astype(np.float64).reshape(3, 3, ci, co) * scale
        bias = noise(2000 + k, co).astype(np.float64) * 16
        layers.append((torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()), torch.from_numpy(bias)))
    return layers


def pool(x, kind, scale):
    # ceil_mode averages over the positions that a window at the border has.
    if kind == "max":
        return scale * F.max_pool2d(x, 2, ceil_mode=True)
    if kind == "average":
        return scale * F.avg_pool2d(x, 2, ceil_mode=True)
    squares = 4 * F.avg_pool2d(x**2, 2, ceil_mode=True)
    # A window of zeros has no gradient.
    return scale * torch.where(squares > 0, torch.where(squares > 0, squares, 1.0).sqrt(), 0.0)


def features(x, layers, case):
    out = {}
    for name, (kernel, bias) in zip(NAMES, layers):
        if name in ("relu2_1", "relu3_1"):
            x = pool(x, case["pooling"], case["pooling_scale"])
        x = F.relu(F.conv2d(x, kernel, bias, padding=1))
        out[name] = x[0].flatten(1).T  # [N, C]
    return out


def newton_schulz(m):
    norm = m.norm()
    identity = torch.eye(len(m), dtype=m.dtype)
    y, z = m / norm, identity
    for _ in range(STEPS):
        t = 1.5 * identity - 0.5 * z @ y
        y, z = y @ t, t @ z
    return y * norm.sqrt()


class Root(torch.autograd.Function):
    """The root with the gradient that solves X Z + Z X = d for X."""

    @staticmethod
    def forward(ctx, m):
        z = newton_schulz(m)
        ctx.save_for_backward(z)
        return z

    @staticmethod
    def backward(ctx, d):
        (z,) = ctx.saved_tensors
        norm = z.norm()
        identity = torch.eye(len(z), dtype=z.dtype)
        a, q = z / norm, d / norm
        for _ in range(STEPS):
            t = 3 * identity - a @ a
            q = 0.5 * (q @ t - a.T @ (a.T @ q - q @ a))
            a = 0.5 * a @ t
        return q / 2


def gram(f, kind):
    n, c = f.shape
    if kind == "scaled-mse":
        f = f / UNIT
    return f.T @ f / (n * c if kind in ("article", "classic") else n)


def moments(f):
    f = f / UNIT
    return f.mean(0), f.T @ f / len(f)


def scaled(d):
    return d.square().sum() / (d.abs().sum() + 1e-8)


def wasserstein(f, target, root):
    mean, second = moments(f)
    target_mean, target_second = moments(target)
    c = len(mean)
    ridge = 1e-4 * torch.eye(c, dtype=f.dtype)
    cov = second - torch.outer(mean, mean) + ridge
    target_cov = target_second - torch.outer(target_mean, target_mean) + ridge
    half = newton_schulz(target_cov)
    cross = root(half @ cov @ half)
    return (mean - target_mean).square().mean() + (target_cov + cov - 2 * cross).diagonal().mean()


def style_loss(f, target, kind, root=Root.apply):
    if kind == "wasserstein":
        return wasserstein(f, target.detach(), root)
    d = gram(f, kind) - gram(target, kind)
    if kind == "article":
        return d.square().sum() / (2 * f.numel())
    if kind == "classic":
        return d.square().mean()
    if kind == "gatys":
        return 1000 / f.shape[1] ** 2 * d.square().mean()
    return scaled(d)


def content_loss(f, target, kind):
    d = f - target
    if kind == "article":
        return d.square().sum() / (2 * f.numel())
    if kind == "scaled-mse":
        return scaled(d / UNIT)
    if kind == "wasserstein":
        return (d / UNIT).square().mean()
    return d.square().mean()


def variation(x, kind):
    if kind == "nine-point":
        x = F.pad(x / 255, (1, 1, 1, 1), "replicate")
        across = x[..., 1:-1, 1:] - x[..., 1:-1, :-1]
        down = x[..., 1:, 1:-1] - x[..., :-1, 1:-1]
        # The padding's own differences to the left of, and above, the picture are no part of the definition; they are 0.
        across, down = across[..., 1:], down[..., 1:, :]
        falling, rising = x[..., 1:, 1:] - x[..., :-1, :-1], x[..., 1:, :-1] - x[..., :-1, 1:]
        half = across.square().mean() / 3 + down.square().mean() / 3
        return 2 * (half + falling.square().mean() / 12 + rising.square().mean() / 12)
    down, across = x[..., 1:, :] - x[..., :-1, :], x[..., 1:] - x[..., :-1]
    if kind == "l1":
        return down.abs().sum() + across.abs().sum()
    mean = lambda d: d.square().mean() if d.numel() else torch.zeros((), dtype=x.dtype)
    return mean(down) + mean(across)


def exponents(layers, exponent):
    """Weights of layers from the shallowest on, whose sum stays."""
    order = sorted(layers, key=NAMES.index)
    raw = {name: layers[name] * exponent**i for i, name in enumerate(order)}
    factor = sum(layers.values()) / sum(raw.values()) if layers else 1.0
    return {name: weight * factor for name, weight in raw.items()}


def evaluate(case, layers, root=Root.apply):
    height, width = case["size"]
    target_content = features(picture(1, height, width), layers, case)
    target_style = features(picture(2, *case["style_size"]), layers, case)
    x = picture(3, height, width).requires_grad_()
    f = features(x, layers, case)
    terms, follows = {}, 0.0

    def add(kind, name, weight, loss):
        nonlocal follows
        terms[f"{kind}/{name}"] = weight * loss(f[name])
        if case.get("normalize"):
            # jcjohnson's: the gradient at the activation has an L1 norm of the weight.
            at = f[name].detach().requires_grad_()
            (slope,) = torch.autograd.grad(loss(at), at)
            follows = follows + (f[name] * (weight * slope / (slope.abs().sum() + 1e-8))).sum()
        else:
            follows = follows + terms[f"{kind}/{name}"]

    for name, weight in case["content_layers"].items():
        target = target_content[name]
        add("content", name, weight * case["content_weight"], lambda at: content_loss(at, target, case["style_loss"]))
    weights = exponents(case["style_layers"], case["exponent"])
    for name in case["style_layers"]:
        target = target_style[name]
        weight = weights[name] * case["style_weight"]
        add("style", name, weight, lambda at: style_loss(at, target, case["style_loss"], root))
    if case["tv_weight"] > 0:
        terms["tv"] = case["tv_weight"] * variation(x, case["tv"])
        follows = follows + terms["tv"]
    follows.backward()
    gradient = x.grad[0].permute(1, 2, 0).reshape(-1)
    return {name: loss.item() for name, loss in terms.items()}, gradient


def cases():
    usual = dict(
        size=[9, 10], style_size=[11, 8], pooling="max", pooling_scale=1.0, style_loss="article", tv="l2",
        content_weight=1.0, style_weight=1.0, tv_weight=0.0, exponent=1.0,
        content_layers={"relu2_1": 1.0}, style_layers={"relu1_1": 1.0, "relu2_1": 0.5, "relu3_1": 2.0},
    )  # fmt: skip
    for kind in ("article", "classic", "gatys", "scaled-mse", "wasserstein"):
        # Each by itself, at a layer with more positions than channels and at one with fewer.
        for layer in ("relu1_2", "relu2_2"):
            yield f"{kind} style {layer}", dict(usual, style_loss=kind, content_layers={}, style_layers={layer: 2.0})
        yield f"{kind} content", dict(
            usual, style_loss=kind, style_layers={}, content_layers={"relu1_2": 0.5, "relu3_1": 2.0}
        )
        yield f"{kind} whole", dict(
            usual, style_loss=kind, style_weight=3.0, content_weight=0.125, pooling="average", exponent=1.5,
            pooling_scale=2.0 if kind in ("scaled-mse", "wasserstein") else 1.0,
        )  # fmt: skip
    for kind in ("article", "classic", "gatys", "scaled-mse", "wasserstein"):
        # Two terms at one layer, weights that are not 1, and a total variation, which stays as it is.
        yield f"{kind} normalized", dict(
            usual, style_loss=kind, normalize=True, content_weight=4.0, style_weight=30.0, tv_weight=1e-3,
        )  # fmt: skip
    yield "many positions", dict(
        usual, style_loss="wasserstein", size=[23, 25], style_size=[26, 21], content_layers={},
        style_layers={"relu1_1": 1.0, "relu2_1": 1.0}, pooling="average", pooling_scale=2.0,
    )  # fmt: skip
    for pooling, scale in (("l2", 1.0), ("l2", 0.78), ("max", 1.5), ("average", 2.0)):
        yield f"{pooling} pooling x{scale}", dict(usual, pooling=pooling, pooling_scale=scale)
    for tv, weight in (("l2", 5.0), ("l1", 1e-3), ("nine-point", 2.0)):
        for size in ([9, 10], [1, 7], [6, 1], [2, 2]):
            yield f"tv {tv} {size[0]}x{size[1]}", dict(
                usual, size=size, tv=tv, tv_weight=weight, content_layers={"relu1_1": 0.0}, style_layers={}
            )


def main():
    layers = network()
    figures = []
    for name, case in cases():
        terms, gradient = evaluate(case, layers)
        print(name, terms)
        gradient = [float(f"{value:.7g}") for value in gradient.tolist()]
        terms = {name: float(f"{value:.12g}") for name, value in terms.items()}
        figures.append(dict(name=name, **case, losses=terms, gradient=gradient))
    path = pathlib.Path(__file__).with_name("losses.json")
    lines = ",\n".join(json.dumps(figure, separators=(",", ":")) for figure in figures)
    path.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
