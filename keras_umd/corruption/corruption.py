"""The corruption of a batch of images: a list of views."""

import math

import keras
from keras import ops

from keras_umd.backend.sharding import replica_rows
from keras_umd.corruption import schedules, weightings
from keras_umd.corruption.batch_split import split_batch
from keras_umd.corruption.levels import Levels, Uniform
from keras_umd.corruption.view import without_gaps
from keras_umd.corruption.views import check_views, finetuned, two_views
from keras_umd.layers.masking import check_mask_ratio
from keras_umd.layers.patches import patch_grid
from keras_umd.utils.checks import check_instances, check_numbers, check_one_of, require
from keras_umd.utils.configurable import Configurable
from keras_umd.utils.seeds import seed_generator

NOISY_LOSSES = ("x0", "eps", "v")
RATIOS = {"clean_ratio": 0.5, "clean_mask_ratio": 0.75, "noisy_mask_ratio": 0.375, "decoded_ratio": 1.0}  # the paper's
# Settings that came later: where they are as by default, a corruption is described as before.
OPTIONAL = {"noisy_patches": None, "levels": None, "weighting": None, "masked_weight": 1.0}


@keras.saving.register_keras_serializable("keras_umd")
class Corruption(Configurable):
    """Turns a batch of images into views: what the network sees (section 4).

    By default there are two. A share of the batch stays clean and loses many patches, as in MAE; the rest gets Gaussian
    noise and loses fewer, as in MaskDiT. `Corruption.mae()`, `.maskdit()`, `.dit()` and `.umd()` are the settings of
    those methods; `views` says anything else.

    Random numbers are drawn by `draw` and applied by `corrupt`, so that everything random about a step can be supplied.

    Example:

    >>> Corruption(clean_ratio=0.25, schedule="linear")
    >>> Corruption(views=[View("clean", mask=masks.ColorNoise("green", ratio=0.75))])
    >>> Corruption(noisy_losses=["x0"], noisy_patches="all", weighting=weightings.V(max_weight=400))

    Args:
        schedule: `"cosine"`, `"linear"` or a `NoiseSchedule`.
        num_timesteps: Integer, T, of a schedule by name; 1000 by default. Noisy images get a timestep from 1 to T.
        clean_ratio: Float in [0, 1], the paper's r_t0. Share of the batch that stays clean.
        clean_mask_ratio: Float in [0, 1), the paper's m_t0. Share of patches masked in clean images.
        noisy_mask_ratio: Float in [0, 1), the paper's m_t. Share of patches masked in noisy images.
        decoded_ratio: Float in (0, 1]. Share of the masked patches that are decoded and predicted in training, a random
            subset (Fu et al., "CrossMAE", 2024). Half of them takes a sixth off a training step;
            `benchmarks/cheaper_settings.py` has what it costs. `reconstruct` and `generate` decode all.
        noisy_losses: Which errors `Objective.denoising` counts in noisy images, of `"x0"`, over the masked patches, and
            `"eps"` and `"v"`, the velocity, over the visible ones; the first two by default (Eq. 4). With
            `noise.OfMasked`, all of them over the masked patches. `generate` can only read what was trained.
        noisy_patches: `"all"` for one head, as wide as a patch: the one loss that `noisy_losses` names is that of all
            patches of noisy images, masked and visible, which only x_0 can be where patches are masked. `None` is the
            paper's two heads.
        levels: `Levels`, the law of the noise levels in training. Defaults to `Uniform()`.
        weighting: How much errors of noisy images count by their noise level: `"x"`, `"eps"` or `"v"`, the loss of
            that prediction whatever the network predicts; an object from `keras_umd.corruption.weightings`; or a
            function of the log-SNR. Weights have mean 1 under `levels`, and don't apply to masked patches, of which
            the noise hides nothing. `None` is the error of the prediction as it is.
        masked_weight: Float of at least 0, the weight of masked patches of noisy images with `noisy_patches="all"`.
        views: List of `View`, instead of the two that the ratios describe.
    """

    def __init__(
        self,
        schedule="cosine",
        num_timesteps=None,
        *,
        clean_ratio=0.5,
        clean_mask_ratio=0.75,
        noisy_mask_ratio=0.375,
        decoded_ratio=1.0,
        noisy_losses=("x0", "eps"),
        noisy_patches=None,
        levels=None,
        weighting=None,
        masked_weight=1.0,
        views=None,
    ):
        check_numbers("[0, 1]", clean_ratio=clean_ratio)
        check_mask_ratio(clean_mask_ratio, "clean_mask_ratio")
        check_mask_ratio(noisy_mask_ratio, "noisy_mask_ratio")
        check_numbers("(0, 1]", decoded_ratio=decoded_ratio)
        check_one_of((None, "all"), noisy_patches=noisy_patches)
        check_instances(Levels, "a Levels, as LogitNormal(),", optional=True, levels=levels)
        check_numbers("[0, 1e6]", masked_weight=masked_weight)
        ratios = {
            "clean_ratio": clean_ratio,
            "clean_mask_ratio": clean_mask_ratio,
            "noisy_mask_ratio": noisy_mask_ratio,
            "decoded_ratio": decoded_ratio,
        }
        require(views is None or ratios == RATIOS, "`views` have their own ratios; leave out the others.", ratios)
        require(views is None or levels is None, "`views` have their own levels, those of their noise.", levels=levels)
        self.noise_schedule = schedules.get(schedule, num_timesteps)
        self.noisy_losses = _checked_losses(noisy_losses)
        self.noisy_patches = noisy_patches
        self.levels = levels
        self.weighting = weightings.get(weighting)
        self.masked_weight = masked_weight
        self._ratios = ratios
        self._given_views = views
        self.views = check_views(two_views(levels, **ratios) if views is None else views)
        self._check_one_head()
        require(
            self.weighting is None or not any(view.noise is not None and view.noise.is_graded for view in self.views),
            "A `weighting` needs one level for each image, which `noise.Graded` doesn't have.",
            weighting=weighting,
        )

    def _check_one_head(self):
        """One head for all patches predicts what can be known of all of them."""
        if self.noisy_patches is None:
            require(
                self.masked_weight == 1, "`masked_weight` needs noisy_patches='all'.", masked_weight=self.masked_weight
            )
            return
        require(
            not any(view.shows_noise for view in self.views),
            "`noisy_patches` must be None where the decoder sees noise of masked patches alone, `noise.OfMasked`.",
            noisy_patches=self.noisy_patches,
        )
        has_masks = any(view.noise is not None and view.mask is not None for view in self.views)
        require(
            self.noisy_losses == ("x0",) or (len(self.noisy_losses) == 1 and not has_masks),
            "With `noisy_patches`='all', `noisy_losses` must be ['x0'], or one of the others where no noisy image is "
            "masked: nothing tells the noise of masked patches.",
            noisy_losses=self.noisy_losses,
        )

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

    def for_finetuning(self):
        """The paper's fine-tuning of this corruption: at most 5% of the batch clean, no patch of a noisy image masked.

        Returns:
            A corruption of the same class.
        """
        config = self.get_config()
        if self._given_views is None:
            config.update(clean_ratio=min(config["clean_ratio"], 0.05), noisy_mask_ratio=0.0)
            return type(self).from_config(config)
        return type(self).from_config({**config, "views": finetuned(self.views)})

    @property
    def clean_ratio(self):
        """The share of the batch that the encoder sees clean; of views of every image, 1 where all of them are."""
        if self.views[0].share is None:
            return float(not any(view.is_noisy for view in self.views))
        return sum(view.share for view in self.views if not view.is_noisy)

    @property
    def predicts_noise(self):
        """Whether the network must carry the noise: of noisy images, other losses than that of x_0 count."""
        return self.noisy_losses != ("x0",) and any(view.is_noisy for view in self.views)

    @property
    def hides_gaps(self):
        """Whether images may have NaN where something is missing."""
        return any(view.mask is not None and view.mask.hides_gaps for view in self.views)

    @property
    def num_timesteps(self):
        return self.noise_schedule.num_timesteps

    def check_grid(self, grid):
        """Raise a ValueError if a mask leaves none of the patches visible."""
        for view in self.views:
            view.num_visible(grid)

    def draw(self, image_batch_shape, patch_size, seed, label_dropout=0.0, probabilities=None):
        """Draw all random numbers of one step.

        Args:
            image_batch_shape: Tuple `(batch, *image_shape)`.
            patch_size: Integer or tuple of integers, one for each space axis.
            seed: Integer, `keras.random.SeedGenerator` or `None`.
            label_dropout: Float in [0, 1). Probability that an image's label is dropped.
            probabilities: Dictionary, by the name of a view with `levels.Adaptive`, of the probabilities that were
                learned for it, or `None`.

        Returns:
            Dictionary of tensors: `timesteps` `(batch,)`, 0 for clean images and else as the view's levels draw them,
            by default int32, uniform in 1 to T; `noise`, normal, of the images' shape; `mask_noise`
            `(batch, num_patches)`, or wider where a mask wants more numbers, uniform in [0, 1); `label_drop`
            `(batch,)`, bool.
        """
        seed = seed_generator(seed)
        batch_size, *image_shape = image_batch_shape
        grid = patch_grid(image_shape, patch_size)

        def drawn(distribution, *shape, **options):
            return replica_rows(lambda size: distribution((size, *shape), seed=seed, **options), batch_size)

        def drawn_levels(view):
            levels = Uniform() if view is None else view.noise.levels
            options = {"probabilities": (probabilities or {}).get(view.name)} if levels.is_learned else {}
            return replica_rows(lambda size: levels.draw(size, self.noise_schedule, seed, **options), batch_size)

        # Levels first, also where all images are clean: what is drawn behind them depends on how often was drawn.
        first = next((view for view in self.views if view.noise is not None), None)
        timesteps = drawn_levels(first)
        width = max(math.prod(grid), *(view.num_draws(grid) for view in self.views))
        draws = {
            "noise": drawn(keras.random.normal, *image_shape, dtype="float32"),
            "mask_noise": drawn(keras.random.uniform, width, dtype="float32"),
            "label_drop": drawn(keras.random.uniform, dtype="float32") < label_dropout,
        }
        split = self._split(batch_size)
        # Without a split, each view knows for itself what it does to every image.
        for index, view in enumerate([] if split is None else self.views):
            if view.noise is None:
                timesteps = ops.where(split.is_member[index], 0, timesteps)
            elif view is not first and (view.noise.levels.is_learned or view.noise.levels is not first.noise.levels):
                timesteps = ops.where(split.is_member[index], drawn_levels(view), timesteps)
        return {"timesteps": timesteps, **draws}

    def corrupt(self, images, draws, patch_size, labels=None, hints=None, look=None):
        """Apply what was drawn. A pure function: the same input gives the same output.

        Args:
            images: Float32 tensor of shape `(batch, *image_shape)`.
            draws: Dictionary as returned by `draw`.
            patch_size: Integer or tuple of integers, one for each space axis.
            labels: Int tensor of shape `(batch,)`, or `None`. Clean images never carry one.
            hints: Dictionary of tensors about the images, `(batch, ...)`, for masks that look at them, or `None`.
            look: callable, `(images, names) -> hints`, of clean images, that is asked for what masks read and `hints`
                lack, or `None`.

        Returns:
            The views, a dictionary with a dictionary of tensors for each view that gets an image: `images` as the
            network sees them; what may have to be predicted, `x0` and, of noisy ones, `noise` and its `level`;
            `timesteps`; of noisy ones `labels` and `label_drop` where there are labels; where patches are masked, the
            indices of the `visible` and of the `masked` ones, of these only those that are decoded; `missing` where
            the mask knows of missing patches; what a view's `change` says of itself; the `class` where the view gives
            it; `hidden` where the mask hides some of the visible ones in the encoder; what `noise.Graded` says of its
            levels; `unplaced` where the encoder isn't told all places; `other` where a `change` gives another image;
            `noisy_images` and `noisy_timesteps` where the decoder sees noise.
        """
        split = self._split(ops.shape(images)[0])
        if self.hides_gaps:
            images, hints = without_gaps(images, patch_size, hints)
        given, views = {**draws, "labels": labels}, {}
        for index, view in enumerate(self.views):
            if split is not None and not split.has(index):
                continue

            def take(x, index=index):
                return x if x is None or split is None else split.take(x, index)

            def own(name, take=take):
                return take(given[name])

            x0 = take(images)
            own_hints = _hints_of(view, x0, hints, take, look)
            views[view.name] = view.corrupt(x0, own, patch_size, self.noise_schedule, own_hints)
        return views

    def views_without_images(self, batch_size):
        """The names of the views that get no image of a batch of this size, an integer."""
        split = self._split(batch_size)
        return [] if split is None else [view.name for i, view in enumerate(self.views) if not split.has(i)]

    def _split(self, batch_size):
        """The split of the batch among the views; `None` where each of them sees every image."""
        shares = tuple(view.share for view in self.views)
        return None if shares[0] is None else split_batch(batch_size, shares)

    def get_config(self):
        views = self._ratios if self._given_views is None else {"views": self.views}
        # What is set: settings of before are described as before, and so are the samples that go on from them.
        own = {name: getattr(self, name) for name, default in OPTIONAL.items() if getattr(self, name) != default}
        return {**schedules.schedule_config(self.noise_schedule), "noisy_losses": self.noisy_losses, **views, **own}

    def __repr__(self):
        return f"{type(self).__name__}(schedule={self.noise_schedule!r}, views={self.views!r})"


def _checked_losses(noisy_losses):
    """The names of losses, a tuple in their order."""
    is_list = isinstance(noisy_losses, (list, tuple, set)) and noisy_losses
    require(
        is_list and all(isinstance(name, str) and name in NOISY_LOSSES for name in noisy_losses),
        f"`noisy_losses` must be one or more of {NOISY_LOSSES}.",
        noisy_losses=noisy_losses,
    )
    return tuple(name for name in NOISY_LOSSES if name in noisy_losses)


def _hints_of(view, x0, hints, take, look):
    """The hints about a view's images, with those that its mask wants of the model."""
    own = None if hints is None else {name: take(hint) for name, hint in hints.items()}
    unknown = [] if view.mask is None else [name for name in view.mask.reads if name not in (own or {})]
    return {**(own or {}), **look(x0, unknown)} if unknown and look is not None else own
