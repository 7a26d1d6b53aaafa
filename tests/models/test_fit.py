"""`fit`, `evaluate` and `predict` take every input and setting that Keras takes, each where the backend supports it."""

import keras
import numpy as np
import pytest

from keras_umd import Corruption, View, data
from keras_umd.corruption.levels import Levels
from keras_umd.corruption.noise import Gaussian
from tests.conftest import QUICK, QUICK_STEP, array

BACKEND = keras.backend.backend()


class Batches(keras.utils.PyDataset):
    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return tuple(x[index * 8 : (index + 1) * 8] for x in self.arrays)


def tf_dataset(*arrays):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(arrays).batch(8)


def grain_loader(*arrays):
    grain = pytest.importorskip("grain")
    source = list(zip(*arrays, strict=True))
    return grain.MapDataset.source(source).batch(8).to_iter_dataset()


def torch_loader(*arrays):
    torch = pytest.importorskip("torch")
    tensors = (torch.from_numpy(x) for x in arrays)
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*tensors), batch_size=8)


def generator(*arrays):
    return (tuple(x[i : i + 8] for x in arrays) for i in range(0, 24, 8))


SOURCES = {
    "arrays": lambda *arrays: arrays,
    "pydataset": Batches,
    "tf.data": tf_dataset,
    "grain": grain_loader,
    "torch": torch_loader,
    "generator": generator,
}


@pytest.mark.host
@pytest.mark.filterwarnings("error:.shuffle=True. was passed")
def test_data_without_end_are_fit_without_a_warning(small_model, images):
    model = small_model()
    model.compile("sgd")
    batches = data.from_arrays(images[:8], batch_size=4, area_range=(1.0, 1.0)).repeat()
    assert model.fit(batches, steps_per_epoch=3, verbose=0).epoch == [0]


@pytest.mark.parametrize("with_labels", [False, True])
@pytest.mark.parametrize("source", SOURCES)
def test_fit_takes_every_source_with_and_without_labels(shared_model, images, labels, source, with_labels):
    """Compiled without labels: a batch from some sources has a size that TensorFlow doesn't know."""
    compiled, num_classes = ({"optimizer": "sgd", **QUICK}, 3) if with_labels else (QUICK_STEP, None)
    model = shared_model(compiled, num_classes=num_classes)
    data = SOURCES[source](*((images, labels) if with_labels else (images,)))
    data = data if isinstance(data, tuple) else (data,)
    history = model.fit(*data, batch_size=8 if source == "arrays" else None, verbose=0, shuffle=False).history
    assert set(history) == {"loss", "clean_x0_loss", "noisy_x0_loss", "noisy_eps_loss"}
    assert all(np.isfinite(values).all() for values in history.values())
    assert int(array(model.optimizer.iterations)) == 3


@pytest.mark.host  # test_nothing_moved.py has the same weights and losses on every backend
def test_training_lowers_every_part_of_the_loss(small_model):
    """On images of one grey level each, whose masked patches follow from the visible ones."""
    rng = np.random.default_rng(0)
    greys = rng.integers(0, 256, (256, 1, 1, 1)).astype("uint8") * np.ones((1, 8, 8, 1), "uint8")
    model = small_model(hidden_dim=32, conditioning="token")
    model.compile(keras.optimizers.Adam(3e-3))
    before = model.evaluate(greys[:64], batch_size=8, verbose=0, return_dict=True)
    model.fit(greys, batch_size=8, epochs=3, verbose=0)
    after = model.evaluate(greys[:64], batch_size=8, verbose=0, return_dict=True)
    for part in before:
        assert after[part] < 0.9 * before[part], part


@pytest.mark.host
@pytest.mark.parametrize(
    ("corruption", "parts"),
    [
        (Corruption.mae(), {"clean_x0_loss"}),
        (Corruption.maskdit(), {"noisy_x0_loss", "noisy_eps_loss"}),
        (Corruption.dit(), {"noisy_x0_loss", "noisy_eps_loss"}),
        (Corruption.dit(noisy_losses=["eps"]), {"noisy_eps_loss"}),
        (Corruption(noisy_losses=["x0"]), {"clean_x0_loss", "noisy_x0_loss"}),
    ],
)
def test_a_loss_part_that_never_occurs_is_absent(small_model, images, corruption, parts):
    model = small_model(corruption=corruption)
    model.compile("sgd", **QUICK)
    history = model.fit(images[:8], batch_size=8, verbose=0).history
    assert set(history) == {"loss", *parts}


def test_the_logged_loss_is_the_weighted_sum_of_its_parts(shared_model, images):
    """Over batches of unequal size: every image counts once."""
    model = shared_model(QUICK_STEP)
    logs = model.evaluate(images[:13], batch_size=8, verbose=0, return_dict=True)
    clean = 4 + 2  # of batches of 8 and 5
    noisy_loss = (logs["noisy_x0_loss"] + logs["noisy_eps_loss"]) / 2
    expected = (clean * logs["clean_x0_loss"] + (13 - clean) * noisy_loss) / 13
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)


@pytest.mark.host
@pytest.mark.parametrize("kept", ["x0", "eps"])
def test_one_loss_of_noisy_images_counts_whole_and_is_the_same_as_beside_the_other(small_model, images, kept):
    model = small_model(corruption=Corruption(clean_ratio=0.25))
    alone = small_model(corruption=Corruption(clean_ratio=0.25, noisy_losses=[kept]))
    alone.set_weights(model.get_weights())
    for m in (model, alone):
        m.compile("sgd", **QUICK)
    both = model.evaluate(images[:8], batch_size=8, verbose=0, return_dict=True)
    logs = alone.evaluate(images[:8], batch_size=8, verbose=0, return_dict=True)
    assert f"noisy_{kept}_loss" in logs
    for name in logs.keys() - {"loss"}:
        np.testing.assert_allclose(logs[name], both[name], rtol=1e-5)
    expected = 0.25 * both["clean_x0_loss"] + 0.75 * both[f"noisy_{kept}_loss"]
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)


def test_evaluate_is_repeatable_covers_every_image_and_leaves_training_alone(shared_model, images):
    model = shared_model(QUICK_STEP)
    seed = array(model.seed_generator.state)
    first = model.evaluate(images[:13], batch_size=4, verbose=0)
    assert first == model.evaluate(images[:13], batch_size=4, verbose=0)
    changed = images[:13].copy()
    changed[12] = 255 - changed[12]
    assert first != model.evaluate(changed, batch_size=4, verbose=0)
    np.testing.assert_array_equal(array(model.seed_generator.state), seed)


def test_predict_gives_the_representations_of_every_image(shared_model, images):
    model = shared_model(QUICK_STEP)
    features = model.predict(images[:13], batch_size=4, verbose=0)
    assert features.shape == (13, 16)
    np.testing.assert_allclose(features, array(model.encode(images[:13])), atol=1e-5)
    np.testing.assert_allclose(features, array(model(images[:13])), atol=1e-5)
    labelled = Batches(images, np.full(24, 7))  # of whatever classes: they aren't read
    np.testing.assert_allclose(model.predict(labelled, verbose=0)[:13], features, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_a_partial_last_batch_of_any_size_trains(shared_model, images, batch_size):
    """Of a single image, which has no mean and no deviation among others, and of an odd number."""
    model = shared_model(QUICK_STEP)
    history = model.fit(images[: 8 + batch_size], batch_size=8, verbose=0, shuffle=False).history
    assert np.isfinite(history["loss"]).all()
    assert int(array(model.optimizer.iterations)) == 2


def test_validation_data_logs_the_same_losses(shared_model, images):
    model = shared_model(QUICK_STEP)
    history = model.fit(images[:8], batch_size=8, validation_data=(images[8:],), epochs=2, verbose=0).history
    assert {"val_loss", "val_clean_x0_loss", "val_noisy_x0_loss", "val_noisy_eps_loss"} <= set(history)
    labelled = shared_model({"optimizer": "sgd", **QUICK}, num_classes=3)
    y = np.zeros(8, "int32")
    history = labelled.fit(images[:8], y, batch_size=8, validation_data=(images[:8], y), verbose=0).history
    assert "val_loss" in history


@pytest.mark.parametrize("jit_compile", [True, False])
def test_fit_with_and_without_jit_and_no_retracing_after_the_first_epoch(plain_model, images, jit_compile):
    if BACKEND == "torch" and jit_compile:
        pytest.skip("PyTorch's jit is torch.compile, which needs a C++ compiler")
    model = plain_model()
    traces = []
    corrupt = model.corruption.corrupt
    model.corruption.corrupt = lambda *args: traces.append(1) or corrupt(*args)
    model.compile("sgd", jit_compile=jit_compile)
    model.fit(images[:4], batch_size=4, verbose=0)
    after_first = len(traces)
    model.fit(images[:4], batch_size=4, verbose=0)
    compiled = jit_compile or BACKEND == "tensorflow"
    assert len(traces) - after_first == (0 if compiled else 1)


def test_steps_per_execution(plain_model, images):
    model = plain_model()
    if BACKEND == "torch":
        with pytest.raises(ValueError, match="steps_per_execution"):
            model.compile("sgd", steps_per_execution=2)
            model.fit(images, batch_size=8, verbose=0)
        return
    model.compile(**QUICK_STEP, steps_per_execution=3)
    model.fit(images, batch_size=8, verbose=0)
    assert int(array(model.optimizer.iterations)) == 3


def test_gradient_accumulation_applies_every_second_step(plain_model, images):
    model = plain_model()
    model.compile(keras.optimizers.SGD(gradient_accumulation_steps=2), jit_compile=QUICK_STEP["jit_compile"])
    before = model.get_weights()
    model.fit(images[:8], batch_size=8, verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        if old.dtype == "float32":
            np.testing.assert_array_equal(old, new)
    model.fit(images[:8], batch_size=8, verbose=0)
    assert any(np.any(old != new) for old, new in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize(
    "precision", [pytest.param("mixed_bfloat16", marks=pytest.mark.backends("jax", "torch")), "mixed_float16"]
)
def test_mixed_precision_keeps_weights_noise_and_losses_in_float32(small_model, shared_model, images, precision):
    model = small_model(dtype=precision)
    model.compile("sgd", **({} if precision == "mixed_float16" else QUICK))
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (precision == "mixed_float16")
    expected = shared_model("sgd").evaluate(images, batch_size=8, verbose=0)
    np.testing.assert_allclose(model.evaluate(images, batch_size=8, verbose=0), expected, rtol=0.02)
    history = model.fit(images, batch_size=8, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    compute_dtype = precision.removeprefix("mixed_")
    assert keras.backend.standardize_dtype(model.encode(images).dtype) == compute_dtype
    x, y = model.make_views(images, seed=0)
    assert keras.backend.standardize_dtype(x["views"]["noisy"]["images"].dtype) == "float32"
    assert {keras.backend.standardize_dtype(target.dtype) for target in y.values()} == {"float32"}


class BetweenIntegers(Levels):
    def draw(self, batch_size, schedule, seed):
        return keras.random.uniform((batch_size,), 1.0, schedule.num_timesteps, dtype="float32", seed=seed)


@pytest.mark.host  # Keras casts what layers get in the same way for all backends
def test_mixed_precision_rounds_no_timestep_between_integers(small_model, images, monkeypatch):
    model = small_model(
        dtype="mixed_bfloat16", corruption=Corruption(views=[View("noisy", Gaussian(BetweenIntegers()))])
    )
    seen = []
    embedding = model.condition_embedding.timestep_embedding
    sinusoid = embedding.sinusoid
    monkeypatch.setattr(embedding, "sinusoid", lambda timesteps: seen.append(array(timesteps)) or sinusoid(timesteps))
    x, _ = model.make_views(images, seed=0)
    model(x)
    drawn = array(x["views"]["noisy"]["timesteps"])
    np.testing.assert_array_equal(seen[-1], drawn)
    model.estimate(x["views"]["noisy"]["images"], x["views"]["noisy"]["timesteps"])
    np.testing.assert_array_equal(seen[-1], drawn)


def test_keras_own_ema_works_too(plain_model, images):
    model = plain_model()
    model.compile(keras.optimizers.SGD(use_ema=True, ema_momentum=0.5), **QUICK)
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    history = model.fit(images, batch_size=8, epochs=2, verbose=0, callbacks=[swap]).history
    assert np.isfinite(history["loss"]).all()


def test_stock_callbacks_work(shared_model, images, tmp_path):
    model = shared_model(QUICK_STEP)
    callbacks = [
        keras.callbacks.BackupAndRestore(tmp_path / "backup"),
        keras.callbacks.ModelCheckpoint(tmp_path / "model.keras"),
        keras.callbacks.EarlyStopping(monitor="loss", min_delta=100.0, patience=0),
    ]
    try:
        import tensorflow  # noqa: F401

        callbacks.append(keras.callbacks.TensorBoard(tmp_path / "logs"))
    except ImportError:
        pass
    history = model.fit(images, batch_size=8, epochs=5, verbose=0, callbacks=callbacks).history
    assert len(history["loss"]) == 2  # EarlyStopping: nothing improves by 100
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-6)
    if len(callbacks) == 4:
        assert list((tmp_path / "logs").rglob("events*"))
