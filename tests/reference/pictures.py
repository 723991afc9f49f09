"""Compares what impasto reads with what Pillow and LittleCMS read. Needs NumPy and Pillow; run it by hand.

    mkdir /tmp/awkward
    IMPASTO_AWKWARD=/tmp/awkward cargo test --release --test awkward have_the_colours
    python tests/reference/pictures.py /tmp/awkward

For each file: the worst difference in levels of 0..255, or which of the two refused it. Pillow has 8 bits for most of
what it reads, so that a level of difference is rounding; where its way with a file is known to be another, the reason is
printed.
"""

import io
import pathlib
import sys

import numpy as np
from PIL import Image, ImageCms, ImageOps

Image.MAX_IMAGE_PIXELS = None
OTHER = {
    "grey_with_rgb_profile.png": "Pillow has no transform from grey by an RGB profile",
    "animated.webp": "",
}


def ours(path):
    values = np.frombuffer(pathlib.Path(f"{path}.ours").read_bytes(), "<f4")
    if not values.size:
        return None
    width, height = int(values[0]), int(values[1])
    return values[2:].reshape(height, width, 3).astype(float)


def srgb(image, profile):
    """Colours in sRGB, and alpha or None."""
    alpha = None
    if "transparency" in image.info and image.mode in ("P", "RGB", "L"):
        image = image.convert("RGBA")
    if image.mode in ("RGBA", "LA", "PA"):
        alpha = np.asarray(image.getchannel("A"), float) / 255
        image = image.convert("RGB" if image.mode != "LA" else "L")
    if image.mode in ("P", "1"):
        image = image.convert("RGB")
    if image.mode in ("I;16", "I;16B", "I"):
        values = np.asarray(image, float) / 257
        return np.repeat(values[..., None], 3, 2), alpha
    if image.mode == "F":
        values = np.clip(np.nan_to_num(np.asarray(image, float), posinf=1), 0, 1) * 255
        return np.repeat(values[..., None], 3, 2), alpha
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            space = source.profile.xcolor_space.strip()
            if space == {"L": "GRAY", "CMYK": "CMYK"}.get(image.mode, "RGB"):
                image = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), 0, outputMode="RGB")
        except ImageCms.PyCMSError:
            pass
    if image.mode == "CMYK":
        inks = np.asarray(image, float)
        return (255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255, alpha
    return np.asarray(image.convert("RGB"), float), alpha


def theirs(path):
    with Image.open(path) as image:
        image.load()
        profile = image.info.get("icc_profile")
        image = ImageOps.exif_transpose(image)
        rgb, alpha = srgb(image, profile)
        if alpha is not None:
            rgb = rgb * alpha[..., None] + 255 * (1 - alpha[..., None])
        return rgb


def main():
    folder = pathlib.Path(sys.argv[1])
    worst, compared, both = 0, 0, 0
    for path in sorted(folder.iterdir()):
        if path.suffix == ".ours":
            continue
        mine = ours(path)
        try:
            other = theirs(path)
        except Exception as error:  # whatever it says, it is a refusal
            other = None
            why = str(error)[:60]
        if mine is None or other is None:
            both += mine is None and other is None
            if (mine is None) != (other is None):
                print(f"{path.name}: {'refused by impasto' if mine is None else f'refused by Pillow ({why})'}")
            continue
        if mine.shape != other.shape:
            print(f"{path.name}: shape {mine.shape} and {other.shape}")
            continue
        difference = np.abs(mine - other).max()
        compared += 1
        if difference > 1.01:
            print(f"{path.name}: {difference:.2f} levels {OTHER.get(path.name, '')}")
        if path.name not in OTHER:
            worst = max(worst, difference)
    print(f"{compared} compared, worst {worst:.2f} levels; {both} refused by both")


if __name__ == "__main__":
    main()
