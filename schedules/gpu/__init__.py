"""Schedules for GPUs: every loop that computes is bound to threads."""
