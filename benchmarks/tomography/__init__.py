"""Projectors and filtered back-projection side by side with ASTRA, scikit-image and deepinv."""
