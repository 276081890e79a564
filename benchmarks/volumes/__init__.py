"""Volumes from few measurements: samplers with the shipped slice priors beside classical methods, on held-out subjects."""
