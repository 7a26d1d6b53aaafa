"""Where data meet data, and where they meet a model: classes with other indices, hints, rows of `predict`."""

import keras
import numpy as np
import pytest

import keras_umd
from keras_umd import data, evaluation
from keras_umd.utils.class_names import check_same_classes
from tests.conftest import PLAIN, QUICK
from tests.data.conftest import LOADERS, encoded, photo

COLORS = {"ant": (200, 9, 9), "bee": (9, 200, 9), "cow": (9, 9, 200)}


@pytest.fixture
def read(make_folder):
    """Reads a folder that has these classes, of four images each."""

    def read(names, labels=True, **options):
        files = {
            f"{name}/{i}.png": encoded(np.full((16, 16, 3), COLORS[name], "uint8"), "PNG")
            for name in names
            for i in range(4)
        }
        folder = make_folder(files, "-".join(names))
        return data.from_folder(
            folder, image_size=16, batch_size=4, training=False, labels=labels, loader="python", **options
        )

    return read


@pytest.fixture
def pixels():
    return keras.Sequential(
        [keras.Input((16, 16, 3), dtype="uint8"), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    )


PROBES = [evaluation.FewShotProbe(shots=4), evaluation.KNNProbe(k=3)]


def small_model(**options):
    arguments = {"image_shape": (16, 16, 3), "patch_size": 4, "hidden_dim": 96, "num_layers": 1, "num_heads": 2}
    return keras_umd.UMD(**{**arguments, "decoder_layers": 1, **options})


@pytest.mark.host
def test_a_test_set_that_lacks_a_class_is_an_error_that_names_it(read, pixels):
    train, test = read(["ant", "bee", "cow"]), read(["bee", "cow"])
    message = r"class_names=train.class_names. Received: 3 and 2 classes: test lacks \['ant'\]"
    with pytest.raises(ValueError, match=message):
        evaluation.evaluate_features(pixels, {"no ant": (train, test)}, PROBES, verbose=False)
    with pytest.raises(ValueError, match=message):
        evaluation.fine_tune(pixels, (train, test), epochs=1, verbose=False)
    with pytest.raises(ValueError, match=message):
        evaluation.sweep_features(small_model(), (train, test), PROBES, layers=[1], timesteps=(0,), verbose=False)
    with pytest.raises(ValueError, match=message):
        evaluation.TrackProbe((train, test), PROBES)(small_model())
    remedied = read(["bee", "cow"], class_names=train.class_names)
    assert remedied.class_names == ["ant", "bee", "cow"]
    for pair in ((train, read(["ant", "bee", "cow"])), (train, remedied)):
        (row,) = evaluation.evaluate_features(pixels, pair, PROBES, verbose=False)
        assert all(result.value == 1.0 for result in row.values())


def test_validation_data_that_lack_a_class_are_an_error(read):
    model = small_model(num_classes=3)
    model.compile("adamw")
    with pytest.raises(ValueError, match=r"validation_data=?.*x.class_names.*validation_data lacks \['bee'\]"):
        model.fit(read(["ant", "bee", "cow"]), validation_data=read(["ant", "cow"]), verbose=0)


class Named:
    def __init__(self, names):
        self.class_names = names


@pytest.mark.host
@pytest.mark.parametrize(
    "train, test, message",
    [
        (["a", "b", "c"], ["a", "c"], r"3 and 2 classes: test lacks \['b'\]"),
        (["a", "b"], ["a", "b", "c"], r"train lacks \['c'\]"),
        (["a", "b"], ["b", "a"], "the same in another order"),
        (["a", "b"], ["c", "d"], r"test lacks \['a', 'b'\]; train lacks \['c', 'd'\]"),
        ([str(i) for i in range(1, 10)], [str(i) for i in range(2, 10)], r"test lacks \['1'\]"),
        ([f"n{i}" for i in range(1000)], ["n999"], r"'n4'\] and 994 more"),
    ],
)
def test_classes_that_have_other_indices_are_named(train, test, message):
    with pytest.raises(ValueError, match=message):
        check_same_classes(Named(train), Named(test))


@pytest.mark.host
@pytest.mark.parametrize(
    "train, test",
    [
        (["a", "b"], ["a", "b"]),
        (["a", "b", "c"], ["a", "b"]),  # no index is another
        (list("0123"), list("01")),
        (["cat", "dog"], list("01")),
        (list("01"), ["cat", "dog"]),
        (None, ["a"]),
        (["a"], None),
    ],
)
def test_classes_that_have_the_same_indices_agree(train, test):
    check_same_classes(Named(train), Named(test))
    check_same_classes(object(), Named(test))


@pytest.mark.host
@pytest.mark.parametrize("loader", LOADERS)
def test_classes_can_be_chosen(loader, make_folder):
    files = {f"{name}/{i}.png": encoded(photo(), "PNG") for name in "abc" for i in range(2)}
    options = {"image_size": 16, "batch_size": 2, "training": False, "loader": loader}
    folder = make_folder(files)
    with pytest.warns(UserWarning, match="1 sub-folders are none of the `class_names`; they are left out: b"):
        chosen = data.from_folder(folder, class_names=["c", "none", "a"], **options)
    assert chosen.class_names == ["c", "none", "a"] and chosen.num_images == 4
    assert np.concatenate([labels for _, labels in chosen]).tolist() == [0, 0, 2, 2]
    with pytest.raises(ValueError, match="state is of another data set"), pytest.warns(UserWarning):
        chosen.set_state(data.from_folder(folder, class_names=["a", "none", "c"], **options).get_state())
    for wrong in (["a", "a"], [], "abc", [1, 2]):
        with pytest.raises(ValueError, match="`class_names` must be a list of strings, each once"):
            data.from_folder(folder, class_names=wrong, **options)
    with pytest.raises(ValueError, match="Without labels, there are no `class_names`"):
        data.from_folder(folder, class_names=["a"], labels=False, **options)


OTHERS = [(4, 5, 6, 7), (0, 1, 2, 3), (4, 5, 6, 7, 8, 9), (1, 6)]


@pytest.mark.parametrize("bad", [(0, 1, 2, 3, 8, 9), *(pytest.param(bad, marks=pytest.mark.host) for bad in OTHERS)])
@pytest.mark.filterwarnings("ignore:.*images can't be used")
def test_predict_has_a_row_for_each_good_image_and_no_other(bad, make_folder):
    files = {f"{i}.jpg": b"bad" if i in bad else encoded(photo(seed=i)) for i in range(10)}
    options = {"image_size": 16, "batch_size": 4, "training": False, "labels": False, "max_bad_share": 0.9}
    test = data.from_folder(make_folder(files), loader="python", **options)
    images = np.concatenate(list(test))
    assert len(images) == 10 - len(bad)
    model = keras.Sequential([keras.Input((16, 16, 3), dtype="uint8"), keras.layers.Rescaling(1 / 255)])
    for _ in range(2):
        np.testing.assert_allclose(model.predict(test, verbose=0), images / 255, atol=1e-6)
    features = small_model().feature_extractor()
    np.testing.assert_allclose(features.predict(test, verbose=0), features.predict(images, verbose=0), atol=1e-4)


@pytest.mark.host
@pytest.mark.filterwarnings("ignore:.*images can't be used")
def test_a_training_on_few_good_images_repeats_them(make_folder):
    files = {f"{i}.jpg": b"bad" if i in (4, 5, 6, 7) else encoded(photo(seed=i)) for i in range(8)}
    options = {"image_size": 16, "batch_size": 4, "shuffle": False, "labels": False, "max_bad_share": 0.9}
    train = data.from_folder(make_folder(files), loader="python", **options)
    train.on_epoch_begin()
    np.testing.assert_array_equal(train[0], train[1])


# Hints


def test_floats_that_were_scaled_to_0_and_1_get_a_hint():
    model = small_model(**PLAIN)
    model.compile("adamw", **QUICK)
    images = np.random.default_rng(0).uniform(0, 1, (4, 16, 16, 3)).astype("float32")
    with pytest.warns(UserWarning, match=r"looks like a scaling to \[0, 1\], while the .*\(-1.0, 1.0\)"):
        model.fit(images, batch_size=4, verbose=0)


@pytest.mark.host
def test_a_value_range_that_noise_does_not_fit_gets_a_hint():
    images = np.zeros((4, 16, 16, 3), "uint8")
    for value_range in ((0, 255), (0, 3)):
        model = small_model(value_range=value_range)
        model.compile("adamw")
        with pytest.warns(UserWarning, match=rf"value_range=\({value_range[0]}, {value_range[1]}\): the noise"):
            model.fit(images, batch_size=4, verbose=0)


@pytest.mark.slow
def test_a_schedule_that_has_ended_gets_a_hint():
    images = np.zeros((4, 16, 16, 3), "uint8")
    model = small_model(**PLAIN)
    schedule = keras.optimizers.schedules.CosineDecay(0.0, 1, warmup_target=1e-3, warmup_steps=1)
    model.compile(keras.optimizers.AdamW(schedule), **QUICK)
    model.fit(images, batch_size=2, verbose=0)
    with pytest.warns(UserWarning, match="learning rate is 0 after 2 steps: its schedule has ended"):
        model.fit(images, batch_size=2, verbose=0)


@pytest.mark.host
def test_what_is_as_it_should_be_gets_no_hint(recwarn):
    rng = np.random.default_rng(0)
    model = small_model()
    schedule = keras.optimizers.schedules.CosineDecay(0.0, 100, warmup_target=1e-3, warmup_steps=10)
    model.compile(keras.optimizers.AdamW(schedule))
    model.fit(rng.uniform(-1, 1, (4, 16, 16, 3)).astype("float32"), batch_size=4, verbose=0)
    model.fit(rng.integers(0, 255, (4, 16, 16, 3)).astype("uint8"), batch_size=4, verbose=0)
    unit = small_model(value_range=(0, 1))
    unit.compile("adamw")
    unit.fit(rng.uniform(0, 1, (4, 16, 16, 3)).astype("float32"), batch_size=4, verbose=0)
    texts = [str(warning.message) for warning in recwarn.list]
    assert not [text for text in texts if "scaling to" in text or "schedule" in text]


def test_batches_that_are_dictionaries_get_a_hint():
    tf = pytest.importorskip("tensorflow")
    model = small_model()
    model.compile("adamw")
    features = {"image": np.zeros((4, 16, 16, 3), "uint8"), "id": np.array([b"a", b"b", b"c", b"d"])}
    with pytest.raises(ValueError, match=r"as_supervised=True, or .*dictionaries of \['image', 'id'\]"):
        model.fit(tf.data.Dataset.from_tensor_slices(features).batch(2))
    with pytest.raises(ValueError, match=r"dictionaries of \['image', 'id'\]"):
        model.fit(batch for batch in [features])
