"""Which feature maps a model makes, and which is made from which: the graph behind a diagram.

The model runs once on the meta device (shapes without numbers). Hooks note the outputs of the
blocks to draw; between the blocks every torch function is watched, so that sums, concatenations
and resizing are found wherever the model's code does them.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_KINDS = {
    **dict.fromkeys(("add", "add_", "__add__", "__iadd__", "__radd__"), "sum"),
    **dict.fromkeys(("cat", "concat", "concatenate"), "concat"),
    **dict.fromkeys(("mul", "mul_", "__mul__", "__imul__", "__rmul__"), "product"),
}

_Sources = list[tuple[str, bool]]  # key of a node, and whether only indices come from it


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
    branch : str
        Key of the map from which this block and others are made side by side, to be joined again.
    count : int
        How many blocks in a row this map stands for; all of them keep its shape.
    """

    key: str
    label: str
    kind: str
    shape: tuple[int, ...]
    inputs: list[Edge] = field(default_factory=list)
    branch: str = ""
    count: int = 1


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
        labels = _choose(model, _calls(model, shape))
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
    nodes = _fold_upsampling(_merge(recorder.nodes))
    if blocks is None:
        nodes = _fold_rows(_fold_resizing(nodes, modules))
    _mark_branches(nodes, modules, rename=blocks is None)
    return nodes


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
        self.origins: dict[int, _Sources] = {}  # id of a tensor -> what it was made from
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
                self._remember(tensor, [(key, False)])

        return leave

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.inside == 0 and (made := list(tensors(result))):
            edges = self._edges(tensors((args, kwargs or {})))
            sources = list(dict.fromkeys((edge.source, edge.indices) for edge in edges))
            kind = _KINDS.get(getattr(func, "__name__", ""), "")
            if kind and len({source for source, _ in sources}) > 1:
                count = 1 + sum(node.kind == kind for node in self.nodes)
                self._node(f"{kind} {count}", kind, kind, made[0], edges)
            elif sources:
                for tensor in made:
                    self._remember(tensor, sources)
        return result

    def _node(self, key: str, label: str, kind: str, made: Tensor, edges: list[Edge]) -> None:
        self.nodes.append(Node(key, label, kind, tuple(made.shape[1:]), edges))
        self._remember(made, [(key, False)])

    def _remember(self, tensor: Tensor, sources: _Sources) -> None:
        self.origins[id(tensor)] = sources
        self.alive.append(tensor)

    def _edges(self, given: Any) -> list[Edge]:
        return [
            Edge(source, tuple(tensor.shape[1:]), indices or not tensor.is_floating_point())
            for tensor in given
            for source, indices in self.origins.get(id(tensor), [])
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
    inputs: int  # different maps, without indices
    outputs: int


def _calls(model: nn.Module, shape: Sequence[int]) -> dict[str, _Call]:
    """First run: the shapes that go into and out of every module."""
    calls: dict[str, _Call] = {}
    alive: list[Tensor] = []  # an id stays unique while its tensor lives

    def noting(name: str) -> Any:
        def note(module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
            given, made = list(tensors((args, kwargs))), list(tensors(result))
            if given and made:
                alive.extend([*given, *made])
                calls[name] = _Call(
                    id(given[0]),
                    tuple(given[0].shape[1:]),
                    tuple(made[0].shape[1:]),
                    len({id(tensor) for tensor in given if tensor.is_floating_point()}),
                    sum(tensor.is_floating_point() for tensor in made),
                )

        return note

    hooks = [
        module.register_forward_hook(noting(name), with_kwargs=True)
        for name, module in model.named_modules()
    ]
    try:
        run_on_meta(model, shape)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _choose(model: nn.Module, calls: dict[str, _Call]) -> dict[str, str]:
    """Return the blocks worth drawing, and what to call them.

    These are stages of equal resolution, and parallel branches.
    """

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

    def stages(name: str, module: nn.Module) -> dict[str, str]:
        """Of a plain stack of layers: the last layer of every resolution, and linear layers."""
        layers = [(key, part) for key, part in children(name, module) if key in calls]
        chosen: dict[str, str] = {}
        stage: list[nn.Module] = []
        for k, (key, part) in enumerate(layers):
            follower = calls[layers[k + 1][0]] if k + 1 < len(layers) else None
            stage.append(part)
            if isinstance(part, nn.Linear) or (
                len(calls[key].after) == 3
                and (follower is None or follower.after[1:] != calls[key].after[1:])
            ):
                chosen[key] = _described(stage) or key
                stage = []
        return chosen if len(chosen) > 1 else {name: _called(name, module)}

    def expand(name: str, module: nn.Module) -> dict[str, str]:
        call = calls.get(name)
        parts = children(name, module)
        deeper = {key: word for pair in parts for key, word in expand(*pair).items()}
        if call is None or (deeper and (call.inputs > 1 or call.outputs > 1)):
            return deeper  # where maps meet or part, the reader wants to see how
        if not any(True for _ in module.parameters()) and call.before == call.after:
            return {}  # activation, dropout, normalization of the image
        if name in parallel:
            return {name: name}
        if _only_normalizes(module) and math.prod(call.before) == math.prod(call.after):
            return {}
        if not name or branches(name):
            return deeper
        if len(call.before) == 3 and len(call.after) == 3:
            ratio = call.before[1] / call.after[1]
            if not 0.4 < ratio < 2.5 and parts:
                return stages(name, module) if _is_plain(module) else deeper
        elif _is_plain(module) and sum(isinstance(m, nn.Linear) for m in module.children()) > 1:
            return stages(name, module)
        return {name: _called(name, module)}

    return expand("", model)


def _only_normalizes(module: nn.Module) -> bool:
    """Whether all weights are those of normalizations; tokens may be laid out as a map besides."""
    owners = [part for part in module.modules() if list(part.parameters(recurse=False))]
    return bool(owners) and all(
        isinstance(part, (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)) for part in owners
    )


def _is_plain(module: nn.Module) -> bool:
    """Whether this is a stack of single layers."""
    return isinstance(module, nn.Sequential) and not any(
        list(part.children()) for part in module.children()
    )


def _called(name: str, module: nn.Module) -> str:
    """Return a block's name; of a single layer that has only a number, what it is."""
    if name.split(".")[-1].isdigit() and not list(module.children()):
        return _described([module]) or name
    return name


def _described(layers: Sequence[nn.Module]) -> str:
    """Say in a few words what a stack of layers is: "pool, 2 convs", "7 × 7 conv", "linear"."""
    convs = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    words = ["pool"] * any("Pool" in type(layer).__name__ for layer in layers)
    words += ["upsampling"] * any(isinstance(layer, nn.Upsample) for layer in layers)
    words += ["linear"] * any(isinstance(layer, nn.Linear) for layer in layers)
    if len(convs) == 1:
        words.append(f"{_window(convs[0])} conv")
    elif convs:
        words.append(f"{len(convs)} convs")
    return ", ".join(words)


def _window(conv: nn.Conv2d) -> str:
    return " × ".join(map(str, conv.kernel_size))


def _traits(branch: nn.Module) -> str:
    """Say how a branch differs from those beside it: "3 × 3, rate 6", "pool 2 × 2"."""
    layers = list(branch.modules())
    for layer in layers:
        if isinstance(layer, (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)):
            size = layer.output_size
            height, width = size if isinstance(size, tuple) else (size, size)
            return f"pool {height} × {width}"
    convs = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    if not convs:
        return ""
    widest = max(convs, key=lambda conv: conv.dilation[0] * (conv.kernel_size[0] - 1))
    rate = widest.dilation[0]
    return _window(widest) + (f", rate {rate}" if rate > 1 else "")


def _users(nodes: list[Node], key: str) -> list[tuple[Node, Edge]]:
    return [(node, edge) for node in nodes for edge in node.inputs if edge.source == key]


def _merge(nodes: list[Node]) -> list[Node]:
    """Draw a chain of sums (or concatenations) as one."""
    for node in list(nodes):
        users = [user for user, _ in _users(nodes, node.key)]
        if (
            node.kind in ("sum", "concat")
            and len(users) == 1
            and users[0].kind == node.kind
            and users[0].shape[-2:] == node.shape[-2:]
        ):
            _replace(nodes, node, node.inputs)
    return nodes


def _replace(nodes: list[Node], node: Node, inputs: list[Edge]) -> None:
    """Take a node out: what it fed is fed by its inputs."""
    for user, _ in _users(nodes, node.key):
        user.inputs = [
            part for edge in user.inputs for part in (inputs if edge.source == node.key else [edge])
        ]
    nodes.remove(node)


def _fold_upsampling(nodes: list[Node]) -> list[Node]:
    """Draw an upsampling layer that only feeds a sum or concatenation as its connection."""
    for node in list(nodes):
        users = _users(nodes, node.key)
        if node.kind != "block" or len(users) != 1 or len(node.inputs) != 1:
            continue
        (user, edge), before = users[0], node.inputs[0].shape
        if user.kind not in ("sum", "concat") or len(before) != 3 or len(node.shape) != 3:
            continue
        if node.shape[1] >= 1.5 * before[1]:
            edge.source, edge.via = node.inputs[0].source, node.label
            nodes.remove(node)
    return nodes


def _fold_resizing(nodes: list[Node], modules: Mapping[str, nn.Module]) -> list[Node]:
    """Draw a layer without weights that pools or unpools as the way into the next block."""
    for node in list(nodes):
        users = [user for user, _ in _users(nodes, node.key)]
        if (
            node.kind == "block"
            and len(users) == 1
            and users[0].kind == "block"
            and len(node.shape) == len(users[0].shape) == 3
            and node.shape[1:] == users[0].shape[1:]
            and node.shape[1:] != node.inputs[0].shape[1:]
            and not list(modules[node.key.split("#")[0]].parameters())
        ):
            _replace(nodes, node, node.inputs)
    return nodes


def _fold_rows(nodes: list[Node]) -> list[Node]:
    """Draw three or more equal blocks of a list, one behind the other, as one."""
    row: list[Node] = []
    for node in [*nodes, None]:
        if row and node is not None and _continues(row[-1], node, nodes):
            row.append(node)
            continue
        if len(row) > 2:
            first, last = row[0], row[-1]
            last.inputs, last.count = first.inputs, len(row)
            last.label = f"{first.key}–{last.key.split('.')[-1]}"
            for folded in row[:-1]:
                nodes.remove(folded)
        row = [node] if node is not None else []
    return nodes


def _continues(before: Node, node: Node, nodes: list[Node]) -> bool:
    """Whether a block is the next of a list, made from the one before alone, in the same shape."""
    lists = [name.rpartition(".") for name in (before.key, node.key)]
    return (
        before.kind == node.kind == "block"
        and lists[0][0] == lists[1][0]
        and all(number.isdigit() for *_, number in lists)
        and before.shape == node.shape
        and [edge.source for edge in node.inputs] == [before.key]
        and len(_users(nodes, before.key)) == 1
    )


def _mark_branches(nodes: list[Node], modules: Mapping[str, nn.Module], rename: bool) -> None:
    """Find blocks that run side by side on one map and are joined; name them by what differs."""
    found: dict[tuple[str, str], list[Node]] = {}
    for node in nodes:
        users = [user for user, _ in _users(nodes, node.key)]
        if (
            node.kind == "block"
            and len(node.inputs) == len(users) == 1
            and users[0].kind in ("sum", "concat", "product")
        ):
            found.setdefault((node.inputs[0].source, users[0].key), []).append(node)
    for (source, _), branches in found.items():
        if len(branches) > 2:
            for node in branches:
                node.branch = source
                if rename:
                    node.label = _traits(modules[node.key.split("#")[0]]) or node.label
