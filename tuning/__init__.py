"""Tuning: tasks, search, measurement, the cost model, and the log that keeps what was measured.

``record`` is one measurement, the seam between search and log; ``log`` keeps records in a file that several processes
share; ``selection`` says which of them is best; ``exchange`` moves them between files.
"""
