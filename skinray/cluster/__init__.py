"""The only package that knows Ray: it distributes the other packages' work over machines."""
