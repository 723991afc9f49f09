#!/usr/bin/env python3
"""A preset's whole coarse-to-fine run beside PyTorch's: the same picture, losses scale by scale, and a sheet to look at.

    cargo build --release
    python3 benches/beside_pytorch.py CONTENT STYLE --weights imagenet-vgg-verydeep-19.mat --out FOLDER
        [--preset balanced] [--size 512] [--threads 2] [--one-scale] [--iterations N or FIRST,N]
        [--double] [--perturb 1e-4] [--only ours|torch] [--impasto target/release/impasto]

Needs PyTorch, NumPy, SciPy and Pillow. PyTorch's side is written from the definitions: network and optimiser are PyTorch's
own, losses those of tests/reference/losses.py, weights read by SciPy, pictures resampled by Pillow. It knows the settings
of `balanced`, `best` and `print` (Wasserstein, nine-point, Adam, clamp, running average), which it takes from
`impasto presets --show`. --double computes PyTorch's side in float64; --perturb R starts it from a picture that is off by
up to R of 255: with one of these and --only torch the spread that rounding alone makes can be seen.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time
import tomllib

import numpy as np
import scipy.io
import torch
import torch.nn.functional as F
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests/reference"))
import losses as reference

reference.UNIT = 57.4  # of activations of the Oxford weights: see README
VGG = "1_1 1_2 P 2_1 2_2 P 3_1 3_2 3_3 3_4 P 4_1 4_2 4_3 4_4 P 5_1 5_2 5_3 5_4".split()
MEAN = torch.tensor([123.68, 116.779, 103.939]).view(1, 3, 1, 1)


def network(path, deepest, dtype):
    """[(name or None for a pooling, kernel [Co, Ci, 3, 3], bias)] down to `deepest`."""
    layers = scipy.io.loadmat(path)["layers"][0]
    found = {}
    for layer in layers:
        name = str(layer["name"][0][0][0])
        if name.startswith("conv"):
            # Both layouts: kernel and bias as two fields of one cell.
            cell = layer["weights"][0][0] if "weights" in layer.dtype.names else layer["filters"][0][0]
            kernel, bias = cell[0]
            found[name.removeprefix("conv")] = (
                torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()).to(dtype),
                torch.from_numpy(bias.reshape(-1).copy()).to(dtype),
            )
    net = []
    for name in VGG:
        net.append((None,) if name == "P" else ("relu" + name, *found[name]))
        if "relu" + name == deepest:
            return net


def features(x, net):
    """Activations [N, C] by name; the first convolution sees the picture's edge repeated."""
    out, x = {}, F.pad(x, (1, 1, 1, 1), "replicate")
    for k, layer in enumerate(net):
        if layer[0] is None:
            x = F.max_pool2d(x, 2, ceil_mode=True)
            continue
        x = F.relu(F.conv2d(x, layer[1], layer[2], padding=0 if k == 0 else 1))
        out[layer[0]] = x[0].flatten(1).T
    return out


def resized(picture, width, height):
    """Lanczos on floats, clamped."""
    if picture.size == (width, height):
        return np.asarray(picture, np.float32)
    channels = [channel.convert("F").resize((width, height), Image.LANCZOS) for channel in picture.split()]
    return np.stack([np.asarray(channel) for channel in channels], -1).clip(0, 255)


def fitted(picture, longest):
    scale = min(longest / max(picture.size), 1)
    return [max(int(side * scale + 0.5), 1) for side in picture.size]


def scales(content, settings, one_scale):
    """Sides of every scale, the smallest first."""
    end = fitted(content, settings["size"])
    longest = max(end)
    sides = [longest]
    for power in range(1, 64):
        side = round(longest / float(np.float32(settings["scale-factor"])) ** power)
        if one_scale or side < settings["min-scale"]:
            break
        sides.append(side)
    return [end if side == longest else [int(s * side / longest + 0.5) for s in end] for side in reversed(sides)]


def layer_weights(entries, factor):
    pairs = (entry.split("=") for entry in entries)
    return {pair[0]: factor * float(pair[1] if len(pair) > 1 else 1) for pair in pairs}


class Run:
    def __init__(self, arguments, settings, content, style):
        self.dtype = torch.float64 if arguments.double else torch.float32
        self.settings, self.content, self.style = settings, content, style
        self.content_weights = layer_weights(settings["content-layers"], settings["content-weight"])
        self.style_weights = layer_weights(settings["style-layers"], settings["style-weight"])
        names = [*self.content_weights, *self.style_weights]
        self.net = network(arguments.weights, max(names, key=lambda name: VGG.index(name[4:])), self.dtype)
        self.mean = MEAN.to(self.dtype)
        self.perturb, self.one_scale = arguments.perturb, arguments.one_scale

    def tensor(self, values):
        return torch.from_numpy(values.copy()).to(self.dtype).permute(2, 0, 1)[None] - self.mean

    def clamped(self, x):
        return torch.max(torch.min(x, 255 - self.mean), -self.mean)

    def losses(self, x, target_content, target_style):
        f = features(x, self.net)
        terms = {}
        for name, weight in self.content_weights.items():
            terms["content/" + name] = weight * reference.content_loss(f[name], target_content[name], "wasserstein")
        for name, weight in self.style_weights.items():
            terms["style/" + name] = weight * reference.style_loss(f[name], target_style[name], "wasserstein")
        terms["tv"] = self.settings["tv-weight"] * reference.variation(x, "nine-point")
        return terms

    def paint(self):
        """The picture [H, W, 3], and the terms of every iteration."""
        s, log, moments, count = self.settings, [], None, 0
        average, rng = None, np.random.default_rng(0)
        for index, (width, height) in enumerate(scales(self.content, s, self.one_scale)):
            content = self.tensor(resized(self.content, width, height))
            style = self.tensor(resized(self.style, *fitted(self.style, max(width, height))))
            with torch.no_grad():
                target_content, target_style = features(content, self.net), features(style, self.net)
            if average is None:
                noise = rng.uniform(-self.perturb, self.perturb, content.shape)
                x = content + torch.from_numpy(noise).to(self.dtype)
                moments = [torch.zeros_like(content) for _ in range(2)]
            else:
                size = (height, width)
                x = self.clamped(F.interpolate(average, size, mode="bicubic"))
                moments = [
                    F.interpolate(moments[0], size, mode="bicubic"),
                    F.interpolate(moments[1], size, mode="bilinear").clamp(min=0),
                ]
            x.requires_grad_()
            optimizer = torch.optim.Adam(
                [x], lr=s["learning-rate"], betas=(s["adam-beta1"], s["adam-beta2"]), eps=s["adam-epsilon"]
            )
            state = dict(step=torch.tensor(float(count)), exp_avg=moments[0], exp_avg_sq=moments[1])
            optimizer.state[x] = state
            # Bias-corrected, with the start as the first picture.
            decay, average, rest = s["ema"], (1 - s["ema"]) * x.detach(), s["ema"]
            iterations = s.get("first-iterations", s["iterations"]) if index == 0 else s["iterations"]
            begin = time.time()
            for _ in range(iterations):
                optimizer.zero_grad()
                terms = self.losses(x, target_content, target_style)
                sum(terms.values()).backward()
                log.append(dict(scale=f"{width}x{height}", **{name: value.item() for name, value in terms.items()}))
                optimizer.step()
                with torch.no_grad():
                    x.copy_(self.clamped(x))
                    rest *= decay
                    average = decay * average + (1 - decay) * x
            average = (average / (1 - rest)).detach()
            state = optimizer.state[x]
            moments, count = [state["exp_avg"].detach(), state["exp_avg_sq"].detach()], count + iterations
            print(f"PyTorch {width}x{height}: {time.time() - begin:.0f} s", flush=True)
        return (average + self.mean)[0].permute(1, 2, 0).numpy(), log


def ends(log):
    """The terms before the last iteration of every scale."""
    last = {}
    for line in log:
        # A run of one scale does not say which.
        last[line.get("scale", "")] = {k: v for k, v in line.items() if k not in ("iter", "loss", "scale")}
    return last


def main():
    p = argparse.ArgumentParser()
    p.add_argument("content"), p.add_argument("style")
    p.add_argument("--weights", required=True), p.add_argument("--out", type=pathlib.Path, required=True)
    p.add_argument("--preset", default="balanced"), p.add_argument("--size", type=int)
    p.add_argument("--impasto", default="target/release/impasto"), p.add_argument("--threads", type=int, default=2)
    p.add_argument("--one-scale", action="store_true"), p.add_argument("--iterations", help="200,60: 200 at the first scale")
    p.add_argument("--double", action="store_true"), p.add_argument("--perturb", type=float, default=0)
    p.add_argument("--only", choices=["ours", "torch"])
    p.add_argument("--name", default="torch", help="name of PyTorch's picture and log")
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    a.out.mkdir(parents=True, exist_ok=True)
    shown = subprocess.run([a.impasto, "presets", "--show", a.preset], check=True, capture_output=True, text=True)
    settings = tomllib.loads(shown.stdout)
    expected = {"style-loss": "wasserstein", "tv": "nine-point", "pooling": "max", "edge": "replicate", "clamp": True,
                "keep-moments": True, "adam-form": "standard", "init": "content", "style-scale": 1, "pooling-scale": 1}  # fmt: skip
    for name, value in expected.items():
        assert settings[name] == value, f"PyTorch's side knows {name} = {value} only"
    settings["size"] = a.size or settings["size"]
    if a.iterations:
        *first, settings["iterations"] = map(int, a.iterations.split(","))
        settings["first-iterations"] = (first or [settings["iterations"]])[0]
    # Two decoders of JPEG do not agree to the bit: both sides read these.
    paths = {}
    for name, path in (("content", a.content), ("style", a.style)):
        paths[name] = a.out / f"{name}.png"
        Image.open(path).convert("RGB").save(paths[name])
    pictures = {name: Image.open(path) for name, path in paths.items()}
    ours, log = a.out / "ours.png", a.out / "ours.jsonl"
    if a.only != "torch":
        command = [a.impasto, "stylize", paths["content"], "-s", paths["style"], "-o", ours, "--log", log, "--overwrite",
                   "--quiet", "--no-checkpoint", "--preset", a.preset, "--size", settings["size"], "--weights", a.weights,
                   "--device", "cpu", "--threads", a.threads]  # fmt: skip
        command += ["--min-scale", "none"] if a.one_scale else []
        command += ["-n", settings["iterations"], "--first-iterations", settings["first-iterations"]] if a.iterations else []
        begin = time.time()
        subprocess.run([str(word) for word in command], check=True)
        print(f"impasto: {time.time() - begin:.0f} s", flush=True)
    theirs, their_log = a.out / f"{a.name}.png", a.out / f"{a.name}.json"
    if a.only != "ours":
        picture, lines = Run(a, settings, pictures["content"], pictures["style"]).paint()
        Image.fromarray(picture.clip(0, 255).round().astype(np.uint8)).save(theirs)
        their_log.write_text(json.dumps(lines))
    compare(a.out, pictures, (ours, log), (theirs, their_log))


def compare(out, pictures, ours, theirs):
    if not (ours[0].exists() and theirs[0].exists()):
        return
    mine, other = ends([json.loads(line) for line in ours[1].open()]), ends(json.loads(theirs[1].read_text()))
    if list(mine) == [""]:
        mine = {next(iter(other)): mine[""]}
    print("| scale | term | impasto | PyTorch | difference |\n| --- | --- | --- | --- | --- |")
    for scale, terms in mine.items():
        rows = [("total", sum(terms.values()), sum(other[scale].values()))]
        rows += [(name, value, other[scale][name]) for name, value in terms.items()]
        for name, a, b in rows:
            print(f"| {scale} | {name} | {a:.6g} | {b:.6g} | {100 * (a / b - 1):+.3f} % |")
    a, b = (np.asarray(Image.open(path), np.float32) for path in (ours[0], theirs[0]))
    d = np.abs(a - b)
    print(f"pictures: {d.mean():.3f} of 255 apart on average, {100 * (d <= 8).mean():.2f} % of the values within 8, most {d.max():.0f}")
    height, width = a.shape[:2]
    sheet = Image.new("RGB", (2 * width, 2 * height), "white")
    cells = [pictures["content"], pictures["style"], Image.open(ours[0]), Image.open(theirs[0])]
    for k, cell in enumerate(cells):
        cell = cell.copy()
        cell.thumbnail((width, height))
        sheet.paste(cell, (k % 2 * width, k // 2 * height))
    sheet.save(out / "sheet.png")
    print(f"wrote {out / 'sheet.png'}: content, style; impasto, PyTorch", flush=True)


if __name__ == "__main__":
    main()
