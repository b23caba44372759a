"""What every architecture has in common."""

import pytest
import torch

from seglab import models

# Preset "paper", 21 classes. Counted layer by layer from the papers.
PUBLISHED = {
    ("fcn32s", ()): 134_346_581,
    ("fcn16s", ()): 134_357_354,
    ("fcn8s", ()): 134_362_751,
    ("fcn32s", ("learnt_upsampling",)): 136_152_917,
    ("fcn16s", ("learnt_upsampling",)): 134_815_994,
    ("fcn8s", ("learnt_upsampling",)): 134_489_759,
    ("deconvnet", ()): 251_805_653,
    ("segnet", ()): 29_455_125,
    ("unet", ()): 31_038_933,
    ("pspnet", ()): 65_584_725,
    ("pspnet", ("aux",)): 65_584_725 + 2_365_205,
    ("deeplabv1", ()): 20_505_429,
    ("deeplabv2", ()): 44_048_532,
    ("deeplabv3", ()): 58_040_661,
    ("deeplabv3", ("torchvision_compatible",)): 58_630_997,
    ("deeplabv3plus", ()): 59_344_309,
    ("setr_naive", ()): 304_417_813,
    ("setr_pup", ()): 308_286_741,
    ("setr_mla", ()): 309_435_925,
}


@pytest.mark.parametrize(("variant", "parameters"), PUBLISHED.items(), ids=str)
def test_paper_preset_has_the_published_parameter_count(variant, parameters):
    name, switches = variant
    with torch.device("meta"):
        model = models.create(name, num_classes=21, **dict.fromkeys(switches, True))
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_every_name_has_a_published_count():
    assert {name for name, _ in PUBLISHED} == set(models.names())


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("size", [(64, 64), (65, 97), (96, 128)])
def test_logits_have_the_size_of_the_image(name, size):
    model = models.create(name, 5, preset="small").eval()
    with torch.no_grad():
        assert model(torch.rand(2, 3, *size)).shape == (2, 5, *size)


@pytest.mark.parametrize("name", models.names())
def test_every_parameter_gets_a_gradient(name):
    model = models.create(name, 5, preset="small")
    model(torch.rand(2, 3, 64, 64)).square().mean().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize("name", models.names())
def test_small_preset_runs_in_bfloat16_and_channels_last(name):
    model = models.create(name, 5, preset="small").to(memory_format=torch.channels_last)
    images = torch.rand(2, 3, 64, 96).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(model(images)).all()


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("shape", [(3, 96, 96), (1, 1, 96, 96), (1, 3, 63, 96)])
def test_wrong_shape_is_named(name, shape):
    model = models.create(name, 5, preset="small")
    with pytest.raises(ValueError, match=rf"got shape \({', '.join(map(str, shape))}\)"):
        model(torch.rand(shape))


def test_bytes_are_not_images():
    with pytest.raises(TypeError, match="uint8"):
        models.create("fcn32s", 5, preset="small")(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


def test_unknown_name_lists_the_names_that_exist():
    with pytest.raises(ValueError, match="no model is called 'fcn4s'; there are fcn32s"):
        models.create("fcn4s")


def test_unknown_preset_and_option_list_what_exists():
    with pytest.raises(ValueError, match="'huge'; there are paper, small"):
        models.create("fcn8s", preset="huge")
    with pytest.raises(TypeError, match=r"has no option 'padding'; it has .*learnt_upsampling"):
        models.create("fcn8s", padding="valid")


@pytest.mark.parametrize("classes", [0, -1, 2.5, "21"])
def test_impossible_number_of_classes_is_named(classes):
    with pytest.raises(ValueError, match="num_classes is"):
        models.create("fcn8s", classes)


def test_pretrained_weights_without_a_network_say_which_file_belongs_where(monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(RuntimeError, match=rf"vgg16-397923af\.pth.*{tmp_path}"):
        models.create("fcn8s", pretrained=True)


def test_pretrained_weights_are_loaded_and_images_normalized(monkeypatch):
    import torchvision

    vgg16 = torchvision.models.vgg16()
    monkeypatch.setattr("seglab.models.fcn.imagenet", lambda name: vgg16)
    model = models.create("fcn32s", 21, pretrained=True)
    assert torch.equal(model.encoder.blocks[0][0].weight, vgg16.features[0].weight)
    gray = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    assert model.normalize(gray).abs().max() < 1e-6


def test_pretrained_small_preset_is_refused():
    with pytest.raises(ValueError, match="preset 'paper' only"):
        models.create("fcn8s", preset="small", pretrained=True)


def test_spec_builds_the_same_network_again():
    model = models.create("fcn8s", 7, preset="small", learnt_upsampling=True)
    spec = dict(model.spec)
    again = models.create(
        spec["name"], spec["num_classes"], preset=spec["preset"], **spec["options"]
    )
    again.load_state_dict(model.state_dict())
