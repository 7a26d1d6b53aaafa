"""The pre-trained encoder as a model of its own."""

import keras
from keras import ops

from keras_umd.images import check_images, scale_images
from keras_umd.layers.patches import as_pair
from keras_umd.models.network import ConditionEmbedding, Encoder

POOLINGS = ("cls", "mean", None)


@keras.saving.register_keras_serializable("keras_umd")
class FeatureExtractor(keras.Model):
    """Images to features: UMD's encoder with nothing masked, no noise and no label.

    Made by `UMD.feature_extractor`, with a copy of its weights, so that training it leaves the UMD as it is. It is a
    Keras model and a Keras layer: call it on images, or put it into a functional model, frozen or not.

    Args:
        image_shape: Tuple `(height, width, channels)`.
        patch_size: Integer or pair `(patch_height, patch_width)`.
        hidden_dim, num_layers, num_heads, num_cls_tokens, conditioning: Of the encoder.
        num_classes: Integer or `None`. Classes of the model that the weights are from.
        value_range: Pair of floats, the range of float images; `None` for latents.
        pooling: `"cls"`, the paper's representation, the mean of the class tokens; `"mean"`, the mean of the patches'
            tokens; `None`, these tokens themselves.

    Call arguments:
        images: uint8 or float tensor of shape `(batch, height, width, channels)`. Float images lie in `value_range`. A
            functional model casts what it is fed to the type of its `keras.Input`: for uint8 images give it
            `dtype="uint8"`.

    Returns:
        Float tensor of shape `(batch, hidden_dim)`, or `(batch, num_patches, hidden_dim)` where `pooling` is `None`.
    """

    def __init__(
        self,
        image_shape,
        patch_size,
        hidden_dim,
        num_layers,
        num_heads,
        num_cls_tokens=1,
        conditioning="adaln_zero",
        num_classes=None,
        value_range=(-1.0, 1.0),
        pooling="cls",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if pooling not in POOLINGS:
            raise ValueError(f"`pooling` must be one of {POOLINGS}. Received: pooling={pooling!r}")
        self.image_shape = tuple(image_shape)
        self.num_classes = num_classes
        self.value_range = value_range
        self.pooling = pooling
        self.encoder = Encoder(
            as_pair(patch_size),
            hidden_dim,
            num_layers,
            num_heads,
            num_cls_tokens,
            conditioning,
            dtype=self.dtype_policy,
            name="encoder",
        )
        self.encoder.build((None, *self.image_shape))
        self.condition_embedding = None
        if conditioning is not None:
            self.condition_embedding = ConditionEmbedding(
                hidden_dim, num_classes, conditioning, dtype=self.dtype_policy, name="condition_embedding"
            )
            self.condition_embedding.build((None,))
        self.built = True
        if not self.trainable:  # loaded as frozen: the layers made since then follow
            self.trainable = True  # TensorFlow skips an assignment that changes nothing
            self.trainable = False

    def call(self, images):
        check_images(images, self.image_shape, self.value_range)
        images = scale_images(images, self.value_range)
        condition = None
        if self.condition_embedding is not None:
            condition = self.condition_embedding(ops.zeros((1,), "int32"))
        representation, tokens = self.encoder(images, condition=condition)
        if self.pooling == "cls":
            return representation
        return ops.mean(tokens, axis=1) if self.pooling == "mean" else tokens

    def get_config(self):
        encoder = self.encoder
        config = {
            "image_shape": self.image_shape,
            "patch_size": encoder.patch_size,
            "hidden_dim": encoder.hidden_dim,
            "num_layers": encoder.num_layers,
            "num_heads": encoder.num_heads,
            "num_cls_tokens": encoder.num_cls_tokens,
            "conditioning": encoder.conditioning,
            "num_classes": self.num_classes,
            "value_range": self.value_range,
            "pooling": self.pooling,
        }
        return {**super().get_config(), **config}
