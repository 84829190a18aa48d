"""Every setting: frozen pydantic models, with units in their names."""
