"""All that views can change in one compiled training, on every backend, with batches of different sizes."""

import keras
import numpy as np
import pytest

from keras_umd import UMD, Corruption, View
from keras_umd.corruption import changes, masks, noise
from keras_umd.objectives import Classification, Objective, Position, Reconstruction, Spectrum
from keras_umd.objectives.targets import X0, Bordered, Eps, Pixels

pytestmark = pytest.mark.usefixtures("op_by_op")


@pytest.mark.slow
@pytest.mark.backends("jax", "torch")
def test_all_changes_of_views_train_together():
    fill = changes.Fill(masks.Random(0.5), {"noise": 0.5, "other": 0.5})
    mask = masks.Varying(masks.Disjoint(masks.Random(0.5), 1))
    views = [
        View("clean", mask=mask, change=fill, unplaced=0.5, gives_class=True, share=0.5),
        View("noisy", noise=noise.Graded((0.0, 0.5, 1.0)), mask=masks.Random(0.25), share=0.5),
    ]
    terms = [
        Reconstruction("clean", X0(), "unseen"),
        Reconstruction("clean", Pixels(), "changed"),
        Reconstruction("clean", Bordered(1), "masked"),
        Spectrum("clean", "all"),
        Position("clean", (4, 4), 16, smooth=1.0),
        Classification("clean", 3, 16),
        Reconstruction("noisy", X0(), "masked"),
        Reconstruction("noisy", Eps(), "visible"),
    ]
    sizes = {"image_shape": (8, 8, 1), "patch_size": 2, "hidden_dim": 16, "num_layers": 1, "num_heads": 2}
    keras.utils.set_random_seed(0)
    model = UMD(
        **sizes,
        decoder_layers=1,
        num_classes=3,
        corruption=Corruption(views=views),
        objective=Objective(terms),
        seed=0,
    )
    model.compile(keras.optimizers.Adam(1e-2))
    images = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 1)).astype("uint8")
    history = model.fit(images, np.arange(7) % 3, batch_size=4, epochs=4, verbose=0).history
    assert set(history) == {"loss", *(term.loss_name for term in terms)}
    assert np.isfinite(list(history.values())).all()
    assert history["loss"][-1] < history["loss"][0]
    assert np.abs(keras.ops.convert_to_numpy(terms[5].classifier.kernel)).max() > 0
