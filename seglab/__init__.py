"""seglab: the small package behind *Semantic Segmentation, Step by Step*.

The rooms, from the ground up: ``runtime`` and ``labels``; ``data``, ``models``, ``losses``,
``metrics`` and ``classical``; ``training``, ``inference`` and ``receptive_field``; ``plots``,
``diagrams``, ``interactive`` and ``checks``; the command ``seglab``. A room imports only from the
floors below.
"""

from importlib import import_module

from seglab.runtime import Runtime

__version__ = "0.1.0"

_ROOMS = (
    "checks",
    "classical",
    "data",
    "diagrams",
    "inference",
    "interactive",
    "labels",
    "losses",
    "metrics",
    "models",
    "plots",
    "receptive_field",
    "records",
    "runtime",
    "training",
)

__all__ = ["Runtime", "setup", *_ROOMS]


def __getattr__(name: str):
    """Import a room when it is first entered, so that ``import seglab`` stays quick."""
    if name in _ROOMS:
        return import_module(f"seglab.{name}")
    raise AttributeError(f"module 'seglab' has no attribute {name!r}; it has {', '.join(_ROOMS)}")


def setup(seed: int = 0) -> Runtime:
    """Prepare a notebook: choose device and profile, seed everything, set the figure style.

    Prints one line that says what was chosen.

    Parameters
    ----------
    seed : int
        Seed of Python's, NumPy's and torch's random numbers.

    Returns
    -------
    Runtime
        Device, profile, autocast dtype, seed and versions.
    """
    from seglab import plots, records, runtime

    run = runtime.start(seed)
    records.begin(run)
    plots.use_style()
    print(run)
    return run
