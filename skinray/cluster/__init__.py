"""The only package that knows Ray: it carries the other packages' work over machines."""
