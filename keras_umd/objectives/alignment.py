"""Predicted latents of masked patches, held to what the encoder makes of these patches."""

import keras
from keras import ops

from keras_umd.objectives.term import Term
from keras_umd.utils.checks import require

LATENTS = "latents"  # what the decoder gives beside its predictions


@keras.saving.register_keras_serializable("keras_umd")
class Alignment(Term):
    """The squared error of predicted latents (CAE; Chen et al., "Context Autoencoder", 2022, section 3.1).

    The decoder `decoders.Regressor` predicts what the encoder would say of the masked patches; this term compares with
    what it does say of them, where it sees these alone, of the clean image and without a gradient. That is the encoder
    with the weights of the moment, as in the paper, or the moving average of a model with a `Teacher`. It costs a
    second pass of the encoder, of the patches that are decoded; leave the term out to save it.

    Example:

    >>> terms = [Reconstruction("clean", targets.Pixels()), Alignment("clean", weight=2.0)]
    >>> sizes = {"hidden_dim": 32, "num_layers": 1, "num_heads": 2, "decoder_layers": 1, "corruption": Corruption.mae()}
    >>> model = UMD((8, 8, 1), 2, **sizes, objective=Objective(terms), decoder=decoders.Regressor(1))

    Args:
        view: String, the name of the view.
        weight: Float. The paper's is 2.
        name: String. Defaults to `"alignment"`.
    """

    encodes_masked = True  # the encoder sees the masked patches for it

    def __init__(self, view, weight=2.0, name=None, **kwargs):
        super().__init__(view, weight, name=name, **kwargs)
        self.built = True

    def targets(self, view, patch_size, teacher=None):
        require("masked" in view, "`Alignment` needs a view that masks.", f"a view of {sorted(view)}")
        require(teacher is not None, "`Alignment` needs a `teacher`, as a model's steps give it.", teacher=teacher)
        return teacher(view["x0"], view["masked"])

    def image_losses(self, outputs, target):
        require(
            LATENTS in outputs,
            "`Alignment` needs predicted latents: a model with decoder=decoders.Regressor(), and another term that "
            "reads a prediction of the view.",
            f"outputs {sorted(outputs)}",
        )
        errors = ops.square(ops.cast(outputs[LATENTS], "float32") - ops.cast(target, "float32"))
        return ops.mean(errors, axis=(1, 2))
