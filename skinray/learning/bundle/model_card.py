"""The page that travels with a bundle: what it is for, how good it was, what it is not for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import Environment

if TYPE_CHECKING:
    from skinray.learning.bundle.info import BundleInfo

TEMPLATE = """\
# Model card: {{ title }}

**Use.** {{ use }}
For research. Not a medical device: no diagnosis may rest on {{ result }} alone.

**Made** {{ info.created }} by skinray {{ info.versions.get("skinray", "?") }}, fold
"{{ info.fold }}", from {{ made_from }}
(data fingerprint `{{ info.data_fingerprint[:16] }}`).

| stage | network | options |
|---|---|---|
{% for stage, model in info.models.items() -%}
| {{ stage }} | {{ model.name }} | {{ model.options or "-" }} |
{% endfor %}
**Measured on {{ measured_on }}**
{% if info.members == 1 %}({{ seen }})\
{% else %}(for each image, by the one of its {{ info.members }} members that was not trained on it)\
{% endif %}:

{% for name, value in info.metrics.items() -%}
- {{ name }}: {{ value }}
{% endfor %}
**{{ parameters }}.** {% for name, value in values.items() -%}
{{ name }} {{ value }}{{ ", " if not loop.last else "." }}
{%- endfor %}

**Limits.** {{ limits }}
"""
BIOPSIES = {
    "title": "nerve crossings in skin biopsies",
    "made_from": "{images} images of {subjects} subjects",
    "result": "its counts",
    "measured_on": "held-out images in cross-validation",
    "seen": "this bundle itself saw every image",
    "parameters": "Crossing parameters",
    "limits": (
        "Another stain, thickness, magnification or laboratory than the training set's is\n"
        "outside what was measured: label a few of your own images and compare before relying on "
        "it.\nCounts carry the error that the report's limits of agreement show."
    ),
}
PHOTOS = {
    "title": "skin in clinical photographs",
    "made_from": "{images} photographs",
    "result": "its masks",
    "measured_on": "photographs held out of training",
    "seen": "this bundle saw none of them",
    "parameters": "Mask parameters",
    "limits": (
        "Another camera, light, part of the body or tone of skin than the training set's is\n"
        "outside what was measured: trace a few of your own photographs and compare before relying "
        "on it.\nThe training's report tells how the figures differ by tone of skin and by light."
    ),
}


def model_card(info: BundleInfo) -> str:
    """Return the card as Markdown."""
    # Markdown, not HTML: escaping would spoil it, and a browser never renders it.
    template = Environment(autoescape=False).from_string(TEMPLATE)  # noqa: S701
    words, settings = (BIOPSIES, info.crossings) if info.kind == "biopsy" else (PHOTOS, info.skin)
    values = settings.model_dump() if settings is not None else {}
    made_from = words["made_from"].format(images=info.images, subjects=info.subjects)
    told = words | {"made_from": made_from, "use": _use(info), "values": values}
    return template.render(info=info, **told)


def _use(info: BundleInfo) -> str:
    if info.kind == "photo":
        return "Find the skin, diseased and healthy, in clinical photographs."
    um = f"{info.um_per_px:g} um per pixel" if info.um_per_px else "the training images' scale"
    return (
        "Count nerve fibres that cross the dermal-epidermal boundary in bright-field images of\n"
        f"stained skin biopsies, at about {um} and with the stain of the training images."
    )
