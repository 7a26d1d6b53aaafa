"""Two sets of small colour images for experiments in minutes, from packages that ordinary package managers fetch.

    python examples/small_data.py emoji                  # npm's emoji-datasource-google, 74 MB
    python examples/small_data.py photographs            # three packages of wallpapers of Debian or Ubuntu, 74 MB
    python examples/small_data.py emoji --size 64        # as large as they are
    python examples/small_data.py emoji --packages DIR   # what is unpacked there already, without a package manager

Each becomes a folder with train/ and test/, of PNG files in one folder for each class, as `keras_umd.data.from_folder`
and the other examples read them.

**Emoji**: 3,781 drawings on white, 64x64, averaged to 32x32. Classes are the nine categories: activities, animals,
flags, food, objects, people, smileys, symbols, travel. An eighth is for tests, by emoji: skin tones of one emoji are
on the same side. Needs npm. Licences: the package MIT, Google's Noto Emoji SIL OFL 1.1 and Apache 2.0, flags public
domain.

**Photographs**: square crops of 27 photographs of plants, landscapes and things, 160 and 40 of each, a quarter to an
eighth of the picture's shorter side, averaged to the size. The class is the photograph. Test crops are from a quarter
of the picture, at the end of its longer side, training crops from the rest: no pixel is in both. Needs apt-get and
dpkg-deb, no root. Licences: lomiri-wallpapers-16.04 CC BY 4.0, CC BY-SA 4.0 and CC0, lomiri-wallpapers-20.04 CC BY-SA
3.0, mate-backgrounds GPL 2 or later; the packages' copyright files name the author and the licence of each picture.
"""

import argparse
import json
import pathlib
import subprocess
import tarfile

import numpy as np
from PIL import Image

EMOJI_PACKAGE = "emoji-datasource-google@16.0.0"
PHOTOGRAPH_PACKAGES = ("lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04", "mate-backgrounds")
NOT_A_PHOTOGRAPH = ("analogpattern", "umang", "Fossa", "Painting-Colors", "warty")
TEST_EMOJI = 8  # one of so many
TEST_AREA = 0.25
CROPS = {"train": 160, "test": 40}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("emoji", "photographs"))
    parser.add_argument("--output", type=pathlib.Path, help="data/KIND by default")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--packages", type=pathlib.Path, help="a folder with the unpacked packages")
    args = parser.parse_args()

    output = args.output or pathlib.Path("data") / args.kind
    if output.exists():
        raise SystemExit(f"{output} exists; give another --output, or remove it.")
    packages = args.packages or get_packages(args.kind, output.parent / "packages")
    images = emoji(packages, args.size) if args.kind == "emoji" else crops(packages, args.size)
    counts = {"train": 0, "test": 0}
    for part, label, name, image in images:
        folder = output / part / label
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{name}.png")
        counts[part] += 1
    if not all(counts.values()):
        raise SystemExit(f"{packages} has none of the pictures of {args.kind}.")
    classes = len(list((output / "train").iterdir()))
    print(f"{output}: {counts['train']} images to train, {counts['test']} to test, {classes} classes")


def get_packages(kind, folder):
    """Fetch and unpack what isn't there yet. Returns the folder."""
    unpacked = folder / kind
    if unpacked.exists():
        return unpacked
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{kind}-unfinished"
    partial.mkdir(exist_ok=True)
    if kind == "emoji":
        run("npm", "pack", "--silent", EMOJI_PACKAGE, folder=folder)
        with tarfile.open(next(folder.glob("emoji-datasource-google-*.tgz"))) as archive:
            archive.extractall(partial, filter="data")
    else:
        run("apt-get", "download", *PHOTOGRAPH_PACKAGES, folder=folder)
        for package in folder.glob("*.deb"):
            run("dpkg-deb", "-x", package.name, partial.name, folder=folder)
    partial.rename(unpacked)
    return unpacked


def run(*command, folder):
    try:
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"`{' '.join(command)}` failed: {error}") from error


def emoji(packages, size):
    """Iterate over part, class, name and image of all emoji, on white."""
    (listing,) = packages.rglob("emoji.json")
    known = json.loads(listing.read_text(encoding="utf-8"))
    known = [e for e in known if e.get("has_img_google") and e["category"] != "Component"]  # five patches of skin
    known = [known[i] for i in np.random.default_rng(0).permutation(len(known))]
    known.sort(key=lambda e: e["category"])  # every class has its share of the tests
    for index, e in enumerate(known):
        part = "train" if index % TEST_EMOJI else "test"
        label = e["category"].split()[0].lower()
        variations = [v for v in e.get("skin_variations", {}).values() if v.get("has_img_google")]
        for name in (e["image"], *(v["image"] for v in variations)):
            with Image.open(listing.parent / "img" / "google" / "64" / name) as file:
                drawn = file.convert("RGBA")
            white = Image.new("RGBA", drawn.size, "white")
            image = Image.alpha_composite(white, drawn).convert("RGB")
            yield part, label, pathlib.Path(name).stem, image.resize((size, size), Image.Resampling.BOX)


def crops(packages, size):
    """Iterate over part, class, name and image of random crops of all photographs."""
    paths = sorted(path for path in packages.rglob("*.jpg") if path.parent.name in ("nature", "backgrounds"))
    for index, path in enumerate(path for path in paths if not path.name.startswith(NOT_A_PHOTOGRAPH)):
        with Image.open(path) as file:
            picture = file.convert("RGB")
        for part, count in CROPS.items():
            rng = np.random.default_rng([index, part == "test"])
            for number in range(count):
                box = draw_box(picture.size, part, rng)
                image = picture.resize((size, size), Image.Resampling.BOX, box=box)
                yield part, path.stem.partition("_by_")[0].lower(), f"{number:03d}", image


def draw_box(picture_size, part, rng):
    """Left, top, right and bottom of a square within the part's area of a picture `(width, height)`."""
    shorter = min(picture_size)
    side = int(rng.integers(shorter // 8, shorter // 4 + 1))
    longer_axis = int(np.argmax(picture_size))
    corner = []
    for axis, length in enumerate(picture_size):
        start, stop = 0, length
        if axis == longer_axis:
            border = round((1 - TEST_AREA) * length)
            start, stop = (border, length) if part == "test" else (0, border)
        corner.append(int(rng.integers(start, stop - side + 1)))
    return (*corner, corner[0] + side, corner[1] + side)


if __name__ == "__main__":
    main()
