"""The fleet as a page: no script, nothing from elsewhere, anew every five seconds."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment

STATES = ("answered", "installing", "installed", "failed")
_TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="refresh" content="5">
<meta name="viewport" content="width=device-width">
<title>Hyper-NixOS: {{ entries }} machines</title>
<style>
:root { color-scheme: light dark; font: 16px/1.4 system-ui, sans-serif }
body { margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
nav a { margin-right: 1.5rem }
nav a[aria-current] { font-weight: bold; text-decoration: none }
table { border-collapse: collapse; width: 100%; margin-top: 1rem }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8885; vertical-align: top }
td.failed { color: #c22; font-weight: bold }
td.installed { color: #182 }
</style>
</head>
<body>
<h1>Machines</h1>
<nav>
<a href="/"{% if not chosen %} aria-current="page"{% endif %}>all entries: {{ entries }}</a>
{% for state in states -%}
<a href="/?state={{ state }}"{% if chosen == state %} aria-current="page"{% endif %}>{{ state }}: {{ counts.get(state, 0) }}</a>
{% endfor -%}
</nav>
<table>
<thead><tr><th>Machine</th><th>Serial number</th><th>State</th><th></th><th>Since (UTC)</th></tr></thead>
<tbody>
{% for machine in machines -%}
<tr><td>{{ machine.name }}</td><td>{{ machine.serial or "" }}</td><td class="{{ machine.state }}">{{ machine.state }}
{%- if machine.percent is not none and machine.state == "installing" %} {{ "%.0f" | format(machine.percent) }} %{% endif -%}
</td><td>{{ machine.detail }}</td><td>{{ machine.time[:19] | replace("T", " ") }}</td></tr>
{% endfor -%}
</tbody>
</table>
{% if machines | length >= 500 %}<p>The first 500 are shown; <a href="/v1/fleet">JSON</a> has them all.</p>{% endif %}
</body>
</html>
"""
_template = Environment(autoescape=True).from_string(_TEMPLATE)


def page(
    entries: int, counts: Mapping[str, int], machines: Sequence[Mapping[str, Any]], chosen: str | None
) -> str:
    """The page's HTML."""
    return _template.render(entries=entries, counts=counts, machines=machines, chosen=chosen, states=STATES)
