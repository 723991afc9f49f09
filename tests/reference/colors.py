"""Reference figures of the colours: writes colors.json beside itself. Needs NumPy; run it by hand.

    python tests/reference/colors.py

Matching of colours, original colours and histograms in float64, as papers and standards define them, with NumPy's own
roots and interpolation, on small pictures that the file lists.
"""

import json
import pathlib

import numpy as np

RNG = np.random.default_rng(11)
LEAST_VARIANCE = 1.0


def colored(height, width, center, axes):
    """Integers around a colour, spread along three axes."""
    spread = RNG.standard_normal((height, width, 3)) @ np.asarray(axes, float)
    return np.clip(np.round(np.asarray(center) + spread), 0, 255)


PICTURES = {
    "warm": colored(6, 5, [170, 120, 70], [[30, 20, 8], [0, 12, -9], [5, 0, 14]]),
    "cold": colored(4, 8, [70, 110, 160], [[12, 25, 33], [14, -6, 0], [0, 4, 9]]),
    "small": colored(3, 3, [128, 128, 128], [[60, 60, 60], [30, -30, 0], [10, 10, -40]]),
    "grey": np.repeat(np.round(RNG.uniform(0, 255, (5, 6, 1))), 3, axis=2),
    "flat": np.broadcast_to(np.array([40.0, 200.0, 90.0]), (3, 4, 3)),
    # Differs along one direction only, and by less than a level along another.
    "faint": np.array([100.0, 90.0, 80.0])
    + np.arange(20).reshape(4, 5, 1) * np.array([6.0, 5.0, 4.0])
    + np.array([0.25, -0.25, 0.125]) * (np.arange(20) % 3).reshape(4, 5, 1),
    # Few levels: many equal values.
    "steps": np.floor(colored(7, 6, [120, 100, 140], [[40, 30, 30], [20, 0, -20], [0, 25, 5]]) / 64) * 64,
}


def symmetric(a, f):
    values, vectors = np.linalg.eigh(a)
    return (vectors * f(values)) @ vectors.T


def root(a):
    return symmetric(a, lambda v: np.sqrt(np.maximum(v, 0)))


def lower(a):
    """A root L Lᵀ = a for any a without negative eigenvalues: QR of the symmetric root, rows turned to a positive diagonal."""
    r = np.linalg.qr(root(a).T)[1]
    return (r * np.where(np.diag(r) < 0, -1, 1)[:, None]).T


def match(style, content, how):
    s, c = style.reshape(-1, 3), content.reshape(-1, 3)
    ms, mc = s.mean(0), c.mean(0)
    cs, cc = np.cov(s.T, bias=True), np.cov(c.T, bias=True)
    cs = symmetric(cs, lambda v: np.maximum(v, LEAST_VARIANCE))
    if how == "mean":
        a = np.eye(3)
    elif how == "pca":
        a = root(cc) @ np.linalg.inv(root(cs))
    elif how == "cholesky":
        # Where the content's covariance has an inverse, NumPy's own.
        full = np.linalg.eigvalsh(cc).min() > 1e-6
        a = (np.linalg.cholesky(cc) if full else lower(cc)) @ np.linalg.inv(np.linalg.cholesky(cs))
    else:
        half = root(cs)
        back = np.linalg.inv(half)
        a = back @ root(half @ cc @ half) @ back
    return np.clip((s - ms) @ a.T + mc, 0, 255).reshape(style.shape)


def yuv(painted, content):
    to = np.array([[0.299, 0.587, 0.114], [-0.299 / 1.772, -0.587 / 1.772, 0.5], [0.5, -0.587 / 1.402, -0.114 / 1.402]])
    mixed = np.clip(content, 0, 255) @ to.T
    mixed[..., 0] = (np.clip(painted, 0, 255) @ to.T)[..., 0]
    return np.clip(mixed @ np.linalg.inv(to).T, 0, 255)


XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
WHITE = XYZ @ np.ones(3)


def to_lab(rgb):
    v = np.clip(rgb, 0, 255) / 255
    linear = np.where(v > 0.04045, ((v + 0.055) / 1.055) ** 2.4, v / 12.92)
    t = linear @ XYZ.T / WHITE
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def from_lab(lab):
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], -1)
    t = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    v = np.clip((t * WHITE) @ np.linalg.inv(XYZ).T, 0, 1)
    return 255 * np.where(v > 0.0031308, 1.055 * v ** (1 / 2.4) - 0.055, 12.92 * v)


def lab(painted, content):
    mixed = to_lab(content)
    mixed[..., 0] = to_lab(painted)[..., 0]
    return from_lab(mixed)


def histogram(result, targets):
    out = np.empty_like(result)
    for c in range(3):
        values = result[..., c].ravel()
        _, which, count = np.unique(values, return_inverse=True, return_counts=True)
        share = (np.cumsum(count) - count / 2) / values.size
        goal = np.sort(np.concatenate([t[..., c].ravel() for t in targets]))
        at = (np.arange(goal.size) + 0.5) / goal.size
        out[..., c] = np.interp(share, at, goal)[which].reshape(result.shape[:2])
    return out


def main():
    cases = []

    def case(kind, picture, others, value):
        rounded = [float(f"{v:.8g}") for v in value.ravel()]
        cases.append({"kind": kind, "picture": picture, "others": others, "expected": rounded})

    for style, content in [
        ("warm", "cold"), ("cold", "warm"), ("small", "warm"), ("warm", "grey"), ("grey", "warm"), ("warm", "flat"),
        ("flat", "warm"), ("faint", "cold"), ("steps", "faint"),
    ]:
        for how in ["mean", "pca", "cholesky", "symmetric"]:
            case(how, style, [content], match(PICTURES[style], PICTURES[content], how))
    # Of one size: resampling is tested elsewhere.
    same = {"painted": colored(6, 5, [140, 90, 150], [[70, 60, 50], [50, -40, 0], [0, 30, -80]])}
    PICTURES.update(same)
    for kind, f in [("yuv", yuv), ("lab", lab)]:
        case(kind, "painted", ["warm"], f(PICTURES["painted"], PICTURES["warm"]))
        case(kind, "warm", ["painted"], f(PICTURES["warm"], PICTURES["painted"]))
    for picture, targets in [
        ("warm", ["cold"]), ("small", ["steps"]), ("steps", ["warm"]), ("flat", ["cold"]), ("cold", ["flat"]),
        ("grey", ["warm", "cold", "small"]),
    ]:
        case("histogram", picture, targets, histogram(PICTURES[picture], [PICTURES[t] for t in targets]))
    pictures = {
        name: {"height": p.shape[0], "width": p.shape[1], "rgb": p.ravel().tolist()} for name, p in PICTURES.items()
    }
    text = json.dumps({"pictures": pictures, "cases": cases}, separators=(",", ":"))
    pathlib.Path(__file__).with_suffix(".json").write_text(text + "\n")


if __name__ == "__main__":
    main()
