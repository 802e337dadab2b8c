"""The networks of an autoencoder as Python source that needs torch alone, traced by torch.fx."""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Iterator
from typing import Any

from torch import fx, nn

from imginav.model.autoencoder import Autoencoder, moments

PUT = '''
def _put(root: nn.Module, path: str, part: Any) -> None:
    """Put a module, parameter or buffer where a path says, with empty modules for what is on the way."""
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in root._modules:
            root.add_module(parent, nn.Module())
        root = root._modules[parent]
    if isinstance(part, nn.Module):
        root.add_module(name, part)
    elif isinstance(part, nn.Parameter):
        root.register_parameter(name, part)
    else:
        root.register_buffer(name, part)
'''


class CannotTraceError(Exception):
    """A network computes what torch.fx cannot write down, such as one that looks at values to decide what to do."""


def network_source(network: Autoencoder) -> str:
    """Return the source of classes `Encoder`, `Decoder` and `Autoencoder` that compute what a network does.

    They have its weights by their names, and its buffers, such as the colours of a palette, as weights. The source
    needs `torch`, `nn`, `Tensor` and `Any`. Raises CannotTraceError.
    """
    parts = [inspect.getsource(moments), PUT, *_classes(network)]
    return "\n\n".join(part.strip("\n") + "\n" for part in parts)


def _classes(network: Autoencoder) -> Iterator[str]:
    for name, part in (("Encoder", network.encoder), ("Decoder", network.decoder)):
        yield _network_class(name, part)
    yield (
        "class Autoencoder(nn.Module):\n"
        '    """Encoder and decoder as one module."""\n\n'
        "    def __init__(self) -> None:\n"
        "        super().__init__()\n"
        "        self.encoder = Encoder()\n"
        "        self.decoder = Decoder()\n"
        f"        self.variational = {network.variational}\n\n"
        "    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor | None]:\n"
        "        return moments(self.encoder(images), variational=self.variational)\n"
    )


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True  # colours of a palette stay a buffer, and do not become a constant


def _network_class(name: str, network: nn.Module) -> str:
    modes = {mode: _traced(network, training=mode == "_train") for mode in ("_evaluate", "_train")}
    lines = [f"class {name}(nn.Module):", "    def __init__(self) -> None:", "        super().__init__()"]
    lines += [f"        _put(self, {path!r}, {made})" for path, made in _members(network, modes.values())]
    for mode, graph in modes.items():
        code = graph.python_code("self")
        if strange := sorted(_names_used(code.src) - {"torch"} - set(dir(builtins))):
            raise CannotTraceError(f"it computes with {', '.join(strange)}")
        lines += ["", *("    " + line for line in code.src.strip().replace("def forward(", f"def {mode}(").split("\n"))]
    lines += [
        "",
        "    def forward(self, given: Tensor) -> Any:",
        "        return self._train(given) if self.training else self._evaluate(given)",
    ]
    return "\n".join(lines)


def _names_used(source: str) -> set[str]:
    """Return the names that a function reads and neither takes nor assigns, those of its annotations aside."""
    function = next(node for node in ast.walk(ast.parse(source.strip())) if isinstance(node, ast.FunctionDef))
    names = [node for statement in function.body for node in ast.walk(statement) if isinstance(node, ast.Name)]
    own = {argument.arg for argument in function.args.args} | {n.id for n in names if isinstance(n.ctx, ast.Store)}
    return {name.id for name in names} - own


def _traced(network: nn.Module, *, training: bool) -> fx.Graph:
    modes = {part: part.training for part in network.modules()}
    try:
        network.train(training)
        graph = _Tracer().trace(network)
    except Exception as error:  # a stranger's network; torch.fx raises whatever it comes across
        raise CannotTraceError(f"{type(error).__name__}: {error}") from error
    finally:
        for part, mode in modes.items():
            part.training = mode
    (output,) = (node for node in graph.nodes if node.op == "output")
    if isinstance(output.args[0], dict):
        output.args = ({"rgb": output.args[0]["rgb"]},)
    pruned = fx.GraphModule(network, graph).graph
    pruned.eliminate_dead_code()
    return pruned


def _members(network: nn.Module, graphs: Any) -> Iterator[tuple[str, str]]:
    """Return what a network is made of, as path and Python expression: modules of torch, then tensors."""
    found: dict[str, str] = {}
    for path in dict.fromkeys(node.target for graph in graphs for node in graph.nodes if node.op == "call_module"):
        module = network.get_submodule(path)
        found[path] = _expression(module)
    yield from found.items()
    covered = {f"{path}.{name}" for path in found for name in network.get_submodule(path).state_dict()}
    for path, tensor in (*network.named_parameters(), *network.named_buffers()):
        if path not in covered:
            empty = f"torch.empty({tuple(tensor.shape)})"
            yield path, f"nn.Parameter({empty})" if isinstance(tensor, nn.Parameter) else empty


def _expression(module: nn.Module) -> str:
    """Return the expression that builds a module of torch anew; raises CannotTraceError where it builds another one."""
    kind = type(module).__name__
    text = repr(module)
    try:
        built = _built(kind, text)
    except Exception as error:  # whatever its text happens to mean
        raise CannotTraceError(f"torch describes its {kind} as {text}, which cannot be built") from error
    shapes = [{key: value.shape for key, value in m.state_dict().items()} for m in (built, module)]
    if type(built) is not type(module) or shapes[0] != shapes[1] or _settings(built) != _settings(module):
        raise CannotTraceError(f"torch describes its {kind} as {text}, which builds another one")
    return f"nn.{text}"


def _built(kind: str, text: str) -> nn.Module:
    """Return the module of torch that a call with plain values describes, such as `Conv2d(3, 8, bias=False)`.

    The text is not executed.
    """
    call = ast.parse(text, mode="eval").body
    if not isinstance(call, ast.Call) or ast.unparse(call.func) != kind:
        raise ValueError(f"expected a call of {kind}, found {text}")
    arguments = [ast.literal_eval(argument) for argument in call.args]
    options = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    module: nn.Module = getattr(nn, kind)(*arguments, **options)
    return module


def _settings(module: nn.Module) -> dict[str, Any]:
    return {k: v for k, v in vars(module).items() if not k.startswith("_") and k != "training" and not callable(v)}
