"""The pages of `hv media web`: plain HTML without a script, so that keyboard, screen readers and old browsers do."""

from typing import Any

from jinja2 import DictLoader, Environment

_BASE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; font: 16px/1.45 system-ui, sans-serif }
body { margin: 2rem auto; max-width: 56rem; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem }
label { display: block; font-weight: 600; margin-top: .9rem }
small { display: block; font-weight: 400; opacity: .75 }
input, select, textarea { font: inherit; width: 100%; box-sizing: border-box; padding: .35rem .5rem; margin-top: .2rem }
textarea { font-family: ui-monospace, monospace; font-size: .9rem }
details { border: 1px solid #8885; border-radius: .4rem; padding: .5rem 1rem; margin: .8rem 0 }
summary { font-weight: 600; cursor: pointer }
button, a.button { font: inherit; font-weight: 600; padding: .55rem 1.2rem; margin: 1.2rem .6rem 0 0; border-radius: .4rem;
  border: 1px solid #1a5fb4; background: #1a5fb4; color: #fff; text-decoration: none; display: inline-block; cursor: pointer }
:focus-visible { outline: 3px solid #e5a50a; outline-offset: 2px }
th, td { text-align: left; padding: .2rem 1.2rem .2rem 0 }
pre { overflow: auto; border: 1px solid #8885; border-radius: .4rem; padding: .8rem; font-size: .85rem }
.problem { border-left: .3rem solid #c01c28; padding: .3rem .8rem; margin: .6rem 0; white-space: pre-line }
.wrong { border: 2px solid #c01c28 }
code { overflow-wrap: anywhere }
</style>
</head>
<body>
{% block body %}{% endblock %}
</body>
</html>
"""
_FORM = """\
{% extends "base" %}{% block body %}
<h1>Customise an install medium</h1>
{% if problems %}<section role="alert" aria-label="Problems"><h2>Not yet</h2>
{% for problem in problems %}<div class="problem">{% if problem.field %}<a href="#{{ problem.field }}">{{ problem.field }}</a>: \
{% endif %}{{ problem.text }}</div>
{% endfor %}</section>{% endif %}
<form method="post" action="/recipes">
<label for="image">Image<small>It is not changed: you get a copy.</small></label>
<select id="image" name="image">
{% for image in images %}<option value="{{ image.name }}"{% if image.name == values.get("image") %} selected{% endif %}>\
{{ image.name }} ({{ image.label }}, {{ image.size }})</option>
{% endfor %}</select>
{% for section, fields in sections %}
<details{% if section in open %} open{% endif %}><summary>{{ section }}</summary>
{% for field in fields %}<label for="{{ field.name }}">{{ field.name }}<small>{{ field.help }}</small></label>
{% set value = values.get(field.name, "") %}{% set wrong = " aria-invalid=true class=wrong" if field.name in marked else "" %}
{% if field.kind in ("choice", "yesno") %}<select id="{{ field.name }}" name="{{ field.name }}"{{ wrong }}>
<option value="">{{ "default: " ~ field.default if field.default else "not given" }}</option>
{% for choice in field.choices %}<option{% if choice == value %} selected{% endif %}>{{ choice }}</option>{% endfor %}
</select>
{% elif field.kind == "lines" %}<textarea id="{{ field.name }}" name="{{ field.name }}" rows="2" spellcheck="false"\
{{ wrong }} placeholder="{{ field.default or "one a line" }}">{{ value }}</textarea>
{% else %}<input id="{{ field.name }}" name="{{ field.name }}" value="{{ value }}" spellcheck="false" autocomplete="off"\
{{ wrong }}{% if field.kind == "secret" %} type="password"{% elif field.kind == "number" %} inputmode="numeric"{% endif %}\
 placeholder="{{ field.default }}">
{% endif %}{% endfor %}</details>
{% endfor %}
<details{% if "medium" in open %} open{% endif %}><summary>medium</summary>
<label for="keys">SSH keys for root of the live system<small>One a line; with one, no password is made.</small></label>
<textarea id="keys" name="keys" rows="3" spellcheck="false">{{ values.get("keys", "") }}</textarea>
<label for="arguments">Kernel arguments<small>Separated by blanks.</small></label>
<input id="arguments" name="arguments" value="{{ values.get("arguments", "") }}" spellcheck="false">
{% if machines %}<label for="machine">Try the answers on<small>A recorded machine: what would be erased, and the plan.</small></label>
<select id="machine" name="machine"><option value="">no machine</option>
{% for machine in machines %}<option{% if machine == values.get("machine") %} selected{% endif %}>{{ machine }}</option>{% endfor %}
</select>{% endif %}
</details>
<details{% if values.get("fleet") %} open{% endif %}><summary>fleet</summary>
<label for="fleet">Table of machines<small>CSV: a first line with <code>name,serial</code> and fields of the answer file, then \
a line for each machine. What is filled in above holds for all. You get an answer file for each, and one image.</small></label>
<textarea id="fleet" name="fleet" rows="5" spellcheck="false" placeholder="name,serial,hostname">{{ values.get("fleet", "") }}</textarea>
</details>
<button>Check, and make the medium</button>
</form>
{% endblock %}
"""
_RECIPE = """\
{% extends "base" %}{% block body %}
<h1>{{ recipe.image }}, customised</h1>
<p>Recipe <code>{{ recipe.identity }}</code>: the same wishes always give this one.</p>
<p><a class="button" href="/download/{{ token }}" download="{{ file }}">Download {{ size }}</a>
<a href="/">Another one</a></p>
<p>The link works once, and for ten minutes. Or on this computer:</p>
<pre>{{ command }}</pre>
{% if plan %}<h2>On {{ machine }}</h2><pre>{{ plan }}</pre>{% endif %}
{% if answers %}<h2>Answers</h2><pre>{{ answers }}</pre>{% endif %}
{% endblock %}
"""
_FLEET = """\
{% extends "base" %}{% block body %}
<h1>{{ title }}</h1>
<p>Fleet <code>{{ fleet.identity }}</code>: the same table and wishes always give this one.</p>
<p><a class="button" href="/fleet/{{ answers }}" download="fleet.tar">Download the answers</a>
<a class="button" href="/download/{{ image }}" download="{{ file }}">Download the image, {{ size }}</a>
<a href="/">Another one</a></p>
<p>Each link works once, and for ten minutes. Unpack the answers, and hand them out: <code>hv answers serve fleet</code>.</p>
<table><thead><tr><th scope="col">Name</th><th scope="col">Serial number</th></tr></thead><tbody>
{% for machine in fleet.machines %}<tr><td>{{ machine.name }}</td><td>{{ machine.serial }}</td></tr>
{% endfor %}</tbody></table>
{% endblock %}
"""
_MESSAGE = """\
{% extends "base" %}{% block body %}<h1>{{ title }}</h1><p>{{ text }}</p><p><a href="/">To the form</a></p>{% endblock %}
"""
_environment = Environment(
    autoescape=True,
    trim_blocks=True,
    loader=DictLoader(
        {"base": _BASE, "form": _FORM, "recipe": _RECIPE, "fleet": _FLEET, "message": _MESSAGE}
    ),
)


def page(name: str, **values: Any) -> str:
    """A page's HTML."""
    return _environment.get_template(name).render(**values)
