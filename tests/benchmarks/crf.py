"""Time the dense CRF beside pydensecrf2: python -m tests.benchmarks.crf (needs pydensecrf2)."""

import resource
import time

import numpy as np
import pydensecrf.densecrf as dcrf
import torch

from seglab import crf
from tests.test_crf import picture


def theirs(levels, p):
    classes, height, width = p.shape
    other = dcrf.DenseCRF2D(width, height, classes)
    other.setUnaryEnergy(np.ascontiguousarray(-np.log(p.flatten(1).numpy())))
    other.addPairwiseGaussian(sxy=3, compat=3)
    other.addPairwiseBilateral(sxy=50, srgb=5, rgbim=levels, compat=4)
    return torch.from_numpy(np.array(other.inference(10))).view_as(p)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main():
    """Print seconds of both on 375 x 500 with 21 classes, set-up included, and the agreement."""
    image, p, _ = picture(375, 500, 21)
    levels = (255 * image).round().byte()
    pixels = np.ascontiguousarray(levels.permute(1, 2, 0).numpy())
    before = peak()
    crf.dense_crf(levels / 255, p)
    print(f"memory: {peak() - before:.2f} GiB on top of {before:.2f}")
    print(f"{torch.get_num_threads()} threads, seconds of pydensecrf2 and ours, their ratio:")
    for _ in range(3):
        started = time.perf_counter()
        other = theirs(pixels, p)
        between = time.perf_counter()
        ours = crf.dense_crf(levels / 255, p)
        first, second = between - started, time.perf_counter() - between
        print(f"{first:6.2f} {second:6.2f} {second / first:6.2f}")
    same = (ours.argmax(0) == other.argmax(0)).float().mean().item()
    print(f"labels agree on {same:.2%}")


if __name__ == "__main__":
    main()
