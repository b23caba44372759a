"""The fully connected conditional random field that sharpens a segmentation along image edges.

Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials", NIPS 2011; its use on top of a network: Chen et al., DeepLab v1 and v2. Every pixel
is connected with every other one; two Gaussian kernels say how much they should agree.

On real images the kernels are applied on the permutohedral lattice of Adams, Baek and Davis, "Fast
High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics 2010: spread the values
of pixels to the corners of simplices, blur along the lattice, read them back.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

EXACT_PIXELS = 4096  # up to here the exact kernels, N x N numbers, are small and fast

Filter = Callable[[Tensor], Tensor]  # (N, K) -> (N, K), a kernel matrix times values


@torch.no_grad()
def dense_crf(
    image: Tensor,
    probabilities: Tensor,
    *,
    iterations: int = 10,
    method: str = "auto",
    smooth_weight: float = 3.0,
    smooth_sigma: float = 3.0,
    weight: float = 4.0,
    sigma_xy: float = 50.0,
    sigma_rgb: float = 5.0,
) -> Tensor:
    """Refine class probabilities by mean-field inference in a fully connected CRF.

    With unary potentials -log p and Potts compatibility, one iteration is
    ``Q <- softmax(log p + smooth_weight K1 Q + weight K2 Q)``, where the kernels between pixels i
    and j are ``K1 = exp(-|x_i - x_j|^2 / 2 smooth_sigma^2)`` and
    ``K2 = exp(-|x_i - x_j|^2 / 2 sigma_xy^2 - |c_i - c_j|^2 / 2 sigma_rgb^2)``, both normalized
    symmetrically, D^-1/2 K D^-1/2 with the row sums D. Source: algorithm 1 of the paper; a pixel's
    message to itself stays in, as in the authors' code.

    Parameters
    ----------
    image : (3, H, W)
        Colors in [0, 1].
    probabilities : (K, H, W)
        Softmax of a network's logits, not negative; they are normalized over the K classes.
    iterations : int
        Mean-field updates.
    method : {"auto", "exact", "lattice"}
        "exact" multiplies by N x N matrices of all pairs of pixels, "lattice" approximates them,
        "auto" is exact up to 4,096 pixels.
    smooth_weight, weight : float
        Weights of K1 and K2, at least 0.
    smooth_sigma, sigma_xy : float
        Widths in pixels.
    sigma_rgb : float
        Width in units of colors from 0 to 255.

    Returns
    -------
    (K, H, W)
        Probabilities, of the type and on the device of the given ones.

    Raises
    ------
    ValueError, TypeError
        If shapes, types, values or parameters are impossible.
    """
    _check(image, probabilities)
    _check_parameters(iterations, method, smooth_weight, smooth_sigma, weight, sigma_xy, sigma_rgb)
    classes, height, width = probabilities.shape
    if method == "auto":
        method = "exact" if height * width <= EXACT_PIXELS else "lattice"
    image = image.to(probabilities.device, torch.float32)
    p = probabilities.float().flatten(1).T  # (N, K)
    p = p / p.sum(1, keepdim=True)

    kernel = exact_filter if method == "exact" else lattice_filter
    places, colors = _places(image), 255 * image.flatten(1).T  # (N, 2), (N, 3)
    smooth = _normalized(kernel(places / smooth_sigma), p[:, :1])
    features = torch.cat([places / sigma_xy, colors / sigma_rgb], dim=1)  # (N, 5)
    bilateral = _normalized(kernel(features), p[:, :1])

    log_p = p.clamp(min=torch.finfo(p.dtype).tiny).log()
    q = p
    for _ in range(iterations):
        q = (log_p + smooth_weight * smooth(q) + weight * bilateral(q)).softmax(dim=1)
    return q.T.reshape(classes, height, width).to(probabilities.dtype)


def exact_filter(features: Tensor) -> Filter:
    """Return the multiplication by the kernel exp(-|f_i - f_j|^2 / 2) of all pairs.

    Parameters
    ----------
    features : (N, d)
        One row for each pixel; the kernel has width 1 in every coordinate.
    """
    squared = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist").square_()
    kernel = squared.mul_(-0.5).exp_()  # (N, N)
    return lambda values: kernel @ values


def lattice_filter(features: Tensor) -> Filter:
    """Return the approximate multiplication by exp(-|f_i - f_j|^2 / 2), up to a factor.

    Parameters
    ----------
    features : (N, d)
        One row for each pixel; the kernel has width 1 in every coordinate.
    """
    pixels, d = features.shape
    codes, weights = _simplices(features)  # both (d + 1, N): the corners around every pixel
    points, corners = torch.unique(codes, return_inverse=True)
    neighbors = _neighbors(points, d)
    # In the order of the image, what belongs together lies together: three times as fast.
    first = torch.full_like(points, pixels)
    scan = torch.arange(pixels, device=features.device).expand_as(corners)
    first.scatter_reduce_(0, corners.flatten(), scan.flatten(), "amin")
    outside = points.numel()
    order = F.pad(first.argsort(), (0, 1), value=outside)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)).to(order))
    neighbors = [(place[before[order]], place[after[order]]) for before, after in neighbors]

    corners, sorting = place[corners].sort(dim=0)
    read = _sparse_rows(corners.T, weights.gather(0, sorting).T, outside)  # (N, points)
    splat = read.t().to_sparse_csr()  # (points, N)

    def multiply(values: Tensor) -> Tensor:
        lattice = F.pad(splat @ values, (0, 0, 0, 1))  # the last row: outside, where all is 0
        back, forth = torch.empty_like(lattice), torch.empty_like(lattice)
        for before, after in neighbors:
            torch.index_select(lattice, 0, before, out=back)
            torch.index_select(lattice, 0, after, out=forth)
            lattice.add_(back, alpha=0.5).add_(forth, alpha=0.5)
        return read @ lattice[:-1]

    return multiply


def _sparse_rows(columns: Tensor, entries: Tensor, width: int) -> Tensor:
    """Return the (N, width) matrix with the same number of entries, (N, n), in each row."""
    rows, each = columns.shape
    starts = torch.arange(0, rows * each + 1, each, device=columns.device)
    with warnings.catch_warnings():  # torch calls its sparse matrices a beta
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(
            starts, columns.flatten(), entries.flatten(), (rows, width), check_invariants=False
        )


def _places(image: Tensor) -> Tensor:
    """Return row and column of every pixel, (N, 2)."""
    _, height, width = image.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([y, x]).flatten(1).T.to(image)


def _normalized(kernel: Filter, like: Tensor) -> Filter:
    """Return D^-1/2 K D^-1/2 for a kernel K with row sums D."""
    scale = kernel(torch.ones_like(like)).clamp(min=1e-20).rsqrt()  # (N, 1)
    return lambda values: scale * kernel(scale * values)


def _simplices(features: Tensor) -> tuple[Tensor, Tensor]:
    """Find the simplex of the permutohedral lattice around every point.

    Adams et al., section 3: the lattice lies in the hyperplane of R^(d+1) whose coordinates sum
    to 0. A point's simplex has one corner of each remainder 0 ... d modulo d + 1.

    Shapes: (N, d) -> codes of the corners (d + 1, N), int64; barycentric weights (d + 1, N).
    """
    d = features.shape[1]
    axis = torch.arange(d, device=features.device)
    # One step of the blur has variance 3/2 of these units in the hyperplane.
    scaled = features * ((d + 1) * (2 / 3) ** 0.5 / ((axis + 1) * (axis + 2)).sqrt())
    lifted = scaled @ _lift(d).to(features)  # (N, d + 1), coordinates sum to 0
    lifted = lifted.T.contiguous()  # (d + 1, N)

    nearest = (lifted / (d + 1)).round() * (d + 1)  # remainder 0, but the sum may be off
    excess = (nearest.sum(0) / (d + 1)).round().long()
    rank = _ranks(lifted - nearest) + excess
    wrap = (rank < 0).long() - (rank > d).long()
    rank += wrap * (d + 1)
    nearest += wrap * (d + 1)

    offset = torch.empty_like(lifted).scatter_(0, rank, (lifted - nearest) / (d + 1))
    weights = torch.empty_like(lifted)  # of remainder 0 ... d
    weights[0] = 1 + offset[d] - offset[0]
    weights[1:] = offset[:d].flip(0) - offset[1:].flip(0)

    multiplier = _multipliers(d).to(features.device)
    origin = (nearest[:d].long() * multiplier[:, None]).sum(0)
    corners = [origin]
    for remainder in range(1, d + 1):
        step = remainder - (d + 1) * (rank[:d] > d - remainder).long()
        corners.append(origin + (step * multiplier[:, None]).sum(0))
    return torch.stack(corners), weights


def _lift(d: int) -> Tensor:
    """Return the orthogonal map from R^d into the hyperplane whose coordinates sum to 0.

    Column j is 1 for the coordinates up to j, and -(j + 1) for the next. Shapes: (d, d + 1).
    """
    lift = torch.ones(d, d + 1).tril()
    lift[torch.arange(d), torch.arange(1, d + 1)] = -torch.arange(1.0, d + 1)
    return lift


def _ranks(values: Tensor) -> Tensor:
    """Rank each column from the largest, 0, to the smallest, d; ties by position. (d + 1, N)."""
    order = values.argsort(dim=0, descending=True, stable=True)
    places = torch.arange(values.shape[0], device=values.device)[:, None]
    return torch.empty_like(order).scatter_(0, order, places.expand_as(order))


def _multipliers(d: int) -> Tensor:
    """Return odd factors that make one number of d coordinates, modulo 2^64.

    The number is linear in the coordinates, so that a neighbor's is found by addition. Two of a
    million lattice points share a number with a probability of about 1e-7.
    """
    generator = torch.Generator().manual_seed(1)
    return torch.randint(2**62, (d,), generator=generator) * 2 + 1


def _neighbors(points: Tensor, d: int) -> list[tuple[Tensor, Tensor]]:
    """Find the two neighbors of every lattice point along each of the d + 1 directions.

    Parameters
    ----------
    points : (M,)
        Codes of the lattice points, ascending.

    Returns
    -------
    list of pairs of (M + 1,)
        Positions in `points`; M for a neighbor that does not exist, and for M itself.
    """
    count = points.numel()
    multiplier = _multipliers(d).to(points.device)
    pairs = []
    for direction in range(d + 1):
        step = -multiplier.sum()
        if direction < d:
            step = step + (d + 1) * multiplier[direction]
        target = points + step
        place = torch.searchsorted(points, target).clamp(max=count - 1)
        exists = points[place] == target
        after = points.new_full((count + 1,), count)
        before = after.clone()
        after[:count] = torch.where(exists, place, count)
        before[place[exists]] = exists.nonzero().flatten()
        pairs.append((before, after))
    return pairs


def _check(image: Tensor, probabilities: Tensor) -> None:
    for name, value in {"image": image, "probabilities": probabilities}.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"{name}: expected a floating-point tensor, got {kind}")
        if not value.isfinite().all():
            raise ValueError(f"{name} has entries that are not finite")
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"expected an image (3, H, W), got shape {tuple(image.shape)}")
    if probabilities.ndim != 3 or probabilities.shape[1:] != image.shape[1:]:
        raise ValueError(
            f"expected probabilities (K, {image.shape[1]}, {image.shape[2]}) for this image, "
            f"got shape {tuple(probabilities.shape)}"
        )
    if image.min() < 0 or image.max() > 1:
        raise ValueError(
            f"colors lie in [{image.min():g}, {image.max():g}]; expected [0, 1] (divide by 255?)"
        )
    if probabilities.min() < 0 or probabilities.sum(0).min() <= 0:
        raise ValueError("probabilities must not be negative, and one of each pixel positive")


def _check_parameters(iterations: Any, method: str, *numbers: float) -> None:
    if not isinstance(iterations, int) or iterations < 0:
        raise ValueError(f"iterations is {iterations!r}; expected a whole number from 0")
    if method not in ("auto", "exact", "lattice"):
        raise ValueError(f"method is {method!r}; expected 'auto', 'exact' or 'lattice'")
    names = ("smooth_weight", "smooth_sigma", "weight", "sigma_xy", "sigma_rgb")
    for name, value in zip(names, numbers, strict=True):
        if value < 0 or (value == 0 and "sigma" in name):
            raise ValueError(f"{name} is {value}; expected a positive number")
