"""The architectures of the lecture, by name."""

import inspect
from typing import Any

from torch import nn

from seglab.models.deconvnet import DeconvNet
from seglab.models.deeplab_v1 import DeepLabV1
from seglab.models.deeplab_v2 import DeepLabV2
from seglab.models.deeplab_v3 import DeepLabV3
from seglab.models.deeplab_v3plus import DeepLabV3Plus
from seglab.models.fcn import FCN
from seglab.models.pspnet import PSPNet
from seglab.models.segnet import SegNet
from seglab.models.setr import SETR
from seglab.models.unet import UNet

# name -> (class, what makes it this variant)
_ARCHITECTURES: dict[str, tuple[Any, dict]] = {
    "fcn32s": (FCN, {"stride": 32}),
    "fcn16s": (FCN, {"stride": 16}),
    "fcn8s": (FCN, {"stride": 8}),
    "deconvnet": (DeconvNet, {}),
    "segnet": (SegNet, {}),
    "unet": (UNet, {}),
    "pspnet": (PSPNet, {}),
    "deeplabv1": (DeepLabV1, {}),
    "deeplabv2": (DeepLabV2, {}),
    "deeplabv3": (DeepLabV3, {}),
    "deeplabv3plus": (DeepLabV3Plus, {}),
    "setr_naive": (SETR, {"decoder": "naive"}),
    "setr_pup": (SETR, {"decoder": "pup"}),
    "setr_mla": (SETR, {"decoder": "mla"}),
}

PRESETS = ("paper", "small")


def names() -> list[str]:
    """Return the names that ``create`` knows, in the order of the book."""
    return list(_ARCHITECTURES)


def create(
    name: str,
    num_classes: int = 21,
    *,
    preset: str = "paper",
    pretrained: bool = False,
    **options,
) -> nn.Module:
    """Build a network: images (N, 3, H, W) in [0, 1] -> logits (N, K, H, W).

    Parameters
    ----------
    name : str
        One of ``names()``.
    num_classes : int
        Channels of the logits, K. One channel means binary: foreground where the logit is
        above 0.
    preset : {"paper", "small"}
        The published architecture, or the same one narrower and shallower for a laptop.
    pretrained : bool
        Load ImageNet weights into the encoder (downloaded on first use; preset "paper" only).
    **options
        Arguments of the class, for example ``learnt_upsampling=True``.

    Raises
    ------
    ValueError
        If the name, the preset or the number of classes is impossible.
    TypeError
        If the architecture does not know an option.
    """
    if name not in _ARCHITECTURES:
        raise ValueError(f"no model is called {name!r}; there are {', '.join(names())}")
    if preset not in PRESETS:
        raise ValueError(f"no preset is called {preset!r}; there are {', '.join(PRESETS)}")
    if not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes is {num_classes!r}; expected a whole number from 1")
    if pretrained and preset != "paper":
        raise ValueError(f"ImageNet weights fit preset 'paper' only, not {preset!r}")
    architecture, variant = _ARCHITECTURES[name]
    known = [p for p in inspect.signature(architecture).parameters if p != "num_classes"]
    allowed = [option for option in known if option not in variant]
    for option in options:
        if option not in allowed:
            raise TypeError(f"{name} has no option {option!r}; it has {', '.join(allowed)}")
    if pretrained:
        options["normalize"] = True
    model = architecture(num_classes, **{**architecture.presets[preset], **variant, **options})
    # What it takes to build the same network again; checkpoints carry it.
    model.spec = {
        "name": name,
        "num_classes": num_classes,
        "preset": preset,
        "options": options,
    }
    if pretrained:
        model.load_pretrained()
    return model
