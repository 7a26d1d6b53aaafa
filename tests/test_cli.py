"""The command line: options as in Python, files of TOML, errors in one line; and one run from a folder to scores."""

import dataclasses
import functools
import html.parser
import importlib
import inspect
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tomllib

import keras
import numpy as np
import pytest

import keras_umd
from keras_umd.commands import choices
from keras_umd.plots import save_image
from keras_umd.training.report import write_report
from keras_umd_cli import config, main, program, quiet
from keras_umd_cli.options import UsageError
from keras_umd_cli.tables import COMMANDS

ROOT = pathlib.Path(__file__).parents[1]
# What no Python function has by this name: what a command adds.
OWN = {"images", "model", "reference", "network", "test", "probes", "k", "box", "directory", "num_images", "labels"}
OWN |= {"steps", "epochs", "steps_per_epoch", "monitor", "tensorboard", "preset", "method", "dtype", "image_size"}
# Another default than Python's: the crops with which the paper fine-tunes.
OTHERWISE = {("finetune", "area_range")}


@pytest.mark.host
def test_help_imports_no_backend():
    """It is answered at once, and the backend is chosen later."""
    code = (
        "import sys; from keras_umd_cli.program import make_parser; make_parser().format_help();"
        "assert not {'keras', 'numpy', 'keras_umd'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.host
def test_every_command_has_a_place_in_the_documentation():
    text = (ROOT / "docs" / "command_line.md").read_text()
    assert all(f"`keras-umd {name} " in text for name in (*COMMANDS, "runs"))


@pytest.mark.host
def test_the_documentation_shows_arguments_that_there_are(tmp_path):
    blocks = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs" / "command_line.md").read_text(), re.DOTALL)
    lines = [line for kind, text in blocks if kind == "bash" for line in text.splitlines()]
    commands = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("keras-umd ")]
    assert len(commands) > 10
    for command in commands:
        program.make_parser().parse_args(command)
    (toml,) = (text for kind, text in blocks if kind == "toml")
    (tmp_path / "a.toml").write_text(toml)
    config.read(tmp_path / "a.toml", "pretrain", COMMANDS["pretrain"].by_name(), ("sampling",))


def parameters(path):
    """The parameters of a public function, by its dotted name in `keras_umd`."""
    return inspect.signature(functools.reduce(getattr, path.split("."), keras_umd)).parameters


@pytest.mark.host
@pytest.mark.parametrize("command", COMMANDS)
def test_names_and_defaults_are_those_of_python(command):
    """An argument that Python renames, or whose default moves, must do so here, too."""
    known = {}
    for function in COMMANDS[command].functions:
        for name, parameter in parameters(function).items():
            known.setdefault(name, set()).add(parameter.default)
    for option in COMMANDS[command].options:
        name, default = option.name, option.default
        if name not in known:
            assert name in OWN | set(parameters("UMD.generate")), name
        elif default is not None and not isinstance(default, str) and (command, name) not in OTHERWISE:
            needed = {inspect.Parameter.empty, None}  # Python has no default, and the command must
            assert default in known[name] or needed & known[name] or name in OWN, name


@pytest.mark.host
def test_toml_keeps_settings(tmp_path):
    settings = {
        "images": 'a "b" \\ ü\n\x7f\t',
        "batch_size": 10,
        "area_range": [0.8, 1.0],
        "base_learning_rate": 1e-07,
        "flip": False,
        "class_names": ["a", 'b"'],
        "sampling": {"sampler": "ddim", "num_steps": 5},
    }
    assert tomllib.loads(config.dumps({**settings, "left_out": None})) == settings
    config.write(tmp_path, "pretrain", settings)
    options = COMMANDS["pretrain"].by_name()
    assert config.read(tmp_path / "config.toml", "pretrain", options, ("sampling",)) == settings


@pytest.mark.host
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bach_size = 3", "has no setting `bach_size`; is it `batch_size`?"),
        ("batch_size = 3.5", "`batch_size` must be a int"),
        ("batch_size = true", "`batch_size` must be a int"),
        ("area_range = [0.5]", "`area_range` must be a list of 2 float"),
        ("on_error = 'pass'", "must be one of"),
        ("command = 'probe'", "is for `keras-umd probe`"),
        ("batch_size = ", "is no TOML"),
    ],
)
def test_a_wrong_file_is_named_with_its_setting(text, message, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        config.read(path, "pretrain", COMMANDS["pretrain"].by_name())
    assert message in str(error.value) and "mine.toml" in str(error.value)


@pytest.mark.host
def test_arguments_win_over_the_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('images = "photos"\nbatch_size = 3\nflip = true')
    arguments = vars(program.make_parser().parse_args(["pretrain", "--config", str(path), "--no-flip"]))
    assert program.settings_of("pretrain", arguments) == {"images": "photos", "batch_size": 3, "flip": False}


@pytest.mark.host
def test_errors_are_lines_unless_asked_otherwise(capsys):
    assert main(["pretrain"]) == 2
    assert "needs IMAGES" in capsys.readouterr().err
    assert main(["generate", "nowhere"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("keras-umd: error: A model is a .keras file") and "Traceback" not in printed
    with pytest.raises(ValueError, match="A model is"):
        main(["generate", "nowhere", "--traceback"])


@pytest.mark.host
def test_a_folder_decides_what_is_not_said(folder, monkeypatch):
    pets = choices.look_at(str(folder))
    assert (pets.num_images, pets.class_names, pets.side) == (30, ["cat", "dog", "owl"], 16)
    assert choices.look_at(str(folder), labels=False).class_names is None
    assert choices.look_at(str(folder / "cat")).class_names is None
    chosen = choices.for_pretraining(pets, {"batch_size": 7})
    assert (chosen["image_size"], chosen["patch_size"], chosen["batch_size"]) == (16, 2, 7)
    assert "image_size" not in choices.for_pretraining(pets, {"preset": "umd_tiny_patch4_32"})
    monkeypatch.setattr(choices, "has_accelerator", lambda: True)
    many = dataclasses.replace(pets, num_images=30_000, side=256)
    assert choices.for_pretraining(many, {})["preset"] == "umd_small_patch4_64"
    assert "preset" not in choices.for_pretraining(many, {"method": "mae"})
    assert choices.epochs_and_steps({"epochs": 5}, 3) == (5, 3)
    assert choices.epochs_and_steps({"steps": 500}, 3) == (5, 100)  # few images are repeated
    assert choices.epochs_and_steps({"steps": 500}, 250) == (2, 250)
    assert choices.epochs_and_steps({"steps": 30}, 103) == (1, 30)  # less than one pass over the images
    assert choices.epochs_and_steps({"steps": 150}, 103) == (1, 150)  # so many as are asked for
    assert choices.epochs_and_steps({"steps": 3000}, 103) == (29, 103)  # but whole passes where they are as many


@pytest.mark.host
def test_minutes_choose_network_and_steps(folder, monkeypatch):
    timed = []

    def time_steps(settings, batch_size):
        timed.append((settings["hidden_dim"], batch_size))
        return 10.0, 0.1  # seconds to compile, and of a step

    monkeypatch.setattr(choices.small, "time_steps", time_steps)
    pets = choices.look_at(str(folder))
    chosen = choices.for_pretraining(pets, {"minutes": 10.0})
    assert (chosen["method"], chosen["hidden_dim"], chosen["steps"]) == ("umd_x0", 128, 5800)
    # Of a network that is given, its own steps.
    chosen = choices.for_pretraining(pets, {"minutes": 10.0, "hidden_dim": 64, "num_heads": 2, "method": "mae"})
    assert (chosen["method"], chosen["hidden_dim"], chosen["num_heads"], chosen["steps"]) == ("mae", 64, 2, 5800)
    assert timed == [(128, 30), (64, 30)]
    # With steps the minutes are only a limit, as for a run that goes on.
    assert "steps" not in choices.for_pretraining(pets, {"minutes": 10.0, "steps": 7}) and len(timed) == 2
    with pytest.raises(ValueError, match="`minutes`.*Received: minutes=0"):
        choices.for_pretraining(pets, {"minutes": 0.0})
    with pytest.raises(ValueError, match="say `steps` or `epochs`"):
        choices.for_pretraining(pets, {"minutes": 1.0, "preset": "umd_tiny_patch4_32"})


@pytest.fixture
def folder(tmp_path):
    """Thirty tiny PNG files of three classes, told apart by their colour."""
    image = pytest.importorskip("matplotlib.image")
    rng = np.random.default_rng(0)
    for channel, name in enumerate(("cat", "dog", "owl")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 90, (16, 16, 3))
            pixels[..., channel] += 150
            image.imsave(tmp_path / "pets" / name / f"{i}.png", pixels.astype("uint8"))
    return tmp_path / "pets"


@pytest.mark.host
def test_a_module_is_imported_without_its_greeting(tmp_path, monkeypatch, capfd):
    """What it writes past Python, as TensorFlow does; other lines and its resources stay."""
    greeting = "I0000 port.cc:153] oneDNN custom operations are on."
    (tmp_path / "talkative.py").write_text(f"import os\nos.write(2, b'{greeting}\\nE0000 no memory\\n')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    quiet.keep_quiet("talkative")
    talkative = importlib.import_module("talkative")
    assert capfd.readouterr().err == "E0000 no memory\n"
    assert talkative.__loader__.get_data(talkative.__file__).startswith(b"import os")
    print("still written", file=sys.stderr)
    assert capfd.readouterr().err == "still written\n"


def make_run(path, loss, width, card=None):
    path.mkdir(parents=True)
    settings = {"model": {"hidden_dim": width, "module": "x"}, "optimizer": {"beta": 0.9}}
    (path / "run.json").write_text(json.dumps({"settings": settings, "state": "finished", "starts": [], "epoch": 2}))
    (path / "history.csv").write_text(f"epoch,loss\n0,1.5\n1,{loss}\n")
    if card:
        (path / "results").mkdir()
        (path / "results" / "probe.json").write_text(json.dumps([{"data": "pets", card["metric"]: card}]))


@pytest.mark.host
def test_runs_are_listed_and_compared(tmp_path, capsys):
    card = {"metric": "5-shot accuracy", "value": 0.5, "protocol": {"shots": 5}}
    make_run(tmp_path / "a", 0.25, 64, card)
    make_run(tmp_path / "more" / "b", 0.125, 96, {**card, "value": 0.75})
    root = ["--root", str(tmp_path)]

    def said(*arguments):
        assert main(["runs", *arguments, *root]) == 0
        return capsys.readouterr().out

    listed = said("ls")
    assert "0.25" in listed and "0.125" in listed and "5-shot accuracy" in listed
    assert said("best").splitlines()[1].startswith(str(tmp_path / "more" / "b"))
    assert said("best", "loss").splitlines()[1].split()[1] == "0.125"
    shown = said("show", "a")
    assert "model.hidden_dim: 64" in shown and "shots: 5" in shown and "module" not in shown
    compared = said("diff", "a", "more/b")
    assert "model.hidden_dim" in compared and "beta" not in compared
    make_run(tmp_path / "c", 1.0, 64, {**card, "protocol": {"shots": 1}})
    assert "can't be compared" in said("best", "5-shot accuracy")
    assert main(["runs", "best", "fid", *root]) == 2
    assert "There are: 5-shot accuracy, loss" in capsys.readouterr().err
    assert main(["runs", "show", "nothing", *root]) == 2


class Page(html.parser.HTMLParser):
    """Counts tags, and notes what a page would load."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loaded = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loaded += [value for name, value in attributes if name in ("src", "href")]


@pytest.mark.host
def test_a_report_of_what_is_there(tmp_path):
    """No pictures, a loss that was not finite, names that HTML must not see as tags."""
    (tmp_path / "history.csv").write_text("epoch,loss,<b>,skipped_steps\n0,nan,1,0\n1,0.5,2,0\n")
    page = write_report(tmp_path).read_text()
    assert "&lt;b&gt;" in page and "<b>" not in page and "nan" not in page and "skipped" not in page
    assert Page(page).loaded == []


@pytest.mark.host
def test_a_report_of_one_epoch_says_nothing_twice(tmp_path):
    (tmp_path / "history.csv").write_text("epoch,loss,skipped_steps\n0,0.5,3\n")
    save_image(tmp_path / "pictures" / "7.png", np.zeros((4, 4, 3), "uint8"))
    line = {"kind": "evaluation", "step": 7, "values": {}, "pictures": {"samples": "pictures/7.png"}}
    (tmp_path / "evaluations.jsonl").write_text(json.dumps(line) + "\n")
    page = write_report(tmp_path).read_text()
    assert page.count(">0.5<") == 1 and "skipped_steps 3" in page
    assert re.search(r'<input type="range"[^>]* hidden ', page)


@pytest.mark.system
@pytest.mark.docs
def test_the_report_works_in_a_browser(tmp_path):
    """The slider's program has run when the page is printed: the last picture is shown, the one before hidden."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium")
    picture = np.zeros((4, 4, 3), "uint8")
    steps = (5, 10)
    for step in steps:
        save_image(tmp_path / "pictures" / f"{step}.png", picture)
    lines = [
        {"kind": "evaluation", "step": step, "values": {"a/b": step / 10}, "pictures": {"s": f"pictures/{step}.png"}}
        for step in steps
    ]
    (tmp_path / "evaluations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = write_report(tmp_path)
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}"]
    shown = subprocess.run([*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=60).stdout
    assert "<output>step 10</output>" in shown
    assert re.search(r'<img [^>]*data-step="5"[^>]* hidden=""', shown)
    assert not re.search(r'<img [^>]*data-step="10"[^>]* hidden=""', shown)


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_from_a_folder_to_samples_and_scores(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder.parent)

    def run(line):
        assert main([*line.split(), "--traceback"]) == 0
        return capsys.readouterr().out

    small = "--hidden-dim 32 --num-heads 2 --num-layers 1 --decoder-layers 1 --batch-size 10 --image-size 8"
    assert 'class_names = ["cat", "dog", "owl"]' in run(f"pretrain pets --steps 4 {small} --dry-run")
    assert not pathlib.Path("runs").exists()
    assert "30 images in 3 classes" in run(f"pretrain pets --steps 4 {small}")
    written = tomllib.loads(pathlib.Path("runs/pets/config.toml").read_text())
    assert (written["hidden_dim"], written["epochs"], written["steps_per_epoch"]) == (32, 1, 4)
    page = Page(pathlib.Path("runs/pets/report.html").read_text())
    assert {"svg", "input", "img"} <= set(page.tags) and all(url.startswith("data:") for url in page.loaded)
    # The file of a run is enough for another, and the same command goes on with its run.
    assert "has finished" in run("pretrain --config runs/pets/config.toml --no-monitor")
    run("finetune runs/pets --epochs 1 --no-monitor")
    run("generate runs/pets-finetuned --num-images 3 --labels owl 0 --num-steps 2")
    samples = pathlib.Path("runs/pets-finetuned/samples")
    assert (samples / "labels.txt").read_text().split() == ["2", "0", "2"]
    assert (samples / "grid.png").is_file() and len(list(samples.glob("0*.png"))) == 3
    run("inpaint runs/pets-finetuned pets --box 0 0.5 1 0.5 --num-images 2 --num-steps 2")
    assert len(list(pathlib.Path("runs/pets-finetuned/inpainted").glob("0*.png"))) == 2
    assert "shots 7, not 10" in run(f"probe {pathlib.Path('runs/pets-finetuned').absolute()} pets")
    network = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.AveragePooling2D(4), keras.layers.Flatten()])
    network.save("network.keras")
    scored = "--network network.keras --num-images 8 --num-steps 2 --metrics frechet"
    assert "frechet_distance" in run(f"evaluate runs/pets-finetuned pets {scored}")
    assert "7-shot accuracy" in run("runs ls")
    assert "frechet_distance" in run("runs best frechet_distance")
    assert "decay_steps" in run("runs diff pets pets-finetuned")
    run("generate umd_digits --num-images 2 --num-steps 2")
    assert pathlib.Path("runs/umd_digits/samples/grid.png").is_file()
    assert "versions" in run("doctor runs/pets") and "GFLOP" in run("plan runs/pets --batch-size 4")
    assert "image_size = 256" in run("cache-latents pets --dry-run")
    assert main(["pretrain", "pets/cat", "--directory", "runs/pets"]) == 1
    assert "has other images: pets" in capsys.readouterr().err
    assert main(f"pretrain pets --steps 4 {small} --base-learning-rate 1e-3".split()) == 1
    assert "--resume force to go on" in capsys.readouterr().err
    assert main(["probe", "runs/pets", "pets/cat"]) == 1
    assert (
        "`images` must have a sub-folder of images for each class. Received: images='pets/cat'"
        in capsys.readouterr().err
    )


@pytest.mark.system
@pytest.mark.filterwarnings("ignore")
def test_a_method_that_generates_nothing_trains_to_its_end(folder, monkeypatch, capsys):
    """The pictures of its monitor are those that it can make; asked for samples, the first epoch was the last."""
    monkeypatch.chdir(folder.parent)
    small = "--hidden-dim 32 --num-heads 2 --num-layers 1 --decoder-layers 1 --batch-size 10 --image-size 8"
    assert main([*f"pretrain pets --method mae --steps 2 {small}".split(), "--traceback"]) == 0
    assert "Next: keras-umd probe runs/pets pets" in capsys.readouterr().out
    drawn = {path.name.split("_")[0] for path in pathlib.Path("runs/pets/pictures").iterdir()}
    assert drawn and not any("samples" in name for name in drawn)
