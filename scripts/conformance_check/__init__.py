"""ONNX's own backend tests over the public path: ``cases`` are the tests, ``engines`` what is tested, ``server`` runs
each test in a forked child, ``one_case`` is what a child does, ``report`` counts and lists.
"""
