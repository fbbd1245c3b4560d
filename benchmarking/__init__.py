"""Measuring an artifact beside other engines: each in processes of its own, in alternating blocks, medians over all.

``engines/`` opens one engine each, ``engine_process`` is the child process that holds it, ``processes`` its parent's
handle, ``benchmark`` decides what is measured when, ``report`` what comes out.
"""
