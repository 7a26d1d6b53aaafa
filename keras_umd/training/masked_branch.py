"""Fine-tuning with a second look at a part of each image."""

import math

import keras
from keras import ops

from keras_umd.layers.masking import check_mask_ratio, num_visible, split_by_score
from keras_umd.layers.patches import patch_grid
from keras_umd.utils.checks import check_instances, check_positive_integers
from keras_umd.utils.configurable import revive
from keras_umd.utils.seeds import seed_generator


@keras.saving.register_keras_serializable("keras_umd")
class MaskedBranch(keras.Model):
    """A classifier that learns from whole images, and from what it says of them itself where it sees a part.

    With labels y, logits o of the whole image and o' of a random part of its patches, the loss is
    `(CE(o, y) + CE(o', softmax(o))) / 2`, without a gradient through the softmax (MaskSub; Heo et al., "Masking meets
    Supervision", 2023). Only training sees parts: predictions and `evaluate` are those of a plain classifier.

    Example:

    >>> classifier = MaskedBranch(model.feature_extractor(value_range=(0, 255)), num_classes=3)
    >>> classifier.compile("adamw", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> classifier.fit(images.astype("float32"), labels, verbose=0)

    Args:
        encoder: `FeatureExtractor`, whose features are vectors.
        num_classes: Integer.
        mask_ratio: Float in [0, 1). Share of the patches that the second look lacks; 0 leaves it out.
        seed: Integer, `keras.random.SeedGenerator` or `None`, for these parts.

    Call arguments:
        images: As of `FeatureExtractor`.

    Returns:
        Logits `(batch, num_classes)`.
    """

    def __init__(self, encoder, num_classes, mask_ratio=0.5, seed=None, **kwargs):
        super().__init__(**kwargs)
        check_instances(keras.Model, "a FeatureExtractor", encoder=encoder)
        check_positive_integers(num_classes=num_classes)
        check_mask_ratio(mask_ratio, "mask_ratio")
        self.encoder = encoder
        self.num_classes = int(num_classes)
        self.mask_ratio = mask_ratio
        self.seed = None if isinstance(seed, keras.random.SeedGenerator) else seed
        self.seed_generator = seed_generator(seed)
        self.grid = patch_grid(encoder.image_shape, encoder.encoder.patch_size)
        num_visible(self._num_patches, mask_ratio)
        # Tiny, as MAE's: the features get no random gradient in the first steps.
        small = keras.initializers.TruncatedNormal(stddev=2e-5)
        self.classifier = keras.layers.Dense(
            self.num_classes, kernel_initializer=small, dtype="float32", name="classifier"
        )
        self.classifier.build((None, encoder.compute_output_shape((None, *encoder.image_shape))[-1]))
        self.built = True

    @property
    def _num_patches(self):
        return math.prod(self.grid)

    def call(self, images, training=False):
        logits = self.classifier(self.encoder(images, training=training))
        if training and self.mask_ratio:
            shape = (ops.shape(images)[0], self._num_patches)
            visible, _ = split_by_score(keras.random.uniform(shape, seed=self.seed_generator), self.mask_ratio)
            of_part = self.classifier(self.encoder(images, visible=visible, training=training))
            said = ops.stop_gradient(ops.softmax(logits, axis=-1))
            self.add_loss(ops.mean(keras.losses.categorical_crossentropy(said, of_part, from_logits=True)))
        return logits

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss / 2 if training and self.mask_ratio else loss

    def compute_output_shape(self, images_shape):
        return (images_shape[0], self.num_classes)

    def get_config(self):
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "num_classes": self.num_classes,
            "mask_ratio": self.mask_ratio,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "encoder": revive(config["encoder"])})
