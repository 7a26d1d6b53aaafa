"""The condition of the network: timestep and label."""

import keras
from keras import ops

from keras_umd.layers.embeddings import LabelEmbedding, TimestepEmbedding
from keras_umd.layers.symbolic import BaseLayer
from keras_umd.utils.checks import check_integers, check_one_of, check_tensors


def condition_embedding(hidden_dim, num_classes, conditioning, dtype):
    """The built `ConditionEmbedding` of a model; `None` for one without conditioning."""
    if conditioning is None:
        return None
    embedding = ConditionEmbedding(hidden_dim, num_classes, conditioning, dtype=dtype, name="condition_embedding")
    embedding.build((None,))
    return embedding


@keras.saving.register_keras_serializable("keras_umd")
class ConditionEmbedding(BaseLayer):
    """Timestep and label as one vector: the sum of both embeddings.

    With `"adaln_zero"` SiLU is applied here, once for all blocks.

    Example:

    >>> embedding = ConditionEmbedding(32, num_classes=10)
    >>> embedding(np.array([0, 500]), labels=np.array([3, 10])).shape       # 10 is the null label
    (2, 32)

    Args:
        hidden_dim: Integer. Width of the vector.
        num_classes: Integer, or `None` for a model without labels.
        conditioning: `"adaln_zero"` or `"token"`.

    Call arguments:
        timesteps: Int or float tensor of shape `(batch or 1,)`.
        labels: Int tensor of shape `(batch or 1,)` in `[0, num_classes]`, `None` for the null label.
        drop: Bool tensor of the shape of `labels`, `True` where the null label takes the place of the label.

    Returns:
        Float tensor of shape `(batch or 1, hidden_dim)`.
    """

    def __init__(self, hidden_dim, num_classes=None, conditioning="adaln_zero", **kwargs):
        check_integers(1, optional=True, num_classes=num_classes)
        check_one_of(("adaln_zero", "token"), conditioning=conditioning)
        super().__init__(autocast=False, **kwargs)  # timesteps must not be rounded
        self.hidden_dim = hidden_dim
        check_integers(1, optional=True, num_classes=num_classes)
        self.num_classes = None if num_classes is None else int(num_classes)
        self.conditioning = conditioning
        self.timestep_embedding = TimestepEmbedding(hidden_dim, dtype=self.dtype_policy, name="timestep_embedding")
        self.label_embedding = (
            None
            if num_classes is None
            else LabelEmbedding(num_classes, hidden_dim, dtype=self.dtype_policy, name="label_embedding")
        )

    def build(self, timesteps_shape, labels_shape=None, drop_shape=None):
        self.timestep_embedding.build(timesteps_shape)
        if self.label_embedding is not None:
            self.label_embedding.build(timesteps_shape)

    def call(self, timesteps, labels=None, drop=None):
        condition = self.timestep_embedding(timesteps)
        if self.label_embedding is not None:
            labels = ops.full((1,), self.num_classes, dtype="int32") if labels is None else labels
            condition = condition + self.label_embedding(labels, drop=drop)
        return self._activated(condition)

    def table(self, timesteps, labels):
        """The conditions of all pairs of `timesteps` `(n,)` and `labels` `(m,)`: `(n, m, hidden_dim)`."""
        check_tensors(1, timesteps=timesteps)
        if self.label_embedding is not None:
            check_tensors(1, types=("int",), labels=labels)
        condition = self.timestep_embedding(timesteps)[:, None]
        if self.label_embedding is not None:
            condition = condition + self.label_embedding(labels)
        return self._activated(condition)  # (n, m or 1, hidden_dim)

    def _activated(self, condition):
        return ops.silu(condition) if self.conditioning == "adaln_zero" else condition

    def compute_output_shape(self, timesteps_shape, labels_shape=None, drop_shape=None):
        batch = timesteps_shape[0]
        return (labels_shape[0] if batch == 1 and labels_shape is not None else batch, self.hidden_dim)
