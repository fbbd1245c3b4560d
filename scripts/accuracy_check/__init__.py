"""The parts of ``accuracy.py``: data out of wheels, tasks that score a model, engines that quantize and run one."""
