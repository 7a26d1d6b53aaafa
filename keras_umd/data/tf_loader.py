"""Batches by tf.data: fastest on machines with many cores, and the way to TFRecords and remote files."""

import functools
import os

import numpy as np

from keras_umd.backend import import_tensorflow
from keras_umd.data.crops import NUM_DRAWS, is_at_least
from keras_umd.data.decoding import MAX_ENLARGEMENT, SMALL, decode_and_crop, is_simple
from keras_umd.data.limits import DEFAULT_LIMITS, BadImage
from keras_umd.data.loading import BATCHES_AHEAD, Batch
from keras_umd.data.opening import LARGE


def _same(x):
    return x


def _cannot_tell(error):
    raise ValueError(
        "A file of records is damaged; leave it out, or write it anew (one file at a time tells which). "
        f"Received: {error}"
    ) from error


class TFLoader:
    """Reads, decodes and crops records in TensorFlow's threads.

    Whole JPEG and plain PNG files are decoded by TensorFlow, everything else by `decode_and_crop`: other kinds, images
    that are large or turned, and those that give reason to look closer. TensorFlow's pipeline ends at a damaged image:
    from the first one on, the rest of the epoch is decoded by `decode_and_crop`, and in later epochs only the images
    that are known to be damaged.

    Args:
        records: Function from an epoch, and whether to read records one by one in Python, to a tf.data.Dataset of its
            records in order, `(key, label, name, reason)`: a string, an integer, and two strings, the second why the
            record can't be used, or empty.
        order: `Order`.
        crop: `Crop`.
        workers: Integer or `None`, the number of threads. Defaults to one for each core.
        limits: `Limits`.
        read: Function from a key to the bytes of the image, in TensorFlow. By default the key is the bytes.
        read_in_python: The same for NumPy's bytes.
        explain: Function from TensorFlow's error at a damaged file of records to nothing: it raises what names it.
    """

    def __init__(
        self,
        records,
        order,
        crop,
        workers=None,
        limits=DEFAULT_LIMITS,
        *,
        read=_same,
        read_in_python=_same,
        explain=_cannot_tell,
    ):
        self.records = records
        self.read = read
        self.read_in_python = read_in_python
        self.explain = explain
        self.order = order
        self.crop = crop
        self.workers = workers or os.cpu_count()
        self.limits = limits
        self._damaged = set()  # names, as bytes
        self._functions = {}

    def batches(self, epoch, start):
        """The batches of an epoch, from batch `start` on."""
        tf = import_tensorflow()
        in_python = False
        while start < self.order.num_batches:
            try:
                for batch in self._dataset(tf, epoch, start, in_python).as_numpy_iterator():
                    self._damaged.update(batch["name"][batch["reason"] != b""])
                    yield Batch(
                        images=batch["image"],
                        labels=batch["label"].astype("int64"),
                        notes=batch["notes"],
                        reasons=[reason.decode() for reason in batch["reason"]],
                        name=lambda place, names=batch["name"]: os.fsdecode(names[place]),
                    )
                    start += 1
                return
            except tf.errors.DataLossError as error:  # a damaged file of records, not a damaged image
                self.explain(error)
                raise
            except (tf.errors.OpError, UnicodeDecodeError) as error:  # UnicodeDecodeError: its message holds bytes
                if in_python:
                    raise ValueError(f"The records can't be read. Received, from TensorFlow: {error}") from error
                in_python = True

    def _dataset(self, tf, epoch, start, in_python):
        size = self.order.batch_size
        epoch_seed = np.random.default_rng([self.order.seed, epoch, self.order.shard_index]).integers(2**31)
        if in_python not in self._functions:  # traced once, not in every epoch
            function = self._load_in_python if in_python else self._load
            self._functions[in_python] = tf.function(functools.partial(function, tf))
        damaged = tf.constant(sorted(self._damaged), tf.string)

        def load(position, seed, record):
            key, label, name, reason = record
            draws = tf.random.stateless_uniform([NUM_DRAWS], seed=[seed, position])
            arguments = () if in_python else (tf.reduce_any(name == damaged),)
            image, notes, reason = tf.cond(
                reason == "",
                lambda: self._functions[in_python](key, draws, *arguments),
                lambda: (*self._no_image(tf), reason),
            )
            return {"image": image, "label": label, "notes": notes, "reason": reason, "name": name}

        positions, seeds = tf.data.Dataset.counter(), tf.data.Dataset.from_tensors(epoch_seed).repeat()
        dataset = tf.data.Dataset.zip(positions, seeds, self.records(epoch, in_python))
        dataset = dataset.take(self.order.num_batches * size).skip(start * size)
        dataset = dataset.map(load, num_parallel_calls=self.workers).batch(size).prefetch(BATCHES_AHEAD)
        options = tf.data.Options()
        options.threading.max_intra_op_parallelism = 1  # images are decoded in parallel; more threads would compete
        return dataset.with_options(options)

    def _no_image(self, tf):
        return tf.zeros(self.crop.image_shape, "uint8"), tf.constant(0, "uint8")

    def _load(self, tf, key, draws, is_damaged):
        """An image, its notes, and the reason why it can't be used, or an empty string."""
        data = tf.cond(is_damaged, lambda: b"", lambda: self.read(key))
        begin, end = tf.strings.substr(data, 0, 41) + b"\0" * 41, tf.strings.length(data)

        def has(text, start, data=begin):
            return tf.strings.substr(data, start, len(text)) == text

        # Of a truncated JPEG, TensorFlow would decode some crops and raise at others.
        is_jpeg = has(b"\xff\xd8\xff", 0) & has(b"\xff\xd9", tf.maximum(end - 2, 0), data)
        # 8 bits of grey or RGB, and IDAT right behind the header: no chunk that makes a colour transparent.
        is_plain = (has(b"\x08\x00", 24) | has(b"\x08\x02", 24)) & has(b"IDAT", 37)
        is_plain &= has(b"\x89PNG\r\n\x1a\n", 0) & has(b"IEND", tf.maximum(end - 8, 0), data)
        can_decode = (is_jpeg | is_plain) & (end <= self.limits.max_bytes) & (self.crop.channels != 4)
        can_decode = tf.cond(can_decode, lambda: self._is_simple(tf, data, is_jpeg), lambda: False)
        in_python = functools.partial(self._load_in_python, tf, key, draws)
        image, notes, is_whole = tf.cond(
            can_decode,
            lambda: self._decode_and_crop(tf, data, is_jpeg, draws),
            lambda: (*self._no_image(tf), False),
        )
        image, notes, reason = tf.cond(is_whole, lambda: (image, notes, ""), in_python)
        return tf.ensure_shape(image, self.crop.image_shape), notes, reason

    def _is_simple(self, tf, data, is_jpeg):
        """Whether TensorFlow can decode a JPEG or PNG: it isn't large nor turned, and nothing in it looks damaged."""

        def size_of_png():
            size = tf.cast(tf.io.decode_raw(tf.strings.substr(data, 16, 8), "uint8"), "float32")
            return tf.reduce_sum(tf.reshape(size, (2, 4)) * [[2.0**24, 2.0**16, 2.0**8, 1.0]], axis=1)

        size = tf.cond(is_jpeg, lambda: tf.cast(tf.image.extract_jpeg_shape(data)[:2], "float32"), size_of_png)
        values = tf.io.decode_raw(data, "uint8")

        def contains(*texts):  # of bytes, at any place
            length = tf.size(values) - len(texts) + 1
            return tf.reduce_any(
                tf.reduce_all([values[i : length + i] == value for i, value in enumerate(texts)], axis=0)
            )

        words = tf.io.decode_raw(tf.strings.substr(data, 0, tf.size(values) // 8 * 8), "int64")
        has_zeros = tf.reduce_any((words[:-1] | words[1:]) == 0)
        # Few images: most say nothing of the camera, have one scan, and no restarts.
        to_look_at = tf.cond(
            is_jpeg,
            lambda: has_zeros | contains(0xFF, 0xC2) | contains(0xFF, 0xDD) | contains(*b"Exif"),
            lambda: contains(*b"eXIf"),
        )

        def look(data):
            try:
                return np.bool_(is_simple(data, self.limits))
            except BadImage:
                return np.False_  # it is looked at again where its reason is kept

        is_fine = tf.cond(to_look_at, lambda: tf.numpy_function(look, [data], tf.bool), lambda: True)
        return tf.ensure_shape(is_fine, ()) & (size[0] * size[1] <= min(LARGE, self.limits.max_pixels))

    def _decode_and_crop(self, tf, data, is_jpeg, draws):
        """`decode_and_crop` as a graph, for JPEG and plain PNG: image, notes, and whether nothing speaks against it."""
        crop = self.crop

        def decode_jpeg():
            shape = tf.image.extract_jpeg_shape(data)
            box = self._box(tf, shape, draws)
            ratios = (1, 2, 4, 8)
            step = tf.add_n(
                [tf.cast(is_at_least(box[2], box[3], crop.image_size, ratio), "int32") for ratio in ratios[1:]]
            )
            decode = functools.partial(tf.image.decode_jpeg, data, channels=crop.channels)
            image = tf.switch_case(step, [functools.partial(decode, ratio=ratio) for ratio in ratios])
            # The whole image costs little more, and its last pixel tells whether decoders filled its end with grey.
            is_whole = tf.reduce_any(image[-1, -1] != 128)
            top, left, height, width = tf.unstack(box // tf.gather(ratios, step))
            return image[top : top + height, left : left + width], shape, is_whole

        def decode_png():
            image = tf.image.decode_png(data, channels=crop.channels)
            shape = tf.shape(image)
            box = self._box(tf, shape, draws)
            return image[box[0] : box[0] + box[2], box[1] : box[1] + box[3]], shape, True

        image, shape, is_whole = tf.cond(is_jpeg, decode_jpeg, decode_png)
        image = self._resize(tf, image)
        # While they are floats: TensorFlow reverses bytes ten times as slowly.
        image = tf.cond(crop.is_flipped(draws), lambda: tf.reverse(image, [1]), lambda: image)
        image = tf.cast(image + 0.5, "uint8")
        is_large_enough = is_at_least(shape[0] * MAX_ENLARGEMENT, shape[1] * MAX_ENLARGEMENT, crop.image_size)
        is_small = ~is_at_least(shape[0], shape[1], crop.image_size)
        return (
            image,
            tf.where(is_small, *(tf.constant(note, "uint8") for note in (SMALL, 0))),
            is_whole & is_large_enough,
        )

    def _box(self, tf, shape, draws):
        """The crop as integers."""
        height, width = tf.cast(shape[0], "float32"), tf.cast(shape[1], "float32")
        return tf.cast(tf.stack(self.crop.box(tf, height, width, tf.unstack(draws))), "int32")

    def _resize(self, tf, image):
        size = self.crop.image_size

        def bilinear():
            return tf.raw_ops.ResizeBilinear(images=image[None], size=size, half_pixel_centers=True)[0]

        def smooth():  # several times slower
            return tf.image.resize(image, size, antialias=True)

        shape = tf.shape(image)
        shrinks = is_at_least(shape[0], shape[1], size, 2)
        return tf.cond(
            tf.reduce_all(shape[:2] == size),
            lambda: tf.cast(image, "float32"),
            lambda: tf.cond(shrinks, smooth, bilinear),
        )

    def _load_in_python(self, tf, key, draws):
        def load(key, draws):
            try:
                image, notes = decode_and_crop(self.read_in_python(key), self.crop, draws, self.limits)
                return image, np.uint8(notes), b""
            except (BadImage, OSError, MemoryError) as error:
                reason = str(error) or type(error).__name__
                return np.zeros(self.crop.image_shape, "uint8"), np.uint8(0), reason.encode(errors="backslashreplace")

        image, notes, reason = tf.numpy_function(load, [key, draws], (tf.uint8, tf.uint8, tf.string))
        return tf.ensure_shape(image, self.crop.image_shape), tf.ensure_shape(notes, ()), tf.ensure_shape(reason, ())


def independent_of_the_global_seed(records):
    """Make a function of records, as `TFLoader` wants it, independent of TensorFlow's global seed.

    TensorFlow mixes that seed into all others; a seed that is set within a graph counts within the graph only.
    """

    def independent(epoch, in_python):
        tf = import_tensorflow()

        def within_graph(_):
            tf.random.set_seed(0)
            return records(epoch, in_python)

        return tf.data.Dataset.from_tensors(0).flat_map(within_graph)

    return independent
