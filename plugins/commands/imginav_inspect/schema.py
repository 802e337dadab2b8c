"""A JSON Schema of a phase's file, so that an editor completes and checks it while it is written.

It is made from the classes that the file becomes and from all components of a registry, and says of each key what
its comment in the source says. A file may extend another, so no key must be there. What depends on several values at
once (`__attrs_post_init__`), and that 3.0 is no whole number, a schema cannot say: those the loader alone refuses.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin
from urllib.parse import quote

import attrs

from imginav.manifest.config_layers import EXTENDS, Keys
from imginav.manifest.sweeps import FIXED_TABLES
from imginav.manifest.tables import Manifest, Plan, Sweep
from imginav.plugin.components import Component
from imginav.plugin.registry import Registration, Registry
from imginav.plugin.validators import Check, file_name
from imginav_inspect.field_comments import comment_of, summary_of

DIALECT = "http://json-schema.org/draft-07/schema#"
"""The newest that Even Better TOML and its relatives understand in full."""

ANY_NAME, ANYTHING = "*", "**"
"""In place of a key: any one, and any number of them."""

PATTERNS = {ANY_NAME: r"[^.]+", ANYTHING: r".+"}

Schema: TypeAlias = dict[str, Any]

SCALARS: dict[Any, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    Path: {"type": "string", "minLength": 1},
}

FALSE_SWITCHES_OFF: Schema = {
    "type": ["object", "boolean"],
    "if": {"type": "boolean"},
    "then": {"const": False},
}


def schema_text(registry: Registry) -> str:
    """Return the schema as the text of a JSON file; the same components give the same text."""
    return json.dumps(manifest_schema(registry), indent=2, ensure_ascii=False) + "\n"


def manifest_schema(registry: Registry) -> Schema:
    """Return the JSON Schema (draft-07) of a phase's file as a person writes it."""
    return _Schema(registry).of_a_file()


class _Schema:
    """Collects the definitions that a schema refers to.

    Editors built on taplo look for keys in `properties` and behind `$ref`, `allOf` and `anyOf`, but not behind `if`,
    and not in a schema that has an `allOf` beside its `properties`. So the definition of a kind lists the keys of all
    its components, and what a single one refuses stands behind `if`, where faults are named one by one; those of an
    `anyOf` would be one fault without a reason.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._definitions: dict[str, Schema] = {}

    def of_a_file(self) -> Schema:
        """Return the schema of a whole file."""
        tables = {**self._properties(Manifest), **self._properties(Plan)}
        tables["sweep"] |= FALSE_SWITCHES_OFF
        tables["winners"] |= FALSE_SWITCHES_OFF
        tables["winners"]["additionalProperties"] = {
            "anyOf": [{"const": False}, tables["winners"]["additionalProperties"]]
        }
        tried = {k: s for k, s in self._places("#", [Manifest]) if k[0] not in FIXED_TABLES}
        self._define_sweep(tried)
        changed = dict(self._places("#", [Manifest, Plan]))
        return {
            "$schema": DIALECT,
            "title": "A phase of imginav",
            "description": "What a phase trains and how; made by `imginav schema` from the installed components.",
            "type": "object",
            "properties": {
                EXTENDS: {
                    "description": "the path of a TOML file, from this file's folder, on which this one stands",
                    **SCALARS[Path],
                },
                **tables,
                "trial": {
                    "description": 'what a trial changes, by dotted keys such as "train.epochs"',
                    "type": "object",
                    **_dotted(changed),
                },
                "quick": {
                    "description": "what a quick trial changes beside, by dotted keys",
                    "type": "object",
                    **_dotted(changed),
                },
            },
            "additionalProperties": False,
            # Below a file that extends another, entries may have their types there.
            "if": {"not": {"required": [EXTENDS]}},
            "then": self._named_entries(tried),
            "definitions": self._definitions,
        }

    def _define_sweep(self, tried: Mapping[Keys, Schema]) -> None:
        """Say what experiments change, which the classes leave open."""
        self._definitions["experiment"] = {
            "description": "what an experiment changes, by dotted keys; false: the experiment is left out",
            **FALSE_SWITCHES_OFF,
            **_dotted(tried),
        }
        sweep = self._definitions[_name(Sweep)]["properties"]
        sweep["experiments"]["propertyNames"] = file_name.schema()
        sweep["experiments"]["additionalProperties"] = _ref("experiment")
        listed = {keys: _list_of(schema) for keys, schema in tried.items()}
        nested, dotted = _nested(listed), _dotted(listed)
        sweep["grid"] |= {**dotted, "properties": {**dotted["properties"], **nested["properties"]}}

    def _named_entries(self, places: Mapping[Keys, Schema]) -> Schema:
        """Refuse entries without a type whose name is none of a component."""
        names: dict[str, list[str]] = {}
        for r in self._registry:
            names.setdefault(_entry(r.kind)["$ref"], []).append(r.name)
        schema: Schema = {}
        for keys, place in places.items():
            if keys[-1] == ANY_NAME and keys.count(ANY_NAME) == 1 and place.get("$ref") in names:
                table = schema
                for key in keys[:-1]:
                    table = table.setdefault("properties", {}).setdefault(key, {})
                known = dict.fromkeys(names[place["$ref"]], True)
                table |= {"properties": known, "additionalProperties": {"required": ["type"]}}
        return schema

    def _properties(self, cls: type) -> dict[str, Schema]:
        return {attribute.name: self._key(cls, attribute) for attribute in _attributes(cls)}

    def _key(self, cls: type, attribute: attrs.Attribute[Any]) -> Schema:
        """Return what a key accepts, with its comment and its default."""
        accepted = self._value(attribute.type)
        of_its_type = accepted.pop("description", "")
        said = comment_of(cls, attribute.name) or of_its_type
        limits = attribute.validator.schema() if isinstance(attribute.validator, Check) else {}
        return {**({"description": said} if said else {}), **accepted, **limits, **_default(attribute)}

    def _value(self, declared: Any) -> Schema:
        """Return what a declared type accepts; everything, where it is not known here."""
        members = _members(declared)
        if len(members) > 1:
            return {"anyOf": [self._value(member) for member in members]}
        (member,) = members
        if member in SCALARS:
            return dict(SCALARS[member])
        if get_origin(member) is Literal:
            return {"enum": list(get_args(member))}
        if get_origin(member) in (list, tuple):
            return {"type": "array", "items": self._value(get_args(member)[0])}
        if get_origin(member) is dict:
            return self._table_of(get_args(member)[1])
        if attrs.has(member):
            return {"description": summary_of(member), "type": "object", "allOf": [self._definition(member)]}
        return {}

    def _table_of(self, element: Any) -> Schema:
        """Return the schema of a table with names of the user's own."""
        if not _is_component(element):
            return {"type": "object", "additionalProperties": self._value(element)}
        self._definitions[f"{element.kind}_entry"] = {
            "description": f"{summary_of(element)} false: switched off.",
            **FALSE_SWITCHES_OFF,
            "allOf": [self._definition(element)],
        }
        return {
            "description": summary_of(element),
            "type": "object",
            "properties": {r.name: self._named(r) for r in self._registered(element)},
            "additionalProperties": _entry(element.kind),
        }

    def _named(self, registration: Registration) -> Schema:
        """Return the schema of an entry that takes its own name for its type where it has none."""
        own = _ref(f"{registration.kind}.{registration.name}")
        return {
            "description": summary_of(registration.component),
            "allOf": [_entry(registration.kind), {"if": {"not": {"required": ["type"]}}, "then": own}],
        }

    def _definition(self, cls: type) -> Schema:
        """Return a reference to the definition of an attrs class or of a kind of components."""
        name = _name(cls)
        if name not in self._definitions:
            self._definitions[name] = {}  # for a class that holds itself
            self._definitions[name] |= self._kind(cls) if _is_component(cls) else self._closed(cls)
        return _ref(name)

    def _closed(self, cls: type, **properties: Schema) -> Schema:
        return {
            "description": summary_of(cls),
            "properties": {**properties, **self._properties(cls)},
            "additionalProperties": False,
        }

    def _kind(self, base: type[Component]) -> Schema:
        """Return what the tables of a kind accept: by their type, or without one the keys of all."""
        registrations = self._registered(base)
        cases = []
        for r in registrations:
            self._definitions[f"{r.kind}.{r.name}"] = self._closed(r.component, type={"const": r.name})
            chosen = {"properties": {"type": {"const": r.name}}}
            cases.append({"if": chosen, "then": _ref(f"{r.kind}.{r.name}")})
        listing = "".join(f"\n- {r.name}: {summary_of(r.component)}" for r in registrations)
        types = {"description": f"which {base.kind}{listing}", "enum": [r.name for r in registrations]}
        keys = self._keys_of_all(registrations) if registrations else self._properties(base)
        return {
            "description": summary_of(base),
            "properties": {"type": types, **keys},
            "additionalProperties": False,
            **({"if": {"required": ["type"]}, "then": {"allOf": cases}} if cases else {}),
        }

    def _keys_of_all(self, registrations: list[Registration]) -> dict[str, Schema]:
        """Return the keys of several components; one that differs between them accepts what any of them does."""
        variants: dict[str, list[tuple[Schema, Schema]]] = {}
        for r in registrations:
            definition = f"{r.kind}.{r.name}"
            for key, schema in self._definitions[definition]["properties"].items():
                known = variants.setdefault(key, [])
                if schema not in [other for other, _ in known]:
                    known.append((schema, _ref(definition, "properties", key)))
        del variants["type"]
        return {
            key: known[0][1] if len(known) == 1 else {"anyOf": [reference for _, reference in known]}
            for key, known in variants.items()
        }

    def _registered(self, base: type[Component]) -> list[Registration]:
        return [r for r in self._registry if r.kind == base.kind]

    def _places(
        self, pointer: str, classes: list[type], prefix: Keys = (), above: tuple[type, ...] = ()
    ) -> Iterator[tuple[Keys, Schema]]:
        """Return the keys of some classes and of all that they hold, each with what it accepts."""
        for cls in classes:
            for attribute in _attributes(cls):
                keys = (*prefix, attribute.name)
                yield keys, {"$ref": f"{pointer}/properties/{attribute.name}"}
                for member in _members(attribute.type):
                    yield from self._places_below(member, keys, above)

    def _places_below(self, declared: Any, keys: Keys, above: tuple[type, ...]) -> Iterator[tuple[Keys, Schema]]:
        if get_origin(declared) is dict:
            element = get_args(declared)[1]
            if _is_component(element):
                yield (*keys, ANY_NAME), _entry(element.kind)
                yield from self._places_below(element, (*keys, ANY_NAME), above)
            elif any(attrs.has(member) or get_origin(member) is dict for member in _members(element)):
                yield (*keys, ANYTHING), {}
            else:
                yield (*keys, ANY_NAME), self._value(element)
        elif declared is Any or declared in above:
            yield (*keys, ANYTHING), {}
        elif attrs.has(declared):
            components: list[type] = []
            pointer = self._definition(declared)["$ref"]
            if issubclass(declared, Component):
                yield (*keys, "type"), {"$ref": f"{pointer}/properties/type"}
                components = [r.component for r in self._registered(declared)]
            yield from self._places(pointer, components or [declared], keys, (*above, declared))


def _dotted(places: Mapping[Keys, Schema]) -> Schema:
    """Return the schema of a table whose keys are dotted; those with names of the user's own by their pattern."""
    named = {keys: schema for keys, schema in places.items() if not PATTERNS.keys() & set(keys)}
    return {
        "properties": {".".join(keys): schema for keys, schema in named.items()},
        "patternProperties": {
            "^" + r"\.".join(PATTERNS.get(key, key) for key in keys) + "$": schema
            for keys, schema in places.items()
            if keys not in named
        },
        "additionalProperties": False,
    }


def _nested(places: Mapping[Keys, Schema]) -> Schema:
    """Return the schema of tables in tables whose last keys have what the places say."""
    properties: dict[str, Schema] = {}
    for name in dict.fromkeys(keys[0] for keys in places):
        below = {keys[1:]: schema for keys, schema in places.items() if keys[0] == name and keys[1:]}
        properties[name] = dict(places.get((name,), {}))
        if below:
            properties[name] |= {"type": ["array", "object"], **_nested(below)}
    others = properties.pop(ANYTHING, properties.pop(ANY_NAME, False))
    return {"properties": properties, "additionalProperties": others}


def _list_of(schema: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": schema}


def _default(attribute: attrs.Attribute[Any]) -> Schema:
    """Return the default as JSON says it; nothing for none, for what is made anew each time and for a required key."""
    value = attribute.default.as_posix() if isinstance(attribute.default, Path) else attribute.default
    value = list(value) if isinstance(value, tuple) else value
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return {}
    return {} if value is None else {"default": value}


def _attributes(cls: type) -> list[attrs.Attribute[Any]]:
    """Return the fields that are keys of a manifest."""
    return [attribute for attribute in attrs.fields(attrs.resolve_types(cls)) if attribute.init]


def _members(declared: Any) -> list[Any]:
    """Return what a union is made of but none, which TOML cannot say."""
    if get_origin(declared) in (Union, types.UnionType):
        return [member for member in get_args(declared) if member is not type(None)]
    return [declared]


def _is_component(declared: Any) -> bool:
    return isinstance(declared, type) and issubclass(declared, Component)


def _name(cls: type) -> str:
    return cls.kind if issubclass(cls, Component) else f"{cls.__module__}.{cls.__qualname__}"


def _entry(kind: str) -> Schema:
    return _ref(f"{kind}_entry")


def _ref(*keys: str) -> Schema:
    # A slash within a key would be the end of it.
    escaped = (quote(key.replace("~", "~0").replace("/", "~1")) for key in keys)
    return {"$ref": "/".join(["#/definitions", *escaped])}
