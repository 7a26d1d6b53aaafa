"""Learn to control a plotter from pictures, with a frozen encoder that was pre-trained on pictures alone.

    python examples/frozen_features.py                              # one seed: two to three minutes on a core
    python examples/frozen_features.py --seeds 0 1 2                # means and deviations
    python examples/frozen_features.py --pooling cls --steps 3000     # a longer pre-training

After "Masked Visual Pre-training for Motor Control" (MVP): an encoder is pre-trained as an MAE and never changed again.
A linear map of its feature goes with the state of the machine into a small network that gives the action.

The task: a hand that moves in the plane must get to the red disc, among discs of other colours. It knows its own place;
where the disc is is only shown, in 32x32 pixels. A control law that knows the disc gives demonstrations, and the policy
learns to do the same (behaviour cloning). Then it controls the hand alone, for as many steps, in scenes that it hasn't
seen. All rows have the same demonstrations, head and training, and differ in what they see: features of the pre-trained
encoder, of one with random weights, or the pixels. "blind" sees the hand's place alone.
KERAS_BACKEND=jax (the default here), tensorflow or torch chooses the engine.
"""

import argparse
import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import keras_umd
from keras_umd import data, methods, recipes

SIZE = 32
REACH = 0.8  # of places along each axis; the picture shows -1 to 1
LARGEST_STEP = 0.2
TOUCHES = 0.15  # as near as this: a disc's radius is 0.2
STEPS = 20  # of an episode
RECORDED = 4  # one step of so many is in a demonstration
OTHERS = 2  # discs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--frames", type=int, default=6400, help="to pre-train on, without actions")
    parser.add_argument("--steps", type=int, default=800, help="of pre-training")
    parser.add_argument("--demonstrations", type=int, default=1000, help=f"episodes, {STEPS // RECORDED} images each")
    parser.add_argument("--epochs", type=int, default=20, help="of behaviour cloning")
    parser.add_argument("--episodes", type=int, default=200, help="to test the policy")
    parser.add_argument("--pooling", default="cls+mean", choices=("cls", "mean", "cls+mean"))
    parser.add_argument("--batch-size", type=int, default=64)
    args = parser.parse_args()

    rows = {}
    for seed in args.seeds:
        for name, row in compare(args, seed).items():
            rows.setdefault(name, []).append(row)
    print("| sees | reaches the disc | distance at the end | error of actions on unseen demonstrations |")
    print("| --- | --- | --- | --- |")
    for name, found in rows.items():
        print(f"| {name} | {' | '.join(cell(values) for values in zip(*found, strict=True))} |")


def compare(args, seed):
    """Success, distance and error of each policy, for one seed."""
    rng = np.random.default_rng(seed)
    scenes = Scenes.drawn(rng, args.frames)
    model = pretrained(args, draw(scenes), seed)
    demonstrations, unseen = (demonstrate(Scenes.drawn(rng, count)) for count in (args.demonstrations, 100))
    tests = Scenes.drawn(rng, args.episodes)
    keras.utils.set_random_seed(seed)
    fresh = model.from_config(model.get_config())
    pixels = keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()])
    blind = keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Lambda(lambda x: 0.0 * x[:, 0, 0, :1])])
    encoders = {
        "frozen MAE": model.feature_extractor(pooling=args.pooling),
        "frozen, random weights": fresh.feature_extractor(pooling=args.pooling),
        "pixels": pixels,
        "blind": blind,
    }
    rows = {"the control law": (*outcome(tests.after(law)), 0.0)}
    for name, encoder in encoders.items():
        keras.utils.set_random_seed(seed)
        head, error = cloned(args, encoder, demonstrations, unseen)

        def act(scenes, encoder=encoder, head=head):
            features = encoder.predict_on_batch(draw(scenes))
            return LARGEST_STEP * head.predict_on_batch([features, scenes.state()])

        rows[name] = (*outcome(tests.after(act)), error)
        print(f"seed {seed}, {name}: {', '.join(f'{value:.3f}' for value in rows[name])}", flush=True)
    return rows


# The network


def pretrained(args, frames, seed):
    """An MAE of the frames."""
    keras.utils.set_random_seed(seed)
    sizes = {"patch_size": 4, "hidden_dim": 64, "num_layers": 3, "decoder_layers": 1, "num_heads": 4}
    model = keras_umd.UMD((SIZE, SIZE, 3), **sizes, **methods.mae(), seed=seed)
    model.compile(recipes.pretraining_optimizer(args.steps, args.batch_size, base_learning_rate=8e-3))
    batches = data.on_device(frames, batch_size=args.batch_size, area_range=(1.0, 1.0), flip=False, seed=seed)
    history = model.fit(batches.repeat(), steps_per_epoch=args.steps, shuffle=False, verbose=0).history
    print(f"seed {seed}, pre-training: error of masked pixels {history['loss'][-1]:.4f} in the mean of its steps")
    return model


def cloned(args, encoder, demonstrations, unseen):
    """A head that does what was demonstrated, and its error where it wasn't; the encoder never changes.

    Features are computed once. `keras.Model([images, state], head([encoder(images), state]))` is the policy as one
    model, to save or export.
    """
    (train, state, actions), (test, *of_test) = (
        (encoder.predict(images, batch_size=500, verbose=0), state, actions / LARGEST_STEP)
        for images, state, actions in (demonstrations, unseen)
    )
    inputs = keras.Input(train.shape[1:]), keras.Input(state.shape[1:])
    # Not by deviations alone: a pixel that hardly ever changes would count more than all others when it does.
    deviation = train.std(axis=0)
    standardized = keras.layers.Normalization(
        mean=train.mean(axis=0), variance=(deviation + 0.1 * deviation.mean()) ** 2 + 1e-8
    )
    x = keras.layers.Concatenate()([keras.layers.Dense(64)(standardized(inputs[0])), inputs[1]])
    for _ in range(2):
        x = keras.layers.Dense(128, activation="relu")(x)
    head = keras.Model(inputs, keras.layers.Dense(2)(x))
    steps = args.epochs * -(-len(actions) // args.batch_size)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    head.compile(keras.optimizers.AdamW(rate, weight_decay=1e-2), "mse")
    head.fit([train, state], actions, batch_size=args.batch_size, epochs=args.epochs, verbose=0)
    return head, head.evaluate([test, of_test[0]], of_test[1], verbose=0)


# The task


class Scenes:
    """Hands and discs, one of each a row.

    Args:
        hand: Float array `(n, 2)`, places.
        discs: Float array `(n, 1 + OTHERS, 2)`, the red one and others.
        colors: Float array `(n, 1 + OTHERS, 3)`, of the discs, in [0, 1].
    """

    def __init__(self, hand, discs, colors):
        self.hand, self.discs, self.colors = hand, discs, colors

    @classmethod
    def drawn(cls, rng, count):
        colors = rng.uniform(0, 1, (count, 1 + OTHERS, 3)) * (0.5, 1, 1)  # of no other as much red
        colors[:, 0] = (1, 0.1, 0.1)
        places = rng.uniform(-REACH, REACH, (count, 2 + OTHERS, 2))
        return cls(places[:, 0], places[:, 1:], colors)

    def state(self):
        return self.hand.astype("float32")

    def moved(self, actions):
        return Scenes(self.hand + np.clip(actions, -LARGEST_STEP, LARGEST_STEP), self.discs, self.colors)

    def after(self, act):
        """The scenes at the end of an episode in which `act` gives the actions."""
        scenes = self
        for _ in range(STEPS):
            scenes = scenes.moved(act(scenes))
        return scenes


def law(scenes):
    """The control law: half of the way to the disc. It knows where the disc is."""
    return np.clip(0.5 * (scenes.discs[:, 0] - scenes.hand), -LARGEST_STEP, LARGEST_STEP)


def demonstrate(scenes):
    """Images, states and actions of some steps of the control law."""
    recorded = []
    for step in range(STEPS):
        actions = law(scenes).astype("float32")
        if step % RECORDED == 0:
            recorded.append((draw(scenes), scenes.state(), actions))
        scenes = scenes.moved(actions)
    return tuple(map(np.concatenate, zip(*recorded, strict=True)))


def outcome(scenes):
    """The share of hands on the disc, and the mean distance."""
    distance = np.linalg.norm(scenes.hand - scenes.discs[:, 0], axis=1)
    return np.mean(distance < TOUCHES), np.mean(distance)


def draw(scenes):
    """uint8 images `(n, SIZE, SIZE, 3)`; edges are a pixel wide. The hand is a white plus."""
    pixel = 2 / SIZE
    axis = (np.arange(SIZE) + 0.5) * pixel - 1
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).astype("float32")  # (rows, columns, (x, y))
    images = np.full((len(scenes.hand), SIZE, SIZE, 3), 0.2, "float32")
    for number in range(OTHERS, -1, -1):  # the red one is above the others
        distance = np.linalg.norm(grid - scenes.discs[:, number, None, None], axis=-1)
        images = painted(images, (0.2 - distance) / pixel, scenes.colors[:, number, None, None])
    offset = np.sort(np.abs(grid - scenes.hand[:, None, None]), axis=-1)
    return np.round(255 * painted(images, np.minimum(0.2 - offset[..., 1], 0.06 - offset[..., 0]) / pixel, 1.0)).astype(
        "uint8"
    )


def painted(images, depth, color):
    """Images with a shape above them; `depth` says how many pixels a pixel lies within it."""
    return images + np.clip(depth + 0.5, 0, 1)[..., None].astype("float32") * (color - images)


def cell(values):
    spread = f" +- {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


if __name__ == "__main__":
    main()
