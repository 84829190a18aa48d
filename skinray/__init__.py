"""Count nerve fibres that cross the dermal-epidermal boundary in skin biopsies."""

__version__ = "0.1.0"
