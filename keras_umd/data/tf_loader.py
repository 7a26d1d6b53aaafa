"""Batches by tf.data: fastest on machines with many cores, and the way to TFRecords and remote files."""

import functools
import os

import numpy as np

from keras_umd.backend import import_tensorflow
from keras_umd.data.crops import NUM_DRAWS, is_at_least
from keras_umd.data.decoding import MAX_ENLARGEMENT, MAX_PIXELS, BadImage, decode_and_crop
from keras_umd.data.loading import BATCHES_AHEAD, Batch


def _same(x):
    return x


class TFLoader:
    """Reads, decodes and crops records in TensorFlow's threads.

    Whole JPEG and plain PNG files are decoded by TensorFlow, of a JPEG only the part that is needed; everything else by
    `decode_and_crop`. TensorFlow's pipeline ends at a damaged image: from the first one on, the rest of the epoch is
    decoded by `decode_and_crop`, and in later epochs only the images that are known to be damaged.

    Args:
        records: Function from an epoch to a tf.data.Dataset of its records in order, `(key, label, name)`: a string, an
            integer and a string.
        order: `Order`.
        crop: `Crop`.
        workers: Integer or `None`, the number of threads. Defaults to one for each core.
        read: Function from a key to the bytes of the image, in TensorFlow. By default the key is the bytes.
        read_in_python: The same for NumPy's bytes.
    """

    def __init__(self, records, order, crop, workers=None, *, read=_same, read_in_python=_same):
        self.records = records
        self.read = read
        self.read_in_python = read_in_python
        self.order = order
        self.crop = crop
        self.workers = workers or os.cpu_count()
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
                        labels=batch["label"].astype("int32"),
                        is_small=batch["is_small"],
                        reasons=[reason.decode() for reason in batch["reason"]],
                        name=lambda place, names=batch["name"]: os.fsdecode(names[place]),
                    )
                    start += 1
                return
            except tf.errors.DataLossError as error:  # a damaged file of records, not a damaged image
                raise ValueError(
                    "A file of records is damaged; leave it out, or write it anew (one file at a time tells which). "
                    f"Received: {error}"
                ) from error
            except (tf.errors.OpError, UnicodeDecodeError):  # UnicodeDecodeError: the message holds a file's bytes
                if in_python:
                    raise
                in_python = True

    def _dataset(self, tf, epoch, start, in_python):
        size = self.order.batch_size
        epoch_seed = np.random.default_rng([self.order.seed, epoch, self.order.shard_index]).integers(2**31)
        if in_python not in self._functions:  # traced once, not in every epoch
            function = self._load_in_python if in_python else self._load
            self._functions[in_python] = tf.function(functools.partial(function, tf))
        damaged = tf.constant(sorted(self._damaged), tf.string)

        def load(position, seed, record):
            key, label, name = record
            draws = tf.random.stateless_uniform([NUM_DRAWS], seed=[seed, position])
            arguments = () if in_python else (tf.reduce_any(name == damaged),)
            image, is_small, reason = self._functions[in_python](key, draws, *arguments)
            return {"image": image, "label": label, "is_small": is_small, "reason": reason, "name": name}

        positions, seeds = tf.data.Dataset.counter(), tf.data.Dataset.from_tensors(epoch_seed).repeat()
        dataset = tf.data.Dataset.zip(positions, seeds, self.records(epoch))
        dataset = dataset.take(self.order.num_batches * size).skip(start * size)
        dataset = dataset.map(load, num_parallel_calls=self.workers).batch(size).prefetch(BATCHES_AHEAD)
        options = tf.data.Options()
        options.threading.max_intra_op_parallelism = 1  # images are decoded in parallel; more threads would compete
        return dataset.with_options(options)

    def _load(self, tf, key, draws, is_damaged):
        """An image, whether it was enlarged, and the reason why it can't be used, or an empty string."""
        data = tf.cond(is_damaged, lambda: b"", lambda: self.read(key))
        begin, end = tf.strings.substr(data, 0, 41) + b"\0" * 41, tf.strings.length(data)

        def has(text, start, data=begin):
            return tf.strings.substr(data, start, len(text)) == text

        # Of a truncated JPEG, TensorFlow would decode some crops and raise at others.
        is_jpeg = has(b"\xff\xd8\xff", 0) & has(b"\xff\xd9", tf.maximum(end - 2, 0), data)
        # 8 bits of grey or RGB, and IDAT right behind the header: no chunk that makes a colour transparent.
        is_plain = (has(b"\x08\x00", 24) | has(b"\x08\x02", 24)) & has(b"IDAT", 37)
        is_plain &= has(b"\x89PNG\r\n\x1a\n", 0) & has(b"IEND", tf.maximum(end - 8, 0), data)
        image, is_small, reason = tf.cond(
            is_jpeg | is_plain,
            lambda: self._decode_and_crop(tf, data, is_jpeg, draws),
            lambda: self._load_in_python(tf, key, draws),
        )
        return tf.ensure_shape(image, self.crop.image_shape), is_small, reason

    def _decode_and_crop(self, tf, data, is_jpeg, draws):
        """`decode_and_crop` as a graph, for JPEG and plain PNG."""
        crop = self.crop

        def decode_jpeg():
            shape = tf.image.extract_jpeg_shape(data)
            box = self._box(tf, shape, draws)
            ratios = (1, 2, 4, 8)
            step = tf.add_n(
                [tf.cast(is_at_least(box[2], box[3], crop.image_size, ratio), "int32") for ratio in ratios[1:]]
            )
            decode = functools.partial(tf.image.decode_and_crop_jpeg, data, channels=crop.channels)
            branches = [functools.partial(decode, crop_window=box // ratio, ratio=ratio) for ratio in ratios]
            return tf.switch_case(step, branches), shape

        def decode_png():
            image = tf.image.decode_png(data, channels=crop.channels)
            shape = tf.shape(image)
            box = self._box(tf, shape, draws)
            return image[box[0] : box[0] + box[2], box[1] : box[1] + box[3]], shape

        image, shape = tf.cond(is_jpeg, decode_jpeg, decode_png)
        image = self._resize(tf, image)
        # While they are floats: TensorFlow reverses bytes ten times as slowly.
        image = tf.cond(crop.is_flipped(draws), lambda: tf.reverse(image, [1]), lambda: image)
        image = tf.cast(image + 0.5, "uint8")
        is_too_small = ~is_at_least(shape[0] * MAX_ENLARGEMENT, shape[1] * MAX_ENLARGEMENT, crop.image_size)
        is_too_large = tf.reduce_prod(tf.cast(shape[:2], "float32")) > MAX_PIXELS

        def why():
            few = f"{{}}x{{}} pixels are too few for image_size={crop.image_size}"
            many = f"{{}}x{{}} pixels are too many; {MAX_PIXELS} are allowed"
            return tf.where(is_too_small, *(tf.strings.format(text, (shape[0], shape[1])) for text in (few, many)))

        return (
            image,
            ~is_at_least(shape[0], shape[1], crop.image_size),
            tf.cond(is_too_small | is_too_large, why, lambda: ""),
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
                image, is_small = decode_and_crop(self.read_in_python(key), self.crop, draws)
                return image, np.bool_(is_small), b""
            except (BadImage, OSError) as error:
                return np.zeros(self.crop.image_shape, "uint8"), np.False_, str(error).encode()

        image, is_small, reason = tf.numpy_function(load, [key, draws], (tf.uint8, tf.bool, tf.string))
        return tf.ensure_shape(image, self.crop.image_shape), tf.ensure_shape(is_small, ()), tf.ensure_shape(reason, ())


def independent_of_the_global_seed(records):
    """Make a function from an epoch to a tf.data.Dataset independent of TensorFlow's global seed.

    TensorFlow mixes that seed into all others; a seed that is set within a graph counts within the graph only.
    """

    def independent(epoch):
        tf = import_tensorflow()

        def within_graph(_):
            tf.random.set_seed(0)
            return records(epoch)

        return tf.data.Dataset.from_tensors(0).flat_map(within_graph)

    return independent
