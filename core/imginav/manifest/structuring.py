"""From tables to typed manifests and back; strict, and with all faults at once.

cattrs walks the classes and gathers the errors of a whole tree; what it would let pass (unknown keys, 3.7 for a whole
number, text for a list) is refused by the hooks here.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import attrs
from cattrs import ClassValidationError, Converter, ForbiddenExtraKeysError, IterableValidationError
from cattrs.errors import AttributeValidationNote, BaseValidationError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from imginav.errors import did_you_mean, in_one_line, shown
from imginav.plugin.components import Component
from imginav.plugin.registry import Registry

T = TypeVar("T")

MOST_ENTRIES = 1_000
"""Of one table, such as [losses] or the experiments of a sweep."""

MOST_UNKNOWN_KEYS = 20
"""Of one table, that are named each by itself."""

MOST_FAULTS = 10
"""Of those of one file, that are told in a sentence."""

_SCALARS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "text in quotes",
    Path: "a path in quotes",
    Any: "a value",
}


class Table(dict[str, Any]):
    """A table of a manifest that remembers which of its keys were written for another `type`.

    Where a site file turns procedural layouts into real ones, the size of an image still holds, and the density of
    procedural furniture no longer means anything: such keys are kept where the new component has them.
    """

    inherited: frozenset[str] = frozenset()


@attrs.frozen
class Fault:
    """One thing that is wrong in a manifest, and the keys that lead to it."""

    path: tuple[str, ...]
    text: str
    is_missing: bool = False  # the text follows the key

    def at(self, place: str) -> str:
        """Return the fault with its place."""
        return f"{place} {self.text}" if self.is_missing else f"{self.text} @ {place}" if place else self.text


class StructuringError(Exception):
    """Everything that is wrong in a manifest; its text has the first ten faults."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(fault.at(in_one_line(".".join(fault.path))) for fault in faults[:MOST_FAULTS]))
        self.faults = faults


class Structurer:
    """Turns tables into attrs classes with the components of a registry, and back."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._functions: dict[type, Callable[[Any, Any], Any]] = {}  # to structure each class of component
        self._tables_of: dict[type, Callable[[Any], dict[str, Any]]] = {}  # the way back, of each class
        self._converter = Converter(detailed_validation=True, forbid_extra_keys=True)
        for scalar in _SCALARS:  # for these, cattrs asks its own hooks before any predicate
            self._converter.register_structure_hook(scalar, _structure_plain)
        # Of the predicates, cattrs asks the one that was registered last first.
        self._converter.register_structure_hook_func(_is_plain, _structure_plain)
        self._converter.register_structure_hook_func(_is_table_of, self._structure_table)
        self._converter.register_structure_hook_factory(attrs.has, self._structure_function)
        self._converter.register_structure_hook_func(_is_component, self._structure_component)
        self._converter.register_unstructure_hook_func(attrs.has, self._unstructure)
        self._converter.register_unstructure_hook(Path, str)

    def structure(self, table: Mapping[str, Any], cls: type[T]) -> T:
        """Return the table as an attrs class or a dictionary of such; raises StructuringError with all faults."""
        try:
            return self._converter.structure(table, cls)
        except (ValueError, LookupError, BaseValidationError) as error:  # the first two of the table as a whole
            raise StructuringError(sorted(_faults(error, ()), key=lambda fault: fault.path)) from None

    def unstructure(self, value: object) -> dict[str, Any]:
        """Return an attrs instance as tables that `structure` turns into an equal one; none values are left out."""
        table: dict[str, Any] = self._converter.unstructure(value)
        return table

    def _structure_function(self, cls: type) -> Callable[[Any, Any], Any]:
        # Any: cattrs types the keywords of its own options and those of our fields alike.
        hooks: dict[str, Any] = {
            attribute.name: override(struct_hook=self._checked(attribute))
            for attribute in attrs.fields(attrs.resolve_types(cls))
            if attribute.init
        }
        from_dict: Any = make_dict_structure_fn(cls, self._converter, _cattrs_forbid_extra_keys=True, **hooks)

        def structure(value: Any, _: Any) -> Any:
            if not isinstance(value, dict):
                raise ValueError(f"expected a table, found {shown(value)}")
            return from_dict(value, cls)

        return structure

    def _checked(self, attribute: attrs.Attribute[Any]) -> Callable[[Any, Any], Any]:
        """Structure a field and validate it at once, so that its fault is gathered with all the others."""

        def structure(value: Any, declared: Any) -> Any:
            structured = self._converter.structure(value, declared)
            if attribute.validator is not None:
                attribute.validator(None, attribute, structured)
            return structured

        return structure

    def _structure_table(self, value: Any, declared: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError(f"expected a table, found {shown(value)}")
        if len(value) > MOST_ENTRIES:
            raise ValueError(f"expected at most {MOST_ENTRIES:,} entries, found {len(value):,}")
        element = get_args(declared)[1]
        structured, errors = {}, []
        for key, item in value.items():
            if _is_component(element):
                if item is False:  # the way to switch off what a file further down has switched on
                    continue
                if isinstance(item, dict) and "type" not in item:
                    item = _with_type(item, key)
            try:
                structured[key] = self._converter.structure(item, element)
            except (ValueError, LookupError, BaseValidationError) as error:  # raised together below
                error.add_note(IterableValidationNote(f"key {key}", key, element))
                errors.append(error)
        if errors:
            raise IterableValidationError("table", errors, dict)
        return structured

    def _structure_component(self, value: Any, base: type[Component]) -> Component:
        if not isinstance(value, dict):
            raise ValueError(f"expected a table with the type of {base.kind}, found {shown(value)}")
        name = value.get("type")
        if not isinstance(name, str):
            known = ", ".join(repr(r.name) for r in self.registry if r.kind == base.kind)
            raise ValueError(f"expected type = one of {known}, found {'none' if name is None else shown(name)}")
        cls = self.registry.find(base.kind, name)
        fields = _keys(cls)
        inherited = value.inherited if isinstance(value, Table) else frozenset()
        kept = {k: v for k, v in value.items() if k != "type" and (k in fields or k not in inherited)}
        if cls not in self._functions:
            self._functions[cls] = self._structure_function(cls)
        component: Component = self._functions[cls](kept, cls)
        return component

    def _unstructure(self, value: Any) -> dict[str, Any]:
        cls = type(value)
        if cls not in self._tables_of:
            by_runtime_class = _by_runtime_class(cls, self._converter)
            self._tables_of[cls] = make_dict_unstructure_fn(cls, self._converter, **by_runtime_class)
        table = self._tables_of[cls](value)
        table = {key: item for key, item in table.items() if item is not None}
        return {"type": self.registry.name_of(cls), **table} if isinstance(value, Component) else table


def _by_runtime_class(cls: type, converter: Converter) -> dict[str, Any]:
    """A field that is declared as an encoder holds a conv encoder, and all of its values count."""
    fields = attrs.fields(attrs.resolve_types(cls))
    hook = override(unstruct_hook=lambda value: _plain_tree(converter.unstructure(value)))
    return {attribute.name: hook for attribute in fields if attribute.init}


def _keys(cls: type) -> list[str]:
    """Return the keys that a class takes in a manifest; a field with `init=False` is none."""
    return [attribute.name for attribute in attrs.fields(cls) if attribute.init]


def _plain_tree(value: Any) -> Any:
    return [_plain_tree(item) for item in value] if isinstance(value, (list, tuple)) else value


def _with_type(item: dict[str, Any], name: str) -> Table:
    table = Table({"type": name, **item})
    table.inherited = item.inherited if isinstance(item, Table) else frozenset()
    return table


def _is_component(declared: Any) -> bool:
    return isinstance(declared, type) and issubclass(declared, Component)


def _is_table_of(declared: Any) -> bool:
    return get_origin(declared) is dict


def _is_union(declared: Any) -> bool:
    return get_origin(declared) in (Union, types.UnionType)


def _is_plain(declared: Any) -> bool:
    if _is_union(declared) or get_origin(declared) in (list, tuple):
        return all(a in (type(None), ...) or _is_plain(a) for a in get_args(declared))
    return declared in _SCALARS or get_origin(declared) is Literal


def _structure_plain(value: Any, declared: Any) -> Any:
    converted, fits = _convert(value, declared)
    if not fits:
        raise ValueError(f"expected {_describe(declared)}, found {shown(value)}")
    return converted


def _convert(value: Any, declared: Any) -> tuple[Any, bool]:
    """Return the value as the declared type, and whether it is of that type as it stands."""
    if value is None:  # only JSON has it: a value that is optional, or a number that is not finite
        optional = _is_union(declared) and type(None) in get_args(declared)
        return (math.nan if declared is float else None), optional or declared is float
    if _is_union(declared):
        tries = (_convert(value, member) for member in get_args(declared) if member is not type(None))
        return next((result for result in tries if result[1]), (None, False))
    if get_origin(declared) is Literal:
        return value, any(type(value) is type(choice) and value == choice for choice in get_args(declared))
    if get_origin(declared) in (list, tuple):
        length = 0 if get_origin(declared) is list or ... in get_args(declared) else len(get_args(declared))
        if not isinstance(value, list) or (length and len(value) != length):
            return None, False
        results = [_convert(item, get_args(declared)[0]) for item in value]
        return get_origin(declared)(result for result, _ in results), all(fits for _, fits in results)
    if declared is Any:
        return value, True
    if declared is float:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300
        return (float(value) if fits else None), fits and math.isfinite(value)
    if declared is int:
        return value, isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    if declared is Path:
        return (Path(value), True) if isinstance(value, str) and value and "\0" not in value else (None, False)
    return value, isinstance(value, declared)


def _describe(declared: Any) -> str:
    if _is_union(declared):
        return " or ".join(_describe(member) for member in get_args(declared) if member is not type(None))
    if get_origin(declared) is Literal:
        return " or ".join("false" if choice is False else repr(choice) for choice in get_args(declared))
    if get_origin(declared) in (list, tuple):
        return f"a list, each of it {_describe(get_args(declared)[0])}"
    return _SCALARS[declared]


def _faults(error: BaseException, path: tuple[str, ...]) -> list[Fault]:
    if isinstance(error, (ClassValidationError, IterableValidationError)):
        return [fault for inner in error.exceptions for fault in _faults(inner, path + _step(inner))]
    if isinstance(error, ForbiddenExtraKeysError):
        known = [*_keys(error.cl), *getattr(error.cl, "beside", ())]
        faults = [
            Fault((*path, key), _unknown(key, known, path)) for key in sorted(error.extra_fields)[:MOST_UNKNOWN_KEYS]
        ]
        if more := len(error.extra_fields) - len(faults):
            faults.append(Fault(path, f"{more:,} more unknown keys; known are: {', '.join(known)}"))
        return faults
    if type(error) is KeyError:
        return [Fault(path, _required(error), is_missing=True)]
    return [Fault(path, str(error))]


def _required(error: BaseException) -> str:
    """Return that a key is required, and what it takes where that is a plain value."""
    types = [note.type for note in getattr(error, "__notes__", ()) if isinstance(note, AttributeValidationNote)]
    expected = f" ({_describe(types[0])})" if types and _is_plain(types[0]) else ""
    return f"is required{expected}"


def _unknown(key: str, known: list[str], path: tuple[str, ...]) -> str:
    if (*path, key) == ("plugins",):
        return "a manifest names no plugin files; name them with --plugin FILE, or in the site file"
    return f"unknown key {key!r}{did_you_mean(key, known)}; known are: {', '.join(known)}"


def _step(error: BaseException) -> tuple[str, ...]:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return (note.name,)
        if isinstance(note, IterableValidationNote):
            return (str(note.index),)
    return ()
