"""Schedule templates by operator family, the tensor expressions they schedule, and the generic rule for all else."""
