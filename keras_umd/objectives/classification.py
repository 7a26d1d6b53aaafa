"""Labels as what the representation must tell."""

import keras
from keras import ops

from keras_umd.objectives.term import Term
from keras_umd.utils.checks import check_positive_integers, require


@keras.saving.register_keras_serializable("keras_umd")
class Classification(Term):
    """The cross-entropy of the labels, by a linear map of the representation of masked images.

    With a masked autoencoder's loss beside it, labels and pixels train one encoder (Liu et al., "Improve Supervised
    Representation Learning with Masked Image Modeling", 2023). The view must give its classes, and be a clean one: a
    condition would tell them. The model has `num_classes`, and is trained on images and labels, of which -1 says that
    an image has none: its loss is 0, and the mean is over all images of the view.

    Example:

    >>> view = View("clean", mask=masks.Random(0.5), gives_class=True)
    >>> terms = [Reconstruction("clean", targets.X0()), Classification("clean", num_classes=10, hidden_dim=768)]
    >>> model = UMD(num_classes=10, corruption=Corruption(views=[view]), objective=Objective(terms))

    Args:
        view: String, the name of the view.
        num_classes: Integer, those of the model.
        hidden_dim: Integer, the model's.
        weight: Float.
        name: String. Defaults to `"classification"`.
    """

    takes_unlabelled = True

    def __init__(self, view, num_classes, hidden_dim, weight=1.0, name=None, **kwargs):
        check_positive_integers(num_classes=num_classes, hidden_dim=hidden_dim)
        super().__init__(view, weight, name=name, **kwargs)
        self.num_classes = int(num_classes)
        self.hidden_dim = int(hidden_dim)
        self.classifier = keras.layers.Dense(self.num_classes, kernel_initializer="zeros", name="classifier")
        self.classifier.build((None, self.hidden_dim))
        self.built = True

    def targets(self, view, patch_size, teacher=None):
        require(
            "class" in view,
            "`Classification` needs labels and a view with gives_class=True.",
            f"a view of {sorted(view)}",
        )
        return view["class"]

    def image_losses(self, outputs, target):
        logits = ops.cast(self.classifier(outputs["representation"]), "float32")
        is_labelled = ops.less(target, self.num_classes)  # not the null label, which has no logit
        classes = ops.where(is_labelled, target, 0)
        losses = keras.losses.sparse_categorical_crossentropy(classes, logits, from_logits=True)
        return ops.where(is_labelled, losses, 0.0)

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes, "hidden_dim": self.hidden_dim}
