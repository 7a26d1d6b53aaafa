"""Learning which patches to look at."""

import math

import keras
from keras import ops

from keras_umd.layers.dense import Dense
from keras_umd.layers.embeddings import PositionEmbedding
from keras_umd.layers.norms import RMSNorm
from keras_umd.layers.patches import patchify
from keras_umd.layers.transformer import TransformerBlock
from keras_umd.objectives.reconstruction import Reconstruction
from keras_umd.utils.checks import check_instances, check_positive_integers, require

HINT = "log_probability"  # what `masks.Adaptive` reads


@keras.saving.register_keras_serializable("keras_umd")
class SamplingPolicy(Reconstruction):
    """A small network that learns which patches to show, by policy gradient (AdaMAE; Bandara et al., 2023, section 3).

    A block over the embeddings of all patches gives each a probability p, by which `masks.Adaptive` draws the visible
    ones. The loss is `-mean(log p * error)` over masked patches, without a gradient through the errors: a patch that is
    hard to predict becomes more likely to be seen, so that few patches are enough. The reconstruction gets no gradient
    of it. The paper shares the encoder's patch embedding; this one is its own.

    Example:

    >>> Objective([Reconstruction("clean", Pixels()), SamplingPolicy("clean", Pixels())])

    Args:
        view: String, the name of the view.
        target: `Target`, whose errors are meant; another term must train its prediction.
        weight: Float. The paper's is 1e-4, of errors that are summed over a patch of about a thousand numbers and more.
        hidden_dim, num_heads: Integers, of the network.
        grid, patch_dim: Tuple of integers and integer, the patches of an image and the numbers of one. A model sets
            them.
        name: String.
    """

    hint_names = (HINT,)

    def __init__(
        self,
        view,
        target,
        weight=1e-4,
        hidden_dim=128,
        num_heads=4,
        grid=None,
        patch_dim=None,
        name="sampling_policy",
        **kwargs,
    ):
        check_instances(str, "a string", name=name)
        check_positive_integers(hidden_dim=hidden_dim, num_heads=num_heads)
        require(hidden_dim % num_heads == 0, "`hidden_dim` must be divisible by `num_heads`.", hidden_dim=hidden_dim)
        require((grid is None) == (patch_dim is None), "`grid` and `patch_dim` need each other.", grid=grid)
        super().__init__(view, target, "masked", weight, name, **{key: kwargs[key] for key in kwargs if key != "where"})
        self.hidden_dim = int(hidden_dim)
        self.num_heads = int(num_heads)
        self.grid = self.patch_dim = None
        if grid is not None:
            self.prepare(tuple(grid), patch_dim)

    def prepare(self, grid, patch_dim):
        if self.grid is not None:
            is_same = (self.grid, self.patch_dim) == (tuple(grid), patch_dim)
            require(is_same, "The term is one of a model with other patches.", grid=grid, patch_dim=patch_dim)
            return
        self.grid, self.patch_dim = tuple(map(int, grid)), int(patch_dim)
        self.embedding = Dense(self.hidden_dim, dtype="float32", name="embedding")
        self.position_embedding = PositionEmbedding(self.grid, dtype="float32", name="position_embedding")
        self.block = TransformerBlock(self.num_heads, conditioning=None, dtype="float32", name="block")
        self.norm = RMSNorm(dtype="float32", name="norm")
        self.logits = Dense(1, kernel_initializer="zeros", dtype="float32", name="logits")  # at first all are alike
        self.embedding.build((None, None, self.patch_dim))
        for layer in (self.position_embedding, self.block, self.norm, self.logits):
            layer.build((None, None, self.hidden_dim))

    def log_probabilities(self, patches):
        """`(n, num_patches)` of patches `(n, num_patches, patch_dim)`, float32."""
        tokens = self.position_embedding(self.embedding(patches))
        return ops.log_softmax(self.logits(self.norm(self.block(tokens)))[:, :, 0], axis=-1)

    def hints(self, images, patch_size):
        return {HINT: self.log_probabilities(patchify(images, patch_size))}

    def targets(self, view, patch_size, teacher=None):
        target = super().targets(view, patch_size, teacher)
        require("masked" in view and not isinstance(target, dict), "The view must mask, and miss nothing.", self.view)
        return {"errors": target, "patches": patchify(view["x0"], patch_size), "masked": view["masked"]}

    def image_losses(self, outputs, target):
        errors, _ = self.patch_errors(outputs, target["errors"])
        chosen = ops.take_along_axis(self.log_probabilities(target["patches"]), target["masked"], axis=1)
        return -ops.mean(chosen * ops.stop_gradient(errors), axis=1)

    def products(self):
        """FLOPs of the matrix products of the network for an image: of its inputs, of weights, of attention."""
        tokens, width = math.prod(self.grid), self.hidden_dim
        return 2 * tokens * self.patch_dim * width, 2 * tokens * width * (12 * width + 1), 4 * tokens**2 * width

    def get_config(self):
        config = {name: value for name, value in super().get_config().items() if name != "where"}
        own = {"hidden_dim": self.hidden_dim, "num_heads": self.num_heads}
        return {**config, **own, "grid": self.grid, "patch_dim": self.patch_dim}
