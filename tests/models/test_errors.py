"""Bad input is refused at once, with the argument, the value and the remedy in the message.

Once, where it is NumPy's when it is looked at; what only tensors show, and compiled programs, on every backend.
"""

import warnings

import keras
import numpy as np
import pytest

from keras_umd import UMD, Corruption

FLOATS = np.zeros((2, 8, 8, 1), "float32")


@pytest.mark.host
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_shape": (9, 8, 1)}, r"divisible by the patch size.*image_shape=\(9, 8, 1\), patch_size=2"),
        ({"patch_size": 0}, "patch_size=0"),
        ({"hidden_dim": 15}, "hidden_dim=15"),
        ({"num_heads": 3}, "num_heads=3"),
        ({"num_cls_tokens": -1}, "num_cls_tokens=-1"),
        ({"decoder_hidden_dim": 12}, "multiple of 8.*decoder_hidden_dim=12"),
        ({"decoder_hidden_dim": 0}, "decoder_hidden_dim=0"),
        ({"decoder_heads": 3}, "divisor of the decoder's width 16.*decoder_heads=3"),
        ({"num_layers": -1}, "num_layers=-1"),
        ({"num_heads": 0}, "num_heads=0"),
        ({"num_classes": 2.5}, "num_classes=2.5"),
        ({"image_shape": (8,)}, r"image_shape=\(8,\)"),
        ({"image_shape": (2,) * 6}, r"one to four space axes"),
        ({"corruption": "mae"}, "corruption='mae'"),
        ({"value_range": 5}, "value_range=5"),
        ({"label_dropout": 1.0}, r"\[0, 1\).*label_dropout=1.0"),
        ({"conditioning": "film"}, "conditioning='film'"),
        ({"conditioning": None, "num_classes": 3}, "num_classes=3, conditioning=None"),
        ({"value_range": (1, -1)}, r"value_range=\(1, -1\)"),
        ({"corruption": Corruption(clean_mask_ratio=0.99)}, "no patch visible.*mask_ratio=0.99 with 16 patches"),
    ],
)
def test_the_constructor_refuses(small_model, arguments, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        small_model(**arguments)


@pytest.mark.host
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clean_ratio": 1.1}, "clean_ratio=1.1"),
        ({"clean_mask_ratio": 1.0}, r"\[0, 1\).*clean_mask_ratio=1.0"),
        ({"noisy_mask_ratio": -0.1}, r"\[0, 1\).*noisy_mask_ratio=-0.1"),
        ({"decoded_ratio": 0}, r"\(0, 1\].*decoded_ratio=0"),
        ({"noisy_losses": "eps"}, "one or more of.*=eps|='eps'"),
        ({"noisy_losses": ["x0", "u"]}, "one or more of.*'u'"),
        ({"noisy_losses": []}, "one or more of"),
        ({"schedule": "sigmoid"}, "'cosine', 'linear'.*'sigmoid'"),
        ({"num_timesteps": 0}, "num_timesteps=0"),
    ],
)
def test_the_corruption_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        Corruption(**arguments)


BAD_IMAGES = {
    "single image": (FLOATS[0], "rank 4.*images\\[None\\]"),
    "wrong channels": (np.zeros((2, 8, 8, 3), "float32"), r"\(batch, 8, 8, 1\)"),
    "wrong size": (np.zeros((2, 16, 8, 1), "float32"), r"\(2, 16, 8, 1\)"),
    "integers": (np.zeros((2, 8, 8, 1), "int32"), "uint8 or float"),
    "NaN": (np.full((2, 8, 8, 1), np.nan, "float32"), "finite"),
    "forgotten scaling": (np.full((2, 8, 8, 1), 255.0, "float32"), r"value_range=\(-1.0, 1.0\).*255"),
}


@pytest.mark.host
@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_images_that_do_not_fit_are_refused_everywhere(shared_model, kind):
    images, message = BAD_IMAGES[kind]
    model = shared_model("sgd")
    uses = [
        lambda: model.encode(images),
        lambda: model.reconstruct(images),
        lambda: model.predict(images, verbose=0),
        lambda: model.fit(images, verbose=0),
        lambda: model.fit(FLOATS, validation_data=(images,), verbose=0),
        lambda: model.evaluate(images, verbose=0),
        lambda: model.feature_extractor()(images),
    ]
    for use in uses:
        with pytest.raises(ValueError, match=f"(?s){message}"):
            use()


@pytest.mark.host
@pytest.mark.parametrize("source", ["tf.data", "generator", "pydataset", "grain"])
def test_a_forgotten_scaling_in_a_pipeline_is_refused_before_training(shared_model, source):
    images = np.full((8, 8, 8, 1), 255.0, "float32")
    if source == "tf.data":
        data = pytest.importorskip("tensorflow").data.Dataset.from_tensor_slices(images).batch(4)
    elif source == "generator":
        data = ((images,) for _ in range(2))
    elif source == "grain":
        grain = pytest.importorskip("grain")
        data = grain.MapDataset.source([(image,) for image in images]).batch(4).to_iter_dataset()
    else:

        class Data(keras.utils.PyDataset):
            __len__ = lambda self: 2  # noqa: E731
            __getitem__ = lambda self, i: (images,)  # noqa: E731

        data = Data()
    model = shared_model("sgd")
    with pytest.raises(ValueError, match="value_range.*255"):
        model.fit(data, verbose=0)


@pytest.mark.host
def test_a_forgotten_batch_axis_in_a_pipeline_is_refused(shared_model):
    images = pytest.importorskip("tensorflow").data.Dataset.from_tensor_slices(np.zeros((4, 8, 8, 1), "uint8"))
    model = shared_model("sgd")
    with pytest.raises(ValueError, match=r"(?s)rank 4.*\(8, 8, 1\)"):
        model.fit(images, verbose=0)


@pytest.mark.host
@pytest.mark.parametrize("kind", [tuple, list, dict])
def test_images_and_labels_in_one_argument_are_refused(shared_model, kind):
    model = shared_model("sgd", num_classes=3)
    pair = kind(zip(["images", "labels"], [FLOATS, np.array([0, 1])], strict=True))
    for use in (model.fit, model.evaluate, model.predict):
        with pytest.raises(ValueError, match=f"labels the next argument. Received: x, a {kind.__name__} of 2"):
            use(pair, verbose=0)


@pytest.mark.host
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 3]), r"\[0, 3\).*0 to 3"),
        (np.array([-1, 0]), "-1 to 0"),
        (np.eye(3)[:2], "argmax"),
        (np.array([0.5, 1.0]), r"integer class indices.*astype\(\"int32\"\)"),
        (np.array(["cat", "dog"]), "np.unique"),
    ],
)
def test_labels_that_are_no_classes_are_refused(shared_model, labels, message):
    model = shared_model("sgd", num_classes=3)
    for use in (
        lambda: model.fit(FLOATS, labels, verbose=0),
        lambda: model.evaluate(FLOATS, labels, verbose=0),
        lambda: model.encode(FLOATS, labels=labels),
        lambda: model.generate(labels=labels, num_steps=1),
    ):
        with pytest.raises(ValueError, match=message):
            use()


def test_wrong_labels_in_a_pipeline_of_uint8_images_are_refused(shared_model):
    tf = pytest.importorskip("tensorflow")
    model = shared_model("sgd", num_classes=3)
    data = tf.data.Dataset.from_tensor_slices((np.zeros((4, 8, 8, 1), "uint8"), [0, 1, 2, 7])).batch(4)
    with pytest.raises(ValueError, match="0 to 7"):
        model.fit(data, verbose=0)


@pytest.mark.host
def test_labels_without_classes_are_refused(small_model):
    model = small_model()
    model.compile("sgd")
    labels = np.zeros(2, "int32")
    for use in (
        lambda: model.fit(FLOATS, labels, verbose=0),
        lambda: model.encode(FLOATS, labels=labels),
        lambda: model.generate(labels=labels),
    ):
        with pytest.raises(ValueError, match="with_classes"):
            use()


@pytest.mark.host
@pytest.mark.parametrize("ratio", [1.0, -0.1, 0.99])
def test_reconstruct_refuses_mask_ratios(small_model, ratio):
    with pytest.raises(ValueError, match=f"mask_ratio={ratio}"):
        small_model().reconstruct(FLOATS, mask_ratio=ratio)


@pytest.mark.host
def test_encode_refuses_timesteps_off_the_schedule(small_model):
    for timesteps in (-1, 1001, 0.5):
        with pytest.raises(ValueError, match=f"timesteps={timesteps}"):
            small_model().encode(FLOATS, timesteps=timesteps)


@pytest.mark.host
def test_one_label_for_each_image(small_model):
    with pytest.raises(ValueError, match="2 images. Received: 1 labels"):
        small_model(num_classes=3).encode(FLOATS, labels=np.zeros(1, "int32"))


@pytest.mark.host
def test_the_extractor_takes_the_models_channels(small_model):
    with pytest.raises(ValueError, match=r"image_shape=\(16, 16, 3\)"):
        small_model().feature_extractor(image_shape=(16, 16, 3))


@pytest.mark.host
def test_weights_of_samples_or_classes_are_refused(small_model):
    model = small_model(num_classes=3)
    model.compile("sgd")
    labels = np.zeros(2, "int32")
    with pytest.raises(ValueError, match="sample_weight"):
        model.fit(FLOATS, labels, sample_weight=np.ones(2), verbose=0)
    with pytest.raises(ValueError, match="class_weight"):
        model.fit(FLOATS, labels, class_weight={0: 1.0}, verbose=0)
    with pytest.raises(ValueError, match="sample_weight"):
        model.evaluate(FLOATS, labels, sample_weight=np.ones(2), verbose=0)


@pytest.mark.host
def test_a_loss_of_ones_own_is_refused(small_model):
    with pytest.raises(ValueError, match="loss=mse"):
        small_model().compile("sgd", loss="mse")


def test_latents_take_any_float_but_no_uint8(small_model):
    model = small_model(value_range=None)
    assert model.encode(FLOATS + 50).shape == (2, 16)
    with pytest.raises(ValueError, match="uint8"):
        model.encode(np.zeros((2, 8, 8, 1), "uint8"))


@pytest.mark.host
def test_preset_names_are_explained():
    with pytest.raises(ValueError, match="umd_base_patch4_64.*Received: 'umd_huge_patch4_64'"):
        UMD.from_preset("umd_huge_patch4_64")


@pytest.mark.host
def test_a_token_too_narrow_for_the_noise_of_a_patch_is_a_warning_with_the_remedy(small_model):
    wide = {"hidden_dim": 96, "image_shape": (8, 8, 3), "patch_size": 4}  # 48 numbers a patch
    message = "48 numbers and its token 94.*smaller `patch_size`, or a `hidden_dim` of at least 96"
    for corruption in (None, Corruption.dit(), Corruption(clean_ratio=0.95)):
        with pytest.warns(UserWarning, match=message) as given:
            UMD(**wide | {"hidden_dim": 94}, num_layers=1, num_heads=2, decoder_layers=1, corruption=corruption)
        assert [warning.filename for warning in given] == [__file__]
    with pytest.warns(UserWarning, match="192 numbers and its token 192"):
        UMD.from_preset("umd_tiny_patch8_32", num_layers=1, decoder_layers=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small_model(**wide)
        narrow = small_model(**wide | {"hidden_dim": 48}, corruption=Corruption.mae())  # which sees no noise
        small_model(**wide | {"hidden_dim": 48}, corruption=Corruption(noisy_losses=["x0"]))  # which predicts none
        UMD.from_preset("umd_tiny_patch4_32", num_layers=1, decoder_layers=1)
    with pytest.warns(UserWarning, match="48 numbers and its token 48"):
        narrow.with_classes(3)  # which does


@pytest.mark.backends("jax")  # where Keras takes the values out of the variables before a step
def test_a_call_that_fails_leaves_the_weights(shared_model, images):
    model = shared_model("sgd")
    before = model.get_weights()

    class Broken(keras.utils.PyDataset):
        num_read = 0

        def __len__(self):
            return 3

        def __getitem__(self, index):
            self.num_read += 1
            if self.num_read > 2:  # Keras and the library look at the first batch
                raise OSError("the disk is gone")
            return images[:8]

    for call in (
        lambda: model.predict(images[:0], verbose=0),
        lambda: model.predict(images, batch_size=-1, verbose=0),
        lambda: model.fit(images, batch_size=8, verbose=0, callbacks=[Interrupt()]),
        lambda: model.fit(Broken(), verbose=0, shuffle=False),
        lambda: model.evaluate(images[:0], verbose=0),
    ):
        with pytest.raises((ValueError, KeyboardInterrupt, ZeroDivisionError, OSError)):
            call()
        for value, expected in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(value, expected)
    model.train_function = None
    model.fit(images, batch_size=8, verbose=0)
    assert all(np.isfinite(value).all() for value in model.get_weights())


class Interrupt(keras.callbacks.Callback):
    """Ctrl-C between the moment when Keras takes the values out and the end of the first step."""

    def on_train_begin(self, logs=None):
        def interrupt(*args):
            raise KeyboardInterrupt

        self.model.train_function = interrupt
