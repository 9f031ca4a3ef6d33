"""The registry behind every kind of plugin: rewrite rules, allocators, sources, objectives."""

from __future__ import annotations

import importlib
import pkgutil
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from onnx_unipts.graph.errors import UsageError
from onnx_unipts.graph.hint import hint

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Named plugins of one kind, found in the modules of one package.

    A plugin is one file in the package that decorates one function or class with
    ``@registry.register("name")``. The files are imported at the first look-up, so that importing
    the package does no work and adding a plugin touches no other file.
    """

    def __init__(self, kind: str, package: str) -> None:
        """``kind`` is the word for error messages, ``package`` the dotted name to search."""
        self.kind = kind
        self._package = package
        self._plugins: dict[str, T] = {}
        self._discovered = False
        self._discovering = False
        self._lock = threading.RLock()

    def register(self, *names: str) -> Callable[[T], T]:
        """Return the decorator that files a plugin under ``names``."""

        def decorate(plugin: T) -> T:
            for name in names:
                if name in self._plugins:
                    raise ValueError(f"two plugins of kind {self.kind} are called {name!r}")
                self._plugins[name] = plugin
            return plugin

        return decorate

    def __getitem__(self, name: str) -> T:
        """Return the plugin called ``name``; raises `UsageError` that lists the known names."""
        self._discover()
        if name not in self._plugins:
            known = ", ".join(self)
            raise UsageError(f"unknown {self.kind} {name!r}{hint(name, self)}; known: {known}")
        return self._plugins[name]

    def __contains__(self, name: object) -> bool:
        self._discover()
        return name in self._plugins

    def __iter__(self) -> Iterator[str]:
        self._discover()
        return iter(sorted(self._plugins))

    def __len__(self) -> int:
        self._discover()
        return len(self._plugins)

    def _discover(self) -> None:
        # Reentrant: a plugin may look another one up while it is imported.
        with self._lock:
            if self._discovered or self._discovering:
                return
            self._discovering = True
            try:
                package = importlib.import_module(self._package)
                for module in pkgutil.iter_modules(package.__path__):
                    importlib.import_module(f"{self._package}.{module.name}")
                self._discovered = True
            finally:
                self._discovering = False
