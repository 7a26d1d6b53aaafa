"""The condition of the network: timestep and label."""

import keras
from keras import ops

from keras_umd.layers.block import as_block
from keras_umd.layers.embeddings import LabelEmbedding, TimestepEmbedding
from keras_umd.layers.symbolic import BaseLayer
from keras_umd.utils.checks import check_integers, check_one_of, check_tensors, require


def condition_embedding(hidden_dim, num_classes, conditioning, dtype, block=None):
    """The built `ConditionEmbedding` of a model; `None` for one without conditioning."""
    if conditioning is None:
        return None
    embedding = ConditionEmbedding(
        hidden_dim, num_classes, conditioning, block, dtype=dtype, name="condition_embedding"
    )
    embedding.build((None,))
    return embedding


def told_of_levels(condition, view):
    """What the encoder's tokens are told where patches of an image have levels of their own, `{"told": ...}` or `{}`.

    The difference between the conditions of a patch's level and of its image's: nothing where they are equal.

    Args:
        condition: callable, timesteps `(n,)` to conditions `(n, hidden_dim)` without a label, or to `None`.
        view: Dictionary of tensors, with `timesteps` `(n,)`, `levels` `(n, groups)`, `level_index` `(n, patches)`.
    """
    if "levels" not in view:
        return {}
    levels = ops.concatenate([ops.cast(view["timesteps"], view["levels"].dtype)[:, None], view["levels"]], axis=1)
    conditions = condition(ops.reshape(levels, (-1,)))
    if conditions is None:
        return {}
    conditions = ops.reshape(conditions, (-1, levels.shape[1], conditions.shape[-1]))
    differences = conditions[:, 1:] - conditions[:, :1]  # (n, groups, hidden_dim)
    return {"told": ops.take_along_axis(differences, view["level_index"][:, :, None], axis=1)}


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
        block: `Block`, whose `timesteps`, `labels` and `in_context_of` are read. Defaults to the paper's.

    Call arguments:
        timesteps: Int or float tensor of shape `(batch or 1,)`.
        labels: Int tensor of shape `(batch or 1,)` in `[0, num_classes]`, `None` for the null label.
        drop: Bool tensor of the shape of `labels`, `True` where the null label takes the place of the label.

    Returns:
        Float tensor of shape `(batch or 1, hidden_dim)`. Where tokens in context are copies of the label, its embedding
        lies behind the vector, `(batch or 1, 2 * hidden_dim)`.
    """

    def __init__(self, hidden_dim, num_classes=None, conditioning="adaln_zero", block=None, **kwargs):
        check_integers(1, optional=True, num_classes=num_classes)
        check_one_of(("adaln_zero", "token"), conditioning=conditioning)
        super().__init__(autocast=False, **kwargs)  # timesteps must not be rounded
        self.hidden_dim = hidden_dim
        self.num_classes = None if num_classes is None else int(num_classes)
        self.conditioning = conditioning
        self.block = as_block(block)
        self.shows_label = self.block.in_context_of == "label"
        require(
            not self.shows_label or num_classes is not None,
            "Tokens in context that are copies of the label need a model with classes.",
            num_classes=num_classes,
            block=self.block,
        )
        self.timestep_embedding = TimestepEmbedding(
            hidden_dim, self.block.timesteps, dtype=self.dtype_policy, name="timestep_embedding"
        )
        self.label_embedding = None
        if num_classes is not None:
            has_mlp = self.block.labels == "mlp"
            self.label_embedding = LabelEmbedding(
                num_classes, hidden_dim, mlp=has_mlp, dtype=self.dtype_policy, name="label_embedding"
            )

    def build(self, timesteps_shape, labels_shape=None, drop_shape=None):
        self.timestep_embedding.build(timesteps_shape)
        if self.label_embedding is not None:
            self.label_embedding.build(timesteps_shape)

    def call(self, timesteps, labels=None, drop=None):
        condition, label = self.timestep_embedding(timesteps), None
        if self.label_embedding is not None:
            labels = ops.full((1,), self.num_classes, dtype="int32") if labels is None else labels
            label = self.label_embedding(labels, drop=drop)
        return self._joined(condition, label)

    def table(self, timesteps, labels):
        """The conditions of all pairs of `timesteps` `(n,)` and `labels` `(m,)`: `(n, m, hidden_dim)`."""
        check_tensors(1, timesteps=timesteps)
        label = None
        if self.label_embedding is not None:
            check_tensors(1, types=("int",), labels=labels)
            label = self.label_embedding(labels)
        return self._joined(self.timestep_embedding(timesteps)[:, None], label)  # (n, m or 1, hidden_dim)

    def _joined(self, condition, label):
        """The condition of a timestep's embedding and of a label's, if there is one."""
        condition = condition if label is None else condition + label
        activated = ops.silu(condition) if self.conditioning == "adaln_zero" else condition
        if not self.shows_label:
            return activated
        return ops.concatenate([activated, ops.broadcast_to(label, ops.shape(condition))], axis=-1)

    def compute_output_shape(self, timesteps_shape, labels_shape=None, drop_shape=None):
        batch = timesteps_shape[0]
        width = self.hidden_dim * (1 + self.shows_label)
        return (labels_shape[0] if batch == 1 and labels_shape is not None else batch, width)
