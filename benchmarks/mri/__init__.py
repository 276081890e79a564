"""MRI side by side with sigpy, torchkbnufft and deepinv, and classical reconstructions of real k-space."""
