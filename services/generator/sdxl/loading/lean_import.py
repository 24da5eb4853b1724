"""Imports diffusers and transformers without parts of PyTorch that are not used here: a third of their import time.

Both libraries import `torch._dynamo`, the front end of torch.compile, for decorators that only matter while something
is compiled; with it come sympy and torch.distributed. `lean_import` gives them stand-ins for these decorators. The real
package is imported as soon as anything else of it is used. With GENERATOR_COMPILE nothing is replaced.

Measured: bench/results/2026-11-28-start.md. Tested: tests/generator/sdxl/loading/test_lean_import.py.
"""

import contextlib
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any

import torch

_NAME = "torch._dynamo"


class _NeverCompiled:
    """In place of OptimizedModule: as long as torch._dynamo is not imported, no module is compiled."""


def _unchanged(function: Any = None, *_: Any, **__: Any) -> Any:
    """In place of a decorator that is used with or without arguments."""
    return _unchanged if function is None else function


@contextlib.contextmanager
def lean_import() -> Iterator[None]:
    """While the block imports diffusers and transformers. Has no effect when torch._dynamo is imported already."""
    if _NAME in sys.modules:
        yield
        return
    stand_ins = {
        "allow_in_graph": _unchanged,
        "assume_constant_result": _unchanged,
        "disable": _unchanged,
        "eval_frame": types.SimpleNamespace(OptimizedModule=_NeverCompiled),
    }
    sys.meta_path.insert(0, _Deferred(_NAME, stand_ins, frozenset({"_trace_wrapped_higher_order_op"})))
    is_available: Callable[[], bool] = torch.distributed.is_available
    # transformers imports torch.distributed.tensor, and sympy with it, where processes could share a model.
    torch.distributed.is_available = lambda: False
    try:
        yield
    finally:
        torch.distributed.is_available = is_available


class _Deferred(MetaPathFinder, Loader):
    """A package in sys.modules that has only stand-ins, until another attribute or module of it is used."""

    def __init__(self, name: str, stand_ins: Mapping[str, Any], alone: frozenset[str]) -> None:
        """`alone` are modules of the package that can be imported without it."""
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        self._loader = spec.loader
        self._prefix = f"{name}."
        self._stand_ins = stand_ins
        self._alone = alone
        self._package: Any = importlib.util.module_from_spec(spec)
        vars(self._package).update(stand_ins, __getattr__=self._use)
        sys.modules[name] = self._package

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Before a module of the package is imported, the package is."""
        if not name.startswith(self._prefix) or name.removeprefix(self._prefix) in self._alone:
            return None
        self._import()
        return ModuleSpec(name, self) if name in sys.modules else None

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        """The module, which came with the package."""
        return sys.modules[spec.name]

    def exec_module(self, module: types.ModuleType) -> None:
        """It is imported already."""

    def _use(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        self._import()
        return getattr(self._package, attribute)

    def _import(self) -> None:
        sys.meta_path.remove(self)
        for name in (*self._stand_ins, "__getattr__"):
            delattr(self._package, name)
        self._loader.exec_module(self._package)
