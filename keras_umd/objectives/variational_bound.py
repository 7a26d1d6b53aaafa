"""The variational bound of a diffusion model, and how it learns at which noise levels to look."""

import keras
import numpy as np
from keras import ops

from keras_umd.backend import mean_over_replicas, num_replicas
from keras_umd.corruption.levels import Adaptive
from keras_umd.corruption.schedule import NoiseSchedule
from keras_umd.corruption.weightings import snr
from keras_umd.objectives.reconstruction import Reconstruction
from keras_umd.objectives.targets.denoising import DenoisingTarget, Eps
from keras_umd.utils.checks import check_instances, check_integers, check_numbers, require

EXPLORED = 1e-3  # share of all draws that all bins get alike, so that none is forgotten
TINY = 1e-30  # instead of the count of a bin that wasn't seen until its moving average was rounded to 0


@keras.saving.register_keras_serializable("keras_umd")
class VariationalBound(Reconstruction):
    """The diffusion part of the variational bound, and the history of errors from which `levels.Adaptive` draws (VDM).

        loss = 1/2 * |noise - predicted noise|^2 / p(log-SNR)        the mean over patches and their numbers

    Its mean is half the integral of the error over the log-SNR, in nats for each number of an image, whatever the law p
    of the levels. It varies least with the noise level where p is in proportion to the error: so the term remembers the
    mean error in each bin of the law, as a moving average over the images that have fallen there, and gives each bin
    that share of the next draws. No gradient passes into the shares: with one, they would seek the easiest noise.

    Masked patches, which show no noise, don't count. With `weight=0` it only watches and adapts the law, beside another
    loss of its target, as `Objective.denoising` has it; with `weight=1` and alone it trains on the bound, which is more
    exact about small noise than samples that look good need. What is learned is saved with the model. `evaluate`,
    `loss_of` and `compute_loss(..., training=False)` teach nothing. Of several processes that aren't Keras' own
    distribution, each learns its own.

    Example:

    >>> law = levels.Adaptive()
    >>> bound = VariationalBound("noisy", law, targets.X0(), weight=0.1)
    >>> objective = Objective([Reconstruction("noisy", targets.X0(), "all"), bound])
    >>> model = UMD(corruption=Corruption.dit(levels=law), objective=objective)
    >>> samples = model.generate(num_images=2, sampler=samplers.DDIM(0.0, bound.timesteps(5, schedules.Cosine())))

    Args:
        view: String, the name of a noisy view whose levels are `levels`.
        levels: `levels.Adaptive`.
        target: Denoising target, whose prediction is judged; another term trains it where `weight` is 0. Defaults to
            `targets.Eps()`.
        weight: Float.
        decay: Float in (0, 1], of the moving averages. 1 learns nothing: all bins stay alike, as a log-SNR that falls
            evenly in time.
        name: String.
    """

    learns_levels = True

    def __init__(self, view, levels, target=None, weight=1.0, decay=0.999, name="variational_bound", **kwargs):
        check_instances(Adaptive, "a levels.Adaptive", levels=levels)
        check_instances(DenoisingTarget, "a denoising target, as targets.Eps(),", optional=True, target=target)
        check_numbers("(0, 1]", decay=decay)
        check_instances(str, "a string", name=name)
        super().__init__(view, Eps() if target is None else target, "visible", weight, name, **kwargs)
        self.levels = levels
        self.decay = decay

        def variable(name):
            # As if one image had been as wrong as a network that knows nothing: so bins are visited until one has.
            initial = keras.initializers.Constant(1 - decay if decay < 1 else 1.0)
            options = {"dtype": "float32", "trainable": False, "aggregation": "mean"}
            # Named by the range, or `with_classes` would take the history of other log-SNRs for this one's.
            name = f"{name}_from_{levels.log_snr[0]:g}_to_{levels.log_snr[1]:g}"
            return self.add_weight(shape=(levels.num_bins,), initializer=initial, name=name, **options)

        self.error_sums = variable("error_sums")
        self.image_counts = variable("image_counts")

    def check_views(self, corruption, terms):
        view = next((view for view in corruption.views if view.name == self.view), None)
        require(
            view is not None
            and view.is_noisy
            and not view.noise.is_graded
            and repr(view.noise.levels) == repr(self.levels),
            f"`levels` must be those of the noisy view {self.view!r}, with one level for an image.",
            levels=self.levels,
            views=corruption.views,
        )
        self.levels.check_schedule(corruption.noise_schedule)
        others = [term for term in terms if term is not self and term.view == self.view]
        is_alone = not any(term.learns_levels for term in others)
        require(is_alone, "A view can have one VariationalBound.", f"two of the view {self.view!r}")
        is_trained = self.weight > 0 or any(
            term.weight > 0 and self.target.name in term.heads() and (view.mask is None or term.where != "masked")
            for term in others
            if isinstance(term, Reconstruction)
        )
        require(
            is_trained,
            f"With `weight=0`, another term must train {self.target.name!r} on the visible patches of the view.",
            weight=self.weight,
            terms=[term.loss_name for term in others],
        )

    @property
    def probabilities(self):
        """The share of each bin in the draws, a float32 tensor `(num_bins,)` that adds up to 1."""
        errors = ops.convert_to_tensor(self.error_sums) / ops.maximum(self.image_counts, TINY)
        return (1 - EXPLORED) * errors / ops.sum(errors) + EXPLORED / self.levels.num_bins

    def timesteps(self, num_steps, schedule):
        """Timesteps between which the law has equal shares, for samplers: from much noise to little, on the host.

        Args:
            num_steps: Integer, at least 2.
            schedule: `NoiseSchedule`.

        Returns:
            Tuple of floats.
        """
        check_integers(2, num_steps=num_steps)
        check_instances(NoiseSchedule, "a NoiseSchedule, as schedules.Cosine(),", schedule=schedule)
        shares = np.append(0, np.cumsum(ops.convert_to_numpy(self.probabilities).astype("float64")))
        edges = self.levels.log_snr[0] + self.levels.width * np.arange(self.levels.num_bins + 1)
        log_snr = np.interp(np.linspace(0, shares[-1], num_steps), shares, edges)
        return tuple(schedule.timesteps_at(log_snr).tolist())

    def targets(self, view, patch_size, teacher=None):
        require("level" in view, "The view must be noisy.", f"a view of {sorted(view)}")
        level = {name: ops.reshape(factor, (-1,)) for name, factor in view["level"].items()}
        bins = self.levels.bins_of(ops.log(snr(level)))
        return {
            "prediction": super().targets(view, patch_size, teacher),
            "noise_share": self.target.x0_share(level) * snr(level),  # what an error is worth as one of the noise
            "density": ops.take(self.probabilities, bins) / self.levels.width,
            "bins": bins,
        }

    def image_losses(self, outputs, target):
        errors = super().image_losses(outputs, target["prediction"])
        return 0.5 * errors * target["noise_share"] / target["density"]

    def observe(self, losses, target):
        if self.decay == 1:
            return
        errors = ops.stop_gradient(losses) * 2.0 * target["density"]
        seen = ops.cast(ops.isfinite(errors), "float32")  # or one bad step would be remembered for ever
        places = ops.one_hot(target["bins"], self.levels.num_bins, dtype="float32") * seen[:, None]
        errors = ops.where(ops.isfinite(errors), errors, 0.0)
        for variable, values in ((self.error_sums, errors), (self.image_counts, seen)):
            news = num_replicas() * mean_over_replicas(ops.sum(places * values[:, None], axis=0))
            variable.assign(self.decay * ops.convert_to_tensor(variable) + (1 - self.decay) * news)

    def get_config(self):
        config = {name: value for name, value in super().get_config().items() if name != "where"}
        return {**config, "levels": self.levels, "decay": self.decay}
