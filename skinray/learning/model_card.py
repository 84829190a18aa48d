"""The page that travels with a bundle: what it is for, how good it was, what it is not for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinja2 import Environment

if TYPE_CHECKING:
    from skinray.learning.bundle import BundleInfo

TEMPLATE = """\
# Model card: nerve crossings in skin biopsies

**Use.** Count nerve fibres that cross the dermal-epidermal boundary in bright-field images of
stained skin biopsies, at about {{ um }} and with the stain of the training images.
For research. Not a medical device: no diagnosis may rest on its counts alone.

**Made** {{ info.created }} by skinray {{ info.versions.get("skinray", "?") }}, fold
"{{ info.fold }}", from {{ info.images }} images of {{ info.subjects }} subjects
(data fingerprint `{{ info.data_fingerprint[:16] }}`).

| stage | network | options |
|---|---|---|
{% for stage, model in info.models.items() -%}
| {{ stage }} | {{ model.name }} | {{ model.options or "-" }} |
{% endfor %}
**Measured on held-out images in cross-validation**
{% if info.members == 1 %}(this bundle itself saw every image)\
{% else %}(for each image, by the one of its {{ info.members }} members that never saw it)\
{% endif %}:

{% for name, value in info.metrics.items() -%}
- {{ name }}: {{ value }}
{% endfor %}
**Crossing parameters.** {% for name, value in crossings.items() -%}
{{ name }} {{ value }}{{ ", " if not loop.last else "." }}
{%- endfor %}

**Limits.** Another stain, thickness, magnification or laboratory than the training set's is
outside what was measured: label a few of your own images and compare before relying on it.
Counts carry the error that the report's limits of agreement show.
"""


def model_card(info: BundleInfo) -> str:
    """Return the card as Markdown."""
    # Markdown, not HTML: escaping would spoil it, and a browser never renders it.
    template = Environment(autoescape=False).from_string(TEMPLATE)  # noqa: S701
    um = f"{info.um_per_px:g} um per pixel" if info.um_per_px else "the training images' scale"
    return template.render(info=info, um=um, crossings=info.crossings.model_dump())
