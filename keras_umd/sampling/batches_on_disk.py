"""The files that batches of generated images are kept in while a run goes on: parts of one array, or PNG files."""

import contextlib
import os
import pathlib
import re
import zipfile

import keras
import numpy as np

from keras_umd.utils.arrays import map_array
from keras_umd.utils.atomic import check_space, checksum, flush, write_whole

CHECKSUMS = "checksums.txt"
LABELS = "labels.txt"


class Checksums:
    """The SHA-256 of files, a line each, as `sha256sum` writes them. It is appended to: a manifest of 50,000 images
    would be written anew for each batch.
    """

    def __init__(self, directory):
        self.directory = directory
        self.path = os.path.join(directory, CHECKSUMS)

    def read(self):
        """Dictionary of names and checksums. Lines that aren't whole are left out, and so their files."""
        if not os.path.isfile(self.path):
            return {}
        with open(self.path, encoding="utf-8", errors="replace") as file:
            return {name: digest for digest, name in re.findall(r"([0-9a-f]{64})  (\d+\.(?:npy|png))\n", file.read())}

    def append(self, names):
        with open(self.path, "a", encoding="utf-8") as file:
            file.writelines(f"{checksum(os.path.join(self.directory, name))}  {name}\n" for name in names)
        flush(self.path)
        flush(self.directory)

    def tidy(self):
        """Write the lines in order, without those of before that a damage or a second writing left."""
        lines = [f"{digest}  {name}\n" for name, digest in sorted(self.read().items())]
        write_whole(self.path, lambda temporary: pathlib.Path(temporary).write_text("".join(lines), encoding="utf-8"))

    def whole_files(self):
        """The names of the files that are there as they were written, in order."""
        files = ((name, os.path.join(self.directory, name), digest) for name, digest in sorted(self.read().items()))
        return [name for name, path, digest in files if os.path.isfile(path) and checksum(path) == digest]


class Parts:
    """Batches as files of their own, merged into one at the end."""

    def __init__(self, directory):
        self.directory = os.path.join(directory, "parts")
        self.checksums = Checksums(self.directory)

    def _read(self, name):
        return map_array(os.path.join(self.directory, name), "Call `generate_to` again to make it anew")

    def whole(self):
        """Pairs (start, stop) of the images that are there."""
        starts = [(int(name.removesuffix(".npy")), name) for name in self.checksums.whole_files()]
        return [(start, start + len(self._read(name))) for start, name in starts]

    def append(self, start, images):
        os.makedirs(self.directory, exist_ok=True)
        name = f"{start:09}.npy"
        write_whole(
            os.path.join(self.directory, name), lambda temporary: np.save(temporary, images), needed_bytes=images.nbytes
        )
        self.checksums.append([name])

    def merge(self, path, labels):
        """One array from all parts, without all of them in memory: the layout of `np.savez`."""
        names = self.checksums.whole_files()
        first = self._read(names[0])
        num_images = sum(len(self._read(name)) for name in names)
        header = {"descr": first.dtype.str, "fortran_order": False, "shape": (num_images, *first.shape[1:])}

        def write(temporary):
            with zipfile.ZipFile(temporary, "w", allowZip64=True) as archive:
                with archive.open("arr_0.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array_header_1_0(file, header)
                    for name in names:
                        file.write(self._read(name).tobytes())
                if labels is not None:
                    with archive.open("arr_1.npy", "w") as file:
                        np.lib.format.write_array(file, labels.astype("int64"))

        write_whole(path, write, needed_bytes=num_images * first[0].nbytes)

    def remove(self):
        """Remove the parts, and what a stopped write left of one; nothing else."""
        if os.path.isdir(self.directory):
            for name in os.listdir(self.directory):
                if name == CHECKSUMS or re.fullmatch(r"\d{9}\.npy|\.\d{9}\.npy\.tmp\.npy", name):
                    os.remove(os.path.join(self.directory, name))
            with contextlib.suppress(OSError):  # others' files are in it
                os.rmdir(self.directory)


class PngFiles:
    """A file for each image."""

    def __init__(self, directory):
        self.directory = directory
        self.checksums = Checksums(directory)

    def name(self, index):
        return f"{index:06}.png"

    def whole(self):
        """Pairs (start, stop) of the images that are there."""
        indices = (int(name.removesuffix(".png")) for name in self.checksums.whole_files())
        return [(index, index + 1) for index in indices]

    def append(self, start, images):
        check_space(self.directory, images.nbytes)
        for index, image in enumerate(images, start):
            write_whole(
                os.path.join(self.directory, self.name(index)),
                lambda temporary, image=image: keras.utils.save_img(temporary, image, scale=False),
            )
        self.checksums.append([self.name(index) for index in range(start, start + len(images))])

    def finish(self, labels):
        """Write the labels, and the checksums in order; returns the paths of the files that the manifest is to know."""
        self.checksums.tidy()
        paths = [self.checksums.path]
        if labels is not None:
            paths.append(os.path.join(self.directory, LABELS))
            write_whole(paths[-1], lambda temporary: np.savetxt(temporary, labels, fmt="%d"))
        return paths
