"""Lists of what there is, from source text and YAML names: what `--help` and `show=` print."""

from collections.abc import Mapping
from typing import Any

from heatproof.base import asked, registry
from heatproof.base.registry import Choice

GROUPS = ("dataset", "model", "train", "explainer", "views", "metrics", "study")
# `show=` -> kinds of choices that it lists.
KINDS = {
    "datasets": ("dataset",),
    "models": ("model",),
    "explainers": ("explainer",),
    "views": ("view", "fusion"),
    "metrics": ("metric",),
}
HIDDEN_FACTS = ("kind", "columns", "version", "norm", "control", "asks", "reruns")


def groups_text() -> str:
    """The groups of the config and their options."""
    lines = []
    for group in GROUPS:
        names = registry.conf_names(group)
        lines += _wrapped(f"  {group:<11}", names or ["(none shipped; your own through HEATPROOF_CONF)"])
    return "\n".join(lines)


def choices_text(show: str) -> str:
    """Every choice of a kind: its name, what it is, its settings and facts, and the options that are presets of it."""
    parts = []
    for kind in KINDS[show]:
        if kind == "view":
            parts.append("sets of views (views=...): " + ", ".join(registry.conf_names("views")))
        if kind == "metric":
            parts.append("suites (metrics=[...]): " + ", ".join(registry.conf_names("metrics")))
        presets = _presets(kind)
        for name, choice in registry.choices(kind).items():
            parts.append(_entry(choice, [preset for preset in presets.get(name, []) if preset != name]))
    return "\n\n".join(parts)


def _entry(choice: Choice, presets: list[str]) -> str:
    first = choice.doc.splitlines()[0] if choice.doc else ""
    control = " (control)" if choice.facts.get("control") else ""
    lines = [f"{choice.name}{control}: {first}"]
    settings = registry.shipped_settings(choice.kind, choice.name)
    if choice.parameters:
        lines += _wrapped("    settings: ", [f"{key}={_value(settings.get(key))}" for key in choice.parameters])
    facts = [f"{key}={_value(value)}" for key, value in choice.facts.items() if key not in HIDDEN_FACTS]
    if facts:
        lines += _wrapped("    facts: ", facts)
    if choice.kind == "metric":
        lines.append(f"    cost an image and map: {asked.in_words(choice.facts, settings)}")
    if presets:
        lines += _wrapped("    options: ", presets)
    return "\n".join(lines)


def _presets(kind: str) -> Mapping[str, list[str]]:
    result: dict[str, list[str]] = {}
    for name in registry.conf_names(kind):
        content = registry.conf_file(kind, name) or {}
        result.setdefault(str(content.get(registry.FUNCTION_KEY[kind], name)), []).append(name)
    return result


def _value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    return str(value)


def _wrapped(head: str, names: list[str], width: int = 110) -> list[str]:
    lines, line = [], head
    for i, name in enumerate(names):
        text = name + ("," if i < len(names) - 1 else "")
        if len(line) + len(text) > width and line.strip():
            lines.append(line.rstrip())
            line = " " * len(head)
        line += text + " "
    return [*lines, line.rstrip()]
