"""The loss of a model: a weighted sum of terms."""

import functools

import keras
from keras import ops

from keras_umd.corruption.weightings import mean_weight
from keras_umd.objectives.prediction import Both, Prediction
from keras_umd.objectives.reconstruction import Reconstruction, weight_of_error
from keras_umd.objectives.spectrum import Spectrum
from keras_umd.objectives.targets.denoising import PIXEL_PREDICTIONS, X0, DenoisingTarget, Eps, Velocity
from keras_umd.objectives.term import Term
from keras_umd.objectives.variational_bound import VariationalBound
from keras_umd.utils.checks import check_instances, check_names, require
from keras_umd.utils.configurable import revive
from keras_umd.utils.preset_folder import config_of, read_preset, write_preset
from keras_umd.utils.variable_names import by_name


@keras.saving.register_keras_serializable("keras_umd")
class Objective(keras.layers.Layer):
    """The loss of a model: the weighted sum of its terms, each the mean over the images of a view.

    Example:

    >>> objective = Objective([Reconstruction("clean", targets.Pixels(normalize=True))])    # MAE with normalised pixels

    Args:
        terms: List of `Term`.
        pixel_predictions: Tuple of names, the targets of the size of a patch that the decoder's head predicts, in the
            order of its channels; others get a head of their own. Defaults to x_0 and the noise, also where only one
            of them is trained, so that the other can be learned later.
    """

    def __init__(self, terms, pixel_predictions=PIXEL_PREDICTIONS, **kwargs):
        super().__init__(**{"autocast": False, "name": "objective", **kwargs})
        require(
            isinstance(terms, (list, tuple)) and terms and all(isinstance(term, Term) for term in terms),
            "`terms` must be a list of Term, at least one.",
            terms=terms,
        )
        check_names(pixel_predictions=pixel_predictions)
        self.terms = list(terms)
        self.pixel_predictions = tuple(pixel_predictions)
        names = self.loss_names
        require(len(set(names)) == len(names), "`terms` must have different names.", names)
        _check_heads(self.terms)
        self.built = True

    @classmethod
    def denoising(cls, corruption):
        """The paper's objective (Eq. 4 to 6) for the views of a corruption.

        A clean image counts its x_0 error over the masked patches (MAE); a noisy one the mean of its errors: that of
        x_0 over the masked patches and that of the noise over the visible ones, or others, as the corruption's
        `noisy_losses`, `noisy_patches` and `weighting` say. A `VariationalBound` of weight 0 learns `levels.Adaptive`.
        """
        has_views = hasattr(corruption, "views")
        require(has_views, "`corruption` must be a keras_umd.Corruption, as Corruption.mae().", corruption=corruption)
        terms = [term for view in corruption.views for term in _denoising_terms(view, corruption)]
        predicted = tuple(dict.fromkeys(term.target.name for term in terms))
        is_papers = corruption.noisy_patches is None and set(predicted) <= set(PIXEL_PREDICTIONS)
        return cls(terms, PIXEL_PREDICTIONS if is_papers else predicted)

    @property
    def loss_names(self):
        return [term.loss_name for term in self.terms]

    def reads(self, view):
        """The predictions that a view's terms want: `{name: "masked" | "visible" | "all"}`. Static."""
        wanted = {}
        for name, where in (read for term in self.terms if term.view == view for read in term.reads().items()):
            wanted[name] = where if wanted.get(name, where) == where else "all"
        return wanted

    def heads(self):
        """All targets that are predicted, by name."""
        return {name: target for term in self.terms for name, target in term.heads().items()}

    def prediction(self, name, views):
        """The reading of the network from which a sampler gets x_0 and noise, a `Prediction` or `Both`.

        Args:
            name: The name of a denoising target (`"eps"`, `"v"`, `"x0"`), `"both"` for the v of noise and x_0, or
                `None` for the first of these that is trained.
            views: Names of the views whose terms have trained the model for noisy images.

        Raises:
            ValueError: if nothing that is trained there has this name.
        """
        check_instances(str, "the name of a prediction", optional=True, predict_from=name)
        require(
            isinstance(views, (list, tuple)) and all(isinstance(view, str) for view in views),
            "`views` must be a list of names of views.",
            views=views,
        )
        trusted = (term for term in self.terms if term.view in views and term.weight != 0)
        heads = (head for term in trusted for head in term.heads().items())
        trained = {name: target for name, target in heads if isinstance(target, DenoisingTarget)}
        choices = [*trained, "both"] if set(trained) >= {"x0", "eps"} else list(trained)
        require(
            choices,
            "The model was trained on clean images alone and can't generate; fine-tune a copy, "
            "`model.with_classes(num_classes)`.",
            f"a model with the losses {self.loss_names}",
        )
        if name is None:
            name = next((name for name in ("eps", "v") if name in trained), choices[0])
        require(
            name in choices,
            f"`predict_from` must be one of {choices}: the model has learned no other prediction of noisy images.",
            predict_from=name,
        )
        return Both(trained["x0"], trained["eps"]) if name == "both" else Prediction(trained[name])

    @property
    def hint_names(self):
        """The hints for masks that terms give."""
        return [name for term in self.terms for name in term.hint_names]

    @property
    def takes_unlabelled(self):
        """Whether labels may be -1 in training, for images that have none."""
        return any(term.takes_unlabelled for term in self.terms)

    def hints(self, images, patch_size, names):
        """Those hints for masks that terms give, of these names: a dictionary of tensors, without gradient."""
        asked = [term for term in self.terms if set(term.hint_names) & set(names)]
        given = [term.hints(images, patch_size) for term in asked]
        return {name: ops.stop_gradient(hint) for hints in given for name, hint in hints.items() if name in names}

    def probabilities(self):
        """Those that terms have learned for the noise levels of their views, a dictionary by view."""
        return {term.view: term.probabilities for term in self.terms if term.learns_levels}

    def check_views(self, corruption):
        """Raise a ValueError for views that terms can't judge, and for levels that none learns."""
        for term in self.terms:
            term.check_views(corruption, self.terms)
        taught = {term.view for term in self.terms if term.learns_levels}
        learned = [view for view in corruption.views if view.noise is not None and view.noise.levels.is_learned]
        require(
            len(learned) < 2 or learned[0].share is not None,
            "Views of every image have the same levels, which only one of them can learn.",
            f"levels.Adaptive in {[view.name for view in learned]}",
        )
        for view in learned:
            require(
                view.name in taught,
                f"The levels of the view {view.name!r} need a term VariationalBound in the `objective`, which learns "
                "them.",
                f"terms {self.loss_names}",
            )

    def observe(self, losses, targets):
        """Hand the terms what a training step has shown; arguments as `image_losses` and `targets` return them."""
        for term in self.terms:
            if term.loss_name in losses:
                term.observe(losses[term.loss_name], targets[term.loss_name])

    def targets(self, views, patch_size, teacher=None):
        """The targets of all terms, by the name of their loss. No gradient passes here.

        Args:
            views: Dictionary of views, as `Corruption.corrupt` makes them.
            patch_size: Tuple of integers.
            teacher: As of `Term.targets`.
        """
        return {
            term.loss_name: term.targets(views[term.view], patch_size, teacher)
            for term in self.terms
            if term.view in views
        }

    def image_losses(self, outputs, targets):
        """The loss of every image, a dictionary of float32 tensors `(n,)`, for the views that there are.

        Args:
            outputs: Dictionary with the network's outputs for each view.
            targets: As `targets` returned them.
        """
        losses = {
            term.loss_name: term.image_losses(outputs[term.view], targets[term.loss_name])
            for term in self.terms
            if term.view in outputs
        }
        for term in self.terms:
            if term.view in outputs:
                _check_losses(term.loss_name, losses[term.loss_name], outputs[term.view].get("representation"))
        return losses

    def total(self, losses, batch_size):
        """The batch's loss (Eq. 6): the weighted sum over its images, divided by their number."""
        weights = {term.loss_name: term.weight for term in self.terms}
        total = sum(weights[name] * ops.sum(loss) for name, loss in losses.items())
        # tf.distribute: the last batch can leave a replica empty; avoid 0/0.
        return total / ops.cast(ops.maximum(batch_size, 1), "float32")

    def preset_variables(self):
        """The variables of a preset by name: of terms that have layers of their own, by the name of the loss."""
        of_terms = {
            f"{term.loss_name}/{name}": variable
            for term in self.terms
            for name, variable in by_name(term.weights).items()
        }
        known = set(map(id, of_terms.values()))
        return of_terms | by_name([variable for variable in self.weights if id(variable) not in known])

    def save_to_preset(self, folder, *, dtype=None, results=(), license=None, description=None):
        """Save the terms with the weights of their layers as a folder; arguments as of `UMD.save_to_preset`.

        Heads of the decoder are the model's, and saved with it.
        """
        card = {"results": results, "license": license, "description": description}
        write_preset(folder, config_of(self), self.preset_variables(), {}, dtype=dtype, **card)

    @classmethod
    def from_preset(cls, preset, load_weights=None, **overrides):
        """The objective that `save_to_preset` wrote; the classes of its terms must be registered with Keras.

        Args:
            preset: String or path, of a folder, or an address on a hub, as of `UMD.from_preset`.
            load_weights: Bool or `None`. `False` is for fresh weights.
            **overrides: Constructor arguments that replace those of the preset.
        """
        return read_preset(cls, preset, load_weights, overrides)

    def get_config(self):
        terms = [keras.saving.serialize_keras_object(term) for term in self.terms]
        is_papers = self.pixel_predictions == PIXEL_PREDICTIONS
        own = {} if is_papers else {"pixel_predictions": self.pixel_predictions}
        return {**super().get_config(), "terms": terms, **own}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "terms": revive(list(config["terms"]))})


def _check_losses(name, losses, representation):
    """Raise a ValueError if there isn't one loss for each image: `total` divides their sum by the size of the batch."""
    num_images = None if representation is None else representation.shape[0]
    require(
        len(losses.shape) == 1 and (None in (losses.shape[0], num_images) or losses.shape[0] == num_images),
        f"`image_losses` must give a loss for each image, (n,), in the term of {name!r}.",
        f"losses of shape {tuple(losses.shape)} for {num_images} images",
    )


def _denoising_terms(view, corruption):
    """The terms of one view in `Objective.denoising`."""
    kinds = {"x0": (X0(), "masked"), "eps": (Eps(), "visible"), "v": (Velocity(), "visible")}
    if view.noise is None:
        marks = None if view.change is None else view.change.marks
        if marks == "removed":
            return [Spectrum(view.name)]
        hides_tokens = view.mask is not None and view.mask.hides_tokens
        return [Reconstruction(view.name, X0(), marks or ("unseen" if hides_tokens else "masked"))]
    terms = []
    for name in corruption.noisy_losses:
        (target, where), options = kinds[name], {}
        if corruption.noisy_patches is not None:
            where, options = corruption.noisy_patches, {"masked_weight": corruption.masked_weight}
        where = "masked" if view.shows_noise else where
        # What is masked has no noise that a weighting could judge, unless the decoder sees it.
        if corruption.weighting is not None and (where != "masked" or view.mask is None or view.shows_noise):
            levels, schedule = view.noise.levels, corruption.noise_schedule
            of_error = functools.partial(weight_of_error, corruption.weighting, target)
            options.update(weighting=corruption.weighting, mean_weight=mean_weight(of_error, levels, schedule))
        terms.append(Reconstruction(view.name, target, where, weight=1.0 / len(corruption.noisy_losses), **options))
    if view.noise.levels.is_learned:
        judged = [term.target for term in terms if term.where != "masked" or view.mask is None]
        require(
            judged,
            "levels.Adaptive needs a loss of visible patches: 'eps' or 'v', or noisy_patches='all'.",
            noisy_losses=corruption.noisy_losses,
        )
        terms.append(VariationalBound(view.name, view.noise.levels, judged[-1], weight=0.0))
    return terms


def _check_heads(terms):
    """Targets of one name are predicted by one head: it would learn the mean of two that differ."""
    heads = {}
    for name, target in (head for term in terms for head in term.heads().items()):
        other = heads.setdefault(name, target)
        require(
            type(other) is type(target) and repr(other) == repr(target),
            "Targets of one name share a head and must be equal; give one of them, in a subclass, another `name`.",
            f"{other!r} and {target!r}, both named {name!r}",
        )
