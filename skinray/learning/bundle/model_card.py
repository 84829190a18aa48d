"""The model card that comes with a bundle: intended use, measured accuracy, limits."""

from __future__ import annotations

from jinja2 import Environment

from skinray.config.kinds import Kind
from skinray.learning.bundle.info import LAST_STEP, BundleInfo

TEMPLATE = """\
# Model card: {{ title }}

{% if info.failures -%}
**It did not learn its task. Do not use its results.**
{% for failure in info.failures %}
- {{ failure }}
{%- endfor %}

{% endif -%}
{% if info.synthetic and not info.starter -%}
**Synthetic: trained on images that skinray drew.** Its figures compare it with the truth drawn and
say nothing about a patient's tissue. Train with your own images: `skinray train-cv --data FOLDER`.

{% endif -%}
{% if info.starter -%}
**Starter, untrained on your images.** skinray made it from {{ info.images }} biopsies that it drew
in many stains, sizes and anatomies (`skinray pretrain-phantoms`, seed \
{{ info.settings.nerve.seed }}). No image of a
patient and no other weights went into it. `skinray train-cv --data FOLDER` starts from it.

After the first {{ info.settings.first_steps }} steps the weights had the SHA-256
{% for stage, digest in info.settings.beginning.items() %}
- {{ stage }}: `{{ digest }}`
{%- endfor %}

{% endif -%}
**Use.** {{ use }}
For research only. Not a medical device: do not base a diagnosis on {{ result }} alone.

**Trained** by skinray {{ info.versions.get("skinray", "?") }}, {{ info.created }}, \
{% if info.starter %}on drawn biopsies
{% else %}fold
"{{ info.fold }}", on {{ trained_on }}
{% endif %}\
(data fingerprint `{{ info.data_fingerprint[:16] }}`).

| stage | network | options |
|---|---|---|
{% for stage, model in info.models.items() -%}
| {{ stage }} | {{ model.name }} | {{ model.options or "-" }} |
{% endfor %}
**Measured on {{ "other drawn biopsies" if info.starter else measured_on }}**
{% if info.starter %}(none of them in the training)\
{% elif info.members == 1 %}({{ seen }})\
{% else %}(each image was measured with the one of the {{ info.members }} members that was not \
trained on it)\
{% endif %}:

{% for name, value in info.metrics.items() -%}
- {{ name }}: {{ value }}
{% endfor %}
**{{ parameters }}.** {% for name, value in values.items() -%}
{{ name }} {{ value }}{{ ", " if not loop.last else "." }}
{%- endfor %}

**Limits.** {{ limits }}
"""
WORDS: dict[Kind, dict[str, str]] = {
    "biopsy": {
        "title": "nerve crossings in skin biopsies",
        "use": (
            "Counts nerve fibres that cross the dermal-epidermal boundary in bright-field images\n"
            "of stained skin biopsies, at about {scale} and with the stain of the training images."
        ),
        "trained_on": "{images} images of {subjects} subjects",
        "result": "its counts",
        "measured_on": "held-out images in cross-validation",
        "seen": "this bundle itself was trained on all images",
        "parameters": "Crossing parameters",
        "limits": (
            "Accuracy was not measured for any stain, section thickness, magnification or\n"
            "laboratory other than those of the training images. Label a few of your own images "
            "and\ncompare before you rely on it. The report's limits of agreement show the error "
            "of a count."
        ),
    },
    "photo": {
        "title": "skin in clinical photographs",
        "use": "Finds skin, both diseased and healthy, in clinical photographs.",
        "trained_on": "{images} photographs",
        "result": "its masks",
        "measured_on": "photographs held out from training",
        "seen": "this bundle was trained on none of them",
        "parameters": "Mask parameters",
        "limits": (
            "Accuracy was not measured for any camera, lighting, body site or skin tone other\n"
            "than those of the training photographs. Trace a few of your own photographs and "
            "compare before\nyou rely on it. The training report shows the figures by skin tone "
            "and by lighting."
        ),
    },
}


def model_card(info: BundleInfo) -> str:
    """Return the card as Markdown."""
    # Markdown, not HTML: escaping would spoil it, and a browser never renders it.
    template = Environment(autoescape=False).from_string(TEMPLATE)  # noqa: S701
    scale = f"{info.um_per_px:g} um per pixel" if info.um_per_px else "the training images' scale"
    facts = {"scale": scale, "images": info.images, "subjects": info.subjects}
    words = {name: text.format(**facts) for name, text in WORDS[info.kind].items()}
    values = getattr(info, LAST_STEP[info.kind]).model_dump()
    return template.render(info=info, values=values, **words)
