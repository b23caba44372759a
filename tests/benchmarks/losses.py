"""Time the losses beside smp's and MONAI's: python -m tests.benchmarks.losses (needs both).

8 x 21 x 256 x 256 logits, forward and backward; the best of several runs, taken in turns.
"""

import time

import monai.losses
import segmentation_models_pytorch.losses as smp
import torch

from seglab import losses


def seconds(loss, logits, target):
    logits = logits.detach().requires_grad_()
    started = time.process_time()
    loss(logits, target).backward()
    return time.process_time() - started


def main():
    """Print the processor time of each loss in milliseconds, the best of five runs."""
    torch.manual_seed(0)
    logits, target = torch.randn(8, 21, 256, 256), torch.randint(0, 21, (8, 256, 256))

    def monai_loss(kind, **options):
        loss = kind(to_onehot_y=True, **options)
        return lambda x, t: loss(x, t[:, None])

    rivals = {
        "focal": {
            "ours": losses.focal,
            "smp": smp.FocalLoss("multiclass"),
            "MONAI": monai_loss(monai.losses.FocalLoss, use_softmax=True),
        },
        "dice": {
            "ours": losses.dice,
            "smp": smp.DiceLoss("multiclass"),
            "MONAI": monai_loss(monai.losses.DiceLoss, softmax=True, batch=True),
        },
        "tversky": {
            "ours": losses.tversky,
            "smp": smp.TverskyLoss("multiclass"),
            "MONAI": monai_loss(monai.losses.TverskyLoss, softmax=True, batch=True),
        },
        "cross_entropy": {
            "ours": losses.cross_entropy,
            "smp": smp.SoftCrossEntropyLoss(smooth_factor=0.0),
        },
    }
    for name, functions in rivals.items():
        best = dict.fromkeys(functions, float("inf"))
        for _ in range(5):
            for whose, function in functions.items():
                best[whose] = min(best[whose], seconds(function, logits, target))
        print(f"{name:14}" + "".join(f"{k:>8} {1000 * v:6.0f} ms" for k, v in best.items()))


if __name__ == "__main__":
    main()
