"""What is done to an image before the network sees it: Gaussian noise, and dropped patches."""

import keras
from keras import ops

from keras_umd.backend.sharding import replica_rows
from keras_umd.corruption.batch_split import BatchSplit
from keras_umd.corruption.schedules import NoiseSchedule
from keras_umd.layers.masking import check_mask_ratio, num_visible, random_split
from keras_umd.utils.seeds import seed_generator

NOISY_LOSSES = ("x0", "eps")


@keras.saving.register_keras_serializable("keras_umd")
class Corruption:
    """Turns a batch of images into views: what the network sees, and what it must predict (section 4).

    A share of the batch stays clean and loses many patches, as in MAE; the rest gets Gaussian noise and loses fewer, as
    in MaskDiT. `Corruption.mae()`, `.maskdit()`, `.dit()` and `.umd()` are the settings of those methods.

    Random numbers are drawn by `draw` and applied by `corrupt`, so that everything random about a step can be supplied.

    Args:
        schedule: `"cosine"` or `"linear"`, see `NoiseSchedule`.
        num_timesteps: Integer, T. Noisy images get a timestep from 1 to T.
        clean_ratio: Float in [0, 1], the paper's r_t0. Share of the batch that stays clean.
        clean_mask_ratio: Float in [0, 1), the paper's m_t0. Share of patches masked in clean images.
        noisy_mask_ratio: Float in [0, 1), the paper's m_t. Share of patches masked in noisy images.
        decoded_ratio: Float in (0, 1]. Share of the masked patches that are decoded and predicted in training, a random
            subset (Fu et al., "CrossMAE", 2024). Half of them takes a sixth off a training step;
            `benchmarks/cheaper_settings.py` has what it costs. `reconstruct` and `generate` decode all.
        noisy_losses: Which errors count in noisy images, of `"x0"`, over the masked patches, and `"eps"`, over the
            visible ones; both by default (Eq. 4). `generate` can only read what was trained.
    """

    def __init__(
        self,
        schedule="cosine",
        num_timesteps=1000,
        clean_ratio=0.5,
        clean_mask_ratio=0.75,
        noisy_mask_ratio=0.375,
        decoded_ratio=1.0,
        noisy_losses=NOISY_LOSSES,
    ):
        if not 0 <= clean_ratio <= 1:
            raise ValueError(f"`clean_ratio` must lie in [0, 1]. Received: clean_ratio={clean_ratio}")
        check_mask_ratio(clean_mask_ratio, "clean_mask_ratio")
        check_mask_ratio(noisy_mask_ratio, "noisy_mask_ratio")
        if not 0 < decoded_ratio <= 1:
            raise ValueError(f"`decoded_ratio` must lie in (0, 1]. Received: decoded_ratio={decoded_ratio}")
        if isinstance(noisy_losses, str) or not noisy_losses or not set(noisy_losses) <= set(NOISY_LOSSES):
            raise ValueError(f"`noisy_losses` must be one or both of {NOISY_LOSSES}. Received: {noisy_losses!r}")
        self.noise_schedule = NoiseSchedule(schedule, num_timesteps)
        self.clean_ratio = clean_ratio
        self.clean_mask_ratio = clean_mask_ratio
        self.noisy_mask_ratio = noisy_mask_ratio
        self.decoded_ratio = decoded_ratio
        self.noisy_losses = tuple(name for name in NOISY_LOSSES if name in noisy_losses)

    @classmethod
    def umd(cls, **overrides):
        """Unified Masked Diffusion: half of the batch clean, at the paper's mask ratios."""
        return cls(**overrides)

    @classmethod
    def mae(cls, **overrides):
        """Masked autoencoder: all images clean, 75% masked."""
        return cls(**{"clean_ratio": 1.0, **overrides})

    @classmethod
    def maskdit(cls, **overrides):
        """Masked diffusion transformer: all images noisy, 50% masked, as in Zheng et al., 2023."""
        return cls(**{"clean_ratio": 0.0, "noisy_mask_ratio": 0.5, **overrides})

    @classmethod
    def dit(cls, **overrides):
        """Diffusion transformer: all images noisy, nothing masked."""
        return cls(**{"clean_ratio": 0.0, "noisy_mask_ratio": 0.0, **overrides})

    @property
    def num_timesteps(self):
        return self.noise_schedule.num_timesteps

    @property
    def part_mask_ratios(self):
        """Mask ratio of each part of the batch that this corruption makes, `"clean"` and `"noisy"`."""
        ratios = {}
        if self.clean_ratio > 0:
            ratios["clean"] = self.clean_mask_ratio
        if self.clean_ratio < 1:
            ratios["noisy"] = self.noisy_mask_ratio
        return ratios

    @property
    def part_losses(self):
        """Which errors count in each part of the batch, `"x0"` and `"eps"`; the parts as of `part_mask_ratios`."""
        losses = {"clean": ("x0",), "noisy": self.noisy_losses}
        return {part: losses[part] for part in self.part_mask_ratios}

    @property
    def loss_names(self):
        """Names of the losses that this corruption's views give, as of `image_losses`."""
        return [f"{part}_{name}_loss" for part, names in self.part_losses.items() for name in names]

    def check_num_patches(self, num_patches):
        """Raise a ValueError if a mask ratio leaves no patch visible of `num_patches`."""
        for ratio in self.part_mask_ratios.values():
            num_visible(num_patches, ratio)

    def num_decoded(self, num_masked):
        """How many of an image's `num_masked` masked patches are decoded in training: at least one, if there is one."""
        return min(max(1, round(num_masked * self.decoded_ratio)), num_masked)

    def draw(self, image_batch_shape, num_patches, seed, label_dropout=0.0):
        """Draw all random numbers of one step.

        Args:
            image_batch_shape: Tuple `(batch, height, width, channels)`.
            num_patches: Integer.
            seed: Integer, `keras.random.SeedGenerator` or `None`.
            label_dropout: Float in [0, 1). Probability that an image's label is dropped.

        Returns:
            Dictionary of tensors: `timesteps` `(batch,)`, int32, 0 for clean images and else uniform in 1 to T;
            `noise`, normal, of the images' shape; `mask_noise` `(batch, num_patches)`, uniform in [0, 1);
            `label_drop` `(batch,)`, bool.
        """
        seed = seed_generator(seed)
        batch_size, *image_shape = image_batch_shape

        def draw(distribution, *shape, **options):
            return replica_rows(lambda size: distribution((size, *shape), seed=seed, **options), batch_size)

        timesteps = draw(keras.random.randint, minval=1, maxval=self.num_timesteps + 1, dtype="int32")
        return {
            "timesteps": ops.where(BatchSplit(batch_size, self.clean_ratio).is_clean, 0, timesteps),
            "noise": draw(keras.random.normal, *image_shape, dtype="float32"),
            "mask_noise": draw(keras.random.uniform, num_patches, dtype="float32"),
            "label_drop": draw(keras.random.uniform, dtype="float32") < label_dropout,
        }

    def corrupt(self, images, draws, labels=None):
        """Apply what was drawn. A pure function: the same input gives the same output.

        Args:
            images: Float32 tensor of shape `(batch, height, width, channels)`.
            draws: Dictionary as returned by `draw`.
            labels: Int tensor of shape `(batch,)`, or `None`. Clean images never carry one.

        Returns:
            The views, a dictionary: `batch_timesteps` `(batch,)`, and for each part that the batch has, `clean` and
            `noisy`, a dictionary of tensors with the images of that part: `images` as the network sees them; what it
            must predict, `x0`, in the noisy part also or instead `noise`; `timesteps`; `labels` and `label_drop` where
            there are labels; where patches are masked, the indices of the `visible` and of the `masked` ones, of these
            only those that are decoded.
        """
        # Keras weighs its loss tracker by the first leaf's batch size, and this key sorts first.
        views = {"batch_timesteps": draws["timesteps"]}
        split = BatchSplit(ops.shape(images)[0], self.clean_ratio)
        if split.has_clean:
            x0 = split.clean(images)
            views["clean"] = {
                "images": x0,
                "x0": x0,
                "timesteps": split.clean(draws["timesteps"]),
                **self._masks(split.clean(draws["mask_noise"]), self.clean_mask_ratio),
            }
        if split.has_noisy:
            x0, noise = split.noisy(images), split.noisy(draws["noise"])
            timesteps = split.noisy(draws["timesteps"])
            views["noisy"] = {
                "images": self.noise_schedule.add_noise(x0, noise, timesteps),
                **({"x0": x0} if "x0" in self.noisy_losses else {}),
                **({"noise": noise} if "eps" in self.noisy_losses else {}),
                "timesteps": timesteps,
                **self._masks(split.noisy(draws["mask_noise"]), self.noisy_mask_ratio),
            }
            if labels is not None:
                views["noisy"]["labels"] = split.noisy(labels)
                views["noisy"]["label_drop"] = split.noisy(draws["label_drop"])
        return views

    def _masks(self, mask_noise, mask_ratio):
        if mask_ratio == 0:
            return {}
        visible, masked = random_split(mask_noise, mask_ratio)
        # They come in random order: the first ones are a random subset.
        return {"visible": visible, "masked": masked[:, : self.num_decoded(masked.shape[1])]}

    def get_config(self):
        return {
            "schedule": self.noise_schedule.name,
            "num_timesteps": self.num_timesteps,
            "clean_ratio": self.clean_ratio,
            "clean_mask_ratio": self.clean_mask_ratio,
            "noisy_mask_ratio": self.noisy_mask_ratio,
            "decoded_ratio": self.decoded_ratio,
            "noisy_losses": self.noisy_losses,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config)
