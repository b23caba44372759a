"""Which feature maps a model makes, and which is made from which: the graph behind a diagram.

The model runs once on the meta device (shapes without numbers). Hooks note the outputs of the
blocks to draw; between the blocks every torch function is watched, so that sums, concatenations
and resizing are found wherever the model's code does them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_SUMS = {"add", "add_", "__add__", "__iadd__", "__radd__"}
_CONCATENATIONS = {"cat", "concat", "concatenate"}
_PRODUCTS = {"mul", "mul_", "__mul__", "__imul__", "__rmul__"}


@dataclass
class Edge:
    """A connection into a node.

    Attributes
    ----------
    source : str
        Key of the node it comes from.
    shape : tuple of int
        Shape with which the map arrives, without the batch: resized or cropped, maybe.
    indices : bool
        Whether positions of maxima travel here, not a feature map.
    via : str
        Name of an upsampling layer that is drawn as part of this connection.
    """

    source: str
    shape: tuple[int, ...]
    indices: bool = False
    via: str = ""


@dataclass
class Node:
    """A feature map.

    Attributes
    ----------
    key : str
        Unique: the block's name in the model; "image", "logits"; "+1", "concat 1", ...
    label : str
        What is written beside it.
    kind : str
        "image", "block", "sum", "concat", "product" or "logits".
    shape : tuple of int
        Without the batch: (C, H, W), (tokens, C) or (C,).
    inputs : list of Edge
    """

    key: str
    label: str
    kind: str
    shape: tuple[int, ...]
    inputs: list[Edge] = field(default_factory=list)


def trace(
    model: nn.Module,
    shape: Sequence[int] = (3, 224, 224),
    blocks: Sequence[str] | Mapping[str, str] | None = None,
) -> list[Node]:
    """Run a model and return its feature maps in the order in which they are made.

    Parameters
    ----------
    model : torch.nn.Module
        Takes images (N, C, H, W); returns a tensor, or several of which the first (or the one
        called "out") counts.
    shape : (C, H, W)
        Size of the image.
    blocks : list of str, or dict of str to str, optional
        Names of the modules whose outputs count, as in ``model.named_modules()``; a dict also
        says what to call them. By default stages of equal resolution, and parallel branches.

    Raises
    ------
    ValueError
        If the model has no module of a given name, or one did not run.
    """
    modules = dict(model.named_modules())
    if blocks is None:
        labels = {name: name for name in _choose(model, _calls(model, shape))}
    else:
        labels = dict(blocks) if isinstance(blocks, Mapping) else {name: name for name in blocks}
    for name in labels:
        if name not in modules:
            raise ValueError(f"no module {name!r}; the model has {', '.join(list(modules)[1:])}")
    recorder = _Recorder(labels)
    hooks = []
    for name in labels:
        hooks.append(modules[name].register_forward_pre_hook(recorder.enter, with_kwargs=True))
        hooks.append(modules[name].register_forward_hook(recorder.leaver(name), with_kwargs=True))
    try:
        with recorder:
            recorder.finish(run_on_meta(model, shape, recorder.start))
    finally:
        for hook in hooks:
            hook.remove()
    missing = [name for name in labels if name not in {node.key for node in recorder.nodes}]
    if missing:
        raise ValueError(f"the logits do not depend on {', '.join(missing)}")
    return _fold(_merge(recorder.nodes))


def tensors(value: Any) -> Iterator[Tensor]:
    """Find the tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors(item)


class _Recorder(TorchFunctionMode):
    """Follows feature maps from block to block while the model runs."""

    def __init__(self, labels: Mapping[str, str]):
        super().__init__()
        self.labels = labels
        self.nodes: list[Node] = []
        self.origins: dict[int, list[str]] = {}  # id of a tensor -> nodes it was made from
        self.alive: list[Tensor] = []  # an id stays unique while its tensor lives
        self.inside = 0
        self.waiting: list[list[Edge]] = []

    def start(self, images: Tensor) -> None:
        self._node("image", "image", "image", images, [])

    def finish(self, result: Any) -> None:
        found = result.get("out", result) if isinstance(result, Mapping) else result
        logits = next(tensors(found))
        edges = self._edges([logits])
        last = next(node for node in self.nodes if node.key == edges[-1].source)
        if last.shape != tuple(logits.shape[1:]) or last.kind == "image":
            self._node("logits", "logits", "logits", logits, edges)
        end = self.nodes[-1] if self.nodes[-1].kind == "logits" else last
        wanted, kept = {end.key}, []
        for node in reversed(self.nodes):  # what the logits do not depend on is not drawn
            if node.key in wanted:
                wanted |= {edge.source for edge in node.inputs}
                kept.append(node)
        self.nodes = kept[::-1]

    def enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self.inside == 0:
            self.waiting.append(self._edges(tensors((args, kwargs))))
        self.inside += 1

    def leaver(self, name: str) -> Any:
        def leave(module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
            self.inside -= 1
            if self.inside:
                return
            maps = list(tensors(result))
            calls = sum(node.key.split("#")[0] == name for node in self.nodes)
            key = f"{name}#{calls + 1}" if calls else name
            self._node(key, self.labels[name], "block", maps[0], self.waiting.pop())
            for tensor in maps[1:]:
                self._remember(tensor, [key])

        return leave

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.inside == 0 and (made := list(tensors(result))):
            edges = self._edges(tensors((args, kwargs or {})))
            sources = list(dict.fromkeys(edge.source for edge in edges))
            name = getattr(func, "__name__", "")
            kind = (
                "sum"
                if name in _SUMS
                else "concat"
                if name in _CONCATENATIONS
                else "product"
                if name in _PRODUCTS
                else ""
            )
            if kind and len(sources) > 1:
                count = 1 + sum(node.kind == kind for node in self.nodes)
                self._node(f"{kind} {count}", kind, kind, made[0], edges)
            elif sources:
                for tensor in made:
                    self._remember(tensor, sources)
        return result

    def _node(self, key: str, label: str, kind: str, made: Tensor, edges: list[Edge]) -> None:
        self.nodes.append(Node(key, label, kind, tuple(made.shape[1:]), edges))
        self._remember(made, [key])

    def _remember(self, tensor: Tensor, sources: list[str]) -> None:
        self.origins[id(tensor)] = sources
        self.alive.append(tensor)

    def _edges(self, given: Any) -> list[Edge]:
        return [
            Edge(source, tuple(tensor.shape[1:]), not tensor.is_floating_point())
            for tensor in given
            for source in self.origins.get(id(tensor), [])
        ]


def run_on_meta(
    model: nn.Module,
    shape: Sequence[int],
    start: Callable[[Tensor], None] | None = None,
    watch: AbstractContextManager | None = None,
) -> Any:
    """Run in evaluation mode on the meta device: shapes, but no numbers and no memory.

    Parameters
    ----------
    model : torch.nn.Module
        Takes images (N, C, H, W); stays as it is.
    shape : (C, H, W)
        Size of the image.
    start : function, optional
        Is handed the image before the run.
    watch : context manager, optional
        Surrounds the run.

    Returns
    -------
    What the model returned.
    """
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    meta = {name: torch.empty_like(tensor, device="meta") for name, tensor in state.items()}
    images = torch.empty(1, *shape, device="meta")
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            if start is not None:
                start(images)
            with watch or nullcontext():
                return torch.func.functional_call(model, meta, (images,))
    finally:
        for module, training in modes.items():
            module.training = training


@dataclass
class _Call:
    """What the first run saw of one module."""

    given: int  # id of the input
    before: tuple[int, ...]
    after: tuple[int, ...]
    outputs: int  # floating-point tensors


def _calls(model: nn.Module, shape: Sequence[int]) -> dict[str, _Call]:
    """First run: the shapes that go into and out of every module."""
    calls: dict[str, _Call] = {}
    alive: list[Tensor] = []  # an id stays unique while its tensor lives

    def noting(name: str) -> Any:
        def note(module: nn.Module, args: Any, result: Any) -> None:
            given, made = list(tensors(args)), list(tensors(result))
            if given and made:
                alive.extend([*given, *made])
                calls[name] = _Call(
                    id(given[0]),
                    tuple(given[0].shape[1:]),
                    tuple(made[0].shape[1:]),
                    sum(tensor.is_floating_point() for tensor in made),
                )

        return note

    hooks = [module.register_forward_hook(noting(name)) for name, module in model.named_modules()]
    try:
        run_on_meta(model, shape)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _choose(model: nn.Module, calls: dict[str, _Call]) -> list[str]:
    """Return the blocks worth drawing: stages of equal resolution, and parallel branches."""

    def children(name: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
        prefix = f"{name}." if name else ""
        return [(prefix + child, part) for child, part in module.named_children()]

    parallel = set()  # blocks of a list that all run on the same map
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList):
            keys = [key for key, _ in children(name, module) if key in calls]
            if len(keys) > 2 and len({calls[key].given for key in keys}) == 1:
                parallel |= set(keys)

    def branches(name: str) -> bool:
        return any(key.startswith(f"{name}.") for key in parallel)

    def stages(name: str, module: nn.Module) -> list[str]:
        """Of a plain stack of layers: the last layer of every resolution, and linear layers."""
        layers = [(key, part) for key, part in children(name, module) if key in calls]
        chosen = []
        for k, (key, part) in enumerate(layers):
            follower = calls[layers[k + 1][0]] if k + 1 < len(layers) else None
            if isinstance(part, nn.Linear) or (
                len(calls[key].after) == 3
                and (follower is None or follower.after[1:] != calls[key].after[1:])
            ):
                chosen.append(key)
        return chosen

    def expand(name: str, module: nn.Module) -> list[str]:
        call = calls.get(name)
        parts = [pair for pair in children(name, module)]
        deeper = [leaf for key, part in parts for leaf in expand(key, part)]
        if call is None or (call.outputs > 1 and deeper):
            return deeper
        if not any(True for _ in module.parameters()) and call.before == call.after:
            return []  # activation, dropout, normalization of the image
        if name in parallel:
            return [name]
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)):
            return []
        if not name or branches(name):
            return deeper
        if len(call.before) == 3 and len(call.after) == 3:
            ratio = call.before[1] / call.after[1]
            if not 0.4 < ratio < 2.5 and parts:
                return stages(name, module) if _is_plain(module) else deeper
        elif _is_plain(module) and sum(isinstance(m, nn.Linear) for m in module.children()) > 1:
            return stages(name, module)
        return [name]

    return expand("", model)


def _is_plain(module: nn.Module) -> bool:
    """Whether this is a stack of single layers."""
    return isinstance(module, nn.Sequential) and not any(
        list(part.children()) for part in module.children()
    )


def _merge(nodes: list[Node]) -> list[Node]:
    """Draw a chain of sums (or concatenations) as one."""
    for node in list(nodes):
        users = [other for other in nodes if any(e.source == node.key for e in other.inputs)]
        if (
            node.kind in ("sum", "concat")
            and len(users) == 1
            and users[0].kind == node.kind
            and users[0].shape[-2:] == node.shape[-2:]
        ):
            user = users[0]
            user.inputs = [
                part
                for edge in user.inputs
                for part in (node.inputs if edge.source == node.key else [edge])
            ]
            nodes.remove(node)
    return nodes


def _fold(nodes: list[Node]) -> list[Node]:
    """Draw an upsampling layer that only feeds a sum or concatenation as its connection."""
    for node in list(nodes):
        users = [
            (other, edge) for other in nodes for edge in other.inputs if edge.source == node.key
        ]
        if node.kind != "block" or len(users) != 1 or len(node.inputs) != 1:
            continue
        (user, edge), before = users[0], node.inputs[0].shape
        if user.kind not in ("sum", "concat") or len(before) != 3 or len(node.shape) != 3:
            continue
        if node.shape[1] >= 1.5 * before[1]:
            edge.source, edge.via = node.inputs[0].source, node.label
            nodes.remove(node)
    return nodes
