"""SETR and the vision transformer under it."""

import copy

import pytest
import torch
import torchvision
from torch import nn

from seglab import models
from seglab.models import backbones
from seglab.models.backbones import SelfAttention, TransformerBlock, ViT
from seglab.models.setr import SETR

VARIANTS = ["setr_naive", "setr_pup", "setr_mla"]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("setr_naive", 305_728_019), ("setr_pup", 309_596_947), ("setr_mla", 310_737_427)],
)
def test_parameters_at_768_with_19_classes_are_those_of_the_authors_code(name, parameters):
    with torch.device("meta"):
        model = models.create(name, 19, image_size=768)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_encoder_has_the_published_parameters():
    with torch.device("meta"):
        assert sum(p.numel() for p in ViT(512).parameters()) == 304_147_456


def test_attention_is_torchs_multi_head_attention():
    torch.manual_seed(0)
    ours, theirs = SelfAttention(32, 4), nn.MultiheadAttention(32, 4, batch_first=True)
    ours.qkv.load_state_dict({"weight": theirs.in_proj_weight, "bias": theirs.in_proj_bias})
    ours.project.load_state_dict(theirs.out_proj.state_dict())
    tokens = torch.randn(2, 9, 32)
    expected, _ = theirs(tokens, tokens, tokens)
    torch.testing.assert_close(ours(tokens), expected)


@pytest.mark.parametrize("autocast", [True, False])
def test_attention_in_bfloat16_is_that_in_float32_up_to_rounding(autocast):
    torch.manual_seed(0)
    attention, tokens = SelfAttention(32, 4), torch.randn(2, 9, 32)
    gradients, outputs = [], []
    for dtype in (torch.float32, torch.bfloat16):
        layer = copy.deepcopy(attention)
        given = tokens.clone().requires_grad_()
        if autocast:
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                output = layer(given)
        else:
            output = layer.to(dtype)(given.to(dtype))
        assert output.dtype == dtype
        output.float().square().sum().backward()
        gradients.append(given.grad)
        outputs.append(output.float())
    torch.testing.assert_close(*outputs, atol=1e-2, rtol=2e-2)
    torch.testing.assert_close(*gradients, atol=3e-2, rtol=3e-2)


@pytest.fixture(scope="module")
def torchvisions():
    torch.manual_seed(0)
    vit = torchvision.models.VisionTransformer(64, 16, 3, 4, 48, 96).eval()
    for parameter in vit.parameters():  # no zeros and ones that would hide a mistake
        nn.init.normal_(parameter, std=0.05)
    return vit


def test_encoder_gives_torchvisions_features_with_its_weights(torchvisions):
    ours = ViT(64, patch=16, width=48, depth=3, heads=4, hidden=96).eval()
    backbones.copy_vit(torchvisions, ours)
    seen = []
    hook = torchvisions.encoder.layers.register_forward_hook(lambda *a: seen.append(a[2]))
    images = torch.rand(2, 3, 64, 64)
    torchvisions(images)
    hook.remove()
    torch.testing.assert_close(ours(images)[-1], seen[0][:, 1:], atol=1e-4, rtol=1e-4)


def test_positions_are_interpolated_to_the_size_of_the_encoder(torchvisions):
    """Torchvision interpolates its own tables too; the class token's entry stays."""
    ours = ViT((96, 96), patch=16, width=48, depth=3, heads=4, hidden=96)
    backbones.copy_vit(torchvisions, ours)
    state = torchvision.models.vision_transformer.interpolate_embeddings(
        96, 16, torchvisions.state_dict(), interpolation_mode="bicubic"
    )
    theirs = state["encoder.pos_embedding"]
    torch.testing.assert_close(ours.positions[:, :1], theirs[:, :1])
    # torchvision aligns the corners of the tables; inside, both agree up to that shift
    assert (ours.positions - theirs).abs().mean() < 0.5 * theirs.abs().mean()


def test_own_size_uses_the_table_as_it_is():
    encoder = ViT((64, 96), patch=16, width=32, depth=1, heads=2, hidden=32)
    assert encoder.grid == (4, 6)
    assert encoder.positions_for((4, 6)) is encoder.positions
    assert encoder.positions_for((5, 7)).shape == (1, 36, 32)


def test_interpolated_positions_keep_a_linear_table_linear():
    """A table that grows from left to right still grows from left to right, not downwards."""
    encoder = ViT((64, 96), patch=8, width=2, depth=1, heads=1, hidden=2)
    ramp = torch.arange(12.0).expand(8, 12).reshape(1, 96, 1)
    with torch.no_grad():
        encoder.positions[:, 1:] = ramp
    table = encoder.positions_for((16, 24))[:, 1:, 0].view(16, 24)
    torch.testing.assert_close(table, table[:1].expand(16, -1), atol=1e-5, rtol=0)
    assert (table[0].diff() > 0).all()


def test_without_positions_patches_are_a_set():
    """Permute the tokens and the answers are permuted: attention knows no order."""
    torch.manual_seed(0)
    block = TransformerBlock(32, 4, 64)
    tokens, order = torch.randn(2, 10, 32), torch.randperm(10)
    torch.testing.assert_close(block(tokens[:, order]), block(tokens)[:, order])


def test_one_layer_sees_the_whole_image():
    model = models.create("setr_naive", 3, preset="small", depth=1).eval()
    image = torch.rand(1, 3, 128, 128, requires_grad=True)
    model.score_map(image)[0, :, 0, 0].sum().backward()
    assert image.grad[..., -8:, -8:].abs().sum() > 0


@pytest.mark.parametrize(("name", "factor"), [("setr_naive", 1), ("setr_pup", 8), ("setr_mla", 4)])
def test_decoders_enlarge_as_far_as_the_paper_says(name, factor):
    model = models.create(name, 5, preset="small").eval()
    assert model.score_map(torch.rand(1, 3, 64, 96)).shape == (1, 5, 8 * factor, 12 * factor)


def test_mla_reads_the_layers_of_the_paper():
    with torch.device("meta"):
        model = models.create("setr_mla")
    assert [level + 1 for level in model.decoder.levels] == [6, 12, 18, 24]


@pytest.mark.parametrize("name", VARIANTS)
def test_padding_to_whole_patches_is_cut_off_without_moving_the_image(name):
    """A black strip at the bottom, given or added by padding: the same answer above it."""
    torch.manual_seed(0)
    model = models.create(name, 5, preset="small").eval()
    image = torch.rand(1, 3, 96, 96)
    image[..., 92:, :] = 0
    with torch.no_grad():
        whole, cut = model(image), model(image[..., :92, :])
    assert cut.shape == (1, 5, 92, 96)
    torch.testing.assert_close(cut, whole[..., :92, :], atol=1e-5, rtol=1e-5)


def test_pretrained_encoder_is_loaded(monkeypatch):
    vit = torchvision.models.VisionTransformer(224, 16, 1, 12, 768, 3072)
    monkeypatch.setattr(backbones, "imagenet", lambda name: vit if name == "vit_b_16" else None)
    size = {"width": 768, "depth": 1, "heads": 12, "mlp": 3072, "image_size": 224}
    model = models.create("setr_naive", pretrained=True, **size)
    assert torch.equal(model.encoder.embed.weight, vit.conv_proj.weight)
    assert torch.equal(model.encoder.positions, vit.encoder.pos_embedding)
    assert isinstance(model.normalize, models.blocks.ImageNetNormalize)
    with pytest.raises(ValueError, match="1 blocks do not fill the 2 here"):
        models.create("setr_naive", pretrained=True, **{**size, "depth": 2})


def test_impossible_sizes_are_named():
    for options, words in [
        ({"patch": 12}, "patch is 12; expected a power of 2"),
        ({"image_size": 100}, "image_size is 100; expected multiples of the patch, 16"),
        ({"width": 100, "heads": 3}, "100 channels cannot be shared by 3 heads"),
        ({"decoder": "mla", "depth": 6}, "depth is 6; the four levels need a multiple of 4"),
        ({"decoder": "unet"}, "'unet'; expected 'naive', 'pup' or 'mla'"),
    ]:
        with pytest.raises(ValueError, match=words), torch.device("meta"):
            SETR(5, **options)
    with pytest.raises(ValueError, match="no ImageNet weights for width 128 and patch 8"):
        models.create("setr_pup", preset="small").load_pretrained()
